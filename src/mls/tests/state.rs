//! The file: who may read it, and what is sealed in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::mls::folder::FolderError;
use crate::mls::state::OpenError;
use crate::policy::pins::{Pin, PinOrigin};

fn mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_state_that_others_can_read_is_refused() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("e2e");
    drop(State::open(&folder, None).unwrap());
    let file = folder.join("state.db");
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for (path, open, closed) in [(&folder, 0o750, 0o700), (&file, 0o604, 0o600)] {
        mode(path, open);
        let error = State::open(&folder, None).err().unwrap();
        assert!(matches!(error, OpenError::Folder(FolderError::Open { .. })), "{error}");
        mode(path, closed);
    }
    drop(State::open(&folder, None).unwrap());
    let link = parent.path().join("link");
    symlink(&folder, &link).unwrap();
    let error = State::open(&link, None).err().unwrap();
    assert!(matches!(error, OpenError::Folder(FolderError::OtherKind { .. })), "{error}");
}

#[test]
fn what_is_not_a_state_is_refused() {
    let folder = TempDir::new().unwrap();
    mode(folder.path(), 0o700);
    let file = folder.path().join("state.db");
    let db = rusqlite::Connection::open(&file).unwrap();
    mode(&file, 0o600);
    db.execute_batch("CREATE TABLE other (x)").unwrap();
    assert!(matches!(State::open(folder.path(), None), Err(OpenError::OtherFile)));
    db.execute_batch("DROP TABLE other").unwrap();
    drop(State::open(folder.path(), None).unwrap());
    db.execute_batch("PRAGMA user_version = 2").unwrap();
    assert!(matches!(State::open(folder.path(), None), Err(OpenError::Newer)));
}

#[test]
fn sealed_values_open_with_their_key_only_and_show_nothing() {
    let folder = TempDir::new().unwrap();
    mode(folder.path(), 0o700);
    let ana = User::new("ana");
    let secret = DeviceSecret::fresh();
    let certificate = ana.certify(&secret);
    let mut member = Member { state: State::open(folder.path(), Some(&[7; 32])).unwrap(), folder };
    member.state.step(|step| Device::store(step, &secret, &certificate)).unwrap();
    let mut log = room_of(&ana, &mut member, &mut []);
    log.append(0, &member.say("1", "a text to be found").unwrap()).unwrap();
    member.say("2", "a text to be found").unwrap();
    member.read(&log);
    assert_eq!(member.texts(), ["a text to be found"]);
    let mut bytes = Vec::new();
    for entry in fs::read_dir(member.folder.path()).unwrap() {
        bytes.extend(fs::read(entry.unwrap().path()).unwrap());
    }
    let contains = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    assert!(contains(b"create"), "the files were read");
    assert!(!contains(b"a text to be found"));
    assert!(!contains(secret.seed()));
    assert!(!contains(b"private_key") && !contains(b"init_secret"));
    for key in [None, Some(&[8; 32])] {
        let opened = State::open(member.folder.path(), key);
        assert!(matches!(opened, Err(OpenError::OtherKey)));
    }
    State::open(member.folder.path(), Some(&[7; 32])).unwrap();
}

#[test]
fn a_state_stays_trusted_until_it_is_somewhere_else() {
    let parent = TempDir::new().unwrap();
    let (first, second) = (parent.path().join("a"), parent.path().join("b"));
    drop(State::open(&first, None).unwrap());
    assert!(!State::open(&first, None).unwrap().is_moved());
    fs::rename(&first, &second).unwrap();
    let mut state = State::open(&second, None).unwrap();
    assert!(state.is_moved());
    state.trust(&second).unwrap();
    assert!(!state.is_moved());
    assert!(!State::open(&second, None).unwrap().is_moved());
}

#[test]
fn pins_and_the_users_key_come_back() {
    use crate::mls::device::{pin, put_pin};
    let ana = User::new("ana");
    let mut member = Member::new(&ana);
    let stored = Pin { key: ana.secret.public(), since: at(5), origin: PinOrigin::Verified };
    member
        .step(|step, _| {
            assert_eq!(pin(step, "ana")?, None);
            put_pin(step, "ana", &stored)?;
            assert_eq!(pin(step, "ana")?, Some(stored));
            assert_eq!(Device::user_seed(step)?, None);
            Device::store_user_seed(step, &[3; 32])?;
            assert_eq!(Device::user_seed(step)?.as_deref(), Some(&[3; 32]));
            Ok(())
        })
        .unwrap();
}
