//! Deleted texts: what readers get, what comes back after every kind of end, and what is in the files.

use rusqlite::Connection;

use super::super::traces::Traces;
use super::*;
use crate::protocol::SeqRange;
use crate::store::{DeleteError, Deleted, EraseStep, Redaction, RoomLog};

fn range(text: &str) -> SeqRange {
    text.parse().unwrap()
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn delete(opened: &mut OpenedStore, ranges: &[&str]) -> Deleted {
    let ranges: Vec<SeqRange> = ranges.iter().map(|text| range(text)).collect();
    opened.log().delete(&RoomName::lobby(), &ranges).unwrap()
}

fn erase(log: &mut dyn RoomLog) {
    for _ in 0..1000 {
        match log.erase_step() {
            EraseStep::Done => return,
            EraseStep::More => {}
            EraseStep::Waiting(reason) => panic!("{reason}"),
        }
    }
    panic!("it does not end");
}

/// The sealed values of a room, and the tags and proofs of the ids.
fn sealed(home: &Home, first: i64, last: i64) -> Vec<Vec<u8>> {
    let db = Connection::open(home.file("history.sqlite3")).unwrap();
    let mut records = db.prepare("SELECT sealed FROM records WHERE seq BETWEEN ? AND ?").unwrap();
    let values = records.query_map([first, last], |row| row.get(0)).unwrap();
    values.collect::<Result<_, _>>().unwrap()
}

/// The longest part of a value that is in any file of the history, in bytes.
fn longest_trace(home: &Home, value: &[u8]) -> usize {
    let mut traces = Traces::default();
    traces.add_sealed(value);
    let files = home.folder.path().read_dir().unwrap();
    let longest = files.map(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        traces.find(&bytes[..end]).iter().map(|range| range.len()).max().unwrap_or(0)
    });
    longest.max().unwrap()
}

fn assert_gone(home: &Home, values: &[Vec<u8>]) {
    for value in values {
        assert_eq!(longest_trace(home, value), 0, "a part of a deleted value is in a file");
    }
}

/// Fills the lobby so that rows are moved between pages: long and short messages, other rooms beside it,
/// and pruning.
fn fill_with_moves(opened: &mut OpenedStore, count: u64) {
    for number in 1..=count {
        let drafts = ["lobby", "b", "c"].map(|room| {
            let length = (number * 397 % 900) as usize * if number % 7 == 0 { 9 } else { 1 };
            draft(room, &format!("{number}"), &format!("text {number} {}", "x".repeat(length)))
        });
        opened.log().append(drafts.to_vec(), at(number as i64));
    }
    opened.log().set_retention(Retention { messages: count - 10, ..RETENTION });
    while opened.log().prune(at(count as i64), LONG).more {}
    opened.log().set_retention(RETENTION);
}

/// Like [`fill`], with a write-ahead log that is as short as it can be.
fn append(opened: &mut OpenedStore, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let draft = draft("lobby", &number.to_string(), &format!("text {number} x"));
        opened.log().append(vec![draft], at(number as i64));
    }
}

#[test]
fn a_deleted_text_is_gone_from_every_read_and_every_file() {
    let home = Home::new();
    let mut opened = home.open();
    fill_with_moves(&mut opened, 120);
    let before = everything(&opened);
    let (long, short) = (sealed(&home, 49, 49), sealed(&home, 60, 62));
    assert!(long[0].len() > 4096 && longest_trace(&home, &short[0]) == short[0].len() - 12);
    let deleted = delete(&mut opened, &["49", "60-62"]);
    let at = |seq| Redaction { seq: Seq(seq), at: at(seq as i64) };
    assert_eq!(deleted.redactions, [49, 60, 61, 62].map(at));
    assert_eq!((deleted.already, deleted.missing), (0, 0));
    // No reader gets it, before anything is erased.
    let page = everything(&opened);
    assert_eq!((page.redactions.len(), page.gaps), (4, before.gaps.clone()));
    assert_eq!(page.entries.len(), before.entries.len() - 4);
    assert!(page.entries.iter().all(|entry| ![49, 60, 61, 62].contains(&entry.seq.0)));
    erase(opened.log());
    // Only those of the lobby.
    assert_gone(&home, &[long[0].clone(), short[0].clone(), short[1].clone(), short[2].clone()]);
    assert!(longest_trace(&home, &long[1]) > 900);
    // A page in both directions has them at their places, and counts them.
    let lobby = RoomName::lobby();
    let page = opened.reader.page(&lobby, PageRange::After(Seq(59)), 4, 1_000_000).unwrap();
    assert_eq!((page.redactions, page.entries.len()), ([60, 61, 62].map(at).to_vec(), 1));
    let page = opened.reader.page(&lobby, PageRange::Before(Seq(63)), 2, 1_000_000).unwrap();
    assert_eq!((page.redactions, page.reached), ([61, 62].map(at).to_vec(), Seq(61)));
    // Again: nothing is left to do.
    let again = delete(&mut opened, &["60-63"]);
    assert_eq!((again.redactions.len(), again.already), (1, 3));
    erase(opened.log());
}

