//! Admins of an end-to-end room, through real clients and a real server: there can be several, and there is always one.

use serde_json::Value;

use super::member::{Member, open_room};
use crate::support::server::Server;

const ROOM: &str = "+ops";

/// The users that `room members` calls admins.
fn admins(member: &Member) -> Vec<String> {
    let members = member.run_ok(&["room", "members", ROOM]);
    let mut names: Vec<String> = members
        .lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["admin"] == true)
        .map(|line| line["username"].as_str().unwrap().to_owned())
        .collect();
    names.dedup();
    names
}

#[test]
fn an_admin_makes_another_one_who_may_do_as_much() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let eve = Member::new(&server, "eve");
    let listeners = open_room(ROOM, &ana, &[&bob, &eve]);
    let refused = bob.run(&["room", "promote", ROOM, "bob"]);
    assert_eq!(refused.code, Some(77), "{refused:?}");
    assert!(refused.errors.contains("only an admin of +ops"), "{refused:?}");
    let unknown = ana.run(&["room", "promote", ROOM, "carl"]);
    assert_eq!(unknown.code, Some(77), "{unknown:?}");
    assert!(unknown.errors.contains("no such member: carl"), "{unknown:?}");
    for _ in 0..2 {
        let promoted = ana.run_ok(&["room", "promote", ROOM, "bob"]);
        assert!(promoted.errors.contains("admins of +ops now: ana, bob"), "{promoted:?}");
    }
    for member in [&ana, &bob, &eve] {
        assert_eq!(admins(member), ["ana", "bob"], "{}", member.name);
    }
    bob.run_ok(&["room", "remove", ROOM, "eve"]);
    bob.run_ok(&["room", "demote", ROOM, "ana"]);
    assert_eq!(admins(&ana), ["bob"]);
    let refused = ana.run(&["room", "add", ROOM, "eve"]);
    assert_eq!(refused.code, Some(77), "{refused:?}");
    let last = bob.run(&["room", "demote", ROOM, "bob"]);
    assert_eq!(last.code, Some(77), "{last:?}");
    assert!(last.errors.contains("chat-client room promote +ops NAME"), "{last:?}");
    ana.send(ROOM, "still a member");
    listeners[0].wait_for_text("still a member");
}

#[test]
fn an_admin_who_was_removed_comes_back_as_an_ordinary_member() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let _listeners = open_room(ROOM, &ana, &[&bob]);
    ana.run_ok(&["room", "promote", ROOM, "bob"]);
    ana.run_ok(&["room", "remove", ROOM, "bob"]);
    assert_eq!(bob.run(&["-r", ROOM]).code, Some(0), "he leaves keys");
    ana.run_ok(&["room", "add", ROOM, "bob"]);
    ana.send(ROOM, "back");
    assert_eq!(admins(&bob), ["ana"]);
}

#[test]
fn the_only_admin_does_not_leave_the_others_behind() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let listeners = open_room(ROOM, &ana, &[&bob]);
    let refused = ana.run(&["room", "leave", ROOM]);
    assert_eq!(refused.code, Some(77), "{refused:?}");
    assert!(refused.errors.contains("chat-client room promote +ops NAME"), "{refused:?}");
    ana.send(ROOM, "nothing was forgotten");
    listeners[0].wait_for_text("nothing was forgotten");
    ana.run_ok(&["room", "promote", ROOM, "bob"]);
    let left = ana.run_ok(&["room", "leave", ROOM]);
    assert!(left.errors.contains("chat-client room remove +ops --device"), "{left:?}");
    bob.run_ok(&["room", "remove", ROOM, "ana"]);
    assert_eq!(admins(&bob), ["bob"]);
    // Nobody is left behind by the last member.
    bob.run_ok(&["room", "leave", ROOM]);
}

#[test]
fn who_changes_the_admins_is_told_with_the_other_changes() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let _listeners = open_room(ROOM, &ana, &[&bob]);
    let events = bob.start(&["-r", ROOM, "--listen", "--events", "--since", "all"]);
    ana.run_ok(&["room", "promote", ROOM, "bob"]);
    let told = events.wait_for("the change", |frame| frame["promoted"][0] == "bob");
    assert_eq!((&told["type"], &told["by"]), (&"members_changed".into(), &"ana".into()));
    bob.run_ok(&["room", "demote", ROOM, "ana"]);
    events.wait_for("the change", |frame| frame["demoted"][0] == "ana" && frame["by"] == "bob");
}

#[test]
fn two_admins_who_demote_each_other_leave_one() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let listeners = open_room(ROOM, &ana, &[&bob]);
    ana.run_ok(&["room", "promote", ROOM, "bob"]);
    let ended = std::thread::scope(|scope| {
        let other = scope.spawn(|| ana.run(&["room", "demote", ROOM, "bob"]));
        [bob.run(&["room", "demote", ROOM, "ana"]), other.join().unwrap()]
    });
    let codes: std::collections::BTreeSet<_> = ended.iter().map(|ended| ended.code).collect();
    assert_eq!(codes, [Some(0), Some(77)].into(), "{ended:?}");
    assert_eq!(admins(&ana).len(), 1);
    assert_eq!(admins(&ana), admins(&bob));
    ana.send(ROOM, "the room goes on");
    listeners[0].wait_for_text("the room goes on");
}
