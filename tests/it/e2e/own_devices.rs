//! Several devices of a user, and a device whose folder was copied or restored.

use super::member::{Member, open_room};
use crate::support::eventually;
use crate::support::server::Server;

const ROOM: &str = "+ops";

#[test]
fn another_device_of_a_member_comes_in_by_itself() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    ana.send(ROOM, "before");
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("phone");
    ana.run_ok(&["device", "add", "--out", home.to_str().unwrap()]);
    let phone = Member::at(&server, "ana", &home);
    phone.send(ROOM, "from the phone");
    let read = listener.wait_for_text("from the phone");
    assert_eq!(read["username"], "ana");
    let on_phone = phone.listen(ROOM);
    ana.send(ROOM, "for the phone as well");
    on_phone.wait_for_text("for the phone as well");
    let history = phone.run_ok(&["-r", ROOM, "history"]).texts();
    assert_eq!(history, ["from the phone", "for the phone as well"], "nothing from before");
    // A second device without the user's key can't make a third.
    let third = folder.path().join("third");
    let refused = phone.run(&["device", "add", "--out", third.to_str().unwrap()]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
}

#[test]
fn a_copied_folder_stops_before_it_says_anything() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(&ana.home).arg(&home).status();
    assert!(copied.unwrap().success());
    let copy = Member::at(&server, "ana", &home);
    ana.send(ROOM, "from the original");
    let refused = copy.pipe("from the copy\n", &["-r", ROOM]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.errors.contains("chat-client device renew"), "{refused:?}");
    let again = copy.pipe("from the copy\n", &["-r", ROOM]);
    assert_eq!(again.code, Some(78), "it stays so: {again:?}");
    copy.run_ok(&["device", "renew"]);
    copy.send(ROOM, "from a device of its own");
    listener.wait_for_text("from a device of its own");
    let texts: Vec<_> = listener.frames().iter().map(|frame| frame["content"].clone()).collect();
    assert_eq!(texts, ["from the original", "from a device of its own"]);
}

#[test]
fn keys_made_on_another_machine_are_copied_once() {
    let server = Server::start();
    let (ana, ci) = (Member::new(&server, "ana"), Member::new(&server, "ci"));
    let home = ci.home.to_str().unwrap();
    let made = ana.run_ok(&["device", "init", "--user", "ci", "--out", home]);
    let line: serde_json::Value = serde_json::from_str(&made.lines[0]).unwrap();
    assert_eq!(line["username"], "ci");
    let again = ana.run(&["device", "init", "--user", "ci", "--out", home]);
    assert_eq!(again.code, Some(78), "{again:?}");
    let waiting = ci.wait_outside(ROOM);
    let folder = tempfile::tempdir().unwrap();
    let pins = folder.path().join("pins");
    let key = line["key"].as_str().unwrap();
    std::fs::write(&pins, format!("# made today\nci {key}\n")).unwrap();
    let pins = pins.to_str().unwrap();
    ana.run_ok(&["--trust", "pinned", "--pins", pins, "room", "create", ROOM, "--add", "ci"]);
    eventually("it was let in", || waiting.errors().contains("let into +ops"));
}