#[test]
fn what_was_deleted_stays_deleted_after_every_kind_of_end() {
    let home = Home::new();
    let mut opened = home.open();
    fill_with_moves(&mut opened, 80);
    let position = Position { epoch: everything(&opened).head.epoch, seq: Seq(80) };
    let values = sealed(&home, 50, 50);
    delete(&mut opened, &["50"]);
    // Killed right after the answer to the first step: nothing is erased yet.
    drop(opened);
    let mut opened = home.open();
    assert_eq!(opened.findings, []);
    assert_gone(&home, &values[..1]);
    let page = everything(&opened);
    assert_eq!(page.redactions, [Redaction { seq: Seq(50), at: at(50) }]);
    assert_eq!(resume(&opened, &position), Resumption { from: Seq(80), gap: None });
    // The same id is still the same message, whatever its text was.
    let again = opened.log().append(vec![draft("lobby", "50", "text 50 x")], at(100));
    assert_eq!(again, [AppendOutcome::Duplicate { seq: Seq(50), at: at(50) }]);
    opened.log().close().unwrap();
    drop(opened);
    let opened = home.open();
    assert_eq!((everything(&opened).redactions.len(), &opened.findings[..]), (1, &[][..]));
    drop(opened);
    // Under another key.
    let new_key = AtRestKey::fresh();
    rekey(home.folder.path(), &home.key, &new_key, at(100), &Opening::default()).unwrap();
    let home = Home::at(home.folder);
    let mut opened = home.open();
    assert_eq!(everything(&opened).redactions, page.redactions);
    let again = opened.log().append(vec![draft("lobby", "50", "text 50 y")], at(100));
    assert_eq!(again, [AppendOutcome::Duplicate { seq: Seq(50), at: at(50) }]);
    drop(opened);
    // After a recovery.
    std::fs::File::create(home.file("history.sqlite3.suspect")).unwrap();
    let mut opened = home.open();
    assert!(
        matches!(opened.findings[..], [Finding::Recovered { .. }, ..]),
        "{:?}",
        opened.findings
    );
    assert_eq!(everything(&opened).redactions, page.redactions);
    assert_eq!(everything(&opened).gaps, page.gaps);
    let again = opened.log().append(vec![draft("lobby", "50", "text 50 z")], at(100));
    assert_eq!(again, [AppendOutcome::Duplicate { seq: Seq(50), at: at(50) }]);
}

#[test]
fn a_recovery_prefers_the_record_without_a_text() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=20);
    opened.log().close().unwrap();
    drop(opened);
    let old = std::fs::read(home.file("history.sqlite3")).unwrap();
    let mut opened = home.open();
    delete(&mut opened, &["7"]);
    erase(opened.log());
    opened.log().close().unwrap();
    drop(opened);
    // Old pages behind the file, as after a crash of the file system; then only the scan finds anything.
    let mut bytes = std::fs::read(home.file("history.sqlite3")).unwrap();
    bytes.extend(&old);
    bytes[..100].fill(0);
    std::fs::write(home.file("history.sqlite3"), bytes).unwrap();
    let opened = home.open();
    let page = everything(&opened);
    assert!(page.entries.iter().all(|entry| entry.seq != Seq(7)), "the text is back");
    assert_eq!(page.redactions, [Redaction { seq: Seq(7), at: at(7) }]);
    assert_eq!(page.entries.len(), 19);
}

#[test]
fn an_interrupted_erasure_is_completed_at_the_next_start() {
    for steps in 0..4 {
        let home = Home::new();
        let mut opened = home.open();
        fill_with_moves(&mut opened, 60);
        let values = sealed(&home, 30, 30);
        let all = sealed(&home, 0, 1000);
        delete(&mut opened, &["30"]);
        (0..steps).for_each(|_| drop(opened.log().erase_step()));
        drop(opened);
        let opened = home.open();
        assert_eq!(opened.findings, []);
        assert_gone(&home, &values[..1]);
        drop(opened);
        assert_eq!(sealed(&home, 0, 1000).len(), all.len());
    }
}

