//! Answers to a sender that are not true: of a message that was thrown away, and of one that was stored.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::proxy::{Proxy, Way};
use super::{ROOM, ends_with_evidence};
use crate::e2e::member::{Member, open_room};
use crate::support::eventually;
use crate::support::server::Server;

fn is_message(frame: &Value) -> bool {
    frame["type"] == "chat_message" && frame["kind"] != "commit"
}

#[test]
fn a_message_that_was_acked_and_thrown_away_is_missing_at_the_next_one_of_its_author() {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let ana = Member::new(&server, "ana").through(&proxy.url());
    let bob = Member::new(&server, "bob");
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    ana.send(ROOM, "ready");
    let ready = listener.wait_for_text("ready")["seq"].as_u64().unwrap();
    proxy.lie(move |way, frame| {
        let is_it = way == Way::ToServer && frame["id"] == "job-1";
        let ack = json!({"type": "ack", "room": ROOM, "id": "job-1", "seq": ready + 1,
            "timestamp": "2026-11-27T10:00:00.000000Z"});
        if is_it { vec![(Way::ToClient, ack)] } else { vec![(way, frame)] }
    });
    let said = ana.run(&["-r", ROOM, "send", "--id", "job-1", "thrown away"]);
    // The exit code is the server's word.
    assert_eq!(said.code, Some(0), "{said:?}");
    ana.send(ROOM, "the next");
    let missing = listener.wait_for("the hole", |line| line["type"] == "missing");
    let next = listener.wait_for_text("the next");
    assert_eq!((&missing["from"], &missing["seq"]), (&json!("ana"), &next["seq"]), "{missing}");
    assert_eq!(missing["first"], missing["last"], "{missing}");
    let texts: Vec<_> = listener.frames().iter().map(|line| line["content"].clone()).collect();
    assert!(!texts.contains(&json!("thrown away")), "{texts:?}");
}

/// What Ana's server tells her while it hides her first message, and refuses it when the next commit has come.
///
/// The server's log has the message, the commit and the message again, under another id. Ana's has the commit and the
/// message.
#[derive(Default)]
struct Refusal {
    /// The content and the place of the first copy.
    first: Option<Value>,
    hidden: Option<u64>,
    is_refused: bool,
}

impl Refusal {
    fn lie(&mut self, way: Way, mut frame: Value) -> Vec<(Way, Value)> {
        if way == Way::ToServer {
            if is_message(&frame) && frame["id"] == "job-1" {
                let first = self.first.get_or_insert_with(|| frame["content"].clone());
                if *first != frame["content"] {
                    frame["id"] = "again".into();
                    frame["base"] = (frame["base"].as_u64().unwrap() + 1).into();
                }
            }
            return vec![(way, frame)];
        }
        if frame["type"] == "ack" && frame["id"] == "job-1" {
            self.hidden = frame["seq"].as_u64();
            return Vec::new();
        }
        if frame["type"] == "chat_message" && frame["id"] == "job-1" {
            self.hidden = frame["seq"].as_u64();
            return Vec::new();
        }
        let Some(hidden) = self.hidden else { return vec![(way, frame)] };
        if frame["id"] == "again" {
            frame["id"] = "job-1".into();
        }
        for field in ["seq", "base"] {
            if let Some(number) = frame[field].as_u64().filter(|number| *number > hidden) {
                frame[field] = (number - 1).into();
            }
        }
        let mut told = vec![(way, frame.clone())];
        if frame["kind"] == "commit" && !std::mem::replace(&mut self.is_refused, true) {
            let refusal = json!({"type": "error", "code": "stale_base", "room": ROOM, "id": "job-1",
                "base": frame["seq"], "temporary": true, "message": "stale"});
            told.push((way, refusal));
        }
        told
    }
}

#[test]
fn a_message_that_was_stored_and_refused_for_a_later_commit_is_shown_once_and_ends_with_79() {
    let server = Server::start();
    let names = ["ana", "bob", "eve"];
    let proxies: BTreeMap<_, _> = names.map(|name| (name, Proxy::before(&server))).into();
    let [ana, bob, eve] =
        names.map(|name| Member::new(&server, name).through(&proxies[name].url()));
    let listeners = open_room(ROOM, &ana, &[&bob, &eve]);
    ana.send(ROOM, "ready");
    listeners.iter().for_each(|listener| drop(listener.wait_for_text("ready")));
    let mut refusal = Refusal::default();
    proxies["ana"].lie(move |way, frame| refusal.lie(way, frame));
    for reader in ["bob", "eve"] {
        proxies[reader].lie_to_client(|mut frame| {
            if frame["id"] == "again" {
                frame["id"] = "job-1".into();
            }
            vec![frame]
        });
    }
    let saying = ana.start(&["-r", ROOM, "send", "--id", "job-1", "once"]);
    proxies["ana"].wait_for_server("the first copy is stored", |frame| {
        frame["type"] == "ack" && frame["id"] == "job-1"
    });
    // A commit, by which Bob's other device comes in.
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("phone");
    bob.run_ok(&["device", "add", "--out", home.to_str().unwrap()]);
    Member::at(&server, "bob", &home).run_ok(&["-r", ROOM]);
    let said = saying.finish(crate::support::TIMEOUT);
    assert_eq!(said.code, Some(0), "{said:?}");
    eventually("the server has both copies", || {
        let frames = proxies["bob"].server_frames();
        frames.iter().any(|frame| frame["id"] == "again")
    });
    for mut listener in listeners {
        let ended = ends_with_evidence(&mut listener, "the server replayed a message");
        assert_eq!(ended.texts(), ["ready", "once"]);
    }
}
