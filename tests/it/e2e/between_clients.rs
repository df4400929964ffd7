//! What users do in an end-to-end room, through real clients and a real server.

use super::member::{Member, open_room};
use crate::support::server::Server;
use crate::support::{Mode, TIMEOUT, eventually};

const ROOM: &str = "+ops";
/// For tests that send many messages.
const FAST: &str = "[limits]\nrate_messages = 1000000\n";

#[test]
fn two_commands_open_a_room_between_two_users() {
    for mode in [Mode::Open, Mode::Secured] {
        let server = Server::with("").mode(mode).start();
        let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
        let waiting = bob.wait_outside(ROOM);
        let created = ana.run_ok(&["room", "create", ROOM, "--add", "bob"]);
        assert_eq!(created.lines.len(), 1, "{created:?}");
        assert_eq!(created.lines[0].split(' ').count(), 8, "40 digits: {created:?}");
        let said = ana.pipe("hola\n", &["-r", ROOM]);
        assert_eq!((said.code, said.texts()), (Some(0), vec!["hola".to_owned()]), "{said:?}");
        let read = waiting.wait_for_text("hola");
        assert_eq!((&read["room"], &read["username"]), (&ROOM.into(), &"ana".into()));
        let said = bob.pipe("qué tal\n", &["-r", ROOM]);
        assert_eq!(said.code, Some(0), "{said:?}");
        waiting.wait_for_text("qué tal");
        let (one, other) =
            (ana.run_ok(&["room", "check", ROOM]), bob.run_ok(&["room", "check", ROOM]));
        assert_eq!(one.lines, other.lines);
    }
}

#[test]
fn lines_arrive_once_and_in_order_and_the_past_is_read_from_the_archive() {
    let server = Server::with(FAST).start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let with_cursor = ["-r", ROOM, "--cursor", cursor.to_str().unwrap()];
    assert_eq!(bob.run_ok(&with_cursor).texts(), [""; 0], "nothing is new");
    let expected: Vec<String> = (1..=300).map(|number| format!("line {number}")).collect();
    let said = ana.pipe(&(expected.join("\n") + "\n"), &["-r", ROOM]);
    assert_eq!((said.code, said.texts()), (Some(0), expected.clone()), "{}", said.errors);
    listener.wait_for_text("line 300");
    let seen: Vec<String> =
        listener.frames().iter().map(|frame| frame["content"].as_str().unwrap().into()).collect();
    assert_eq!(seen, expected);
    assert_eq!(bob.run_ok(&with_cursor).texts(), expected);
    assert_eq!(bob.run_ok(&with_cursor).texts(), [""; 0], "the cursor has moved");
    let newest = bob.run_ok(&["-r", ROOM, "history", "-n", "3"]);
    assert_eq!(newest.texts(), expected[297..]);
    let all = bob.run_ok(&["-r", ROOM, "history"]);
    assert_eq!(all.texts(), expected);
    let after = bob.run_ok(&["-r", ROOM, "history", "--since", "1h", "-n", "2"]);
    assert_eq!(after.texts(), expected[..2]);
    // Who comes later reads nothing from before.
    let eve = Member::new(&server, "eve");
    let waiting = eve.wait_outside(ROOM);
    ana.run_ok(&["room", "add", ROOM, "eve"]);
    ana.send(ROOM, "for all three");
    waiting.wait_for_text("for all three");
    let read = eve.run_ok(&["-r", ROOM, "history"]);
    assert_eq!(read.texts(), ["for all three"]);
}

#[test]
fn the_first_run_of_somebody_who_was_added_before_it_reads_everything_since() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let with_cursor = ["-r", ROOM, "--cursor", cursor.to_str().unwrap()];
    assert_eq!(bob.run_ok(&with_cursor).texts(), [""; 0], "he leaves his keys");
    ana.run_ok(&["room", "create", ROOM, "--add", "bob"]);
    ana.send(ROOM, "one");
    ana.send(ROOM, "two");
    assert_eq!(bob.run_ok(&with_cursor).texts(), ["one", "two"]);
    let eve = Member::new(&server, "eve");
    let refused = eve.run(&["-r", ROOM, "history"]);
    assert_eq!(refused.code, Some(77), "{refused:?}");
}

