//! The one rule of end-to-end rooms, on disk and in memory, and what must not forget the newest commit.

use std::fs;

use super::*;
use crate::protocol::SeqRange;
use crate::protocol::device::DeviceId;
use crate::protocol::end_to_end::{EndToEnd, EntryKind};
use crate::store::{DeleteError, open_memory};

const PHONE: DeviceId = DeviceId([1; 10]);
const LAPTOP: DeviceId = DeviceId([2; 10]);

fn from(device: DeviceId, kind: EntryKind, id: &str, base: u64, text: &str) -> Draft {
    let e2e = Some(EndToEnd { device, base: Seq(base), kind });
    Draft { e2e, ..draft("+ops", id, text) }
}

fn commit(id: &str, base: u64) -> Draft {
    from(PHONE, EntryKind::Commit, id, base, id)
}

fn message(id: &str, base: u64) -> Draft {
    from(PHONE, EntryKind::Message, id, base, id)
}

/// Appends one draft in a commit of its own, and gives what happened in a word and a number.
fn append(opened: &mut OpenedStore, draft: Draft) -> (&'static str, u64) {
    let outcomes = opened.log().append(vec![draft], at(1));
    opened.log().after_commit();
    words(&outcomes)[0]
}

fn words(outcomes: &[AppendOutcome]) -> Vec<(&'static str, u64)> {
    let word = |outcome: &AppendOutcome| match outcome {
        AppendOutcome::Appended(entry) => ("appended", entry.seq.0),
        AppendOutcome::Duplicate { seq, .. } => ("duplicate", seq.0),
        AppendOutcome::Conflict { seq } => ("conflict", seq.0),
        AppendOutcome::StaleBase { newest, .. } => ("stale", newest.0),
        other => panic!("{other:?}"),
    };
    outcomes.iter().map(word).collect()
}

fn ops() -> RoomName {
    RoomName::parse("+ops").unwrap()
}

#[test]
fn the_rule_holds_step_by_step_on_disk_and_in_memory() {
    let home = Home::new();
    for mut opened in [home.open(), open_memory(RETENTION)] {
        let table = [
            // Nothing was committed yet, so only base 0 fits.
            (commit("c1", 7), ("stale", 0)),
            (commit("c1", 0), ("appended", 1)),
            (message("m1", 0), ("stale", 1)),
            // After `stale_base` the same id is free: other bytes, another base.
            (from(PHONE, EntryKind::Message, "m1", 1, "again"), ("appended", 2)),
            (message("m2", 1), ("appended", 3)),
            (message("m3", 3), ("stale", 1)),
            (commit("c2", 1), ("appended", 4)),
            (commit("c3", 1), ("stale", 4)),
            // What is known is answered as before, although the room has moved on.
            (message("m2", 1), ("duplicate", 3)),
            (commit("c1", 0), ("duplicate", 1)),
            (message("m2", 4), ("duplicate", 3)),
            (from(PHONE, EntryKind::Message, "m2", 1, "other"), ("conflict", 3)),
            (from(PHONE, EntryKind::Commit, "m2", 4, "m2"), ("conflict", 3)),
            (from(PHONE, EntryKind::Message, "c1", 4, "c1"), ("conflict", 1)),
            // Ids belong to devices.
            (from(LAPTOP, EntryKind::Message, "m2", 4, "other"), ("appended", 5)),
            (from(LAPTOP, EntryKind::Message, "m2", 4, "other"), ("duplicate", 5)),
        ];
        for (draft, expected) in table {
            let name = format!("{draft:?} {:?}", draft.e2e);
            assert_eq!(append(&mut opened, draft), expected, "{name}");
        }
        let page = opened.reader.page(&ops(), PageRange::After(Seq(0)), 100, 10_000).unwrap();
        let kinds: Vec<_> = page.entries.iter().map(|entry| entry.e2e.unwrap()).collect();
        let bases: Vec<u64> = kinds.iter().map(|e2e| e2e.base.0).collect();
        assert_eq!(bases, [0, 1, 1, 1, 4]);
        let commits: Vec<bool> = page.entries.iter().map(|entry| entry.is_commit()).collect();
        assert_eq!(commits, [true, false, false, true, false]);
        assert_eq!(kinds[4].device, LAPTOP);
    }
}

#[test]
fn of_two_commits_in_one_batch_the_first_counts() {
    let home = Home::new();
    for mut opened in [home.open(), open_memory(RETENTION)] {
        let batch = vec![commit("a", 0), commit("b", 0), message("m", 0), message("n", 1)];
        let outcomes = opened.log().append(batch, at(1));
        let expected = [("appended", 1), ("stale", 1), ("stale", 1), ("appended", 2)];
        assert_eq!(words(&outcomes), expected);
    }
}

