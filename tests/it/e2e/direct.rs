//! Direct messages between two users.

use super::member::Member;
use crate::support::eventually;
use crate::support::server::Server;

#[test]
fn two_users_write_to_each_other_without_anything_else() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let early = ana.start(&["-r", "@bob", "--listen"]);
    eventually("Ana waits for Bob", || early.errors().contains("bob has no keys"));
    let at_bob = bob.start(&["-r", "@ana", "--listen"]);
    eventually("Bob was let in", || at_bob.errors().contains("let into +dm."));
    let said = ana.pipe("hola\n", &["-r", "@bob"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    at_bob.wait_for_text("hola");
    let said = bob.pipe("qué tal\n", &["-r", "@ana"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    early.wait_for_text("qué tal");
    let (one, other) =
        (ana.run_ok(&["room", "check", "@bob"]), bob.run_ok(&["room", "check", "@ana"]));
    assert_eq!(one.lines, other.lines);
    let third = Member::new(&server, "eve");
    let refused = ana.run(&["room", "add", "@bob", "eve"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    let alone = third.run(&["-r", "@eve"]);
    assert_eq!(alone.code, Some(2), "{alone:?}");
}

#[test]
fn two_users_who_begin_at_once_are_in_one_conversation() {
    let server = Server::start();
    for round in 0..5 {
        let ana = Member::new(&server, &format!("ana{round}"));
        let bob = Member::new(&server, &format!("bob{round}"));
        let to_bob = format!("@bob{round}");
        let to_ana = format!("@ana{round}");
        let at_ana = ana.start(&["-r", &to_bob, "--follow"]);
        let at_bob = bob.start(&["-r", &to_ana, "--follow"]);
        let (mut at_ana, mut at_bob) = (at_ana, at_bob);
        at_ana.write("from ana\n");
        at_bob.write("from bob\n");
        at_ana.wait_for_text("from bob");
        at_bob.wait_for_text("from ana");
    }
}
