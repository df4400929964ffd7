//! What a resuming reader is told: one test per row of the table in decision 0012.

use std::fs;

use super::*;

/// Copies the files of a folder over those of another, as `cp -a` does. Not by cp(1): while another test
/// starts a process, the lock of an open store lasts a moment longer.
pub(super) fn copy(from: &Path, to: &Path) {
    for file in from.read_dir().unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn copied(home: &Home) -> Home {
    let folder = tempfile::tempdir().unwrap();
    copy(home.folder.path(), folder.path());
    Home::at(folder)
}

fn close(mut opened: OpenedStore) {
    opened.log().close().unwrap();
}

/// The position of a reader that has read everything.
fn newest(opened: &OpenedStore) -> Position {
    let head = opened.reader.head(&RoomName::lobby()).unwrap();
    Position { epoch: head.epoch, seq: head.last }
}

#[track_caller]
fn assert_not_told(opened: &OpenedStore, position: &Position) {
    assert_eq!(resume(opened, position), Resumption { from: position.seq, gap: None });
}

#[track_caller]
fn assert_told_epoch(opened: &OpenedStore, position: &Position) {
    let gap = Gap { after: position.seq, next: Seq(1), reason: GapReason::Epoch };
    assert_eq!(resume(opened, position), Resumption { from: Seq(0), gap: Some(gap) });
}

/// A store with ten messages that was stopped cleanly, and a reader's position after them.
fn ten_messages() -> (Home, Position) {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=10);
    let position = newest(&opened);
    close(opened);
    (home, position)
}

#[test]
fn a_clean_restart_tells_nothing() {
    let (home, mut position) = ten_messages();
    for number in 11..=20 {
        let mut opened = home.open();
        assert_eq!(opened.findings, []);
        assert_not_told(&opened, &position);
        fill(&mut opened, number..=number);
        assert_not_told(&opened, &position);
        if number % 2 == 0 {
            position = newest(&opened);
        }
        close(opened);
    }
}

#[test]
fn a_kill_tells_nothing() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=10);
    let position = newest(&opened);
    for number in 11..=14 {
        drop(opened);
        opened = home.open();
        assert!(opened.findings.is_empty(), "{:?}", opened.findings);
        assert_not_told(&opened, &position);
        // Killed again before anything was appended, and after.
        if number % 2 == 0 {
            drop(opened);
            opened = home.open();
            assert_not_told(&opened, &position);
        }
        fill(&mut opened, number..=number);
        assert_not_told(&opened, &position);
    }
}

#[test]
fn a_clean_move_tells_nothing_with_and_without_the_watermark() {
    let (home, position) = ten_messages();
    for with_watermark in [true, false] {
        let moved = copied(&home);
        if !with_watermark {
            fs::remove_file(moved.file(WATERMARK_FILE)).unwrap();
        }
        let mut opened = moved.open();
        assert_eq!(opened.findings, []);
        assert_not_told(&opened, &position);
        fill(&mut opened, 11..=12);
        assert_not_told(&opened, &position);
        assert_eq!(everything(&opened).entries.len(), 12);
    }
}

#[test]
fn the_main_file_alone_is_complete_after_a_clean_stop() {
    let (home, position) = ten_messages();
    let moved = tempfile::tempdir().unwrap();
    for name in [STORE_FILE, "history.key"] {
        fs::copy(home.file(name), moved.path().join(name)).unwrap();
    }
    let moved = Home::at(moved);
    let opened = moved.open();
    assert_eq!(opened.findings, []);
    assert_eq!(everything(&opened).entries.len(), 10);
    assert_not_told(&opened, &position);
}

#[test]
fn a_copy_of_a_running_store_tells_those_that_read_more() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=10);
    let before = newest(&opened);
    let copy = copied(&home);
    fill(&mut opened, 11..=20);
    let after = newest(&opened);
    drop(opened);
    let mut opened = copy.open();
    assert_not_told(&opened, &before);
    assert_told_epoch(&opened, &after);
    fill(&mut opened, 11..=30);
    assert_not_told(&opened, &before);
    assert_told_epoch(&opened, &after);
}

