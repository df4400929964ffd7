//! The promises about delivery in end-to-end rooms, with the real programs: resume has no holes, there is one order, and
//! changes of the members can't be noticed by those who write and read.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::Value;

use super::lying::proxy::Proxy;
use super::member::{Member, open_room};
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::{TIMEOUT, eventually, is_long_run, load_lock};

const ROOM: &str = "+ops";
/// No rate limit.
const FAST: &str = "[limits]\nrate_messages = 1000000\nrate_bytes = 1000000000\n";

/// What was shown: places and texts. Nothing but messages was.
fn shown(client: &Client) -> Vec<(u64, String)> {
    let line = |line: Value| {
        assert_eq!(line["type"], "chat_message", "{line}");
        (line["seq"].as_u64().unwrap(), line["content"].as_str().unwrap().to_owned())
    };
    client.frames().into_iter().map(line).collect()
}

fn texts(client: &Client) -> Vec<String> {
    shown(client).into_iter().map(|(_, text)| text).collect()
}

/// Says lines one by one, in one process, as long as `goes_on`, with this pause after each. Gives the lines.
fn say_while(member: &Member, pause: Duration, goes_on: impl Fn(usize) -> bool) -> Vec<String> {
    let mut client = member.start(&["-r", ROOM, "--quiet"]);
    let mut lines = Vec::new();
    while goes_on(lines.len()) {
        let line = format!("{} says {}", member.name, lines.len());
        client.write(&format!("{line}\n"));
        lines.push(line);
        std::thread::sleep(pause);
    }
    client.end_input();
    let said = client.finish(3 * TIMEOUT);
    assert_eq!(said.code, Some(0), "{said:?}");
    lines
}

/// A new device of this member comes into the room, by a commit.
fn new_device(member: &Member, server: &Server, folder: &std::path::Path, name: &str) {
    let home = folder.join(name);
    member.run_ok(&["device", "add", "--out", home.to_str().unwrap()]);
    Member::at(server, &member.name, &home).run_ok(&["-r", ROOM]);
}

#[test]
fn p7_resume_has_no_holes() {
    let _lock = load_lock();
    let cuts = if is_long_run() { 60 } else { 6 };
    let server = Server::with(FAST).start();
    let proxy = Proxy::before(&server);
    let ana = Member::new(&server, "ana");
    let names = ["bob", "eve", "joe"];
    let members = names.map(|name| Member::new(&server, name).through(&proxy.url()));
    let readers = open_room(ROOM, &ana, &members.each_ref());
    let folder = tempfile::tempdir().unwrap();
    let goes_on = AtomicBool::new(true);
    let pause = Duration::from_millis(5);
    let lines = std::thread::scope(|scope| {
        let saying = scope.spawn(|| say_while(&ana, pause, |_| goes_on.load(Relaxed)));
        for cut in 0..cuts {
            std::thread::sleep(Duration::from_millis(300));
            proxy.cut();
            // The readers come back to a room whose members are others.
            if cut % 3 == 1 && cut < 15 {
                new_device(&ana, &server, folder.path(), &format!("device{cut}"));
            }
        }
        goes_on.store(false, Relaxed);
        saying.join().unwrap()
    });
    for reader in &readers {
        reader.wait_for_text(lines.last().unwrap());
        assert_eq!(texts(reader), lines);
    }
    let resumes = proxy.client_frames();
    let resumes = resumes.iter().filter(|frame| !frame["resume"][ROOM].is_null()).count();
    assert!(resumes >= names.len(), "{resumes} resumes");
}

#[test]
fn p8_there_is_one_order() {
    let _lock = load_lock();
    let each = if is_long_run() { 1000 } else { 60 };
    let server = Server::with(FAST).start();
    let ana = Member::new(&server, "ana");
    let members = ["bob", "eve", "joe", "kim"].map(|name| Member::new(&server, name));
    let mut readers = open_room(ROOM, &ana, &members.each_ref());
    // Who has read nothing meanwhile reads the same.
    drop(readers.pop());
    let said: Vec<Vec<String>> = std::thread::scope(|scope| {
        let saying = members.each_ref().map(|member| {
            scope.spawn(move || say_while(member, Duration::ZERO, |count| count < each))
        });
        saying.into_iter().map(|saying| saying.join().unwrap()).collect()
    });
    let total = each * members.len();
    eventually("everything was read", || {
        readers.iter().all(|reader| reader.frames().len() >= total)
    });
    let first = shown(&readers[0]);
    for reader in &readers[1..] {
        assert_eq!(shown(reader), first);
    }
    assert!(first.is_sorted(), "{first:?}");
    for (member, said) in members.iter().zip(&said) {
        let by = first.iter().map(|(_, text)| text);
        let by: Vec<&String> = by.filter(|text| text.starts_with(&member.name)).collect();
        assert_eq!(by, said.iter().collect::<Vec<_>>());
    }
    let order: Vec<String> = first.into_iter().map(|(_, text)| text).collect();
    for member in [&ana, &members[3]] {
        member.run_ok(&["-r", ROOM]);
        assert_eq!(member.run_ok(&["-r", ROOM, "history"]).texts(), order);
    }
}

#[test]
fn p14_changes_of_the_members_are_invisible() {
    let _lock = load_lock();
    let server = Server::with(FAST).start();
    let ana = Member::new(&server, "ana");
    let members = ["bob", "eve"].map(|name| Member::new(&server, name));
    let mut readers = open_room(ROOM, &ana, &members.each_ref());
    readers.push(ana.listen(ROOM));
    let guests = ["guest1", "guest2"].map(|name| Member::new(&server, name));
    let waiting = guests.each_ref().map(|guest| guest.wait_outside(ROOM));
    let is_changing = AtomicBool::new(true);
    let (pause, changes) = (Duration::from_millis(5), 3);
    let lines = std::thread::scope(|scope| {
        let saying = scope.spawn(|| {
            say_while(&members[0], pause, |count| count < 50 || is_changing.load(Relaxed))
        });
        readers[0].wait_for_text("bob says 0");
        ana.run_ok(&["room", "add", ROOM, "guest1"]);
        ana.run_ok(&["room", "remove", ROOM, "guest1"]);
        ana.run_ok(&["room", "add", ROOM, "guest2"]);
        is_changing.store(false, Relaxed);
        saying.join().unwrap()
    });
    for reader in &readers {
        reader.wait_for_text(lines.last().unwrap());
        assert_eq!(texts(reader), lines);
        let errors = reader.errors();
        assert!(!errors.contains("does not count") && !errors.contains("the server"), "{errors}");
    }
    let places = shown(&readers[0]);
    let entries = places[places.len() - 1].0 - places[0].0 + 1;
    assert!(
        entries >= (lines.len() + changes) as u64,
        "the changes are among the lines: {entries}"
    );
    // A newcomer reads from when it came to the end.
    waiting[1].wait_for_text(lines.last().unwrap());
    let late = texts(&waiting[1]);
    assert_eq!(late, lines[lines.len() - late.len()..]);
}
