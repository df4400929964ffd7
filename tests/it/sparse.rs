//! A store that leaves out sequence numbers: readers get every message and no gap but those that the server names.

use std::process::Command;

use serde_json::{Value, json};

use crate::http_follow::{Follower, numbered, say};
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, load_lock, programs, sparse_store};

const FAST: &str = "[limits]\nrate_messages = 100000\nrate_bytes = 100000000\n";

/// Other tests that hold over such a store as well. Each says nothing about numbers that it did not get from the server.
const ALSO_SPARSE: [&str; 10] = [
    "client::a_cursor_resumes_after_the_last_message",
    "client::send_with_the_same_id_stores_one_message",
    "e2e::between_clients::lines_arrive_once_and_in_order_and_the_past_is_read_from_the_archive",
    "e2e::writers::a_writer_sends_between_the_lines_of_others_while_members_are_added",
    "http_outages::p7_over_http_what_was_pruned_is_a_gap",
    "page::looks::other_rooms_and_hidden_pages_count_what_is_unread",
    "pipe::an_id_of_a_json_line_is_stored_once_and_unknown_fields_are_refused",
    "reliability::open::p7_resume_has_no_holes",
    "reliability::open::p8_there_is_one_order",
    "sample_clients::the_python_client_sends_receives_and_lives_through_a_cut",
];

/// Tests that hold over a store whose messages come by tails as well.
const OVER_TAILS: [&str; 5] = [
    "sparse::a_gap_names_pruned_messages_and_no_others",
    "sparse::a_resume_from_every_number_brings_every_later_message_and_no_gap",
    "sparse::histories_are_read_both_ways_and_over_http_without_a_gap",
    "sparse::streams_and_the_client_read_on_without_a_gap",
    "unknown_outcomes::a_pipe_sends_again_what_may_be_stored_and_a_reader_gets_every_line_once",
];

/// A server over such a store; `None` if the programs have none, and `test` is skipped.
fn start(test: &str, config: &str) -> Option<Server> {
    programs::have_faults(test).then(|| {
        Server::with(config)
            .over(sparse_store::of_this_test().unwrap_or(sparse_store::SPARSE))
            .start()
    })
}

/// Stores messages, and gives the number of each.
async fn store(wire: &mut Wire, from: usize, to: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    for number in from..=to {
        wire.send_chat_in("lobby", &format!("id{number}"), &format!("m{number}")).await;
        seqs.push(wire.next_of("ack").await["seq"].as_u64().unwrap());
        wire.next_of("chat_message").await;
    }
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 < pair[1]), "numbers are left out: {seqs:?}");
    seqs
}

async fn resumed(server: &Server, epoch: &Value, seq: u64) -> Wire {
    let mut wire = Wire::connect(server).await;
    wire.send(json!({"type": "register", "protocol": 1, "username": "reader", "rooms": ["lobby"],
        "presence": false, "resume": {"lobby": {"epoch": epoch, "seq": seq}}}))
        .await;
    wire.next_of("encryption_key").await;
    wire
}

