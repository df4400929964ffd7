//! Clients that are killed at any moment: nothing is lost, and nothing comes twice.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secure_chat::mls::apply::apply;
use secure_chat::mls::device::Device;
use secure_chat::mls::entry::{Body, LogEntry};
use secure_chat::mls::rows::Room;
use secure_chat::mls::{RoomError, State, StateError, unruly};
use secure_chat::protocol::{RoomName, Seq};
use serde_json::Value;

use super::lying::proxy::Proxy;
use super::member::{Member, open_room};
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::{TIMEOUT, is_long_run};

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

/// Numbers that look random and are the same in each run (SplitMix64).
struct Schedule(u64);

impl Schedule {
    fn next(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// A moment from before a process has opened its state until after it is done.
    fn pause(&mut self) -> Duration {
        Duration::from_micros(self.next(40_000))
    }
}

/// A new device of this member, which is about to come into the room by itself.
fn come_in(member: &Member, server: &Server, folder: &std::path::Path, number: u64) -> Client {
    let home = folder.join(format!("device{number}"));
    member.run_ok(&["device", "add", "--out", home.to_str().unwrap()]);
    let mut client = Member::at(server, &member.name, &home).start(&["-r", ROOM]);
    client.end_input();
    client
}

/// Whether the frame has a message, which is encrypted.
fn is_message(frame: &Value) -> bool {
    frame["type"] == "chat_message" && frame["kind"] != "commit"
}

/// Decrypts all that was ever sent, also what the server refused, on the device of a member that has read nothing of it.
/// Gives how many different ones there were, after how many commits, and how many were encrypted with a key that another
/// one had.
fn used_keys(judge: &Member, log: &[Value], sent: &[Value]) -> (usize, usize, usize) {
    let mut state = State::open(&judge.home, None).unwrap();
    let room = RoomName::parse(ROOM).unwrap();
    let decoded = |frame: &Value| STANDARD.decode(frame["content"].as_str().unwrap()).unwrap();
    let mut different = BTreeSet::new();
    let (mut commits, mut used) = (0, 0);
    let mut entries = log.iter().filter(|frame| frame["type"] == "chat_message");
    loop {
        let stored = state.step(|step| Room::load(step, &room)).unwrap().unwrap();
        for frame in sent.iter().filter(|frame| frame["base"] == stored.base.0) {
            let content = decoded(frame);
            if different.insert(content.clone()) {
                let mut is_used =
                    || state.step(|step| unruly::has_used_key(step, &room, &content)).unwrap();
                used += usize::from(is_used());
                assert!(is_used(), "the search finds a key that is used a second time");
            }
        }
        // On to the next commit.
        let before = commits;
        for entry in entries.by_ref() {
            let seq = Seq(entry["seq"].as_u64().unwrap());
            let content = decoded(entry);
            let body = match is_message(entry) {
                true => Body::Deleted,
                false => Body::Commit(&content),
            };
            let (id, user, device, at, base) = (None, None, None, None, None);
            let entry = LogEntry { seq, id, user, device, at, base, body };
            let applied: Result<_, RoomError> = state.step(|step| {
                let device = Device::load(step)?.ok_or(StateError::Damaged("no device"))?;
                apply(step, &device, &room, entry)
            });
            applied.unwrap();
            let now = state.step(|step| Room::load(step, &room)).unwrap().unwrap();
            if now.base > stored.base {
                commits += 1;
                break;
            }
        }
        if commits == before {
            return (different.len(), commits, used);
        }
    }
}

#[test]
fn two_processes_of_a_device_that_are_killed_lose_and_repeat_nothing_and_use_no_key_twice() {
    let rounds = if is_long_run() { 500 } else { 24 };
    let commits = 3;
    let seed = 22;
    let server = Server::with("[limits]\nrate_messages = 1000000\n").start();
    let proxies = [Proxy::before(&server), Proxy::before(&server)];
    let ana = Member::new(&server, "ana").through(&proxies[0].url());
    let bob = Member::new(&server, "bob").through(&proxies[1].url());
    let judge = Member::new(&server, "judge");
    let mut listeners = open_room(ROOM, &ana, &[&bob, &judge]);
    // The judge's device has read what there is, and nothing of what comes.
    drop(listeners.pop());
    let listener = listeners.pop().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut schedule = Schedule(seed);
    let mut sent = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        let coming =
            (round % (rounds / commits) == 1).then(|| come_in(&bob, &server, folder.path(), round));
        let jobs = ["x", "y"].map(|who| (format!("{who}{round}"), format!("{who} says {round}")));
        let arguments = jobs.each_ref().map(|(id, text)| ["-r", ROOM, "send", "--id", id, text]);
        std::thread::scope(|scope| {
            for arguments in &arguments {
                let (pause, ana) = (schedule.pause(), &ana);
                scope.spawn(move || {
                    let client = ana.start(arguments);
                    std::thread::sleep(pause);
                    client.signal("KILL");
                });
            }
        });
        if let Some(client) = coming {
            let came = client.finish(TIMEOUT);
            assert_eq!(came.code, Some(0), "{came:?}");
        }
        for ((arguments, (_, text)), sent) in arguments.iter().zip(jobs.clone()).zip(&mut sent) {
            ana.run_ok(arguments);
            sent.push(text);
        }
    }
    let last = sent[1].last().unwrap();
    listener.wait_for_text(last);
    let lines = listener.frames();
    assert!(lines.iter().all(|line| line["type"] != "alarm"), "{lines:?}");
    let texts = lines.iter().filter(|line| line["type"] == "chat_message");
    let texts: Vec<&str> = texts.map(|line| line["content"].as_str().unwrap()).collect();
    for (who, sent) in ["x", "y"].iter().zip(&sent) {
        let seen: Vec<&str> = texts.iter().copied().filter(|text| text.starts_with(who)).collect();
        assert_eq!(seen, *sent, "seed {seed}");
    }
    let on_the_wire = proxies[0].client_frames();
    let on_the_wire: Vec<Value> = on_the_wire.into_iter().filter(is_message).collect();
    let (different, came, used) = used_keys(&judge, &proxies[1].server_frames(), &on_the_wire);
    assert_eq!((used, came >= commits as usize), (0, true), "seed {seed}, {came} commits");
    assert!(different >= 2 * rounds as usize, "{different} messages");
}