#[test]
fn a_removed_member_reads_nothing_more_and_can_be_added_again() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let eve = Member::new(&server, "eve");
    let mut listeners = open_room(ROOM, &ana, &[&bob, &eve]);
    let mut removed = listeners.pop().unwrap();
    ana.send(ROOM, "before");
    removed.wait_for_text("before");
    ana.run_ok(&["room", "remove", ROOM, "eve"]);
    let ended = removed.wait_for_exit(TIMEOUT);
    assert_eq!(ended.code, Some(77), "{ended:?}");
    assert!(ended.errors.contains("eve is not in +ops"), "{ended:?}");
    ana.send(ROOM, "without eve");
    listeners[0].wait_for_text("without eve");
    let refused = eve.pipe("let me in\n", &["-r", ROOM]);
    assert_eq!(refused.code, Some(77), "{refused:?}");
    assert!(refused.errors.contains("line 1"), "{refused:?}");
    assert_eq!(eve.run_ok(&["-r", ROOM, "history"]).texts(), ["before"]);
    let members = ana.run_ok(&["room", "members", ROOM]);
    let names: Vec<String> = members
        .lines
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["username"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["ana", "bob"]);
    ana.run_ok(&["room", "add", ROOM, "eve"]);
    let said = eve.pipe("back again\n", &["-r", ROOM]);
    assert_eq!(said.code, Some(0), "{said:?}");
    listeners[0].wait_for_text("back again");
}

#[test]
fn a_removal_from_one_room_ends_only_that_room() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    for room in ["+a", "+b"] {
        drop(open_room(room, &ana, &[&bob]));
    }
    let mut both = bob.start(&["-r", "+a", "-r", "+b", "--listen", "--since", "all"]);
    ana.send("+b", "before");
    both.wait_for_text("before");
    ana.run_ok(&["room", "remove", "+b", "bob"]);
    let told = both.wait_for("the removal", |frame| frame["type"] == "removed");
    assert_eq!((&told["room"], &told["by"]), (&"+b".into(), &"ana".into()));
    eventually("the next step is named", || both.errors().contains("chat-client room add +b bob"));
    ana.send("+b", "without bob");
    ana.send("+a", "with bob");
    both.wait_for_text("with bob");
    // A run that speaks in both rooms goes on as well.
    let lines = [("+b", "nobody"), ("+a", "everybody")];
    let lines =
        lines.map(|(room, text)| format!("{{\"room\":\"{room}\",\"content\":\"{text}\"}}\n"));
    let said = bob.pipe(&lines.concat(), &["-r", "+a", "-r", "+b", "--input", "json"]);
    assert_eq!((said.code, said.texts()), (Some(65), vec!["everybody".to_owned()]), "{said:?}");
    assert!(said.errors.contains("line 1") && said.errors.contains("not_in_room"), "{said:?}");
    // It is let in again while it listens.
    ana.run_ok(&["room", "add", "+b", "bob"]);
    eventually("it was let in", || both.errors().contains("let into +b"));
    ana.send("+b", "again with bob");
    both.wait_for_text("again with bob");
    ana.run_ok(&["room", "remove", "+a", "bob"]);
    both.wait_for("the removal", |frame| frame["type"] == "removed" && frame["room"] == "+a");
    ana.run_ok(&["room", "remove", "+b", "bob"]);
    let ended = both.wait_for_exit(TIMEOUT);
    assert_eq!(ended.code, Some(77), "{ended:?}");
    assert!(!ended.texts().contains(&"without bob".to_owned()), "{ended:?}");
}

