//! What a member can send by itself through an honest server: it ends nobody's client, and is told under the name of
//! the member.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::insider::{Insider, append};
use super::{AnaAndBob, ROOM};
use crate::e2e::member::Member;
use crate::support::client::Client;
use crate::support::eventually;

fn content(entry: &Value) -> Vec<u8> {
    STANDARD.decode(entry["content"].as_str().unwrap()).unwrap()
}

/// The same with other bytes in one place.
fn bent(mut content: Vec<u8>, from_end: usize) -> Vec<u8> {
    let place = content.len() - from_end;
    content[place] ^= 1;
    content
}

#[test]
fn copies_and_garbage_of_a_member_end_nobody_and_are_told_under_its_name() {
    let room = AnaAndBob::new();
    let eve = Member::new(&room.server, "eve");
    let waiting = eve.wait_outside(ROOM);
    room.ana.run_ok(&["room", "add", ROOM, "eve"]);
    eventually("eve is in", || waiting.errors().contains("let into"));
    room.proxy.wait_for_server("eve's own commit", |frame| {
        frame["kind"] == "commit" && frame["username"] == "eve"
    });
    let ana = room.ana.listen(ROOM);
    room.ana_says("from ana\n");
    let said = room.bob.pipe("from bob\n", &["-r", ROOM, "--quiet"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for client in [&ana, &room.listener, &waiting] {
        client.wait_for_text("from bob");
    }
    let entries = room.proxy.server_frames();
    let newest = |user: &str, kind: &str| {
        let is_one = |frame: &&Value| frame["kind"] == kind && frame["username"] == user;
        content(entries.iter().rfind(is_one).unwrap())
    };
    let [of_ana, of_bob] = ["ana", "bob"].map(|user| newest(user, "message"));
    let commit = newest("eve", "commit");
    let device = Insider::of(&eve).device_id().to_string();
    let noise = [
        ("message", of_ana.clone()),
        // Its key was used, and that is found before the signature is looked at.
        ("message", bent(of_ana.clone(), 1)),
        ("message", bent(of_ana.clone(), 40)),
        ("message", of_bob.clone()),
        ("message", b"no message".to_vec()),
        ("message", commit.clone()),
        ("commit", of_ana),
        ("commit", of_bob),
        ("commit", commit.clone()),
        ("commit", bent(commit, 1)),
    ];
    let mut base = entries.iter().rfind(|frame| frame["kind"] == "commit").unwrap()["seq"].as_u64();
    for (kind, content) in noise {
        let entry = (kind, &content[..], base);
        let seq = append(&room.server, ("eve", &device), entry).unwrap();
        base = if kind == "commit" { Some(seq) } else { base };
        for client in [&ana, &room.listener] {
            let told = client.wait_for("the noise", |line| line["seq"] == seq);
            assert_eq!(told["type"], "unreadable", "{told}");
            assert_eq!(told["username"], "eve", "{told}");
        }
    }
    room.ana_says("still here\n");
    for client in [&ana, &room.listener] {
        client.wait_for_text("still here");
    }
    let said = room.bob.pipe("me too\n", &["-r", ROOM, "--quiet"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    ana.wait_for_text("me too");
    let alarms = |client: &Client| client.frames().iter().any(|line| line["type"] == "alarm");
    assert!(!alarms(&ana) && !alarms(&room.listener));
}
