//! The one rule: an id that is known is answered as before; a message whose `base` is not the newest commit is
//! refused, and nothing of it is stored; anything else is appended.

use serde_json::json;

use super::device::{Device, commit_at_once, register, stale};
use crate::support::server::Server;
use crate::support::{Mode, in_both_modes};

in_both_modes!(
    the_rule_holds_for_every_kind_of_frame,
    of_two_commits_at_once_exactly_one_is_acked,
    an_entry_is_the_same_live_in_history_and_in_resume,
    restarts_and_kills_keep_the_rule,
);

async fn the_rule_holds_for_every_kind_of_frame(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    assert_eq!(ana.welcome["rooms"]["+ops"]["seq"], 0);
    assert_eq!(ana.welcome["e2e"]["v"], 1);
    ana.say("+ops", "m1", 3, "hola").await;
    let ahead = ana.wire.next_of("error").await;
    assert_eq!((&ahead["code"], &ahead["base"]), (&json!("stale_base"), &json!(0)), "no commit 3");
    let text = ahead["message"].as_str().unwrap();
    assert!(text.contains("does not have the commit"), "not that there is a newer one: {text}");
    ana.commit("+ops", "c1", 0).await;
    assert_eq!(ana.answer().await, Ok(1));
    ana.say("+ops", "m1", 0, "hola").await;
    assert_eq!(ana.answer().await, stale(1));
    ana.say("+ops", "m1", 1, "hola, encrypted anew").await;
    assert_eq!(ana.answer().await, Ok(2), "after stale_base the id is free");
    ana.say("+ops", "m1", 1, "hola, encrypted anew").await;
    assert_eq!(ana.answer().await, Ok(2), "the ack was lost, so it is sent again");
    ana.say("+ops", "m1", 1, "something else").await;
    assert_eq!(ana.answer().await, Err(("id_conflict".into(), None)));
    ana.commit("+ops", "c2", 1).await;
    assert_eq!(ana.answer().await, Ok(3));
    ana.say("+ops", "m1", 1, "hola, encrypted anew").await;
    assert_eq!(ana.answer().await, Ok(2), "what is known is acked, also after another commit");
    ana.commit("+ops", "c1", 0).await;
    assert_eq!(ana.answer().await, Ok(1));
    // The same id on another device of the same user is another message.
    let mut phone = Device::register(server.endpoint(), register("ana", 1, &["+ops"])).await;
    assert_eq!(phone.say_and_wait("+ops", "m1", 3, "from the phone").await, 4);
    // Other rooms have commits of their own.
    ana.wire.send(json!({"type": "join", "room": "+dev"})).await;
    ana.wire.next_of("joined").await;
    ana.say("+dev", "m1", 3, "hola").await;
    assert_eq!(ana.answer().await, stale(0));
}

async fn of_two_commits_at_once_exactly_one_is_acked(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut devices = Vec::new();
    for number in 0..5 {
        let user = format!("user{number}");
        devices.push(Device::enter(server.endpoint(), &user, "+ops").await);
    }
    let mut base = 0;
    for round in 0..6 {
        base = commit_at_once(&mut devices, "+ops", round, base).await;
        assert_eq!(base, round + 1, "the others left nothing behind");
    }
}

async fn an_entry_is_the_same_live_in_history_and_in_resume(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    let mut bob = Device::enter(server.endpoint(), "bob", "+ops").await;
    let epoch = bob.welcome["rooms"]["+ops"]["epoch"].clone();
    ana.commit_and_wait("+ops", "c1", 0).await;
    ana.say_and_wait("+ops", "m1", 1, "hola").await;
    ana.commit_and_wait("+ops", "c2", 1).await;
    let expected = [
        (1, "commit".to_owned(), 0, "commit c1".to_owned()),
        (2, "message".to_owned(), 1, "hola".to_owned()),
        (3, "commit".to_owned(), 1, "commit c2".to_owned()),
    ];
    for entry in &expected {
        assert_eq!(bob.read().await, *entry, "live");
    }
    bob.wire.send(json!({"type": "history", "room": "+ops", "after": 0})).await;
    let page = bob.wire.next_of("history").await;
    let messages = page["messages"].as_array().unwrap();
    assert_eq!(messages.iter().map(super::device::described).collect::<Vec<_>>(), expected);
    let mut again = register("bob", 0, &["+ops"]);
    again["resume"] = json!({"+ops": {"epoch": epoch, "seq": 1}});
    let mut again = Device::register(server.endpoint(), again).await;
    for entry in &expected[1..] {
        assert_eq!(again.read().await, *entry, "resumed");
    }
}

async fn restarts_and_kills_keep_the_rule(mode: Mode) {
    let mut server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    ana.commit_and_wait("+ops", "c1", 0).await;
    ana.say_and_wait("+ops", "m1", 1, "hola").await;
    server.kill();
    server.start_again();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    ana.say("+ops", "m2", 0, "too early").await;
    assert_eq!(ana.answer().await, stale(1), "after kill -9");
    assert_eq!(ana.say_and_wait("+ops", "m1", 1, "hola").await, 2, "the ack was lost");
    assert_eq!(ana.commit_and_wait("+ops", "c2", 1).await, 3);
    server.stop();
    server.start_again();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    ana.say("+ops", "m2", 1, "too early").await;
    assert_eq!(ana.answer().await, stale(3), "after a clean stop");
    assert_eq!(ana.say_and_wait("+ops", "m2", 3, "now").await, 4);
    assert_eq!(ana.commit_and_wait("+ops", "c1", 0).await, 1, "the first commit is still known");
}