#[test]
fn a_stale_draft_leaves_nothing_in_the_files() {
    let home = Home::new();
    let mut opened = home.open();
    let stale = vec![commit("a", 3), message("b", 9)];
    assert_eq!(words(&opened.log().append(stale, at(1))), [("stale", 0), ("stale", 0)]);
    assert_eq!(opened.reader.room_count(), 0);
    drop(opened);
    let db = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    for table in ["rooms", "records", "ids", "room_starts"] {
        let count = format!("SELECT count(*) FROM {table}");
        let count: i64 = db.query_row(&count, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{table}");
    }
}

/// A store with a commit, 5 messages and another commit, all of them pruned but the newest message.
fn pruned(home: &Home) -> OpenedStore {
    let mut opened = home.open();
    append(&mut opened, commit("c1", 0));
    append(&mut opened, commit("c2", 1));
    for number in 0..5 {
        append(&mut opened, message(&format!("m{number}"), 2));
    }
    opened.log().set_retention(Retention { messages: 1, ..RETENTION });
    while opened.log().prune(at(2), LONG).more {}
    assert_eq!(opened.reader.head(&ops()).unwrap().forgotten, Seq(6));
    opened
}

/// The room goes on after the commit 2.
fn assert_newest_is_2(opened: &mut OpenedStore) {
    assert_eq!(append(opened, message("new", 0)), ("stale", 2));
    assert_eq!(append(opened, message("new", 1)), ("stale", 2));
    assert_eq!(append(opened, message("new", 2)), ("appended", 8));
}

#[test]
fn retention_and_restarts_keep_the_newest_commit() {
    let home = Home::new();
    drop(pruned(&home));
    assert_newest_is_2(&mut home.open());
    let home = Home::new();
    pruned(&home).log().close().unwrap();
    assert_newest_is_2(&mut home.open());
    let mut opened = open_memory(Retention { messages: 1, ..RETENTION });
    append(&mut opened, commit("c1", 0));
    append(&mut opened, message("m", 1));
    while opened.log().prune(at(2), LONG).more {}
    assert_eq!(append(&mut opened, message("n", 0)), ("stale", 1));
}

#[test]
fn an_empty_room_with_a_commit_is_not_forgotten() {
    let home = Home::new();
    let mut opened = home.open();
    append(&mut opened, commit("c1", 0));
    opened.log().append(vec![draft("other", "1", "text")], at(1));
    let later = at(400 * 86_400);
    while opened.log().prune(later, LONG).more {}
    opened.log().close().unwrap();
    drop(opened);
    let later = at(800 * 86_400);
    let mut opened = open_disk(home.folder.path(), &home.key, RETENTION, later).unwrap();
    // A fresh message makes the start believe the wall clock.
    opened.log().append(vec![draft("third", "1", "text")], later);
    opened.log().close().unwrap();
    drop(opened);
    let mut opened =
        open_disk(home.folder.path(), &home.key, RETENTION, at(1200 * 86_400)).unwrap();
    let names: Vec<_> = opened.reader.rooms().unwrap().into_iter().map(|(name, _)| name).collect();
    assert!(
        names.contains(&ops()) && !names.iter().any(|name| name.as_str() == "other"),
        "{names:?}"
    );
    assert_eq!(append(&mut opened, message("m", 0)), ("stale", 1));
}

#[test]
fn rekey_and_recovery_keep_the_newest_commit() {
    let home = Home::new();
    drop(pruned(&home));
    let fresh = AtRestKey::fresh();
    rekey(home.folder.path(), &home.key, &fresh, at(3), &Opening::default()).unwrap();
    let home = Home::at(home.folder);
    home.open().log().close().unwrap();
    // Without its header SQLite can't read the file, so only what the pages hold is left.
    let mut bytes = fs::read(home.file(STORE_FILE)).unwrap();
    bytes[..100].fill(0);
    fs::write(home.file(STORE_FILE), bytes).unwrap();
    let mut opened = home.open();
    assert!(matches!(&opened.findings[..], [Finding::Recovered { .. }, ..]));
    assert_newest_is_2(&mut opened);
}

/// A store whose room list is damaged, without any trace of the pruned messages.
fn without_cards(home: &Home) {
    let db = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    db.execute("UPDATE rooms SET sealed = randomblob(length(sealed))", []).unwrap();
    db.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
}

#[test]
fn recovery_learns_the_newest_commit_from_the_newest_entry_if_the_card_is_lost() {
    let home = Home::new();
    pruned(&home).log().close().unwrap();
    without_cards(&home);
    let mut opened = home.open();
    assert!(matches!(&opened.findings[..], [Finding::Recovered { .. }, ..]));
    assert_newest_is_2(&mut opened);
    // After a deletion the room begins anew; what is said in it then names no earlier commit.
    let home = Home::new();
    let mut opened = pruned(&home);
    opened.log().delete_room(&ops(), at(2)).unwrap();
    append(&mut opened, message("new", 0));
    opened.log().close().unwrap();
    drop(opened);
    without_cards(&home);
    assert_eq!(append(&mut home.open(), message("newer", 0)), ("appended", 9));
}

#[test]
fn a_commit_is_not_redacted_and_a_deleted_room_begins_anew() {
    let home = Home::new();
    for mut opened in [home.open(), open_memory(RETENTION)] {
        append(&mut opened, commit("c", 0));
        append(&mut opened, message("m1", 1));
        append(&mut opened, message("m2", 1));
        let range = |text: &str| [text.parse::<SeqRange>().unwrap()];
        let both = opened.log().delete(&ops(), &range("1-2"));
        assert_eq!(both, Err(DeleteError::Commit(Seq(1))));
        let page = |opened: &OpenedStore| {
            opened.reader.page(&ops(), PageRange::After(Seq(0)), 100, 10_000).unwrap()
        };
        assert_eq!(page(&opened).entries.len(), 3, "nothing was deleted");
        assert_eq!(opened.log().delete(&ops(), &range("2")).unwrap().redactions.len(), 1);
        assert_eq!(page(&opened).redactions[0].seq, Seq(2));
        assert_eq!(append(&mut opened, message("m1", 1)), ("duplicate", 2));
        opened.log().delete_room(&ops(), at(2)).unwrap();
        assert_eq!(append(&mut opened, message("m3", 1)), ("stale", 0));
        assert_eq!(append(&mut opened, commit("c2", 0)), ("appended", 4));
    }
}
