//! The wrong key, and changing to another one.

use std::fs;

use super::*;

#[test]
fn the_wrong_key_is_told_and_nothing_is_touched() {
    let home = Home::new();
    fill(&mut home.open(), 1..=5);
    let bytes = fs::read(home.file(STORE_FILE)).unwrap();
    let error = open_disk(home.folder.path(), &AtRestKey::fresh(), KEEP, at(0)).err().unwrap();
    assert!(matches!(error, OpenError::WrongKey { .. }), "{error}");
    assert!(error.to_string().contains("history.sqlite3"), "{error}");
    assert_eq!(fs::read(home.file(STORE_FILE)).unwrap(), bytes);
    // A damaged one is not moved aside for a key that opens nothing in it either.
    let mut broken = bytes;
    broken[..100].fill(0);
    fs::write(home.file(STORE_FILE), broken).unwrap();
    let error = open_disk(home.folder.path(), &AtRestKey::fresh(), KEEP, at(0)).err().unwrap();
    assert!(matches!(error, OpenError::WrongKey { .. }), "{error}");
    assert_eq!(everything(&home.open()).entries.len(), 5);
}

#[test]
fn a_new_key_opens_the_same_history_and_the_old_one_nothing() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=30);
    let before = everything(&opened);
    drop(opened);
    let done = rekey(home.folder.path(), &home.key, &AtRestKey::fresh(), at(0)).unwrap();
    assert_eq!(done, RekeyResult { messages: 30, damaged: 0 });
    let old = open_disk(home.folder.path(), &home.key, KEEP, at(0)).err().unwrap();
    assert!(matches!(old, OpenError::WrongKey { .. }), "{old}");
    let home = Home::at(home.folder);
    let mut opened = home.open();
    assert_eq!(opened.findings, []);
    assert_eq!(everything(&opened), before);
    let again = opened.log.append(vec![draft("lobby", "1", "else")], at(40));
    assert_eq!(again, [AppendOutcome::Conflict { seq: Seq(1) }]);
}

#[test]
fn a_change_of_the_key_that_was_killed_is_finished_or_undone() {
    let home = Home::new();
    fill(&mut home.open(), 1..=5);
    let next = home.file("history.key.next");
    // Killed before the record changed places.
    AtRestKey::fresh().save(&next, true).unwrap();
    let opened = home.open();
    assert!(matches!(opened.findings[..], [Finding::Resumed(_)]), "{:?}", opened.findings);
    assert_eq!(everything(&opened).entries.len(), 5);
    assert!(!next.exists());
    drop(opened);
    // Killed after it did, before the key did.
    let old = fs::read(home.file("history.key")).unwrap();
    rekey(home.folder.path(), &home.key, &AtRestKey::fresh(), at(0)).unwrap();
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
