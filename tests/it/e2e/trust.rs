//! Keys: the first one of a user is pinned, another one stops the client, and two users can compare them.

use super::member::{Member, open_room};
use crate::support::eventually;
use crate::support::server::Server;

const ROOM: &str = "+ops";

#[test]
fn a_changed_key_stops_the_client_until_the_users_have_compared_it() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let home = ana.home.clone();
    drop(open_room(ROOM, &ana, &[&bob]));
    // Somebody else with the same name, on a server that never saw Bob's own keys.
    let second = Server::start();
    let other = Member::new(&second, "bob");
    drop(other.wait_outside("+other"));
    let (first, ana) = (ana, Member::at(&second, "ana", &home));
    ana.run_ok(&["room", "create", "+other"]);
    let refused = ana.run(&["room", "add", "+other", "bob"]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    for part in ["bob's key is not the one pinned on 20", "then", "chat-client verify bob"] {
        assert!(refused.errors.contains(part), "{part}: {refused:?}");
    }
    let show = ana.run_ok(&["verify", "bob"]);
    let digits = show.lines.join(" ");
    assert_eq!(digits.split(' ').count(), 12, "{show:?}");
    let wrong = ana.run(&["verify", "bob", "--code", &digits.replace(' ', "").replace('1', "2")]);
    assert_eq!(wrong.code, Some(78), "{wrong:?}");
    let short = ana.run(&["verify", "bob", "--code", "12345"]);
    assert_eq!(short.code, Some(2), "{short:?}");
    ana.run_ok(&["verify", "bob", "--code", &digits]);
    ana.run_ok(&["room", "add", "+other", "bob"]);
    // In the first room the old Bob is still a member, with the old key.
    let old = first.pipe("hola\n", &["-r", ROOM]);
    assert_eq!(old.code, Some(78), "{old:?}");
    assert!(old.errors.contains("line 1"), "nothing was sent: {old:?}");
}

#[test]
fn both_see_the_same_digits_and_a_strict_client_asks_for_them() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    let strict = bob.pipe("hola\n", &["-r", ROOM, "--trust", "verified"]);
    assert_eq!(strict.code, Some(78), "{strict:?}");
    assert!(strict.errors.contains("chat-client verify ana"), "{strict:?}");
    let (one, other) = (ana.run_ok(&["verify", "bob"]), bob.run_ok(&["verify", "ana"]));
    assert_eq!(one.lines, other.lines);
    bob.run_ok(&["verify", "ana", "--code", &one.lines.join("")]);
    let strict = bob.pipe("hola\n", &["-r", ROOM, "--trust", "verified"]);
    assert_eq!(strict.code, Some(0), "{strict:?}");
    listener.wait_for_text("hola");
    ana.send(ROOM, "verified?");
    let read = listener.wait_for_text("verified?");
    let after = bob.listen(ROOM);
    ana.send(ROOM, "now");
    assert_eq!(after.wait_for_text("now")["verified"], true, "{read}");
    let unknown = ana.run(&["verify", "eve"]);
    assert_eq!(unknown.code, Some(78), "{unknown:?}");
    eventually("the first listener goes on", || listener.frames().len() >= 3);
}

#[test]
fn state_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    let ana = Member::new(&server, "ana");
    ana.run_ok(&["room", "create", ROOM]);
    let file = ana.home.join("state.db");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&ana.home), mode(&file)), (0o700, 0o600));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = ana.pipe("hola\n", &["-r", ROOM]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.errors.contains("chmod 600"), "{refused:?}");
}

#[test]
fn a_record_that_is_another_one_or_shorter_is_evidence() {
    let mut server = Server::start();
    let ana = Member::new(&server, "ana");
    ana.run_ok(&["room", "create", ROOM]);
    ana.send(ROOM, "one");
    server.stop();
    let history = server.state().join("history");
    let backup = server.state().join("before");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(done.success());
    };
    let history = if history.exists() { history } else { server.state() };
    let backup =
        if backup.starts_with(&history) { history.with_extension("before") } else { backup };
    copy(&history, &backup);
    server.start_again();
    // It reads its own message back.
    assert_eq!(ana.pipe("two\n", &["-r", ROOM]).texts(), ["two"]);
    server.stop();
    std::fs::remove_dir_all(&history).unwrap();
    copy(&backup, &history);
    server.start_again();
    let refused = ana.pipe("three\n", &["-r", ROOM]);
    assert_eq!(refused.code, Some(79), "{refused:?}");
    assert!(refused.errors.contains("this device has read #"), "{refused:?}");
    std::fs::remove_dir_all(&backup).unwrap();
}
