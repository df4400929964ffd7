//! Tests of the store on disk: against a model, with damage, with other keys, on a full disk.

use std::path::{Path, PathBuf};

use super::{
    OpenError, Opening, OpeningStep, RekeyResult, folder::WATERMARK_FILE, open_disk,
    open_disk_watched, rekey, schema,
};
use crate::credentials::at_rest_key::{AtRestKey, STORE_FILE};
use crate::protocol::frame::Position;
use crate::protocol::{Epoch, MessageId, RoomName, Seq, Timestamp, UserName};
use crate::store::record::sealer;
use crate::store::{
    AppendOutcome, Draft, Finding, Gap, GapReason, ID_RETENTION, OpenedStore, Page, PageRange,
    PruneReason, Resumption, Retention,
};

mod damage;
mod deletion;
mod deposits;
mod end_to_end;
mod identity;
mod import;
mod keys;
mod model;
mod restores;
mod size;
mod space;
mod stopping;

pub(super) const RETENTION: Retention = Retention {
    messages: 1_000_000,
    age: std::time::Duration::from_secs(30 * 86_400),
    max_bytes: None,
};

/// An uptime after which the wall clock is believed.
pub(super) const LONG: std::time::Duration = std::time::Duration::from_secs(10_000 * 86_400);

/// A folder with a store and its key.
pub(super) struct Home {
    pub folder: tempfile::TempDir,
    pub key: AtRestKey,
}

impl Home {
    pub fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    pub fn at(folder: tempfile::TempDir) -> Self {
        let key = AtRestKey::find(folder.path(), None).unwrap();
        Home { folder, key }
    }

    pub fn open(&self) -> OpenedStore {
        open_disk(self.folder.path(), &self.key, RETENTION, at(0)).unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_790_000_000 + seconds) * 1_000_000)
}

pub(super) fn draft(room: &str, id: &str, text: &str) -> Draft {
    Draft {
        room: RoomName::parse(room).unwrap(),
        user: UserName::clean("Alice"),
        verified: true,
        id: MessageId::parse(id),
        text: text.into(),
        e2e: None,
        commit: None,
    }
}

/// How a reader of the lobby continues.
pub(super) fn resume(opened: &OpenedStore, position: &Position) -> Resumption {
    opened.reader.resume(&RoomName::lobby(), position).unwrap()
}

/// A page to compare across starts.
pub(super) fn without_epoch(mut page: Page) -> Page {
    page.head.epoch = Epoch::parse("any").unwrap();
    page
}

/// Appends messages, one per commit. The text of message n begins with n, and its id is n.
pub(super) fn fill(opened: &mut OpenedStore, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let text = format!("text {number} {}", "x".repeat(number as usize * 37 % 3000));
        let outcomes = opened
            .log()
            .append(vec![draft("lobby", &number.to_string(), &text)], at(number as i64));
        opened.log().after_commit();
        assert!(
            matches!(&outcomes[..], [AppendOutcome::Appended(entry)] if entry.seq == Seq(number))
        );
    }
}

pub(super) fn everything(opened: &OpenedStore) -> Page {
    opened
        .reader
        .page(&RoomName::lobby(), PageRange::After(Seq(0)), usize::MAX, usize::MAX)
        .unwrap()
}

/// Checks that every entry is one that [`fill`] wrote, under its own sequence number.
pub(super) fn assert_genuine(page: &Page) {
    for entry in &page.entries {
        let number = entry.seq.0;
        assert!(entry.text.starts_with(&format!("text {number} ")), "{entry:?}");
        assert_eq!(entry.id, MessageId::parse(&number.to_string()));
        assert_eq!(entry.at, at(number as i64));
    }
    assert!(page.entries.is_sorted_by(|a, b| a.seq < b.seq));
}

#[test]
fn no_file_contains_text_names_or_ids_in_clear() {
    let home = Home::new();
    let mut opened = home.open();
    opened.log().append(vec![draft("geheimnis", "kennwort", "palabra secreta")], at(1));
    for file in home.folder.path().read_dir().unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for word in ["geheimnis", "kennwort", "palabra", "Alice"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()), "{word}");
        }
    }
}

#[test]
fn a_folder_opens_only_once_at_a_time() {
    let home = Home::new();
    let _opened = home.open();
    let error = open_disk(home.folder.path(), &home.key, RETENTION, at(0)).err().unwrap();
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
}

