//! Welcomes, trees and other inputs that a server can make up.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::insider::{append, description};
use super::proxy::Proxy;
use super::{AnaAndBob, EVIDENCE, ROOM, ends_with_evidence, has_ended};
use crate::e2e::device::{device_id, sha256};
use crate::e2e::member::{Member, open_room};
use crate::support::server::Server;
use crate::support::{TIMEOUT, eventually};

/// What a client may take in memory, in KiB, whatever one frame of at most 16 MiB holds.
const MAX_KIB: u64 = 128 * 1024;

/// Bob waits outside behind this lie, and Ana opens the room for him. Gives Bob's client.
fn invited(
    lie: impl FnMut(Value) -> Vec<Value> + Send + 'static,
) -> (Server, Proxy, Member, crate::support::client::Client) {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let ana = Member::new(&server, "ana");
    let bob = Member::new(&server, "bob").through(&proxy.url());
    let waiting = bob.wait_outside(ROOM);
    proxy.lie_to_client(lie);
    ana.run_ok(&["room", "create", ROOM, "--add", "bob"]);
    ana.send(ROOM, "for bob");
    (server, proxy, ana, waiting)
}

fn bend(content: &Value) -> Vec<u8> {
    let mut bytes = STANDARD.decode(content.as_str().unwrap()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

#[test]
fn a_tree_that_is_not_the_named_one_is_evidence_and_joins_nothing() {
    let (_server, _proxy, _ana, mut waiting) = invited(|mut frame| {
        if frame["type"] == "e2e_blob" {
            frame["content"] = STANDARD.encode(bend(&frame["content"])).into();
        }
        vec![frame]
    });
    let ended = ends_with_evidence(&mut waiting, "is not the one it named");
    assert!(!ended.errors.contains("members:"), "{ended:?}");
}

#[test]
fn a_tree_of_another_group_under_a_fitting_name_joins_nothing() {
    let (_server, proxy, _ana, waiting) = invited(|mut frame| {
        if frame["type"] == "e2e_welcome" {
            frame["tree"] = sha256("another tree").into();
        }
        if frame["type"] == "error" && frame["code"] == "no_tree" {
            frame = json!({"type": "e2e_blob", "room": ROOM, "sha256": sha256("another tree"),
                "part": 0, "parts": 1, "content": STANDARD.encode("another tree")});
        }
        vec![frame]
    });
    eventually("it is told", || waiting.errors().contains("an invitation to +ops can't be used"));
    proxy.wait_for_client("the welcome is done with", |frame| frame["type"] == "e2e_welcome_done");
    assert!(!waiting.errors().contains("members:"), "{}", waiting.errors());
    assert_eq!(waiting.frames(), [Value::Null; 0]);
}

#[test]
fn a_welcome_whose_commit_is_another_entry_joins_nothing() {
    let (_server, proxy, _ana, waiting) = invited(|mut frame| {
        // The first commit of the room instead of the one that adds Bob.
        if frame["type"] == "e2e_welcome" {
            frame["seq"] = 1.into();
        }
        vec![frame]
    });
    eventually("it is told", || waiting.errors().contains("an invitation to +ops can't be used"));
    proxy.wait_for_client("the welcome is done with", |frame| frame["type"] == "e2e_welcome_done");
    assert!(!waiting.errors().contains("members:"), "{}", waiting.errors());
}

#[test]
fn an_old_description_of_the_room_is_evidence_for_a_new_device_and_lets_it_say_nothing() {
    let server = Server::start();
    let (ana, mallory) = (Member::new(&server, "ana"), Member::new(&server, "mallory"));
    drop(open_room(ROOM, &ana, &[&mallory]));
    let [old_info, old_tree] = description(&server);
    ana.run_ok(&["room", "remove", ROOM, "mallory"]);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("phone");
    ana.run_ok(&["device", "add", "--out", home.to_str().unwrap()]);
    let proxy = Proxy::before(&server);
    let phone = Member::at(&server, "ana", &home).through(&proxy.url());
    proxy.lie_to_client(move |frame| match frame["type"].as_str() {
        Some("e2e_info") => vec![old_info.clone()],
        Some("e2e_blob") => vec![old_tree.clone()],
        _ => vec![frame],
    });
    let said = phone.pipe("from the phone\n", &["-r", ROOM, "--timeout", "5s"]);
    assert_eq!(said.code, EVIDENCE, "{said:?}");
    assert!(said.errors.contains("the server describes +ops as it was at #"), "{said:?}");
    assert!(said.errors.contains("another device of this user had seen #"), "{said:?}");
    let is_said = |frame: &Value| frame["type"] == "chat_message";
    assert!(!proxy.client_frames().iter().any(is_said), "neither a commit nor a message");
    // With the true description it comes in.
    proxy.lie_to_client(|frame| vec![frame]);
    phone.send(ROOM, "from the phone");
    assert!(ana.run_ok(&["-r", ROOM, "--since", "all"]).texts().contains(&"from the phone".into()));
}

#[test]
fn entries_of_any_bytes_are_unreadable_and_the_room_goes_on() {
    let room = AnaAndBob::new();
    room.ana_says("hola\n");
    room.listener.wait_for_text("hola");
    let real = room.newest_message();
    let real = STANDARD.decode(real["content"].as_str().unwrap()).unwrap();
    let noise: Vec<u8> =
        (0..33_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let nested = [0xff_u8; 33_000].to_vec();
    for content in [real[..real.len() / 3].to_vec(), noise, nested, vec![0]] {
        let entry = ("message", &content[..], None);
        let seq = append(&room.server, ("mallory", &device_id(9)), entry).unwrap();
        let told = room.listener.wait_for("the entry", |line| line["seq"] == seq);
        assert_eq!(told["type"], "unreadable", "{told}");
    }
    room.ana_says("still here\n");
    room.listener.wait_for_text("still here");
}

#[test]
fn a_changed_copy_of_a_message_is_not_shown_and_no_evidence_under_any_name() {
    let room = AnaAndBob::new();
    room.ana_says("hola\n");
    room.listener.wait_for_text("hola");
    let real = room.newest_message();
    let entry = ("message", &bend(&real["content"])[..], None);
    // Anybody whom the server lets in can send it, and in open mode under any name, so it proves nothing.
    for name in ["mallory", "ana"] {
        let seq = append(&room.server, (name, &device_id(9)), entry).unwrap();
        let told = room.listener.wait_for("the copy", |line| line["seq"] == seq);
        assert_eq!((&told["type"], &told["username"]), (&"unreadable".into(), &name.into()));
    }
    room.ana_says("after it\n");
    room.listener.wait_for_text("after it");
}

#[test]
fn frames_of_any_form_neither_panic_nor_take_much_memory_or_time() {
    let huge = "A".repeat(10 << 20);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let frames = [
        json!({"type": "e2e_blob", "room": ROOM, "sha256": sha256("x"), "part": 0, "parts": 1, "content": huge}).to_string(),
        json!({"type": "e2e_welcome", "room": ROOM, "seq": u64::MAX, "content": huge, "tree": "x"}).to_string(),
        json!({"type": "e2e_info", "room": ROOM, "seq": 2, "info": "not base64!", "tree": "x"}).to_string(),
        json!({"type": "e2e_keys", "room": ROOM, "users": {"ana": [{"device": "x", "cert": "!", "key_package": huge}]}}).to_string(),
        json!({"type": "chat_message", "room": ROOM, "seq": u64::MAX, "id": "x", "username": "ana", "kind": "message", "base": 2, "content": "AAAA", "timestamp": "2026-11-27T10:00:00.000000Z"}).to_string(),
        json!({"type": "chat_message", "room": ROOM, "seq": 3, "id": "x", "username": "ana", "kind": "commit", "base": u64::MAX, "content": "%%%", "timestamp": "2026-11-27T10:00:00.000000Z"}).to_string(),
        json!({"type": "joined", "room": ROOM, "epoch": "x", "seq": u64::MAX, "write_only": true}).to_string(),
        json!({"type": "joined", "room": ROOM, "epoch": "x", "seq": u64::MAX >> 1, "write_only": true}).to_string(),
        json!({"type": "gap", "room": ROOM, "after": u64::MAX, "next": 0, "reason": "pruned"}).to_string(),
        json!({"type": "gap", "room": ROOM, "after": 2, "next": u64::MAX, "reason": "pruned"}).to_string(),
        json!({"type": "history", "room": ROOM, "messages": [], "more": true}).to_string(),
        json!({"type": "message_deleted", "room": ROOM, "seq": u64::MAX}).to_string(),
        format!("{{\"type\":\"e2e_welcome\",\"room\":\"{ROOM}\",\"seq\":{deep}}}"),
        format!("{{\"type\":\"chat_message\",\"room\":\"{ROOM}\",\"content\":{deep}}}"),
    ];
    for frame in frames {
        let room = AnaAndBob::new();
        let started = Instant::now();
        room.proxy.insert(&frame);
        let AnaAndBob { ana, mut listener, .. } = room;
        ana.send(ROOM, "after it");
        ana.send(ROOM, "after it");
        // It goes on or it ends with a reason, soon, and without a panic.
        eventually(&format!("it goes on or ends: {:.150}", frame), || {
            listener.lines().iter().any(|line| line.contains("after it")) || has_ended(&listener)
        });
        let what = &frame[..frame.len().min(120)];
        let status = std::fs::read_to_string(format!("/proc/{}/status", listener.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(peak) = peak {
            let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
            assert!(kib < MAX_KIB, "{kib} KiB for {what}");
            listener.signal("TERM");
        }
        let finished = listener.wait_for_exit(TIMEOUT);
        assert!(!finished.errors.contains("panicked"), "{what}: {finished:?}");
        assert_ne!(finished.code, Some(101), "{what}: {finished:?}");
        assert!(finished.code.is_some() || finished.signal == Some(15), "{what}: {finished:?}");
        assert!(started.elapsed() < TIMEOUT, "{what}");
    }
}