#[test]
fn an_older_copy_restored_tells_those_that_read_under_a_lost_start() {
    let (home, before) = ten_messages();
    let backup = copied(&home);
    for number in [11, 15] {
        let mut opened = home.open();
        fill(&mut opened, number..=number + 3);
        let lost = newest(&opened);
        // A reader that came back and only read again what was there before.
        let reread = Position { epoch: lost.epoch.clone(), seq: Seq(10) };
        if number == 11 {
            close(opened);
        } else {
            drop(opened);
        }
        if number == 15 {
            // A killed server leaves a write-ahead log, which the copy does not overwrite.
            assert!(home.file("history.sqlite3-wal").exists());
        }
        copy(backup.folder.path(), home.folder.path());
        let mut opened = home.open();
        assert_eq!(everything(&opened).entries.len(), 10);
        assert_not_told(&opened, &before);
        assert_told_epoch(&opened, &lost);
        assert_told_epoch(&opened, &reread);
        fill(&mut opened, 11..=25);
        assert_not_told(&opened, &before);
        assert_told_epoch(&opened, &lost);
        close(opened);
        copy(backup.folder.path(), home.folder.path());
        let mut opened = home.open();
        fill(&mut opened, 11..=number + 3);
        close(opened);
        copy(backup.folder.path(), home.folder.path());
        if number == 11 {
            let mut opened = home.open();
            fill(&mut opened, 11..=14);
            close(opened);
        }
    }
}

#[test]
fn an_older_main_file_beside_a_newer_watermark_tells_everyone() {
    let (home, before) = ten_messages();
    let main = fs::read(home.file(STORE_FILE)).unwrap();
    let mut opened = home.open();
    fill(&mut opened, 11..=20);
    let after = newest(&opened);
    close(opened);
    fs::write(home.file(STORE_FILE), main).unwrap();
    let opened = home.open();
    assert!(matches!(opened.findings[..], [Finding::Restored { .. }]), "{:?}", opened.findings);
    assert_told_epoch(&opened, &before);
    assert_told_epoch(&opened, &after);
}

#[test]
fn two_copies_tell_those_that_read_at_the_other() {
    let (home, before) = ten_messages();
    let other = copied(&home);
    let mut opened = home.open();
    fill(&mut opened, 11..=12);
    let at_first = newest(&opened);
    close(opened);
    let mut opened = other.open();
    fill(&mut opened, 11..=15);
    let at_second = newest(&opened);
    assert_not_told(&opened, &before);
    assert_told_epoch(&opened, &at_first);
    close(opened);
    let opened = home.open();
    assert_not_told(&opened, &at_first);
    assert_told_epoch(&opened, &at_second);
}

#[test]
fn a_lost_write_ahead_log_tells_everyone() {
    for with_watermark in [true, false] {
        let (home, before) = ten_messages();
        let mut opened = home.open();
        fill(&mut opened, 11..=12);
        let after = newest(&opened);
        drop(opened);
        fs::remove_file(home.file("history.sqlite3-wal")).unwrap();
        if !with_watermark {
            fs::remove_file(home.file(WATERMARK_FILE)).unwrap();
        }
        let mut opened = home.open();
        assert!(!opened.findings.is_empty());
        assert_told_epoch(&opened, &before);
        assert_told_epoch(&opened, &after);
        fill(&mut opened, 11..=12);
        assert_told_epoch(&opened, &before);
    }
}

