//! Commands that root runs leave files that the service can use.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use crate::support::client::Client;
use crate::support::server::Server;

/// The user of the service in these tests; it needs no entry in /etc/passwd.
const SERVICE_UID: u32 = 61_234;

/// Everything below a folder, and the folder itself.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(tree(&path)),
            false => found.push(path),
        }
    }
    found
}

fn owners(folder: &Path) -> Vec<(PathBuf, u32)> {
    let owner = |path: PathBuf| (path.clone(), path.symlink_metadata().unwrap().uid());
    tree(folder).into_iter().map(owner).filter(|(_, uid)| *uid != SERVICE_UID).collect()
}

#[test]
fn files_that_root_writes_belong_to_the_owner_of_their_folder() {
    let mut server = Server::start();
    if server.state().metadata().unwrap().uid() != 0 {
        eprintln!("skipped: only root can give files to another user");
        return;
    }
    let url = server.url();
    Client::pipe(&[&url], b"hola\n");
    server.stop();
    let state = server.state();
    // Nothing but the history is there yet, and it belongs to the service.
    for path in tree(&state) {
        chown(&path, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    }
    let printed = server.run_ok(&["rekey"]);
    assert!(printed.starts_with("1 messages"), "{printed}");
    server.token("ana", &[]);
    assert_eq!(owners(&state), [], "of another user");
    assert!(state.join("access.lock").exists());
    // A folder that is made by a command belongs to the owner of the folder above it.
    let file = state.join("made/deeper/access.json");
    std::fs::write(server.config_file(), format!("[auth]\naccess_file = {file:?}\n")).unwrap();
    server.token("bob", &[]);
    assert_eq!(owners(&state), [], "of another user");
    // A lock that an earlier version left behind is given back.
    chown(state.join("made/deeper/access.lock"), Some(0), Some(0)).unwrap();
    server.token("eve", &[]);
    assert_eq!(owners(&state), [], "of another user");
}

#[test]
fn an_error_names_the_file_that_failed() {
    let server = Server::start();
    let state = server.state();
    std::fs::create_dir(state.join("access.lock")).unwrap();
    for command in [&["ctl", "ban", "eve"][..], &["token", "add", "--user", "ana"]] {
        let output = server.run(command);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{command:?}");
        assert!(printed.contains("access.lock: "), "{command:?}: {printed}");
    }
}
