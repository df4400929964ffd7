//! Opening with a wrong key, and rekeying.

use std::fs;

use super::*;

#[test]
fn a_wrong_key_is_refused_and_nothing_is_changed() {
    let home = Home::new();
    fill(&mut home.open(), 1..=5);
    let bytes = fs::read(home.file(STORE_FILE)).unwrap();
    let error = open_disk(home.folder.path(), &AtRestKey::fresh(), RETENTION, at(0)).err().unwrap();
    assert!(matches!(error, OpenError::WrongKey { .. }), "{error}");
    assert!(error.to_string().contains("history.sqlite3"), "{error}");
    assert_eq!(fs::read(home.file(STORE_FILE)).unwrap(), bytes);
    // Even a damaged store is not moved aside if the key opens nothing in it.
    let mut broken = bytes;
    broken[..100].fill(0);
    fs::write(home.file(STORE_FILE), broken).unwrap();
    let error = open_disk(home.folder.path(), &AtRestKey::fresh(), RETENTION, at(0)).err().unwrap();
    assert!(matches!(error, OpenError::WrongKey { .. }), "{error}");
    assert_eq!(everything(&home.open()).entries.len(), 5);
}

#[test]
fn after_a_rekey_only_the_new_key_opens_the_store() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=30);
    let before = everything(&opened);
    drop(opened);
    let result =
        rekey(home.folder.path(), &home.key, &AtRestKey::fresh(), at(0), &Opening::default())
            .unwrap();
    assert_eq!(result, RekeyResult { messages: 30, damaged: 0 });
    let old = open_disk(home.folder.path(), &home.key, RETENTION, at(0)).err().unwrap();
    assert!(matches!(old, OpenError::WrongKey { .. }), "{old}");
    let home = Home::at(home.folder);
    let mut opened = home.open();
    assert_eq!(opened.findings, []);
    assert_eq!(without_epoch(everything(&opened)), without_epoch(before.clone()));
    let position = Position { epoch: before.head.epoch, seq: Seq(12) };
    let resumption = opened.reader.resume(&RoomName::lobby(), &position).unwrap();
    assert_eq!((resumption.from, resumption.gap), (Seq(12), None));
    let again = opened.log().append(vec![draft("lobby", "1", "else")], at(40));
    assert_eq!(again, [AppendOutcome::Conflict { seq: Seq(1) }]);
}

#[test]
fn an_interrupted_rekey_is_finished_or_undone() {
    let home = Home::new();
    fill(&mut home.open(), 1..=5);
    let next = home.file("history.key.next");
    // Killed before the new store replaced the old one.
    AtRestKey::fresh().save(&next, true).unwrap();
    let opened = home.open();
    assert!(matches!(opened.findings[..], [Finding::Resumed(_)]), "{:?}", opened.findings);
    assert_eq!(everything(&opened).entries.len(), 5);
    assert!(!next.exists());
    drop(opened);
    // Killed after that, but before the new key replaced the old one.
    let old = fs::read(home.file("history.key")).unwrap();
    rekey(home.folder.path(), &home.key, &AtRestKey::fresh(), at(0), &Opening::default()).unwrap();
    fs::rename(home.file("history.key"), &next).unwrap();
    fs::write(home.file("history.key"), old).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(home.file("history.key"), mode).unwrap();
    let home = Home::at(home.folder);
    let opened = home.open();
    assert!(matches!(opened.findings[..], [Finding::Resumed(_)]), "{:?}", opened.findings);
    assert_eq!(everything(&opened).entries.len(), 5);
    assert!(!next.exists());
}

#[test]
fn a_rekey_beside_a_reader_is_refused_and_loses_nothing() {
    let home = Home::new();
    fill(&mut home.open(), 1..=5);
    let reader = schema::open_reader(&home.file(STORE_FILE)).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count: i64 =
        reader.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 5);
    let rekey =
        || rekey(home.folder.path(), &home.key, &AtRestKey::fresh(), at(0), &Opening::default());
    let error = rekey().unwrap_err();
    assert!(matches!(error, OpenError::BeingRead(_)), "{error}");
    drop(reader);
    assert_eq!(everything(&home.open()).entries.len(), 5);
    assert_eq!(rekey().unwrap(), RekeyResult { messages: 5, damaged: 0 });
}
