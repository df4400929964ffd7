//! Several servers that share their rooms: no client can tell which of them it is connected to.

use serde_json::json;

use crate::http::curl;
use crate::support::client::Client;
use crate::support::load_lock;
use crate::support::nodes::Nodes;
use crate::support::wire::Wire;

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
