//! Several servers that share their rooms: no client can tell which of them it is connected to.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::curl;
use crate::support::client::Client;
use crate::support::nodes::Nodes;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, load_lock};

const FAST: &str = "[limits]\nrate_messages = 100000\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_reaches_every_node_once_and_its_id_is_known_on_all() {
    let _lock = load_lock();
    let nodes = tokio::task::block_in_place(|| Nodes::start(FAST));
    let [first, second, third] = &nodes.nodes[..] else { panic!() };
    let (mut ana, welcome) = Wire::full(first, "ana", "ops").await;
    assert_eq!(welcome["durable"], true);
    let (mut eva, _) = Wire::full(second, "eva", "ops").await;
    let mut seqs = Vec::new();
    for number in 0..5 {
        ana.send_chat_in("ops", &format!("id{number}"), &format!("text {number}")).await;
        let ack = ana.next_of("ack").await;
        let echo = ana.next_of("chat_message").await;
        let there = eva.next_of("chat_message").await;
        for frame in [&echo, &there] {
            assert_eq!((&frame["seq"], &frame["timestamp"]), (&ack["seq"], &ack["timestamp"]));
        }
        assert_eq!(eva.read(&there), format!("text {number}"));
        seqs.push(ack["seq"].as_u64().unwrap());
    }
    // The same user sends one of them again through another node.
    let (mut again, position) = Wire::full(third, "ana", "ops").await;
    assert_eq!(position["rooms"]["ops"]["seq"], seqs[4]);
    again.send_chat_in("ops", "id2", "text 2").await;
    assert_eq!(again.next_of("ack").await["seq"], seqs[2]);
    again.send_chat_in("ops", "id2", "another text").await;
    assert_eq!(again.next().await["code"], "id_conflict");
    // A reader of the first node resumes on the third.
    let mut resumed = Wire::connect(third).await;
    let epoch = &position["rooms"]["ops"]["epoch"];
    resumed
        .send(json!({"type": "register", "protocol": 1, "username": "reader", "rooms": ["ops"],
            "presence": false, "resume": {"ops": {"epoch": epoch, "seq": seqs[1]}}}))
        .await;
    for seq in &seqs[2..] {
        assert_eq!(resumed.next_of("chat_message").await["seq"], *seq);
    }
    eva.send_chat_in("ops", "last", "last").await;
    assert_eq!(resumed.next_of("chat_message").await["id"], "last");
    // Over HTTP and by the pipe.
    let read = curl(third, "/rooms/ops?since=all", &[]).body;
    assert_eq!(read.lines().filter(|line| line.contains("chat_message")).count(), 6, "{read}");
    let sent = Client::pipe(&["send", "--url", &second.url(), "--room", "ops", "by the pipe"], b"");
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    let there = resumed.next_of("chat_message").await;
    assert_eq!(resumed.read(&there), "by the pipe");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_kicks_and_access_are_those_of_all_nodes() {
    let _lock = load_lock();
    let config = format!("{FAST}[auth]\nmode = \"token\"\n");
    let nodes = tokio::task::block_in_place(|| Nodes::with(&config, 2));
    let [first, second] = &nodes.nodes[..] else { panic!() };
    // Access tokens that were made on one node are valid on the other.
    let (ana_token, eva_token) = (first.token("ana", &ROOM), second.token("eva", &ROOM));
    let mut ana = registered(second, "ana", &ana_token).await;
    let list = ana.next_of("user_list").await;
    assert_eq!(list["users"], json!(["ana"]));
    let mut eva = registered(first, "eva", &eva_token).await;
    let joined = ana.next_of("user_joined").await;
    assert_eq!(joined["username"], "eva");
    eva.send(json!({"type": "who", "room": "ops"})).await;
    loop {
        let list = eva.next_of("user_list").await;
        let mut users: Vec<&str> =
            list["users"].as_array().unwrap().iter().map(|user| user.as_str().unwrap()).collect();
        users.sort_unstable();
        if users == ["ana", "eva"] {
            break;
        }
        // The other node's news may not be here yet.
        eva.send(json!({"type": "who", "room": "ops"})).await;
    }
    let sessions = first.run_ok(&["ctl", "--all-nodes", "sessions"]);
    assert!(sessions.contains("ana") && sessions.contains("eva"), "{sessions}");
    // A kick on one node ends the session on the other, and its members are told.
    let kicked = first.run_ok(&["ctl", "kick", "ana"]);
    assert!(kicked.contains('1'), "{kicked}");
    assert_eq!(ana.until_closed().await.0, 4003, "ended by an operator");
    assert_eq!(eva.next_of("user_left").await["username"], "ana");
    // A revocation on one node ends the sessions on the other.
    let mut ana = registered(second, "ana", &ana_token).await;
    ana.next_of("user_list").await;
    first.run_ok(&["token", "revoke", &first.token_id("ana")]);
    let began = Instant::now();
    ana.until_closed().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut refused = Wire::connect(second).await;
    refused
        .send(json!({"type": "register", "protocol": 1, "username": "ana", "rooms": ["ops"],
            "access_token": ana_token}))
        .await;
    assert_eq!(refused.next().await["type"], "error");
}

#[test]
fn a_node_starts_while_a_server_of_the_engine_is_down() {
    let _lock = load_lock();
    let mut nodes = Nodes::with(FAST, 1);
    assert_eq!(nodes.nodes[0].event_count("cluster_server_absent"), 0);
    nodes.engine.kill(1);
    nodes.nodes[0].kill();
    nodes.nodes[0].start_again();
    let absent = nodes.nodes[0].wait_for_event("cluster_server_absent");
    assert!(absent["server"].as_str().unwrap().starts_with("engine-1 "), "{absent}");
    let sent = Client::pipe(&["send", "--url", &nodes.nodes[0].url(), "by the pipe"], b"");
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
}

const ROOM: [&str; 2] = ["--room", "ops"];

async fn registered(server: &Server, name: &str, token: &str) -> Wire {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let mut wire = Wire::connect(server).await;
        wire.send(json!({"type": "register", "protocol": 1, "username": name, "rooms": ["ops"],
            "access_token": token}))
            .await;
        let frame = wire.next().await;
        if frame["type"] == "welcome" {
            return wire;
        }
        // The other node may not know the access token yet.
        assert!(Instant::now() < deadline, "{frame}");
    }
}