#[test]
fn wrong_numbers_and_rooms_delete_nothing() {
    let home = Home::new();
    let mut opened = home.open();
    fill_with_moves(&mut opened, 40);
    let log = opened.log();
    assert_eq!(log.delete(&room("none"), &[range("1")]), Err(DeleteError::UnknownRoom));
    assert_eq!(log.delete_room(&room("none"), at(1)), Err(DeleteError::UnknownRoom));
    let not_yet = Err(DeleteError::NotYet(Seq(40)));
    assert_eq!(log.delete(&room("b"), &[range("3"), range("39-41")]), not_yet);
    let expired = log.delete(&room("b"), &[range("1-3")]).unwrap();
    assert_eq!(expired, Deleted { missing: 3, ..Deleted::default() });
    assert_eq!(log.erase_step(), EraseStep::Done);
}

#[test]
fn a_reader_that_takes_long_delays_the_erasure_and_nothing_else() {
    let home = Home::new();
    let mut opened = home.open();
    fill_with_moves(&mut opened, 40);
    let values = sealed(&home, 30, 30);
    let other = Connection::open(home.file("history.sqlite3")).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM records").unwrap();
    delete(&mut opened, &["30"]);
    assert_eq!(opened.log().erase_step(), EraseStep::More);
    assert_eq!(
        opened.log().erase_step(),
        EraseStep::Waiting("another program reads the history".into())
    );
    append(&mut opened, 41..=50);
    other.execute_batch("COMMIT").unwrap();
    erase(opened.log());
    assert_gone(&home, &values[..1]);
    drop(opened);
    let opened = home.open();
    assert_eq!(everything(&opened).head.last, Seq(50), "nothing is lost");
}

#[test]
fn messages_that_are_appended_during_an_erasure_stay() {
    let home = Home::new();
    let mut opened = home.open();
    fill_with_moves(&mut opened, 100);
    let values = sealed(&home, 20, 40);
    delete(&mut opened, &["20-40"]);
    for number in 101..150 {
        append(&mut opened, number..=number);
        opened.log().erase_step();
    }
    erase(opened.log());
    let lobby: Vec<_> = values.into_iter().take(21).collect();
    assert_gone(&home, &lobby);
    drop(opened);
    let opened = home.open();
    let page = everything(&opened);
    assert_eq!((page.entries.len() + page.redactions.len(), page.head.last), (139, Seq(149)));
}

#[test]
fn a_deleted_room_is_empty_and_its_numbers_go_on() {
    for erased in [true, false] {
        let home = Home::new();
        let mut opened = home.open();
        fill_with_moves(&mut opened, 90);
        let values = sealed(&home, 60, 60);
        let epoch = everything(&opened).head.epoch;
        let deleted = opened.log().delete_room(&RoomName::lobby(), at(200)).unwrap();
        assert_eq!((deleted.messages, deleted.last), (80, Seq(90)));
        let page = everything(&opened);
        assert_eq!((page.entries.len(), page.redactions.len()), (0, 0));
        assert_eq!(page.head.last, Seq(90));
        let gap = Gap { after: Seq(0), next: Seq(91), reason: GapReason::Expired };
        assert_eq!(page.gaps, [gap]);
        let newest = opened.reader.page(&RoomName::lobby(), PageRange::Newest, 9, 9999).unwrap();
        assert_eq!((newest.entries.len(), newest.more), (0, false));
        match erased {
            true => erase(opened.log()),
            false => {
                opened.log().erase_step();
                drop(opened);
                opened = home.open();
                assert_eq!(opened.findings, []);
            }
        }
        assert_gone(&home, &values[..1]);
        assert_eq!(longest_trace(&home, &values[1]), values[1].len() - 12, "another room's");
        // A client that repeats a message of the room does not bring it back.
        let again = opened.log().append(vec![draft("lobby", "60", "another text")], at(201));
        assert_eq!(again, [AppendOutcome::Duplicate { seq: Seq(60), at: at(60) }]);
        append(&mut opened, 91..=92);
        let page = everything(&opened);
        assert_eq!((page.entries.len(), &page.gaps[..]), (2, &[gap][..]));
        let position = Position { epoch, seq: Seq(90) };
        assert_eq!(resume(&opened, &position), Resumption { from: Seq(90), gap: None });
    }
}

#[test]
fn a_store_of_the_version_before_is_upgraded() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=5);
    opened.log().close().unwrap();
    drop(opened);
    let db = Connection::open(home.file("history.sqlite3")).unwrap();
    db.execute_batch("DROP TABLE e2e_items; PRAGMA user_version = 3").unwrap();
    drop(db);
    let mut opened = home.open();
    assert_eq!((everything(&opened).entries.len(), &opened.findings[..]), (5, &[][..]));
    delete(&mut opened, &["5"]);
    let db = Connection::open(home.file("history.sqlite3")).unwrap();
    assert_eq!(schema::schema_version(&db).unwrap(), schema::SCHEMA_VERSION);
}
