//! A store that does not know of some messages whether they are stored: each is stored once, and every reader gets it.

use serde_json::{Value, json};

use crate::http::curl;
use crate::http_follow::numbered;
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::stall::Stall;
use crate::support::wire::Wire;
use crate::support::{programs, sparse_store};

const FAST: &str = "[limits]\nrate_messages = 100000\n";

/// Of each 50 messages, the outcome of the 11th is lost, which is stored, and of the 21st, which is not. `None` if the
/// programs can't do that, and `test` is skipped.
fn start(test: &str) -> Option<Server> {
    programs::have_faults(test)
        .then(|| Server::with(FAST).env("CHAT_TEST_OUTCOMES", "lost").start())
}

#[test]
fn a_pipe_sends_again_what_may_be_stored_and_a_reader_gets_every_line_once() {
    let Some(server) = start("a pipe sends again what may be stored") else { return };
    let url = server.url();
    let reader = Client::start(&[&url, "--listen", "--since", "all", "-u", "reader"]);
    server.wait_for_event("session_opened");
    let lines = numbered(1, 45);
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let sent = Client::pipe(&[&url, "-u", "sender", "-q"], input.as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    let unknown: u64 = server
        .log()
        .iter()
        .filter(|line| line["event"] == "append_unknown")
        .map(|line| line["messages"].as_u64().unwrap())
        .sum();
    // What follows one in the same batch is sent again, too.
    assert!(unknown >= 2, "the outcomes of {unknown} were lost");
    let sorted = |mut texts: Vec<String>| {
        texts.sort_unstable();
        texts
    };
    let history = Client::pipe(&["history", "--url", &url, "--since", "all"], b"");
    assert_eq!(sorted(history.texts()), sorted(lines.clone()), "{}", sent.errors);
    let read = || reader.frames().into_iter().filter(|frame| frame["type"] == "chat_message");
    crate::support::eventually("the reader has every line", || read().count() >= lines.len());
    let texts: Vec<String> =
        read().map(|frame| frame["content"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, history.texts(), "each once, in the order of the room log");
    assert!(reader.frames().iter().all(|frame| frame["type"] != "gap"), "{:?}", reader.lines());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_unknown_is_temporary_and_the_same_id_tells_what_happened() {
    let Some(server) = start("storage_unknown is temporary") else { return };
    let (mut sender, _) = Wire::full(&server, "ana", "lobby").await;
    let (reader, _) = Wire::full(&server, "eva", "lobby").await;
    let mut basic = Wire::register(&server, "basic").await;
    for number in 0..10 {
        sender.send_chat_and_wait("lobby", &format!("id{number}"), "text").await;
    }
    sender.send_chat_in("lobby", "stored", "stored").await;
    let (code, frames) = sender.until_closed().await;
    let error = frames.iter().find(|frame| frame["type"] == "error").expect("an error");
    assert_eq!(
        (&error["code"], &error["id"], &error["room"], &error["temporary"]),
        (&json!("storage_unknown"), &json!("stored"), &json!("lobby"), &json!(true))
    );
    assert_eq!((code, error["retry_after_ms"].as_u64()), (1011, Some(1000)));
    assert_eq!(reader.until_closed().await.0, 1011, "it may lack a message, and resumes");
    let (mut sender, welcome) = Wire::full(&server, "ana", "lobby").await;
    assert_eq!(welcome["rooms"]["lobby"]["seq"], 11);
    sender.send_chat_in("lobby", "stored", "stored").await;
    assert_eq!(sender.next_of("ack").await["seq"], 11, "it was stored");
    sender.send_chat_and_wait("lobby", "next", "next").await;
    while basic.next_of("chat_message").await["seq"] != 12 {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_brings_a_message_whose_outcome_was_lost_and_no_session_is_closed() {
    if !programs::have_faults("a tail brings a message") {
        return;
    }
    let server =
        Server::with(FAST).env("CHAT_TEST_OUTCOMES", "lost").over(sparse_store::TAILS).start();
    let (mut sender, _) = Wire::full(&server, "ana", "lobby").await;
    let (mut reader, _) = Wire::full(&server, "eva", "lobby").await;
    for number in 0..10 {
        sender.send_chat_and_wait("lobby", &format!("id{number}"), "text").await;
    }
    // The outcome is lost, unless the tail is faster. Then the same id tells what happened.
    let first = answer_to(&mut sender, "stored").await;
    assert!(first["type"] == "ack" || first["code"] == "storage_unknown", "{first}");
    assert_eq!(answer_to(&mut sender, "stored").await["type"], "ack");
    for number in 12..20 {
        sender.send_chat_and_wait("lobby", &format!("id{number}"), "text").await;
    }
    sender.send_chat_in("lobby", "not stored", "not stored").await;
    let error = loop {
        let frame = sender.next().await;
        if frame["type"] == "error" {
            break frame;
        }
    };
    assert_eq!((&error["code"], &error["id"]), (&json!("storage_unknown"), &json!("not stored")));
    sender.send_chat_and_wait("lobby", "last", "last").await;
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != "last") {
        let frame = reader.next_of("chat_message").await;
        texts.push(reader.read(&frame));
    }
    let stored = texts.iter().filter(|text| *text == "stored").count();
    assert_eq!((stored, texts.len()), (1, 20), "each message once, in one session: {texts:?}");
}

#[test]
fn over_http_storage_unknown_is_503_and_the_same_id_tells_what_happened() {
    let Some(server) = start("over HTTP storage_unknown is 503") else { return };
    let post = |id: &str| {
        let id = format!("Idempotency-Key: {id}");
        curl(&server, "/rooms/lobby", &["-H", "Content-Type: text/plain", "-H", &id, "-d", "hola"])
    };
    let unknown = |id: &str| {
        let answer = post(id);
        let error: Value = answer.json();
        assert_eq!((answer.status, &error["code"]), (503, &json!("storage_unknown")), "{error}");
        assert_eq!((&error["id"], &error["temporary"]), (&json!(id), &json!(true)));
    };
    (0..10).for_each(|number| assert_eq!(post(&format!("a{number}")).status, 201));
    unknown("stored");
    let again = post("stored");
    assert_eq!((again.status, again.json()["seq"].as_u64()), (200, Some(11)));
    (0..8).for_each(|number| assert_eq!(post(&format!("b{number}")).status, 201));
    unknown("lost");
    assert_eq!(post("lost").status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_does_not_overtake_an_earlier_one_of_its_sender_that_was_not_stored() {
    let Some(stall) = Stall::at("log_writer", "a message does not overtake") else { return };
    let server = Server::with(FAST)
        .env("CHAT_TEST_OUTCOMES", "lost")
        .over(sparse_store::TAILS)
        .stalling_at(&stall)
        .start();
    let (mut sender, _) = Wire::full(&server, "ana", "lobby").await;
    let (mut other, _) = Wire::full(&server, "eva", "lobby").await;
    // The outcome of the eleventh is lost, unless the tail is faster, and that of the twenty-first.
    for number in (0..10).chain([10, 10]).chain(12..20) {
        answer_to(&mut sender, &format!("id{number}")).await;
    }
    stall.begin();
    sender.send_chat_in("lobby", "first", "not stored").await;
    // The answer shows that the session has handed the message over.
    sender.send(json!({"type": "who", "room": "lobby"})).await;
    sender.next_of("user_list").await;
    sender.send_chat_in("lobby", "second", "behind it").await;
    other.send_chat_in("lobby", "of another", "of another").await;
    sender.send(json!({"type": "who", "room": "lobby"})).await;
    sender.next_of("user_list").await;
    stall.end();
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let frame = sender.next().await;
        if matches!(frame["type"].as_str(), Some("ack" | "error")) {
            assert_eq!(frame["temporary"], true, "{frame}");
            answers.push((frame["id"].clone(), frame["code"].clone()));
        }
    }
    let expected = [("first", "storage_unknown"), ("second", "storage_failed")];
    assert_eq!(answers, expected.map(|(id, code)| (json!(id), json!(code))));
    let others = other.next_of("ack").await["seq"].as_u64().unwrap();
    for id in ["first", "second"] {
        let ack = answer_to(&mut sender, id).await;
        assert_eq!((&ack["type"], &ack["id"]), (&json!("ack"), &json!(id)), "{ack}");
        assert!(ack["seq"].as_u64() > Some(others), "{ack}");
    }
}

/// The answer to a message.
async fn answer_to(wire: &mut Wire, id: &str) -> Value {
    wire.send_chat_in("lobby", id, id).await;
    loop {
        let frame = wire.next().await;
        if frame["id"] == id && matches!(frame["type"].as_str(), Some("ack" | "error")) {
            return frame;
        }
    }
}
