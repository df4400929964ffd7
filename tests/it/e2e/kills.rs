//! Clients that are killed at any moment: nothing is lost, and nothing comes twice.

use std::time::Duration;

use super::member::{Member, open_room};
use crate::support::server::Server;

const ROOM: &str = "+ops";
const MESSAGES: usize = 60;

/// Pauses before the kill, in microseconds: from before the process has opened its state until after it is done.
fn pause(number: usize) -> Duration {
    Duration::from_micros((number as u64).wrapping_mul(7_919) % 60_000)
}

#[test]
fn senders_that_are_killed_and_run_again_lose_and_repeat_nothing() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    for number in 0..MESSAGES {
        let (id, text) = (format!("job-{number}"), format!("text {number}"));
        let arguments = ["-r", ROOM, "send", "--id", &id, &text];
        let client = ana.start(&arguments);
        std::thread::sleep(pause(number));
        client.signal("KILL");
        drop(client);
        ana.run_ok(&arguments);
    }
    listener.wait_for_text(&format!("text {}", MESSAGES - 1));
    let seen: Vec<_> = listener.frames().iter().map(|frame| frame["content"].clone()).collect();
    let expected: Vec<String> = (0..MESSAGES).map(|number| format!("text {number}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn readers_that_are_killed_print_each_message_after_their_cursor() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    drop(open_room(ROOM, &ana, &[&bob]));
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let arguments = ["-r", ROOM, "--cursor", cursor.to_str().unwrap()];
    bob.run_ok(&arguments);
    let mut seen = Vec::new();
    for number in 0..MESSAGES {
        ana.send(ROOM, &format!("text {number}"));
        let mut client = bob.start(&arguments);
        client.end_input();
        std::thread::sleep(pause(number));
        client.signal("KILL");
        seen.extend(client.finish(crate::support::TIMEOUT).texts());
    }
    seen.extend(bob.run_ok(&arguments).texts());
    // What was printed before the cursor was written comes again; nothing is missing, and the order holds.
    let mut highest = None;
    for text in &seen {
        let number: usize = text.strip_prefix("text ").unwrap().parse().unwrap();
        assert!(highest.map_or(number == 0, |highest| number <= highest + 1), "{seen:?}");
        highest = highest.max(Some(number));
    }
    assert_eq!(highest, Some(MESSAGES - 1));
    let expected: Vec<String> = (0..MESSAGES).map(|number| format!("text {number}")).collect();
    assert_eq!(bob.run_ok(&["-r", ROOM, "history"]).texts(), expected, "the archive has each once");
}

#[test]
fn changes_of_the_room_survive_kills() {
    let server = Server::start();
    let ana = Member::new(&server, "ana");
    let create = ["room", "create", ROOM];
    for number in 0..10 {
        let client = ana.start(&create);
        std::thread::sleep(pause(number * 3 + 1));
        client.signal("KILL");
    }
    ana.run_ok(&create);
    for number in 0..6 {
        let user = Member::new(&server, &format!("user{number}"));
        let waiting = user.wait_outside(ROOM);
        let client = ana.start(&["room", "add", ROOM, &user.name]);
        std::thread::sleep(pause(number * 5 + 2));
        client.signal("KILL");
        drop(client);
        ana.run_ok(&["room", "add", ROOM, &user.name]);
        ana.send(ROOM, "hola");
        waiting.wait_for_text("hola");
    }
    let members = ana.run_ok(&["room", "members", ROOM]);
    assert_eq!(members.lines.len(), 7, "{members:?}");
}
