//! The deposits of end-to-end rooms, on disk and in memory alike.

use std::fs;
use std::sync::Arc;

use super::*;
use crate::protocol::device::DeviceId;
use crate::protocol::end_to_end::{CommitParts, EndToEnd, EntryKind, Welcome};
use crate::store::{
    Backup, BackupContent, DeviceKeys, E2eFound, E2eQuery, E2eReply, E2eRequest, GroupInfo,
    Invited, RestoreRequest, backup, open_memory, restore,
};

fn device(number: u8) -> DeviceId {
    DeviceId([number; 10])
}

fn user(name: &str) -> UserName {
    UserName::clean(name)
}

fn ops() -> RoomName {
    RoomName::parse("+ops").unwrap()
}

fn ask(opened: &mut OpenedStore, request: E2eRequest, seconds: i64) -> E2eReply {
    opened.log().e2e(vec![request], at(seconds)).unwrap().remove(0)
}

fn put(
    opened: &mut OpenedStore,
    name: &str,
    number: u8,
    packages: &[&str],
    last: Option<&str>,
) -> E2eReply {
    let key_packages = packages.iter().map(|package| (*package).into()).collect();
    let (user, device, cert) = (user(name), device(number), format!("cert {number}").into());
    let last_resort = last.map(Into::into);
    ask(opened, E2eRequest::PutKeys { user, device, cert, key_packages, last_resort }, 1)
}

/// The key packages that are given out, the one of last resort with a star.
fn take(opened: &mut OpenedStore, names: &[&str]) -> Result<Vec<String>, String> {
    let users = names.iter().map(|name| user(name)).collect();
    match ask(opened, E2eRequest::TakeKeys { users }, 1) {
        E2eReply::NoKeyPackage(user) => Err(user.to_string()),
        E2eReply::Keys(keys) => Ok(keys
            .into_iter()
            .flat_map(|(_, devices)| devices)
            .map(|DeviceKeys { key_package, last_resort, .. }| {
                format!("{key_package}{}", if last_resort { "*" } else { "" })
            })
            .collect()),
        other => panic!("{other:?}"),
    }
}

fn left(opened: &OpenedStore, name: &str, number: u8) -> u64 {
    match opened.reader.e2e(E2eQuery::KeyPackages(user(name), device(number))).unwrap() {
        E2eFound::KeyPackages(count) => count,
        other => panic!("{other:?}"),
    }
}

fn welcomes(opened: &OpenedStore, name: &str, number: u8) -> Vec<Invited> {
    match opened.reader.e2e(E2eQuery::Welcomes(user(name), device(number))).unwrap() {
        E2eFound::Welcomes(welcomes) => welcomes,
        other => panic!("{other:?}"),
    }
}