#[test]
fn a_write_ahead_log_of_another_copy_is_not_applied() {
    let (home, before) = ten_messages();
    let backup = copied(&home);
    let mut opened = home.open();
    fill(&mut opened, 11..=20);
    let lost = newest(&opened);
    drop(opened);
    assert!(fs::metadata(home.file("history.sqlite3-wal")).unwrap().len() > 0);
    copy(backup.folder.path(), home.folder.path());
    // A clean stop may leave an empty log, which the copy would take along.
    if !backup.file("history.sqlite3-wal").exists() {
        let opened = home.open();
        assert!(matches!(opened.findings[0], Finding::ForeignWal { .. }), "{:?}", opened.findings);
        assert_eq!(everything(&opened).entries.len(), 10);
        assert_not_told(&opened, &before);
        assert_told_epoch(&opened, &lost);
    }
}

#[test]
fn records_missing_at_the_end_are_damage_and_their_numbers_are_not_used_again() {
    let (home, position) = ten_messages();
    let other = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    other.execute("DELETE FROM records WHERE seq IN (1, 9, 10)", []).unwrap();
    drop(other);
    let mut opened = home.open();
    let hole = |after, next| Gap { after: Seq(after), next: Seq(next), reason: GapReason::Damaged };
    let page = everything(&opened);
    assert_eq!(page.gaps, [hole(0, 2), hole(8, 11)]);
    assert_eq!((page.head.last, page.reached), (Seq(10), Seq(10)));
    let before = opened.reader.page(&RoomName::lobby(), PageRange::Newest, 100, usize::MAX);
    assert_eq!(before.unwrap().gaps, [hole(0, 2), hole(8, 11)]);
    assert_not_told(&opened, &position);
    fill(&mut opened, 11..=11);
    assert_eq!(everything(&opened).gaps, [hole(0, 2), hole(8, 11)]);
}

#[test]
fn a_clean_stop_after_a_kill_notes_where_every_room_ends() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=10);
    drop(opened);
    close(home.open());
    let db = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    db.execute("DELETE FROM records WHERE seq > 8", []).unwrap();
    drop(db);
    let opened = home.open();
    let page = opened.reader.page(&RoomName::lobby(), PageRange::After(Seq(7)), 100, 10_000);
    let hole = Gap { after: Seq(8), next: Seq(11), reason: GapReason::Damaged };
    assert_eq!(page.unwrap().gaps, [hole]);
}

#[test]
fn a_position_before_the_first_message_is_the_same_in_every_record() {
    let (home, _) = ten_messages();
    let older = copied(&home);
    let lost = home.open();
    let epoch = newest(&lost).epoch;
    assert_not_told(&older.open(), &Position { epoch, seq: Seq(0) });
}

#[test]
fn a_store_of_a_newer_program_is_refused_and_nothing_is_touched() {
    let (home, _) = ten_messages();
    drop(home.open());
    let db = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    // First in the main file, then only in the write-ahead log.
    for in_main in [false, true] {
        db.pragma_update(None, "user_version", 9).unwrap();
        if in_main {
            db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).unwrap();
        }
        let bytes = |name: &str| fs::read(home.file(name)).unwrap();
        let before = (bytes(STORE_FILE), bytes("history.sqlite3-wal"), bytes(WATERMARK_FILE));
        let error = open_disk(home.folder.path(), &home.key, RETENTION, at(0)).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("newer chat-server (form 9; this one knows 5)"), "{text}");
        assert!(before == (bytes(STORE_FILE), bytes("history.sqlite3-wal"), bytes(WATERMARK_FILE)));
        assert!(!home.file("history.sqlite3.damaged-1").exists());
    }
}

#[test]
fn a_store_of_version_2_is_upgraded_and_its_epoch_stays_valid() {
    let (home, _) = ten_messages();
    let db = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    db.execute_batch(
        "DROP TABLE e2e_items; DROP INDEX rooms_by_oldest; DROP TABLE starts; DROP TABLE room_starts;
         ALTER TABLE rooms DROP COLUMN oldest; ALTER TABLE rooms DROP COLUMN emptied;
         ALTER TABLE rooms DROP COLUMN last; DELETE FROM meta WHERE name != 'check';
         PRAGMA user_version = 2",
    )
    .unwrap();
    let epoch = sealer(&home.key).seal(b"epoch old".into());
    db.execute("INSERT INTO meta VALUES ('epoch', ?)", [epoch]).unwrap();
    drop(db);
    write_old_watermark(&home);
    let position = Position { epoch: Epoch::parse("old").unwrap(), seq: Seq(7) };
    // A copy of unknown age: the old watermark names another inode.
    let copy = copied(&home);
    let mut opened = home.open();
    assert_eq!(opened.findings, []);
    assert_not_told(&opened, &position);
    fill(&mut opened, 11..=12);
    assert_not_told(&opened, &position);
    close(opened);
    assert_not_told(&home.open(), &position);
    assert_told_epoch(&copy.open(), &position);
}

