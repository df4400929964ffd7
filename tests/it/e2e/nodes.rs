//! End-to-end rooms over three nodes and a real engine: the same rule, the same deposits, and members on different
//! nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::task::block_in_place;

use super::device::{Device, commit, commit_at_once, device_id, opaque, register, stale, tree};
use super::member::Member;
use crate::support::eventually;
use crate::support::nodes::Nodes;

const ROOM: &str = "+ops";
const FAST: &str = "[limits]\nrate_messages = 1000000\n";

#[test]
fn members_on_three_nodes_read_each_other_in_one_order() {
    let nodes = Nodes::start(FAST);
    let [ana, bob, eve] = [(0, "ana"), (1, "bob"), (2, "eve")]
        .map(|(number, name): (usize, _)| Member::new(&nodes.nodes[number], name));
    let waiting = [bob.wait_outside(ROOM), eve.wait_outside(ROOM)];
    ana.run_ok(&["room", "create", ROOM, "--add", "bob,eve"]);
    for client in &waiting {
        eventually("it was let in", || client.errors().contains("let into"));
    }
    let listener = ana.listen(ROOM);
    let lines = |who: &str| (1..=60).map(|number| format!("{who} {number}")).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for member in [&ana, &bob, &eve] {
            scope.spawn(|| {
                let said = member.pipe(&(lines(&member.name).join("\n") + "\n"), &["-r", ROOM]);
                assert_eq!(said.code, Some(0), "{said:?}");
            });
        }
    });
    ana.send(ROOM, "the end");
    let histories = [&ana, &bob, &eve].map(|member| {
        let read = member.run_ok(&["-r", ROOM, "history", "-n", "1000"]);
        read.texts()
    });
    assert_eq!(histories[0].len(), 181, "{:?}", histories[0]);
    assert!(histories[1] == histories[0] && histories[2] == histories[0], "one order");
    for member in ["ana", "bob", "eve"] {
        let of_one: Vec<_> =
            histories[0].iter().filter(|text| text.starts_with(&format!("{member} "))).collect();
        assert_eq!(of_one, lines(member).iter().collect::<Vec<_>>(), "in the order of the sender");
    }
    for client in [&listener, &waiting[0], &waiting[1]] {
        client.wait_for_text("the end");
    }
    let digits = [&ana, &bob, &eve].map(|member| member.run_ok(&["room", "check", ROOM]).lines);
    assert!(digits[1] == digits[0] && digits[2] == digits[0], "{digits:?}");
    // The node of the admin is another one now; the removed member reads nothing more.
    let ana = Member::at(&nodes.nodes[2], "ana", &ana.home);
    ana.run_ok(&["room", "remove", ROOM, "eve"]);
    ana.send(ROOM, "without eve");
    waiting[0].wait_for_text("without eve");
    let removed = eve.run(&["-r", ROOM, "send", "am I in?"]);
    assert_eq!(removed.code, Some(77), "{removed:?}");
}