fn seen(opened: &OpenedStore, name: &str) -> Vec<String> {
    match opened.reader.e2e(E2eQuery::Rooms(user(name))).unwrap() {
        E2eFound::Rooms(rooms) => rooms.iter().map(RoomName::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

fn info(opened: &OpenedStore) -> Option<GroupInfo> {
    match opened.reader.e2e(E2eQuery::GroupInfo(ops())).unwrap() {
        E2eFound::GroupInfo(info) => info,
        other => panic!("{other:?}"),
    }
}

fn tree(opened: &OpenedStore, number: u8) -> Option<Box<[u8]>> {
    match opened.reader.e2e(E2eQuery::Tree(ops(), [number; 32])).unwrap() {
        E2eFound::Tree(tree) => tree,
        other => panic!("{other:?}"),
    }
}

/// Appends a commit to `+ops` whose tree is `number`, which welcomes these devices of bob; gives the outcome.
fn commit(
    opened: &mut OpenedStore,
    base: u64,
    number: u8,
    to: &[u8],
    has_tree: bool,
) -> AppendOutcome {
    commit_in(opened, ("+ops", 1), base, number, to, has_tree)
}

/// The same in this room at this time.
fn commit_in(
    opened: &mut OpenedStore,
    (room, seconds): (&str, i64),
    base: u64,
    number: u8,
    to: &[u8],
    has_tree: bool,
) -> AppendOutcome {
    let to: Vec<_> = to.iter().map(|number| (user("bob"), device(*number))).collect();
    let welcomes = match to.is_empty() {
        true => Vec::new(),
        false => vec![Welcome { to, content: format!("welcome {number}").into() }],
    };
    let parts = CommitParts {
        welcomes,
        info: format!("info {number}").into(),
        tree_hash: [number; 32],
        tree: has_tree.then(|| Arc::from(&[number; 3000][..])),
        lacks_upload: false,
        over_limit: None,
    };
    let e2e = Some(EndToEnd { device: device(99), base: Seq(base), kind: EntryKind::Commit });
    let text = format!("commit {number}");
    let draft = Draft { e2e, commit: Some(Arc::new(parts)), ..draft(room, &text, &text) };
    let outcome = opened.log().append(vec![draft], at(seconds)).remove(0);
    opened.log().after_commit();
    outcome
}

fn both(test: impl Fn(&mut OpenedStore)) {
    let home = Home::new();
    test(&mut home.open());
    test(&mut open_memory(RETENTION));
}

#[test]
fn each_key_package_is_given_out_once_and_the_last_resort_for_ever() {
    both(|opened| {
        assert_eq!(take(opened, &["bob"]), Err("bob".into()));
        assert_eq!(put(opened, "bob", 1, &["a", "b"], Some("last")), E2eReply::Left(2));
        assert_eq!(put(opened, "bob", 2, &["x"], None), E2eReply::Left(1));
        assert_eq!(take(opened, &["bob", "ana"]), Err("ana".into()));
        assert_eq!(left(opened, "bob", 1), 2, "nothing was taken");
        assert_eq!(take(opened, &["bob"]), Ok(vec!["a".into(), "x".into()]));
        assert_eq!(take(opened, &["bob"]), Ok(vec!["b".into()]), "device 2 has none left");
        assert_eq!(take(opened, &["bob"]), Ok(vec!["last*".into()]));
        assert_eq!(take(opened, &["bob"]), Ok(vec!["last*".into()]));
        assert_eq!(put(opened, "bob", 1, &["c"], None), E2eReply::Left(1));
        assert_eq!(take(opened, &["bob"]), Ok(vec!["c".into()]), "numbers go on");
        assert_eq!(take(opened, &["bob"]), Ok(vec!["last*".into()]), "it was kept");
        // The oldest go when there are too many, and a user has not more than so many devices.
        let many: Vec<String> = (0..25).map(|number| format!("p{number:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(put(opened, "eve", 0, &many, None), E2eReply::Left(20));
        assert_eq!(take(opened, &["eve"]), Ok(vec!["p05".into()]));
        for number in 1..16 {
            assert_eq!(put(opened, "eve", number, &[], None), E2eReply::Left(0));
        }
        assert_eq!(put(opened, "eve", 16, &["q"], None), E2eReply::Full);
        assert_eq!(put(opened, "eve", 3, &["q"], None), E2eReply::Left(1));
    });
}

#[test]
fn what_a_commit_brings_along_is_stored_with_it_or_not_at_all() {
    both(|opened| {
        put(opened, "bob", 1, &[], None);
        put(opened, "bob", 2, &[], None);
        assert_eq!(info(opened), None);
        assert_eq!(commit(opened, 0, 1, &[1, 2, 3], false), AppendOutcome::NoTree);
        assert_eq!((info(opened), opened.reader.room_count()), (None, 0));
        assert!(matches!(commit(opened, 0, 1, &[1, 2, 3], true), AppendOutcome::Appended(_)));
        let stale = commit(opened, 0, 2, &[1], true);
        assert_eq!(stale, AppendOutcome::StaleBase { base: Seq(0), newest: Seq(1) });
        let tree_hash = [1; 32];
        let found = GroupInfo { seq: Seq(1), info: "info 1".into(), tree_hash };
        assert_eq!(info(opened), Some(found));
        assert_eq!(tree(opened, 1).as_deref(), Some(&[1; 3000][..]));
        assert_eq!(tree(opened, 2), None);
        let invited = Invited { room: ops(), seq: Seq(1), content: "welcome 1".into(), tree_hash };
        for number in [1, 2] {
            assert_eq!(welcomes(opened, "bob", number), std::slice::from_ref(&invited));
        }
        assert_eq!(welcomes(opened, "bob", 3), [], "it has no deposits");
        // Sent again after a lost ack, and without the tree, it is the same commit.
        assert!(matches!(commit(opened, 0, 1, &[1], false), AppendOutcome::Duplicate { .. }));
        // Who was welcomed and who sent something was seen in the room; a device without deposits was not.
        assert_eq!(
            (seen(opened, "bob"), seen(opened, "Alice")),
            (vec!["+ops".into()], vec!["+ops".into()])
        );
        assert_eq!(seen(opened, "eve"), [""; 0]);
        assert!(matches!(commit(opened, 1, 2, &[1], true), AppendOutcome::Appended(_)));
        let (user, device, room) = (user("bob"), device(1), ops());
        let done = E2eRequest::WelcomeDone { user, device, room, seq: Seq(1) };
        assert_eq!(ask(opened, done, 2), E2eReply::Done);
        let seqs: Vec<_> = welcomes(opened, "bob", 1).iter().map(|one| one.seq.0).collect();
        assert_eq!(seqs, [2]);
        assert_eq!(welcomes(opened, "bob", 2).len(), 1);
        // The newest trees are kept, and a deleted room has nothing left.
        for number in 3..=9 {
            commit(opened, u64::from(number) - 1, number, &[], true);
        }
        assert!(
            tree(opened, 1).is_none() && tree(opened, 2).is_some() && tree(opened, 9).is_some()
        );
        assert_eq!(info(opened).unwrap().seq, Seq(9));
        opened.log().delete_room(&ops(), at(3)).unwrap();
        assert!(info(opened).is_none() && tree(opened, 9).is_none());
        assert_eq!(welcomes(opened, "bob", 2), []);
        assert_eq!(seen(opened, "bob"), [""; 0], "there is no group any more");
    });
}

#[test]
fn a_welcome_to_a_new_room_is_not_dropped_for_older_ones_to_a_busy_room() {
    both(|opened| {
        put(opened, "bob", 1, &[], None);
        for number in 1..=70 {
            commit(opened, u64::from(number) - 1, number, &[1], true);
        }
        commit_in(opened, ("+new", 2), 0, 1, &[1], true);
        let rooms: Vec<_> = welcomes(opened, "bob", 1)
            .into_iter()
            .map(|one| (one.room.to_string(), one.seq.0))
            .collect();
        assert_eq!(rooms.len(), 64);
        assert!(rooms.contains(&("+new".into(), 1)), "{rooms:?}");
        assert!(rooms.contains(&("+ops".into(), 70)) && !rooms.contains(&("+ops".into(), 7)));
    });
}

#[test]
fn changes_that_come_together_are_answered_in_their_order() {
    both(|opened| {
        let put = |name: &str, package: &str| E2eRequest::PutKeys {
            user: user(name),
            device: device(1),
            cert: "cert".into(),
            key_packages: vec![package.into()],
            last_resort: None,
        };
        let take = |name: &str| E2eRequest::TakeKeys { users: vec![user(name)] };
        let requests =
            vec![take("bob"), put("bob", "a"), put("ana", "b"), take("bob"), take("bob")];
        let replies = opened.log().e2e(requests, at(1)).unwrap();
        let [first, E2eReply::Left(1), E2eReply::Left(1), E2eReply::Keys(keys), last] =
            &replies[..]
        else {
            panic!("{replies:?}")
        };
        assert_eq!(keys[0].1[0].key_package.as_ref(), "a");
        assert_eq!((first, last), (&E2eReply::NoKeyPackage(user("bob")), first));
    });
}

#[test]
fn key_packages_and_welcomes_expire_and_the_group_does_not() {
    let day = 86_400;
    both(|opened| {
        put(opened, "bob", 1, &["a"], Some("last"));
        commit(opened, 0, 1, &[1], true);
        while opened.log().prune(at(27 * day), LONG).more {}
        assert_eq!((left(opened, "bob", 1), welcomes(opened, "bob", 1).len()), (1, 1));
        while opened.log().prune(at(29 * day), LONG).more {}
        assert_eq!((left(opened, "bob", 1), welcomes(opened, "bob", 1).len()), (0, 0));
        assert_eq!(take(opened, &["bob"]), Err("bob".into()));
        assert!(info(opened).is_some() && tree(opened, 1).is_some());
    });
}

/// What a restart, a rekey and a recovery keep.
fn assert_kept(opened: &mut OpenedStore, key_packages: u64) {
    assert_eq!(left(opened, "bob", 1), key_packages);
    assert_eq!(welcomes(opened, "bob", 1).len(), 1);
    assert_eq!(info(opened).unwrap().info.as_ref(), "info 1");
    assert_eq!(tree(opened, 1).as_deref(), Some(&[1; 3000][..]));
}

#[test]
fn restarts_rekey_and_recovery_keep_them_sealed() {
    let home = Home::new();
    let mut opened = home.open();
    put(&mut opened, "bob", 1, &["geheimnis", "b"], Some("last"));
    commit(&mut opened, 0, 1, &[1], true);
    drop(opened);
    for file in home.folder.path().read_dir().unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        for word in ["geheimnis", "bob", "welcome", "info 1", "+ops"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()), "{word}");
        }
    }
    assert_kept(&mut home.open(), 2);
    rekey(home.folder.path(), &home.key, &AtRestKey::fresh(), at(3), &Opening::default()).unwrap();
    let home = Home::at(home.folder);
    let mut opened = home.open();
    assert_eq!(opened.findings, []);
    assert_kept(&mut opened, 2);
    opened.log().close().unwrap();
    drop(opened);
    let mut bytes = fs::read(home.file(STORE_FILE)).unwrap();
    bytes[..100].fill(0);
    fs::write(home.file(STORE_FILE), bytes).unwrap();
    let mut opened = home.open();
    assert!(matches!(&opened.findings[..], [Finding::Recovered { .. }, ..]));
    // One of them may have been given out already, so they are left out.
    assert_kept(&mut opened, 0);
    assert_eq!(take(&mut opened, &["bob"]), Ok(vec!["last*".into()]));
}

#[test]
fn a_restored_server_gives_out_no_key_package_again() {
    let home = Home::new();
    let mut opened = home.open();
    put(&mut opened, "bob", 1, &["a", "b"], Some("last"));
    commit(&mut opened, 0, 1, &[1], true);
    let files = tempfile::tempdir().unwrap();
    let (file, folder) = (files.path().join("backup"), files.path().join("history"));
    let content = BackupContent::default();
    backup(home.folder.path(), &home.key, &file, &content, at(2), &|_| {}).unwrap();
    assert_eq!(take(&mut opened, &["bob"]), Ok(vec!["a".into()]));
    let request = RestoreRequest {
        backup: &Backup::open(&file).unwrap(),
        key: &home.key,
        write_key: true,
        old_key: None,
        replace: false,
    };
    restore(&folder, &request, at(3), &|_| {}).unwrap();
    let mut opened = open_disk(&folder, &home.key, RETENTION, at(3)).unwrap();
    assert_kept(&mut opened, 0);
    assert_eq!(take(&mut opened, &["bob"]), Ok(vec!["last*".into()]));
}

#[test]
fn a_store_of_version_4_gets_the_table() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=3);
    opened.log().close().unwrap();
    drop(opened);
    let db = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    db.execute_batch("DROP TABLE e2e_items; PRAGMA user_version = 4").unwrap();
    drop(db);
    let mut opened = home.open();
    assert_eq!(everything(&opened).entries.len(), 3);
    assert_eq!(put(&mut opened, "bob", 1, &["a"], None), E2eReply::Left(1));
    assert!(matches!(commit(&mut opened, 0, 1, &[1], true), AppendOutcome::Appended(_)));
}
