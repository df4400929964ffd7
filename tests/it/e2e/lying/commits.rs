//! Commits that must not count: of strangers, and of members who may not make them.

use secure_chat::mls::unruly::Misdeed;
use secure_chat::protocol::device::DeviceId;
use serde_json::Value;

use super::insider::Insider;
use super::proxy::retold;
use super::{AnaAndBob, ROOM, ends_with_evidence};
use crate::e2e::member::{Member, open_room};
use crate::support::server::Server;

fn members(member: &Member) -> Vec<String> {
    let listed = member.run_ok(&["room", "members", ROOM]);
    let lines = listed.lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| format!("{} {}", line["username"], line["admin"])).collect()
}

#[test]
fn a_strangers_commit_changes_nothing_under_any_name() {
    let mut room = AnaAndBob::new();
    let before = members(&room.ana);
    let ghost = Insider::stranger("mallory").commit_of_another_group();
    // In open mode anybody can send under the name of a member.
    for name in ["mallory", "ana"] {
        let seq = Insider::stranger(name).append(&room.server, "commit", &ghost);
        let told = room.listener.wait_for("the ghost's commit", |line| line["seq"] == seq);
        assert_eq!((&told["type"], &told["username"]), (&"unreadable".into(), &name.into()));
        room.ana_says(&format!("nothing happened, {name}\n"));
        room.listener.wait_for_text(&format!("nothing happened, {name}"));
        assert_eq!(members(&room.ana), before);
    }
    // The server hands it out once more.
    let mut first = None;
    room.proxy.lie_to_client(retold(ROOM, move |entry| {
        let mut again = first.get_or_insert_with(|| entry.clone()).clone();
        if again == entry {
            return vec![entry];
        }
        again["base"] = again["seq"].clone();
        vec![again, entry]
    }));
    let seq = Insider::stranger("ana").append(&room.server, "commit", &ghost);
    room.listener.wait_for("the ghost's commit", |line| line["seq"] == seq);
    room.ana_says("still here\n");
    room.bob_ends("the server replayed a message");
    assert_eq!(members(&room.ana), before);
}

#[test]
fn a_members_commit_against_the_rules_is_void_for_all_members() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    // Each device misbehaves once: after that its own program knows that its state is not all.
    let eves: Vec<Member> =
        (0..3).map(|number| Member::new(&server, &format!("eve{number}"))).collect();
    let mut listeners = open_room(ROOM, &ana, &[&bob, &eves[0], &eves[1], &eves[2]]);
    listeners.truncate(1);
    let before = members(&ana);
    let listed = ana.run_ok(&["room", "members", ROOM]).lines;
    let listed = listed.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let is_bob = |line: &Value| line["username"] == "bob";
    let bobs_device =
        listed.into_iter().find(is_bob).unwrap()["device"].as_str().unwrap().to_owned();
    let bobs_device = DeviceId::parse(&bobs_device).unwrap();
    let key = Insider::of(&eves[2]).user_key();
    let misdeeds: [&dyn Fn() -> Misdeed; 3] = [
        &|| Misdeed { adds: vec![Insider::stranger("mallory").newcomer()], ..Misdeed::default() },
        &|| Misdeed { removes: vec![bobs_device], ..Misdeed::default() },
        &|| Misdeed { admin: Some(key), ..Misdeed::default() },
    ];
    for (eve, misdeed) in eves.iter().zip(misdeeds) {
        let seq = Insider::misbehave(eve, &server, misdeed);
        let told = listeners[0].wait_for("the void commit", |line| {
            line["seq"] == seq && line["type"] != "chat_message"
        });
        assert_eq!(
            (&told["type"], &told["username"]),
            (&"unreadable".into(), &eve.name[..].into())
        );
        assert!(told["reason"].as_str().unwrap().contains("does not count"), "{told}");
        let text = format!("after the misdeed of {}", eve.name);
        ana.send(ROOM, &text);
        listeners[0].wait_for_text(&text);
        assert_eq!((members(&ana), members(&bob)), (before.clone(), before.clone()));
    }
    // An honest change still counts for everybody.
    ana.run_ok(&["room", "remove", ROOM, "eve0"]);
    ana.send(ROOM, "without her");
    listeners[0].wait_for_text("without her");
    assert_eq!(members(&ana).len(), before.len() - 1);
    assert_eq!(members(&ana), members(&bob));
}

#[test]
fn who_was_removed_and_does_not_hear_of_it_reads_nothing_more() {
    let server = Server::start();
    let proxy = super::Proxy::before(&server);
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let eve = Member::new(&server, "eve").through(&proxy.url());
    let mut listeners = open_room(ROOM, &ana, &[&bob, &eve]);
    let mut removed = listeners.pop().unwrap();
    proxy.lie_to_client(retold(ROOM, |entry| match entry["kind"] == "commit" {
        true => Vec::new(),
        false => vec![entry],
    }));
    ana.run_ok(&["room", "remove", ROOM, "eve"]);
    ana.send(ROOM, "without eve");
    listeners[0].wait_for_text("without eve");
    let ended = ends_with_evidence(&mut removed, "was written after the change at");
    assert!(!format!("{ended:?}").contains("without eve"), "{ended:?}");
}