#[test]
fn a_room_survives_the_kill_of_a_node_and_additions_through_others() {
    let mut nodes = Nodes::start(FAST);
    let (ana, bob) = (Member::new(&nodes.nodes[0], "ana"), Member::new(&nodes.nodes[1], "bob"));
    let waiting = bob.wait_outside(ROOM);
    ana.run_ok(&["room", "create", ROOM, "--add", "bob"]);
    eventually("it was let in", || waiting.errors().contains("let into"));
    let expected: Vec<String> = (1..=200).map(|number| format!("line {number}")).collect();
    let mut sender = bob.start(&["-r", ROOM]);
    sender.write(&(expected[..100].join("\n") + "\n"));
    nodes.nodes[0].kill();
    let names: Vec<String> = (0..3).map(|number| format!("user{number}")).collect();
    let newcomers: Vec<_> = names
        .iter()
        .map(|name| {
            let member = Member::new(&nodes.nodes[1], name);
            let client = member.wait_outside(ROOM);
            (member, client)
        })
        .collect();
    // Through the node that is left, while the other still sends.
    let ana = Member::at(&nodes.nodes[2], "ana", &ana.home);
    for name in &names {
        ana.run_ok(&["room", "add", ROOM, name]);
    }
    sender.write(&(expected[100..].join("\n") + "\n"));
    sender.end_input();
    let said = sender.finish(Duration::from_secs(60));
    assert_eq!((said.code, said.texts()), (Some(0), expected.clone()), "{said:?}");
    ana.send(ROOM, "the end");
    for (member, client) in &newcomers {
        client.wait_for_text("the end");
        assert_eq!(member.run_ok(&["room", "check", ROOM]).code, Some(0));
    }
    nodes.nodes[0].start_again();
    let ana = Member::at(&nodes.nodes[0], "ana", &ana.home);
    let mut read = ana.run_ok(&["-r", ROOM, "history", "-n", "1000"]).texts();
    assert_eq!(read.pop().as_deref(), Some("the end"));
    assert_eq!(read, expected, "nothing is lost and nothing twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rule_holds_whichever_node_is_asked() {
    let mut nodes = block_in_place(|| Nodes::with(FAST, 2));
    let mut ana = Device::enter(nodes.nodes[0].endpoint(), "ana", ROOM).await;
    let mut bob = Device::enter(nodes.nodes[1].endpoint(), "bob", ROOM).await;
    ana.say(ROOM, "m1", 3, "hola").await;
    assert_eq!(ana.answer().await, stale(0), "no commit 3");
    let first = ana.commit_and_wait(ROOM, "c1", 0).await;
    bob.say(ROOM, "m1", 0, "hola").await;
    assert_eq!(bob.answer().await, stale(first));
    let said = bob.say_and_wait(ROOM, "m1", first, "hola").await;
    assert_eq!(bob.say_and_wait(ROOM, "m1", first, "hola").await, said, "the ack was lost");
    bob.say(ROOM, "m1", first, "something else").await;
    assert_eq!(bob.answer().await, Err(("id_conflict".into(), None)));
    let second = bob.commit_and_wait(ROOM, "c2", first).await;
    ana.say(ROOM, "m2", first, "too late").await;
    assert_eq!(ana.answer().await, stale(second));
    assert_eq!(ana.commit_and_wait(ROOM, "c1", 0).await, first, "what is known is acked");
    ana.commit(ROOM, "c3", first).await;
    assert_eq!(ana.answer().await, stale(second));
    // A commit whose tree nobody has uploaded.
    let frame = commit(ROOM, "c4", second, json!([]));
    ana.wire.send(frame).await;
    assert_eq!(ana.answer().await, Err(("no_tree".into(), None)));
    // The same on both nodes, live and later.
    let expected = [
        (first, "commit".to_owned(), 0, "commit c1".to_owned()),
        (said, "message".to_owned(), first, "hola".to_owned()),
        (second, "commit".to_owned(), first, "commit c2".to_owned()),
    ];
    for entry in &expected {
        assert_eq!(ana.read().await, *entry, "live");
    }
    block_in_place(|| {
        nodes.nodes[0].kill();
        nodes.nodes[0].start_again();
    });
    let mut ana = Device::enter(nodes.nodes[0].endpoint(), "ana", ROOM).await;
    ana.wire.send(json!({"type": "history", "room": ROOM, "after": 0})).await;
    let page = ana.wire.next_of("history").await;
    let messages = page["messages"].as_array().unwrap();
    assert_eq!(messages.iter().map(super::device::described).collect::<Vec<_>>(), expected);
    ana.say(ROOM, "m3", first, "too late").await;
    assert_eq!(ana.answer().await, stale(second), "after kill -9");
    // An operator deletes messages, and no commit.
    block_in_place(|| {
        let kept = nodes.nodes[1].run(&["ctl", "delete", ROOM, &second.to_string()]);
        let told = String::from_utf8_lossy(&kept.stderr).into_owned();
        assert!(!kept.status.success() && told.contains("is a commit"), "{kept:?}");
        nodes.nodes[1].run_ok(&["ctl", "delete", ROOM, &said.to_string()]);
    });
    let third = ana.commit_and_wait(ROOM, "c5", second).await;
    ana.wire.send(json!({"type": "e2e_info", "room": ROOM})).await;
    let info = ana.wire.next_of("e2e_info").await;
    assert_eq!((&info["seq"], &info["info"]), (&json!(third), &json!(opaque("info of c5"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_commits_at_once_through_all_nodes_exactly_one_is_acked() {
    let nodes = block_in_place(|| Nodes::start(FAST));
    let mut devices = Vec::new();
    for number in 0..5 {
        let user = format!("user{number}");
        let node = &nodes.nodes[number % 3];
        devices.push(Device::enter(node.endpoint(), &user, ROOM).await);
    }
    let mut base = 0;
    for round in 0..6 {
        let acked = commit_at_once(&mut devices, ROOM, round, base).await;
        assert!(acked > base);
        base = acked;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deposits_and_welcomes_are_the_same_on_every_node() {
    let nodes = block_in_place(|| Nodes::with(FAST, 2));
    let mut bob = Device::enter(nodes.nodes[0].endpoint(), "bob", "lobby").await;
    let packages: Vec<String> = (0..8).map(|number| opaque(&format!("package {number}"))).collect();
    let put = json!({"type": "e2e_keys_put", "device": device_id(0), "cert": opaque("cert"),
        "key_packages": packages, "last_resort": opaque("last")});
    for _ in 0..2 {
        bob.wire.send(put.clone()).await;
        // A request that is repeated deposits nothing twice.
        assert_eq!(bob.wire.next_of("e2e_keys").await["left"], 8);
    }
    let mut adders = Vec::new();
    for number in 0..4 {
        let node = &nodes.nodes[number % 2];
        adders.push(Device::enter(node.endpoint(), &format!("ana{number}"), ROOM).await);
    }
    let mut given: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..2 {
        for adder in &mut adders {
            adder.wire.send(json!({"type": "e2e_keys_get", "room": ROOM, "users": ["bob"]})).await;
        }
        for adder in &mut adders {
            let keys = adder.wire.next_of("e2e_keys").await;
            let package = keys["users"]["bob"][0]["key_package"].as_str().unwrap();
            *given.entry(package.to_owned()).or_default() += 1;
        }
    }
    assert!(given.len() == 8 && given.values().all(|count| *count == 1), "{given:?}");
    adders[0].wire.send(json!({"type": "e2e_keys_get", "room": ROOM, "users": ["bob"]})).await;
    let keys = adders[0].wire.next_of("e2e_keys").await;
    assert_eq!(keys["users"]["bob"][0]["last_resort"], true, "{keys}");
    adders[1].wire.send(json!({"type": "e2e_keys_get", "room": ROOM, "users": ["nobody"]})).await;
    assert_eq!(adders[1].answer().await, Err(("no_key_package".into(), None)));

    // Bob is on the other node when he is welcomed.
    let mut bob = Device::enter(nodes.nodes[1].endpoint(), "bob", "lobby").await;
    let ana = &mut adders[0];
    ana.upload(ROOM, &tree("c1")).await;
    let welcome = json!([{"to": [["bob", device_id(0)]], "content": opaque("welcome")}]);
    ana.wire.send(commit(ROOM, "c1", 0, welcome)).await;
    let first = ana.answer().await.unwrap();
    let expected = (json!(ROOM), json!(first), json!(opaque("welcome")));
    let told = |frame: &serde_json::Value| {
        (frame["room"].clone(), frame["seq"].clone(), frame["content"].clone())
    };
    let live = bob.wire.next_of("e2e_welcome").await;
    assert_eq!(told(&live), expected, "live");
    // A later commit, and one that was refused, change nothing about it.
    let late = json!([{"to": [["bob", device_id(0)]], "content": opaque("late")}]);
    ana.upload(ROOM, &tree("c2")).await;
    ana.wire.send(commit(ROOM, "c2", 0, late)).await;
    assert_eq!(ana.answer().await, stale(first));
    ana.commit_and_wait(ROOM, "c3", first).await;
    let mut bob = Device::enter(nodes.nodes[0].endpoint(), "bob", ROOM).await;
    let again = bob.wire.next_of("e2e_welcome").await;
    assert_eq!(told(&again), expected, "at register");
    bob.wire.send(json!({"type": "e2e_blob_get", "room": ROOM, "sha256": again["tree"]})).await;
    assert_eq!(bob.wire.next_of("e2e_blob").await["content"], opaque(&tree("c1")));
    bob.wire.send(json!({"type": "e2e_welcome_done", "room": ROOM, "seq": first})).await;
    // Whoever asks after that has been answered.
    bob.wire
        .send(json!({"type": "e2e_keys_put", "device": device_id(0), "cert": opaque("cert"),
        "key_packages": []}))
        .await;
    bob.wire.next_of("e2e_keys").await;
    let mut bob = Device::register(nodes.nodes[1].endpoint(), register("bob", 0, &[ROOM])).await;
    bob.wire.send(json!({"type": "e2e_info", "room": ROOM})).await;
    loop {
        let frame = bob.wire.next().await;
        assert_ne!(frame["type"], "e2e_welcome", "it was handled");
        if frame["type"] == "e2e_info" {
            break;
        }
    }
}
