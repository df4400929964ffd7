//! Reloads of a running server: every key that is not marked `(start)` changes without the loss of a session, and a file
//! system that does not answer stops nothing else.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::server::Server;
use crate::support::stall::Stall;
use crate::support::wire::Wire;

const EXAMPLE: &str = include_str!("../../etc/chat-server.toml");
const TOKENS: &str = "[auth]\nmode = \"token\"\n";

/// The keys of the example file whose comment does not end with `(start)`.
fn reloadable_keys() -> Vec<String> {
    let (mut table, mut waits, mut keys) = (String::new(), false, Vec::new());
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            if !std::mem::take(&mut waits) {
                keys.push(format!("{table}.{name}"));
            }
        } else if line.starts_with('#') {
            waits = line.ends_with("(start)");
        }
    }
    keys
}

/// The values that each key is changed to, as TOML, together in one reload.
fn changes(key: &str) -> Vec<(&str, String)> {
    let text = |value: &str| vec![(key, format!("{value:?}"))];
    let value = |value: &str| vec![(key, value.to_owned())];
    match key {
        "listen.allow_plaintext" | "auth.allow_open" => value("true"),
        "listen.origins" => value("[\"https://chat.test\"]"),
        "listen.trusted_proxies" => value("[\"192.0.2.1/32\"]"),
        "limits.connections" | "limits.connections_per_address" => value("2"),
        "limits.register_timeout" | "limits.ping_timeout" => text("1s"),
        "limits.message_chars" => value("5"),
        "limits.frame_bytes" => value("131072"),
        "limits.rate_messages" => {
            vec![(key, "2".into()), ("limits.rate_per", "\"10m\"".into())]
        }
        "limits.rate_bytes" => value("600000"),
        "limits.rate_per" => text("3s"),
        "limits.ping_interval" => text("15s"),
        "limits.outbound_bytes" => value("2097152"),
        "limits.rooms" => value("1"),
        "limits.presence_members" => value("1"),
        "keys.rotate_every" => text("1s"),
        "keys.grace" => text("0s"),
        "auth.mode" => text("open"),
        "history.keep_messages" => value("10"),
        "history.keep_for" => text("1h"),
        "history.max_bytes" => value("100000000"),
        "log.level" => text("debug"),
        "shutdown.grace" => text("7s"),
        other => panic!("{other} is a new key: say how it changes, and what shows it"),
    }
}

/// A configuration in token mode with changed values.
fn configuration(changes: &[(&str, String)]) -> String {
    let mut values = vec![
        ("auth.mode", "\"token\"".to_owned()),
        ("limits.message_chars", "4000".to_owned()),
        ("limits.rate_messages", "100000".to_owned()),
    ];
    values.retain(|(key, _)| changes.iter().all(|(changed, _)| changed != key));
    values.extend(changes.iter().cloned());
    let mut text = String::new();
    for (key, value) in values {
        let _ = writeln!(text, "{key} = {value}");
    }
    text
}

/// A server, and the session that lives through all reloads.
struct World {
    server: Server,
    token: String,
    session: Wire,
    next_id: u32,
    /// Whether the value of the key is another than usual.
    is_changed: bool,
}

impl World {
    async fn register(&self, endpoint: Endpoint, rooms: &[&str]) -> Wire {
        let mut wire = Wire::connect(endpoint).await;
        wire.send(json!({"type": "register", "protocol": 1, "username": "ana", "rooms": rooms,
            "access_token": self.token}))
            .await;
        wire
    }

    /// Another session in the lobby, and its `welcome`.
    async fn enter(&self) -> (Wire, Value) {
        let mut wire = self.register(self.server.endpoint(), &["lobby"]).await;
        let welcome = wire.next_of("welcome").await;
        wire.next_of("user_list").await;
        (wire, welcome)
    }

    async fn says(&mut self, text: &str) {
        self.next_id += 1;
        let id = format!("m{}", self.next_id);
        self.session.send_chat_in("lobby", &id, text).await;
        let acked = self.session.next_of("ack").await;
        assert_eq!(acked["id"], id.as_str());
    }