/// The numbers of the messages that come, and the gaps, up to the message `last`.
async fn read_to(wire: &mut Wire, last: u64) -> (Vec<u64>, Vec<Value>) {
    let (mut seqs, mut gaps) = (Vec::new(), Vec::new());
    while seqs.last() != Some(&last) {
        let frame = wire.next().await;
        match frame["type"].as_str() {
            Some("chat_message") => seqs.push(frame["seq"].as_u64().unwrap()),
            Some("gap") => gaps.push(frame),
            Some("user_list") => {}
            _ => panic!("{frame}"),
        }
    }
    (seqs, gaps)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_from_every_number_brings_every_later_message_and_no_gap() {
    let Some(server) = start("a resume from every number", FAST) else { return };
    let (mut sender, welcome) = Wire::full(&server, "teller", "lobby").await;
    let epoch = &welcome["rooms"]["lobby"]["epoch"];
    let mut stored = store(&mut sender, 1, 8).await;
    let last = *stored.last().unwrap();
    let mut readers = Vec::new();
    for position in 0..=last {
        readers.push((position, resumed(&server, epoch, position).await));
    }
    stored.extend(store(&mut sender, 9, 10).await);
    let last = *stored.last().unwrap();
    for (position, mut reader) in readers {
        let later: Vec<u64> = stored.iter().copied().filter(|seq| *seq > position).collect();
        assert_eq!(read_to(&mut reader, last).await, (later, vec![]), "after {position}");
    }
    let mut future = resumed(&server, epoch, last + 1).await;
    assert_eq!(future.next_of("gap").await["reason"], "future");
    let mut foreign = resumed(&server, &json!("elsewhere"), 3).await;
    let (seqs, gaps) = read_to(&mut foreign, last).await;
    assert_eq!((seqs, &gaps[0]["reason"], gaps.len()), (stored, &json!("epoch"), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_read_both_ways_and_over_http_without_a_gap() {
    let Some(server) = start("histories are read both ways", FAST) else { return };
    let (mut sender, _) = Wire::full(&server, "teller", "lobby").await;
    let stored = store(&mut sender, 1, 12).await;
    let (mut wire, _) = Wire::full(&server, "reader", "lobby").await;
    for (key, mut place) in [("after", 0), ("before", u64::MAX)] {
        let (mut read, mut more) = (Vec::new(), true);
        while more {
            wire.send(json!({"type": "history", "room": "lobby", key: place, "limit": 5})).await;
            let page = wire.next().await;
            assert_eq!(page["type"], "history", "nothing is missing: {page}");
            let messages = page["messages"].as_array().unwrap();
            read.extend(messages.iter().map(|message| message["seq"].as_u64().unwrap()));
            (place, more) = (page["reached"].as_u64().unwrap(), page["more"] == true);
        }
        read.sort_unstable();
        assert_eq!(read, stored, "{key}");
    }
    for (at, seq) in stored.iter().enumerate() {
        let get = |query: &str| Follower::get(&server, &format!("/rooms/lobby?{query}"));
        let seqs = |lines: &[Value]| -> Vec<u64> {
            lines
                .iter()
                .map(|line| line["seq"].as_u64().unwrap_or_else(|| panic!("{line}")))
                .collect()
        };
        for position in [*seq, seq - 1] {
            let later: Vec<u64> = stored.iter().copied().filter(|seq| *seq > position).collect();
            assert_eq!(seqs(&get(&format!("after={position}"))), later);
        }
        let earlier = &stored[at.saturating_sub(2)..at];
        assert_eq!(seqs(&get(&format!("before={seq}&limit=2"))), earlier, "before {seq}");
        let newest = &stored[stored.len() - 1 - at..];
        assert_eq!(seqs(&get(&format!("limit={}", at + 1))), newest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_names_pruned_messages_and_no_others() {
    let config = format!("{FAST}[history]\nkeep_messages = 3\n");
    let Some(server) = start("a gap names pruned messages", &config) else { return };
    let (mut sender, welcome) = Wire::full(&server, "teller", "lobby").await;
    let epoch = &welcome["rooms"]["lobby"]["epoch"];
    let stored = store(&mut sender, 1, 8).await;
    let kept = &stored[5..];
    // Messages over the limit are pruned in the background.
    let begun = std::time::Instant::now();
    while Follower::get(&server, "/rooms/lobby?since=all").len() > 4 {
        assert!(begun.elapsed() < TIMEOUT, "nothing was pruned");
        tokio::time::sleep(crate::support::POLL_INTERVAL).await;
    }
    for position in 0..kept[2] {
        let (seqs, gaps) = read_to(&mut resumed(&server, epoch, position).await, kept[2]).await;
        let later: Vec<u64> = kept.iter().copied().filter(|seq| *seq > position).collect();
        assert_eq!(seqs, later, "after {position}");
        let is_missing = stored[..5].iter().any(|seq| *seq > position);
        assert_eq!(gaps.len(), usize::from(is_missing), "after {position}: {gaps:?}");
        for gap in gaps {
            let next = gap["next"].as_u64().unwrap();
            assert_eq!((&gap["after"], &gap["reason"]), (&json!(position), &json!("expired")));
            assert!(stored[4] < next && next <= kept[0], "{gap}");
        }
    }
    sender.send(json!({"type": "history", "room": "lobby", "limit": 10})).await;
    let gap = sender.next().await;
    assert_eq!((&gap["type"], &gap["after"]), (&json!("gap"), &json!(0)), "{gap}");
    assert_eq!(sender.next_of("history").await["messages"].as_array().unwrap().len(), 3);
    let rooms: Value = serde_json::from_str(&server.run_ok(&["ctl", "rooms", "--json"])).unwrap();
    assert_eq!(rooms["rooms"][0]["kept"], 3, "{rooms}");
}

#[test]
fn streams_and_the_client_read_on_without_a_gap() {
    let Some(server) = start("streams and the client read on", FAST) else { return };
    say(&server, &numbered(1, 30));
    let (mut seen, mut last) = (Vec::new(), None::<String>);
    while seen.len() < 30 {
        let mut events = Follower::events(&server, "?since=all", last.as_deref());
        for _ in 0..6 {
            let (id, data) = events.event();
            seen.push(data["content"].as_str().unwrap_or_else(|| panic!("{data}")).to_owned());
            last = Some(id);
        }
    }
    assert_eq!(seen, numbered(1, 30));
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let cursor = cursor.to_str().unwrap();
    let url = server.url();
    let mut read = Vec::new();
    for _ in 0..10 {
        let part =
            Client::pipe(&[&url, "-l", "--cursor", cursor, "--since", "all", "-n", "3"], b"");
        assert_eq!((part.code, part.errors.as_str()), (Some(0), ""), "{:?}", part.lines);
        assert_eq!(part.lines.len(), 3, "messages only: {:?}", part.lines);
        read.extend(part.texts());
    }
    assert_eq!(read, numbered(1, 30));
    // Live messages follow each other without their numbers doing so.
    let listener = Client::start(&[&url, "-l", "--events", "-u", "ear"]);
    listener.wait_for("its own arrival", |frame| frame["type"] == "user_joined");
    say(&server, &numbered(31, 40));
    listener.wait_for_text("m40");
    assert!(listener.frames().iter().all(|frame| frame["type"] != "gap"), "{:?}", listener.lines());
    assert_eq!(listener.errors(), "");
    let history = Client::pipe(&["history", "--url", &url, "--since", "all"], b"");
    assert_eq!((history.texts(), history.errors.as_str()), (numbered(1, 40), ""));
}

#[test]
fn other_tests_hold_over_a_sparse_store() {
    run_over(sparse_store::SPARSE, &ALSO_SPARSE);
}

#[test]
fn tests_hold_over_a_store_with_tails() {
    run_over(sparse_store::TAILS, &[&ALSO_SPARSE[..], &OVER_TAILS].concat());
}

/// Runs the tests over this store, in a process of their own.
fn run_over(store: &str, tests: &[&str]) {
    let is_nested = sparse_store::of_this_test().is_some();
    if is_nested || !programs::have_faults("tests over another store") {
        return;
    }
    // Some of them load the machine.
    let _lock = load_lock();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--test-threads", "2"])
        .args(tests)
        .env(sparse_store::VARIABLE, store)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let all = format!("{} passed; 0 failed; 0 ignored", tests.len());
    assert!(output.status.success() && printed.contains(&all), "{printed}");
}