#[test]
fn reopening_keeps_everything() {
    let home = Home::new();
    let mut opened = home.open();
    assert!(matches!(opened.findings[..], [Finding::Created(_)]));
    fill(&mut opened, 1..=20);
    let before = everything(&opened);
    drop(opened);
    let mut opened = home.open();
    assert_eq!(opened.findings, []);
    assert_eq!(without_epoch(everything(&opened)), without_epoch(before));
    let again = opened.log().append(vec![draft("lobby", "1", "something else")], at(30));
    assert_eq!(again, [AppendOutcome::Conflict { seq: Seq(1) }]);
    fill(&mut opened, 21..=22);
}

#[test]
fn an_id_is_known_for_a_day_after_its_message_was_pruned_and_the_store_reopened() {
    let home = Home::new();
    let day = ID_RETENTION.as_secs() as i64;
    let mut opened = home.open();
    fill(&mut opened, 1..=40);
    // Only the newest two are kept.
    opened.log().set_retention(Retention { messages: 2, ..RETENTION });
    assert_eq!(opened.log().prune(at(41), LONG).messages, 38);
    drop(opened);
    let mut opened = home.open();
    let again = |opened: &mut OpenedStore, seconds: i64, text: &str| {
        let text = format!("{text} 1 {}", "x".repeat(37));
        opened.log().append(vec![draft("lobby", "1", &text)], at(seconds)).remove(0)
    };
    let duplicate = AppendOutcome::Duplicate { seq: Seq(1), at: at(1) };
    assert_eq!(again(&mut opened, 50, "text"), duplicate);
    assert_eq!(again(&mut opened, 50, "other"), AppendOutcome::Conflict { seq: Seq(1) });
    assert_eq!(opened.log().prune(at(day), LONG).ids, 0, "not a day old");
    assert_eq!(again(&mut opened, day, "text"), duplicate);
    assert_eq!(opened.log().prune(at(day + 2), LONG).ids, 1, "a day old");
    assert!(
        matches!(again(&mut opened, day + 2, "text"), AppendOutcome::Appended(entry) if entry.seq == Seq(41))
    );
}

#[test]
fn pruning_takes_bounded_steps() {
    let home = Home::new();
    let mut opened = home.open();
    let drafts = |from: u64| (from..from + 500).map(|n| draft("lobby", &n.to_string(), "x"));
    for batch in 0..5 {
        opened.log().append(drafts(batch * 500).collect(), at(1));
    }
    opened.log().set_retention(Retention { messages: 100, ..RETENTION });
    let steps: Vec<(u64, bool)> = (0..4)
        .map(|_| opened.log().prune(at(2), LONG))
        .map(|result| (result.messages, result.more))
        .collect();
    assert_eq!(steps, [(1000, true), (1000, true), (400, false), (0, false)]);
    assert_eq!(everything(&opened).entries.len(), 100);
}

