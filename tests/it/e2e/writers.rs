//! Users who may only write: they are sent the commits and their own messages, and nobody takes that for a lie.

use serde_json::Value;

use super::member::{Member, open_room};
use crate::access::TOKENS;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::server::Server;

const ROOM: &str = "+ops";
fn member(server: &Server, name: &str, role: &str) -> Member {
    let token = server.token(name, &["--room", ROOM, "--role", role]);
    Member::new(server, name).holding(&token)
}

fn texts_of(client: &Client, author: &str) -> Vec<String> {
    let frames = client.frames().into_iter();
    let said = frames.filter(|frame| frame["username"] == author && frame["type"] != "unreadable");
    said.map(|frame| frame["content"].as_str().unwrap().to_owned()).collect()
}

/// The gaps that a client printed: from, to.
fn gaps(lines: &[String]) -> Vec<(u64, u64)> {
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let gaps = lines.filter(|line| line["type"] == "gap").map(|line| {
        assert_eq!(line["reason"], "write_only", "{line}");
        (line["after"].as_u64().unwrap(), line["next"].as_u64().unwrap())
    });
    gaps.collect()
}

#[test]
fn a_writer_sends_between_the_lines_of_others_while_members_are_added() {
    let server = Server::with(TOKENS).start();
    let ana = member(&server, "ana", "member");
    let bob = member(&server, "bob", "reader");
    let cron = member(&server, "cron", "writer");
    let listeners = open_room(ROOM, &ana, &[&bob, &cron]);
    let (reader, writer) = (&listeners[0], &listeners[1]);
    let mut expected = Vec::new();
    for number in 1..=10 {
        ana.send(ROOM, &format!("ana {number}"));
        ana.send(ROOM, &format!("ana {number}, again"));
        let line = format!("backup {number} done");
        let sent = cron.pipe(&format!("{line}\n"), &["-r", ROOM]);
        assert_eq!((sent.code, sent.texts()), (Some(0), vec![line.clone()]), "{sent:?}");
        expected.push(line);
    }
    let others: Vec<Member> =
        (0..2).map(|number| member(&server, &format!("user{number}"), "member")).collect();
    let waiting: Vec<Client> = others.iter().map(|other| other.wait_outside(ROOM)).collect();
    let more: Vec<String> = (11..=20).map(|number| format!("backup {number} done")).collect();
    std::thread::scope(|scope| {
        let talks = scope.spawn(|| (1..=5).for_each(|_| ana.send(ROOM, "meanwhile")));
        for (number, line) in more.iter().enumerate() {
            let sent = cron.pipe(&format!("{line}\n"), &["-r", ROOM, "--quiet"]);
            assert_eq!(sent.code, Some(0), "{sent:?}");
            if let Some(other) = others.get(number) {
                ana.run_ok(&["room", "add", ROOM, &other.name]);
            }
        }
        talks.join().unwrap();
    });
    expected.extend(more);
    ana.send(ROOM, "the end");
    reader.wait_for_text("the end");
    assert_eq!(texts_of(reader, "cron"), expected);
    assert_eq!(texts_of(reader, "ana").len(), 26);
    for client in &waiting {
        client.wait_for_text("the end");
    }
    // The other process of its device has read its own lines, and nothing of the others.
    eventually("its own lines", || texts_of(writer, "cron") == expected);
    assert_eq!(texts_of(writer, "ana"), [""; 0]);
    let past = cron.run_ok(&["-r", ROOM, "history"]);
    let gaps = gaps(&past.lines);
    assert!(gaps.len() >= 10 && gaps.iter().all(|(after, next)| next - after >= 2), "{gaps:?}");
    let digits = [&ana, &bob, &cron].map(|one| one.run_ok(&["room", "check", ROOM]).lines);
    assert!(digits[0] == digits[1] && digits[1] == digits[2], "{digits:?}");
    for client in listeners.iter().chain(&waiting) {
        let errors = client.errors();
        assert!(!errors.contains("server left out") && !errors.contains("records"), "{errors}");
    }
}

#[test]
fn a_writer_who_becomes_a_reader_reads_on_and_is_told_the_gap() {
    let server = Server::with(TOKENS).start();
    let ana = member(&server, "ana", "member");
    let cron = member(&server, "cron", "writer");
    open_room(ROOM, &ana, &[&cron]);
    cron.send(ROOM, "backup begins");
    for _ in 0..3 {
        ana.send(ROOM, "not for cron");
    }
    cron.send(ROOM, "backup done");
    ana.send(ROOM, "while cron was away");
    let token = server.token("cron", &["--room", ROOM, "--role", "member"]);
    let cron = cron.holding(&token);
    let listener = cron.start(&["-r", ROOM, "--listen", "--since", "1h"]);
    // The log is read from where the device was: what it was not sent until then is a gap, and no message is missing.
    listener.wait_for_text("while cron was away");
    ana.send(ROOM, "for cron, too");
    listener.wait_for_text("for cron, too");
    cron.send(ROOM, "backup done again");
    listener.wait_for_text("backup done again");
    ana.send(ROOM, "the end");
    listener.wait_for_text("the end");
    let lines: Vec<String> = listener.frames().iter().map(Value::to_string).collect();
    assert_eq!(gaps(&lines).len(), 1, "{lines:?}");
    assert_eq!(texts_of(&listener, "cron").len(), 3, "{lines:?}");
    let others = listener.frames().into_iter().filter(|frame| frame["type"] != "chat_message");
    assert_eq!(others.count(), 1, "{lines:?}");
    // And a writer again: what it says is in order, and nobody sees anything else.
    let reader = ana.listen(ROOM);
    let token = server.token("cron", &["--room", ROOM, "--role", "writer"]);
    let cron = cron.holding(&token);
    ana.send(ROOM, "not for cron");
    cron.send(ROOM, "once more");
    reader.wait_for_text("once more");
}