#[test]
fn a_forgotten_room_tells_every_earlier_position() {
    let home = Home::new();
    let age = RETENTION.age.as_secs() as i64;
    let room = RoomName::parse("ops").unwrap();
    let mut opened = home.open();
    fill(&mut opened, 1..=1);
    opened.log().append(vec![draft("ops", "1", "a"), draft("ops", "2", "b")], at(1));
    let position = |opened: &OpenedStore, seq| {
        let epoch = opened.reader.head(&room).unwrap().epoch;
        Position { epoch, seq: Seq(seq) }
    };
    let read_all = position(&opened, 2);
    let pruned = opened.log().prune(at(age + 10), LONG);
    assert_eq!(pruned.messages, 3);
    assert!(pruned.rooms.iter().any(|pruned| pruned.room == room && pruned.first == Seq(3)));
    assert_eq!(opened.reader.resume(&room, &read_all).unwrap().gap, None);
    let reread = position(&opened, 2);
    close(opened);
    // Not yet: it was emptied less than its retention ago.
    let open = |seconds| open_disk(home.folder.path(), &home.key, RETENTION, at(seconds)).unwrap();
    let mut opened = open(age + 20);
    assert_eq!(opened.reader.rooms().unwrap().len(), 2);
    opened.log().append(vec![draft("lobby", "x", "x")], at(3 * age));
    close(opened);
    let mut opened = open(3 * age);
    assert_eq!(opened.reader.rooms().unwrap().len(), 1);
    for number in 1..=3 {
        for position in [&read_all, &reread] {
            let gap = opened.reader.resume(&room, position).unwrap().gap.unwrap();
            assert_eq!(gap, Gap { after: Seq(2), next: Seq(1), reason: GapReason::Epoch });
        }
        opened.log().append(vec![draft("ops", &format!("n{number}"), "new")], at(3 * age));
    }
    let page = opened.reader.page(&room, PageRange::After(Seq(0)), 10, 1000).unwrap();
    assert_eq!((page.entries.len(), page.gaps), (3, vec![]));
}

#[test]
fn a_wrong_clock_at_one_start_prunes_nothing() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=30);
    close(opened);
    let ahead = RETENTION.age.as_secs() as i64 + 86_400;
    let open = |seconds| open_disk(home.folder.path(), &home.key, RETENTION, at(seconds)).unwrap();
    let minute = std::time::Duration::from_secs(60);
    let mut opened = open(ahead);
    assert_eq!(opened.log().prune(at(ahead + 60), minute).messages, 0);
    // It stamps messages, too; then the clock is right for one start, and wrong again.
    opened.log().append(vec![draft("lobby", "ahead", "x")], at(ahead));
    opened.log().after_commit();
    assert_eq!(opened.log().prune(at(ahead + 60), minute).messages, 0);
    drop(opened);
    let mut opened = open(100);
    assert_eq!(opened.log().prune(at(160), minute).messages, 0);
    close(opened);
    let mut opened = open(ahead);
    assert_eq!(opened.log().prune(at(ahead + 60), minute).messages, 0);
    // After the whole age, its messages are old by any clock.
    let result = opened.log().prune(at(2 * ahead), RETENTION.age + 60 * minute);
    assert_eq!(result.messages, 31);
    assert_eq!(result.rooms[0].first, Seq(32));
}