#[test]
fn expired_ids_are_pruned_in_bounded_steps_and_no_sweep_runs_in_vain() {
    let home = Home::new();
    let day = ID_RETENTION.as_secs() as i64;
    let mut opened = home.open();
    let drafts = |from: u64| (from..from + 500).map(|n| draft("lobby", &n.to_string(), "x"));
    for batch in 0..6 {
        opened.log().append(drafts(batch * 500).collect(), at(1));
    }
    opened.log().append(drafts(3000).collect(), at(1000));
    let count = || {
        let db = rusqlite::Connection::open(home.folder.path().join(STORE_FILE)).unwrap();
        db.query_row("SELECT count(*) FROM ids", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let mut prune = |seconds: i64| {
        let mut steps = Vec::new();
        loop {
            let result = opened.log().prune(at(seconds), LONG);
            assert!(result.ids <= 1000 && result.error.is_none(), "{result:?}");
            steps.push(result.ids);
            if !result.more {
                return steps;
            }
        }
    };
    assert_eq!(prune(day).iter().sum::<u64>(), 0, "none is a day old");
    assert_eq!(prune(day), [0], "the next call knows that");
    let steps = prune(day + 2);
    assert_eq!((steps.len(), steps[0], count()), (1, steps[0], 3500 - steps[0] as i64));
    // Few ids were added since, so each call visits a thousand.
    let more: u64 = (0..3).map(|_| prune(day + 2).iter().sum::<u64>()).sum();
    assert_eq!((steps[0] + more, count()), (3000, 500));
    let rest: u64 = (0..2).map(|_| prune(day + 1001).iter().sum::<u64>()).sum();
    assert_eq!((rest, count()), (500, 0));
}

#[test]
fn a_store_of_schema_version_1_is_upgraded_and_keeps_its_ids() {
    let home = Home::new();
    let day = ID_RETENTION.as_secs() as i64;
    let text = |number: i64| format!("text {number}");
    let mut opened = home.open();
    for number in [1, day] {
        opened.log().append(vec![draft("lobby", &number.to_string(), &text(number))], at(number));
    }
    drop(opened);
    write_version_1(&home);
    let db = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    let mut opened = open_disk(home.folder.path(), &home.key, RETENTION, at(day + 2)).unwrap();
    assert_eq!(opened.findings, []);
    assert_eq!(everything(&opened).entries.len(), 2);
    let count = |find: &str| db.query_row(find, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM sqlite_master WHERE name = 'ids_by_age'"), 0);
    assert_eq!(count("SELECT count(*) FROM ids"), 1, "expired ids are left out");
    let again = |number: i64, text: String| draft("lobby", &number.to_string(), &text);
    let outcomes = opened
        .log()
        .append(vec![again(day, text(day)), again(day, text(0)), again(7, text(7))], at(day + 3));
    let expected = (Seq(2), at(day));
    assert!(
        matches!(&outcomes[..], [
        AppendOutcome::Duplicate { seq, at }, AppendOutcome::Conflict { .. }, AppendOutcome::Appended(_)
    ] if (*seq, *at) == expected),
        "{outcomes:?}"
    );
    drop(opened);
    assert_eq!(count("PRAGMA user_version"), i64::from(schema::SCHEMA_VERSION));
    assert_eq!(everything(&home.open()).entries.len(), 3);
}

/// Turns the store into one of schema version 1, which had other tags, and an index.
pub(super) fn write_version_1(home: &Home) {
    let db = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    db.execute_batch(
        "UPDATE ids SET tag = randomblob(16); CREATE INDEX ids_by_age ON ids (at);
         DROP TABLE e2e_items; DROP INDEX rooms_by_oldest; DROP TABLE starts; DROP TABLE room_starts;
         ALTER TABLE rooms DROP COLUMN oldest; ALTER TABLE rooms DROP COLUMN emptied;
         ALTER TABLE rooms DROP COLUMN last; DELETE FROM meta WHERE name != 'check';
         PRAGMA user_version = 1",
    )
    .unwrap();
    let epoch = sealer(&home.key).seal(b"epoch old".into());
    db.execute("INSERT INTO meta VALUES ('epoch', ?)", [epoch]).unwrap();
    write_old_watermark(home);
}

/// The watermark of a program before version 3: it names the inode of the store.
pub(super) fn write_old_watermark(home: &Home) {
    use std::os::unix::fs::MetadataExt as _;
    let inode = std::fs::metadata(home.file(STORE_FILE)).unwrap().ino();
    let mut plain = b"mark".to_vec();
    plain.extend(inode.to_be_bytes());
    plain.extend([0; 16]);
    std::fs::write(home.file(WATERMARK_FILE), sealer(&home.key).seal(plain)).unwrap();
}

/// A checkpoint costs three syncs, so after the WAL was large once, not every commit may run one. And a
/// file that grows with each commit makes every sync slower.
#[test]
fn a_commit_changes_neither_the_main_file_nor_the_size_of_the_wal() {
    let home = Home::new();
    let mut opened = home.open();
    let main = || std::fs::read(home.file(STORE_FILE)).unwrap();
    let wal = || std::fs::metadata(home.file("history.sqlite3-wal")).unwrap().len();
    let mut number = 0;
    let mut append = |count: u64| {
        let drafts = (0..count).map(|_| {
            number += 1;
            draft("lobby", &number.to_string(), &"x".repeat(3000))
        });
        let outcomes = opened.log().append(drafts.collect(), at(1));
        opened.log().after_commit();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Appended(_))));
    };
    let empty = main();
    append(1000);
    assert_eq!(main(), empty, "a small WAL is not checkpointed");
    (0..5).for_each(|_| append(1000));
    let checkpointed = main();
    assert!(checkpointed.len() > 8 << 20, "a large one is: {}", checkpointed.len());
    let extended = wal();
    assert!((17 << 20..19 << 20).contains(&extended), "{extended}");
    (0..20).for_each(|_| append(1));
    assert!(main() == checkpointed, "then the WAL is small again");
    assert_eq!(wal(), extended);
    drop(opened);
    let mut opened = home.open();
    for number in 0..20 {
        opened.log().append(vec![draft("lobby", &format!("again {number}"), "x")], at(2));
        opened.log().after_commit();
    }
    assert_eq!(wal(), extended, "it has its full size soon after the start");
    assert_eq!(everything(&opened).head.last, Seq(6040));
}