    /// The code of the refusal of a client that a proxy names.
    async fn forwarded(&self) -> String {
        let endpoint = self.server.endpoint().header("x-forwarded-for", "203.0.113.9");
        let mut wire = self.register(endpoint, &["lobby"]).await;
        let frame = wire.next().await;
        frame["code"].as_str().unwrap_or("none").to_owned()
    }

    async fn with_origin(&self) -> u16 {
        let endpoint = self.server.endpoint().header("origin", "https://chat.test");
        Wire::try_connect(endpoint).await.err().unwrap_or(101)
    }

    /// Looks for the effect of a change that can be seen; called before it too.
    async fn effect(&mut self, key: &str) -> Value {
        let limit = async |name: &str| self.enter().await.1["limits"][name].clone();
        match key {
            "listen.allow_plaintext" | "listen.trusted_proxies" => self.forwarded().await.into(),
            "listen.origins" => self.with_origin().await.into(),
            "limits.connections_per_address" => {
                let from = self.server.endpoint().header("x-forwarded-for", "203.0.113.9");
                let _two = [Wire::connect(&from).await, Wire::connect(&from).await];
                Wire::try_connect(&from).await.err().unwrap_or(101).into()
            }
            "limits.connections" => {
                let (_second, _) = self.enter().await;
                Wire::try_connect(&self.server).await.err().unwrap_or(101).into()
            }
            "limits.message_chars" => {
                self.session.send_chat_in("lobby", "long", "123456").await;
                loop {
                    let frame = self.session.next().await;
                    if frame["type"] == "error" || frame["type"] == "ack" {
                        return frame["code"].clone();
                    }
                }
            }
            "limits.rate_per" => limit("rate_per_ms").await,
            "limits.frame_bytes" | "limits.rate_bytes" | "limits.rate_messages" => {
                limit(key.trim_start_matches("limits.")).await
            }
            "limits.ping_interval" => limit("ping_interval_ms").await,
            "limits.rooms" => {
                let mut wire = self.register(self.server.endpoint(), &["lobby", "new"]).await;
                wire.next().await["code"].clone()
            }
            "limits.presence_members" => {
                let (mut second, _) = self.enter().await;
                second.send(json!({"type": "who", "room": "lobby"})).await;
                second.next_of("user_list").await["total"].clone()
            }
            "keys.rotate_every" => {
                // Only after the change: nothing comes before it.
                match self.is_changed {
                    false => "no rotation".into(),
                    true => self.session.next_of("encryption_key").await["type"].clone(),
                }
            }
            "auth.mode" => {
                let mut wire = Wire::connect(&self.server).await;
                wire.send(json!({"type": "register", "protocol": 1, "username": "eve"})).await;
                wire.next().await["type"].clone()
            }
            "history.keep_messages" => {
                let wanted = if self.is_changed { 10 } else { 30 };
                for _ in 0..200 {
                    self.says("one more").await;
                    let ask = json!({"type": "history", "room": "lobby", "after": 0, "limit": 100});
                    self.session.send(ask).await;
                    let page = loop {
                        let frame = self.session.next().await;
                        assert_ne!(frame["type"], "error", "{frame}");
                        if frame["type"] == "history" {
                            break frame;
                        }
                    };
                    let kept = page["messages"].as_array().unwrap().len();
                    if kept >= wanted && wanted == 30 || kept <= 15 && wanted == 10 {
                        return wanted.into();
                    }
                }
                panic!("the history was never as long as wanted: {wanted}");
            }
            "log.level" => {
                drop(self.server.endpoint().stream().await);
                let is_debug = |line: &Value| line["event"] == "connection_dropped";
                if self.is_changed {
                    eventually("a line of level debug", || self.server.log().iter().any(is_debug));
                }
                self.server.log().iter().any(is_debug).into()
            }
            _ => Value::Null,
        }
    }
}