#[test]
fn a_member_who_was_removed_and_added_again_while_away_reads_on() {
    let server = Server::with(FAST).start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    drop(open_room(ROOM, &ana, &[&bob]));
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let with_cursor = ["-r", ROOM, "--cursor", cursor.to_str().unwrap()];
    for count in [1, 1000] {
        bob.run_ok(&with_cursor);
        let lines: Vec<String> = (1..=count).map(|number| format!("line {number}")).collect();
        let said = ana.pipe(&(lines.join("\n") + "\n"), &["-r", ROOM, "--quiet"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        ana.run_ok(&["room", "remove", ROOM, "bob"]);
        ana.send(ROOM, "without bob");
        ana.run_ok(&["room", "add", ROOM, "bob"]);
        ana.send(ROOM, "welcome back");
        let read = bob.run_ok(&with_cursor).texts();
        assert_eq!(read, [lines, vec!["welcome back".to_owned()]].concat());
    }
}

#[test]
fn only_an_admin_changes_the_members() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let eve = Member::new(&server, "eve");
    let listeners = open_room(ROOM, &ana, &[&bob]);
    let _waiting = eve.wait_outside(ROOM);
    let refused = bob.run(&["room", "add", ROOM, "eve"]);
    assert_eq!(refused.code, Some(77), "{refused:?}");
    let refused = bob.run(&["room", "remove", ROOM, "ana"]);
    assert_eq!(refused.code, Some(77), "{refused:?}");
    let again = bob.run(&["room", "create", ROOM]);
    assert_eq!(again.code, Some(0), "who is in it has what was asked for: {again:?}");
    let late = eve.run(&["room", "create", ROOM]);
    assert_eq!(late.code, Some(77), "{late:?}");
    assert!(late.errors.contains("exists already"), "{late:?}");
    ana.send(ROOM, "still here");
    listeners[0].wait_for_text("still here");
}

#[test]
fn whoever_has_no_keys_yet_is_named_with_the_next_step() {
    let server = Server::start();
    let ana = Member::new(&server, "ana");
    let created = ana.run(&["room", "create", ROOM, "--add", "bob"]);
    assert_eq!(created.code, Some(75), "{created:?}");
    for part in ["bob has no keys", "chat-client -r +ops", "chat-client room add +ops bob"] {
        assert!(created.errors.contains(part), "{part}: {created:?}");
    }
    let bob = Member::new(&server, "bob");
    let waiting = bob.wait_outside(ROOM);
    ana.run_ok(&["room", "add", ROOM, "bob"]);
    eventually("bob was let in", || waiting.errors().contains("let into +ops"));
    let unasked = Member::new(&server, "eve").pipe("hola\n", &["-r", ROOM, "--timeout", "1s"]);
    assert_eq!(unasked.code, Some(75), "{unasked:?}");
    assert!(unasked.errors.contains("nobody let eve into +ops"), "{unasked:?}");
    assert!(unasked.errors.contains("line 1"), "{unasked:?}");
}

#[test]
fn two_admins_and_many_messages_at_once_lose_nothing() {
    let server = Server::with(FAST).start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    let others: Vec<Member> =
        (0..4).map(|number| Member::new(&server, &format!("user{number}"))).collect();
    let waiting: Vec<_> = others.iter().map(|other| other.wait_outside(ROOM)).collect();
    let text: String = (1..=200).map(|number| format!("line {number}\n")).collect();
    std::thread::scope(|scope| {
        let say = scope.spawn(|| bob.pipe(&text, &["-r", ROOM]));
        for other in &others {
            ana.run_ok(&["room", "add", ROOM, &other.name]);
        }
        let said = say.join().unwrap();
        assert_eq!(said.code, Some(0), "{said:?}");
    });
    listener.wait_for_text("line 200");
    let seen: Vec<String> = listener
        .frames()
        .iter()
        .filter(|frame| frame["type"] == "chat_message")
        .map(|frame| frame["content"].as_str().unwrap().into())
        .collect();
    let expected: Vec<String> = (1..=200).map(|number| format!("line {number}")).collect();
    assert_eq!(seen, expected);
    for client in &waiting {
        eventually("each was let in", || client.errors().contains("let into +ops"));
    }
    ana.send(ROOM, "the end");
    for client in &waiting {
        client.wait_for_text("the end");
    }
}

#[test]
fn a_message_with_an_id_is_stored_once() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    for _ in 0..3 {
        ana.run_ok(&["-r", ROOM, "send", "--id", "job-1", "once"]);
    }
    let other = ana.run(&["-r", ROOM, "send", "--id", "job-1", "another text"]);
    assert_eq!(other.code, Some(65), "{other:?}");
    ana.send(ROOM, "the end");
    listener.wait_for_text("the end");
    assert_eq!(listener.frames().len(), 2, "{:?}", listener.frames());
}

#[test]
fn a_command_answers_in_the_room() {
    let server = Server::start();
    let (ana, bot) = (Member::new(&server, "ana"), Member::new(&server, "bot"));
    let waiting = bot.start(&["-r", ROOM, "--exec", "cat"]);
    eventually("it waits", || waiting.errors().contains("waiting to be let into"));
    ana.run_ok(&["room", "create", ROOM, "--add", "bot"]);
    let listener = ana.listen(ROOM);
    ana.send(ROOM, "ping");
    let answer = listener.wait_for("an answer", |frame| frame["username"] == "bot");
    assert!(answer["content"].as_str().unwrap().contains("\"content\":\"ping\""), "{answer}");
}

#[test]
fn two_processes_of_a_device_speak_at_once() {
    let server = Server::with(FAST).start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    let also = ana.listen(ROOM);
    let text =
        |who: char| -> String { (1..=60).map(|number| format!("{who}{number}\n")).collect() };
    let texts = [text('x'), text('y')];
    std::thread::scope(|scope| {
        let said: Vec<_> = texts
            .iter()
            .map(|text| scope.spawn(|| ana.pipe(text, &["-r", ROOM, "--quiet"])))
            .collect();
        for said in said {
            let said = said.join().unwrap();
            assert_eq!(said.code, Some(0), "{said:?}");
        }
    });
    for client in [&listener, &also] {
        eventually("all 120 lines arrived", || {
            assert!(!client.errors().contains("server"), "{}", client.errors());
            client.frames().len() >= 120
        });
        for who in ['x', 'y'] {
            let seen: Vec<String> = client
                .frames()
                .iter()
                .map(|frame| frame["content"].as_str().unwrap().to_owned())
                .filter(|text| text.starts_with(who))
                .collect();
            let expected: Vec<String> = (1..=60).map(|number| format!("{who}{number}")).collect();
            assert_eq!(seen, expected);
        }
    }
}
