//! The bound on the size of the whole store, and the space that is given back.

use super::*;

const MIB: u64 = 1 << 20;

fn limited(max_bytes: u64) -> Retention {
    Retention { max_bytes: Some(max_bytes), ..RETENTION }
}

/// Appends messages of 3,000 bytes, 100 per commit.
fn grow(opened: &mut OpenedStore, room: &str, messages: std::ops::Range<u64>) {
    let drafts: Vec<Draft> = messages
        .map(|number| draft(room, &format!("{room}-{number}"), &"x".repeat(3_000)))
        .collect();
    for batch in drafts.chunks(100) {
        let outcomes = opened.log().append(batch.to_vec(), at(1));
        opened.log().after_commit();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Appended(_))));
    }
}

/// Prunes until there is nothing left to do; gives the messages dropped per room.
fn prune_all(opened: &mut OpenedStore) -> std::collections::BTreeMap<String, u64> {
    let mut dropped = std::collections::BTreeMap::new();
    for _ in 0..10_000 {
        let result = opened.log().prune(at(2), LONG);
        assert_eq!((result.error, result.excess_bytes), (None, 0));
        for pruned in result.rooms {
            assert_eq!(pruned.reason, PruneReason::MaxBytes);
            *dropped.entry(pruned.room.to_string()).or_default() += pruned.messages;
        }
        if !result.more {
            return dropped;
        }
    }
    panic!("pruning does not end");
}

fn kept(opened: &OpenedStore, room: &str) -> Page {
    let room = RoomName::parse(room).unwrap();
    opened.reader.page(&room, PageRange::After(Seq(0)), usize::MAX, usize::MAX).unwrap()
}

fn main_file_bytes(home: &Home) -> u64 {
    std::fs::metadata(home.file(STORE_FILE)).unwrap().len()
}

#[test]
fn the_oldest_messages_of_the_largest_rooms_go_first_and_the_file_shrinks() {
    let home = Home::new();
    let mut opened = home.open();
    for (room, count) in [("large", 4_000), ("middle", 1_500), ("small", 200)] {
        grow(&mut opened, room, 0..count);
    }
    assert!(!opened.log().is_over_limit() && prune_all(&mut opened).is_empty(), "no bound");
    opened.log().set_retention(limited(8 * MIB));
    assert!(opened.log().is_over_limit());
    let dropped = prune_all(&mut opened);
    assert!(!opened.log().is_over_limit());
    assert_eq!(dropped.keys().collect::<Vec<_>>(), ["large", "middle"], "{dropped:?}");
    assert_eq!(kept(&opened, "small").entries.len(), 200);
    for (room, count) in [("large", 4_000), ("middle", 1_500)] {
        let page = kept(&opened, room);
        let left = count - dropped[room];
        assert_eq!((page.entries.len() as u64, page.head.last), (left, Seq(count)));
        assert_eq!(page.head.forgotten, Seq(count - left));
        // The reader is told what is missing.
        let gap =
            Gap { after: Seq(0), next: page.head.forgotten.next(), reason: GapReason::Expired };
        assert_eq!(page.gaps, [gap]);
    }
    // They are about the same size now.
    let difference =
        kept(&opened, "large").entries.len().abs_diff(kept(&opened, "middle").entries.len());
    assert!(difference < 200, "{difference}");
    let bytes = main_file_bytes(&home);
    assert!(bytes < 10 * MIB, "the file shrank to {bytes}");
    assert!(bytes > 6 * MIB, "not more was removed than has to be: {bytes}");
    // A store that goes on growing stays near its bound, and no message is refused.
    for round in 0..10 {
        grow(&mut opened, "large", 4_000 + round * 200..4_200 + round * 200);
        prune_all(&mut opened);
    }
    let bytes = main_file_bytes(&home);
    assert!(bytes < 10 * MIB, "{bytes}");
    drop(opened);
    let opened = home.open();
    assert_eq!(opened.findings, []);
    assert_eq!(kept(&opened, "large").head.last, Seq(6_000));
}

#[test]
fn the_newest_messages_stay_and_what_is_left_over_the_bound_is_reported() {
    let home = Home::new();
    let mut opened = home.open();
    let long = "x".repeat(60_000);
    for number in 0..40 {
        opened.log().append(vec![draft("lobby", &number.to_string(), &long)], at(1));
    }
    opened.log().set_retention(limited(200_000));
    let mut excess = 0;
    for _ in 0..100 {
        let result = opened.log().prune(at(2), LONG);
        excess = excess.max(result.excess_bytes);
        if !result.more {
            break;
        }
    }
    assert_eq!(everything(&opened).entries.len(), 10);
    assert!(excess > 400_000, "{excess}");
    assert!(!opened.log().is_over_limit(), "it is not tried again until something changes");
}

#[test]
fn a_store_of_an_earlier_version_reuses_its_space_and_shrinks_after_a_rekey() {
    let home = Home::new();
    drop(home.open());
    let db = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    let mode = |db: &rusqlite::Connection| {
        db.query_row("PRAGMA auto_vacuum", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(mode(&db), 2, "a new store can shrink");
    db.execute_batch("PRAGMA journal_mode = delete; PRAGMA auto_vacuum = 0; VACUUM").unwrap();
    db.execute_batch("PRAGMA journal_mode = wal").unwrap();
    assert_eq!(mode(&db), 0);
    drop(db);
    let mut opened = home.open();
    grow(&mut opened, "lobby", 0..3_000);
    opened.log().set_retention(limited(2 * MIB));
    prune_all(&mut opened);
    for round in 1..10 {
        grow(&mut opened, "lobby", round * 3_000..round * 3_000 + 500);
        prune_all(&mut opened);
    }
    opened.log().close().unwrap();
    drop(opened);
    let bytes = main_file_bytes(&home);
    assert!((8 * MIB..16 * MIB).contains(&bytes), "{bytes}");
    let new_key = AtRestKey::fresh();
    rekey(home.folder.path(), &home.key, &new_key, at(3), &Opening::default()).unwrap();
    let bytes = main_file_bytes(&home);
    assert!(bytes < 3 * MIB, "{bytes}");
}

#[test]
fn rooms_are_counted_across_starts_and_failed_batches() {
    let home = Home::new();
    let mut opened = home.open();
    assert_eq!(opened.reader.room_count(), 0);
    for room in ["a", "b", "a"] {
        opened.log().append(vec![draft(room, room, "x"), draft("c", room, "x")], at(1));
    }
    assert_eq!(opened.reader.room_count(), 3);
    drop(opened);
    assert_eq!(home.open().reader.room_count(), 3);
}