/// The keys whose effect does not show within a moment.
const UNSEEN: [&str; 9] = [
    "limits.register_timeout",
    "limits.ping_timeout",
    "limits.outbound_bytes",
    "keys.grace",
    "auth.allow_open",
    "history.keep_for",
    "history.max_bytes",
    "shutdown.grace",
    "listen.host",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_that_is_not_marked_changes_under_an_open_session() {
    let server = Server::with(&configuration(&[])).start();
    let token = server.token("ana", &["--role", "admin"]);
    let mut session = Wire::connect(&server).await;
    session
        .send(json!({"type": "register", "protocol": 1, "username": "ana", "access_token": token,
            "presence": false}))
        .await;
    session.next_of("welcome").await;
    session.next_of("encryption_key").await;
    let mut world = World { server, token, session, next_id: 0, is_changed: false };
    world.says("hola").await;
    let reload = |world: &World, changes: &[(&str, String)]| {
        std::fs::write(world.server.config_file(), configuration(changes)).unwrap();
        let answer = world.server.run_ok(&["ctl", "reload", "--json"]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["restart_needed"], json!([]), "{answer}");
        let changed: Vec<&str> =
            answer["changed"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for (key, _) in changes {
            assert!(changed.contains(key), "{key}: {answer}");
        }
    };
    let keys = reloadable_keys();
    assert!(keys.len() > 20, "{keys:?}");
    for key in &keys {
        let before = world.effect(key).await;
        reload(&world, &changes(key));
        world.is_changed = true;
        let after = world.effect(key).await;
        assert_eq!(before == after, UNSEEN.contains(&key.as_str()), "{key}: {before}, {after}");
        match key.as_str() {
            // Above the limit, a session of the full protocol is slowed down.
            "limits.rate_messages" => {}
            _ => world.says("hi").await,
        }
        reload(&world, &[]);
        world.is_changed = false;
        world.says("hola").await;
    }
    let closed = |line: &Value| line["event"] == "session_closed" && line["user"] == "ana";
    let sessions = world.server.run_ok(&["ctl", "sessions", "--json"]);
    assert!(
        sessions.contains("ana"),
        "{sessions}: {:?}",
        world.server.log().iter().rfind(|line| closed(line))
    );
    reload(&world, &changes("shutdown.grace"));
    world.server.stop();
    assert_eq!(world.server.wait_for_event("stopping")["grace_ms"], 7000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_can_not_be_read_stops_nothing_else() {
    let test = "a_configuration_that_can_not_be_read_stops_nothing_else";
    let Some(stall) = Stall::at("config_read", test) else { return };
    let mut server = Server::with("").stalling_at(&stall).start();
    let mut session = Wire::register(&server, "Ana").await;
    stall.begin();
    server.signal("HUP");
    server.signal("USR2");
    server.wait_for_event("status");
    session.send_chat("hola").await;
    session.next_of("chat_message").await;
    let refused = server.run(&["ctl", "reload"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("did not answer within 5 s"), "{text}");
    // One for the signal and one for the operator.
    eventually("both failed", || server.event_count("reload_failed") == 2);
    stall.end();
    let done = server.run_ok(&["ctl", "reload"]);
    assert!(done.starts_with("done"), "{done}");
    stall.begin();
    server.signal("HUP");
    assert_eq!(server.stop().code(), Some(0));
    // At the start.
    server.begin_again();
    let status = format!("/proc/{}/status", server.pid());
    eventually("the signal handlers are there", || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        u64::from_str_radix(mask.trim(), 16).unwrap() >> (15 - 1) & 1 == 1
    });
    assert_eq!(server.stop().code(), Some(0), "{:?}", server.log_lines());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_without_an_answer_about_its_access_file_and_lets_nobody_in() {
    let test = "a_server_starts_without_an_answer_about_its_access_file_and_lets_nobody_in";
    let Some(stall) = Stall::at("access_read", test) else { return };
    let mut server = Server::with(TOKENS).stalling_at(&stall).start();
    let token = server.token("ana", &[]);
    server.stop();
    stall.begin();
    server.start_again();
    let register = async || {
        let mut wire = Wire::connect(&server).await;
        wire.send(json!({"type": "register", "protocol": 1, "access_token": token})).await;
        wire.next().await
    };
    assert_eq!(register().await["code"], "storage_failed");
    assert_eq!(server.event_count("nobody_has_access"), 0);
    stall.end();
    eventually("the file is read", || server.event_count("access_reread") > 0);
    assert_eq!(register().await["type"], "welcome");
}
