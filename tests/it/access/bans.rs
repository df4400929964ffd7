//! Bans of users, addresses and networks, mutes, and kicks.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::{refusal, refused};
use crate::refusals::fetch_metrics;
use crate::support::client::Client;
use crate::support::endpoint::Endpoint;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Mode, TIMEOUT, eventually, in_both_modes};

in_both_modes!(
    p23_a_banned_address_is_refused_and_its_sessions_end,
    p23_a_banned_peer_is_refused_when_it_connects_and_floods_no_log,
    p23_a_muted_user_reads_and_its_messages_are_refused,
);

/// A client of the trusted proxy on loopback, as the proxy names it.
fn behind_proxy(server: &Server, client: &str) -> Endpoint {
    server.endpoint().header("x-forwarded-proto", "https").header("x-forwarded-for", client)
}

fn bans(server: &Server) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&server.run_ok(&["ctl", "bans", "--json"])).unwrap();
    answer["bans"].as_array().unwrap().clone()
}

fn sessions(server: &Server, filter: &[&str]) -> Vec<Value> {
    let words = [&["ctl", "sessions", "--json"], filter].concat();
    let answer: Value = serde_json::from_str(&server.run_ok(&words)).unwrap();
    answer["sessions"].as_array().unwrap().clone()
}

/// Writes the access file by hand.
fn write_access(server: &Server, content: &Value) {
    let path = server.state().join("access.json");
    std::fs::write(&path, content.to_string()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    server.run_ok(&["ctl", "reload"]);
}

/// Waits until the client can open a WebSocket again.
async fn let_in(endpoint: &Endpoint) {
    let deadline = std::time::Instant::now() + TIMEOUT;
    while let Err(status) = Wire::try_connect(endpoint).await {
        assert_eq!(status, 403);
        assert!(std::time::Instant::now() < deadline, "the ban does not end");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn p23_a_banned_address_is_refused_and_its_sessions_end(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let client = |address: &str| behind_proxy(&server, address);
    let [bad, neighbour, other] = ["203.0.113.9", "203.0.113.10", "198.51.100.1"].map(client);
    let (bad_session, _) = Wire::full(&bad, "bad", "ops").await;
    let (neighbour_session, _) = Wire::full(&neighbour, "neighbour", "ops").await;
    let (mut other_session, _) = Wire::full(&other, "other", "ops").await;
    let (v6_session, _) = Wire::full(client("2001:db8::1"), "six", "ops").await;

    let done = server.run_ok(&["ctl", "ban", "--address", "203.0.113.9", "--why", "spam"]);
    assert!(done.contains("the address 203.0.113.9 is banned") && done.contains("ended: 1"));
    let (close, frames) = bad_session.until_closed().await;
    assert_eq!(close, 4003);
    assert!(!format!("{frames:?}").contains("spam"), "the reason is for operators: {frames:?}");
    assert_eq!(Wire::try_connect(&bad).await.err(), Some(403));
    assert_eq!(server.wait_for_event("address_refused")["peer"], "203.0.113.9");
    // The values that a client writes itself do not count.
    let spoofed = client("203.0.113.9, 198.51.100.1");
    assert!(Wire::try_connect(&spoofed).await.is_ok());
    let (mut neighbour_session, _) = (neighbour_session, ());
    neighbour_session.send(json!({"type": "who", "room": "ops"})).await;
    neighbour_session.next_of("user_list").await;

    // Of an IPv6 address, the /64.
    server.run_ok(&["ctl", "ban", "--address", "2001:db8::ffff"]);
    assert_eq!(v6_session.until_closed().await.0, 4003);
    assert_eq!(Wire::try_connect(&client("2001:db8::2")).await.err(), Some(403));
    assert!(Wire::try_connect(&client("2001:db8:0:1::2")).await.is_ok());

    // A network, for a time. What is banned by itself stays banned afterwards.
    server.run_ok(&["ctl", "ban", "--network", "203.0.113.0/24", "--for", "3s"]);
    assert_eq!(neighbour_session.until_closed().await.0, 4003);
    assert_eq!(Wire::try_connect(&neighbour).await.err(), Some(403));
    let_in(&neighbour).await;
    assert_eq!(server.wait_for_event("ban_ended")["address"], "203.0.113.0/24");
    assert_eq!(Wire::try_connect(&bad).await.err(), Some(403));
    assert_eq!(bans(&server).len(), 2, "{:?}", bans(&server));

    // Lifting names the network that is listed.
    server.run_ok(&["ctl", "ban", "--network", "198.51.100.0/24", "--for", "1h"]);
    assert_eq!(other_session.until_closed().await.0, 4003);
    let output = server.run(&["ctl", "unban", "--address", "198.51.100.1"]);
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("unban --network 198.51.100.0/24"), "{printed}");
    server.run_ok(&["ctl", "unban", "--network", "198.51.100.0/24"]);
    other_session = Wire::full(&other, "other", "ops").await.0;
    drop(other_session);
    server.run_ok(&["ctl", "unban", "--address", "203.0.113.9"]);
    assert!(Wire::try_connect(&bad).await.is_ok());
    let acts = || {
        let log = server.log().into_iter();
        log.filter(|line| line["event"] == "audit" && line["address"].is_string())
            .collect::<Vec<_>>()
    };
    eventually("each act is logged", || acts().len() == 6);
    let acts = acts();
    let first = (&acts[0]["action"], &acts[0]["address"], &acts[0]["why"]);
    assert_eq!(first, (&json!("ban"), &json!("203.0.113.9"), &json!("spam")));
    assert_eq!((&acts[2]["address"], &acts[2]["seconds"]), (&json!("203.0.113.0/24"), &json!(3)));
}

/// `ctl ban` refuses loopback, but whoever writes it into the file gets it; the proxy is spared.
async fn p23_a_banned_peer_is_refused_when_it_connects_and_floods_no_log(mode: Mode) {
    let mut server = Server::with("[admin]\nmetrics = \"127.0.0.1:0\"\n").mode(mode).start();
    let peer = server.endpoint().bound_to("127.0.0.9");
    let (session, _) = Wire::full(&peer, "bad", "ops").await;
    let path = server.state().join("access.json");
    let known = std::fs::read_to_string(path).unwrap_or_else(|_| "{}".into());
    let mut file: Value = serde_json::from_str(&known).unwrap();
    file["banned"] = json!([{"network": "127.0.0.0/8"}]);
    write_access(&server, &file);
    assert_eq!(session.until_closed().await.0, 4003);
    for number in 0..50 {
        let status = Wire::try_connect(&peer).await.err().expect("it is banned");
        // Only the first few are worth a TLS handshake.
        assert!(status == 403 || number >= 5, "{number}: {status}");
    }
    drop(Wire::full(&server, "ana", "ops").await);
    let lines = |counted: bool| {
        let log = server.log().into_iter().filter(|line| line["event"] == "address_refused");
        log.filter(|line| line["count"].is_u64() == counted).collect::<Vec<_>>()
    };
    let metrics = fetch_metrics(&server).await;
    let counted = "chat_connections_refused_total{reason=\"banned\"} 50\n";
    assert!(metrics.contains(counted), "{metrics}");
    eventually("the first ones are logged", || lines(false).len() == 5);
    server.stop();
    eventually("the log is read", || server.event_count("stopped") == 1);
    let log = server.log();
    let counted: Vec<_> = log
        .iter()
        .filter(|line| line["event"] == "address_refused" && line["count"].is_u64())
        .collect();
    assert_eq!((counted.len(), &counted[0]["count"]), (1, &json!(45)), "{counted:?}");
}

async fn p23_a_muted_user_reads_and_its_messages_are_refused(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let (mut ana, _) = Wire::full(&server, "ana", "ops").await;
    let (mut bob, _) = Wire::full(&server, "bob", "ops").await;
    let said = async |wire: &mut Wire, room: &str, id: &str| {
        wire.send_chat_in(room, id, id).await;
        loop {
            let frame = wire.next().await;
            match frame["type"].as_str().unwrap() {
                "ack" => return json!("ack"),
                "error" => return frame,
                _ => {}
            }
        }
    };
    bob.send(json!({"type": "join", "room": "dev"})).await;
    bob.next_of("joined").await;
    bob.next_of("encryption_key").await;
    server.run_ok(&["ctl", "mute", "BOB", "--room", "ops", "--why", "too loud"]);
    let error = said(&mut bob, "ops", "1").await;
    assert_eq!((&error["code"], &error["temporary"]), (&json!("muted"), &json!(false)), "{error}");
    assert_eq!((&error["room"], &error["id"]), (&json!("ops"), &json!("1")));
    assert!(!error.to_string().contains("loud"), "{error}");
    assert_eq!(said(&mut bob, "dev", "2").await, "ack");
    let row = &sessions(&server, &["--user", "bob"])[0];
    assert_eq!((&row["muted"], &row["muted_in"]), (&json!(false), &json!(["ops"])), "{row}");
    // It reads on.
    assert_eq!(said(&mut ana, "ops", "3").await, "ack");
    let frame = bob.next_of("chat_message").await;
    assert_eq!(frame["username"], "bob", "its own message in dev");
    let frame = bob.next_of("chat_message").await;
    assert_eq!(bob.read(&frame), "3");
    // In every room, also for a session that begins later, and with the basic protocol.
    server.run_ok(&["ctl", "mute", "bob"]);
    assert_eq!(said(&mut bob, "dev", "4").await["code"], "muted");
    let mut again = Wire::register(&server, "bob").await;
    again.send_chat("5").await;
    assert_eq!(again.next_error().await, "muted");
    let rows = sessions(&server, &["--user", "bob"]);
    assert!(rows.len() == 2 && rows.iter().all(|row| row["muted"] == true), "{rows:?}");
    let (trust, variables) = server.client_credentials("bob");
    let words: Vec<&str> = ["send", "6", "-u", "bob", "--url"]
        .into_iter()
        .chain(trust.iter().map(String::as_str))
        .collect();
    let url = server.url();
    let words = [&words[..5], &[&url[..]], &words[5..]].concat();
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let ended = Client::start_with(&words, &variables).finish(TIMEOUT);
    assert_eq!(ended.code, Some(65), "{}", ended.errors);
    assert!(ended.errors.contains("(muted)"), "{}", ended.errors);
    // One mute is lifted, then all of them.
    let kinds: Vec<Value> = bans(&server).iter().map(|row| row["room"].clone()).collect();
    assert_eq!(kinds, [json!("ops"), Value::Null]);
    server.run_ok(&["ctl", "unmute", "bob"]);
    assert_eq!(said(&mut bob, "ops", "7").await, "ack");
    assert!(bans(&server).is_empty());
    assert_eq!(server.run(&["ctl", "unmute", "bob"]).status.code(), Some(1));
    // It ends by itself.
    server.run_ok(&["ctl", "mute", "bob", "--for", "1500ms"]);
    assert_eq!(said(&mut bob, "ops", "8").await["code"], "muted");
    server.wait_for_event("ban_ended");
    let deadline = std::time::Instant::now() + TIMEOUT;
    while said(&mut bob, "ops", "8").await != "ack" {
        assert!(std::time::Instant::now() < deadline, "the mute does not end");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_ban_is_kept_with_its_reason_and_old_entries_stay_as_they_are() {
    let mut server = Server::start();
    write_access(&server, &json!({"banned": ["eve", "@@@"]}));
    server.run_ok(&["ctl", "ban", "mal", "--for", "2h", "--why", "sells ñandúes"]);
    server.run_ok(&["ctl", "ban", "kim"]);
    server.run_ok(&["ctl", "ban", "Kim", "--for", "1h"]);
    server.stop();
    server.start_again();
    let rows = bans(&server);
    let users: Vec<&Value> = rows.iter().map(|row| &row["target"]).collect();
    assert_eq!(users, ["eve", "mal", "Kim"], "{rows:?}");
    assert_eq!((&rows[0]["since"], &rows[0]["until"]), (&Value::Null, &Value::Null));
    assert_eq!(rows[1]["why"], "sells ñandúes");
    let left = rows[1]["seconds_left"].as_u64().unwrap();
    assert!((3_600..=7_200).contains(&left), "{left}");
    assert!(rows[1]["by"].as_str().unwrap().starts_with("uid "), "{rows:?}");
    for name in ["eve", "mal", "kim"] {
        let mut wire = Wire::connect(server.address()).await;
        wire.send(json!({"type": "register", "username": name})).await;
        assert_eq!(refusal(wire).await, refused("forbidden", 4003), "{name}");
    }
    let text = server.run_ok(&["ctl", "bans"]);
    assert!(text.lines().count() == 4 && text.contains("sells ñandúes"), "{text}");
    let file = std::fs::read_to_string(server.state().join("access.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    assert_eq!((&file["banned"][0], &file["banned"][1]), (&json!("eve"), &json!("@@@")));
    assert_eq!(file.get("muted"), None, "without mutes, earlier versions read it too");
    // A foreign entry makes the file unusable; the error names it, and the bans stay in force.
    write_access(&server, &json!({"banned": ["eve", {"user": "mal", "until": "tomorrow"}]}));
    let unreadable = server.wait_for_event("access_unreadable");
    assert!(unreadable["reason"].as_str().unwrap().contains("RFC 3339"), "{unreadable}");
    write_access(&server, &json!({"banned": [{"network": "nowhere"}]}));
    eventually("it is read", || server.event_count("access_unreadable") > 1);
    let unreadable = server.wait_for_event("access_unreadable");
    assert!(unreadable["reason"].as_str().unwrap().contains("banned[0]: network"), "{unreadable}");
    let mut wire = Wire::connect(server.address()).await;
    wire.send(json!({"type": "register", "username": "eve"})).await;
    refusal(wire).await;
}

#[tokio::test]
async fn kicks_choose_sessions_and_the_list_counts_their_messages() {
    let server = Server::start();
    let (mut ana, _) = Wire::full(server.address(), "ana", "ops").await;
    let (bob, _) = Wire::full(behind_proxy(&server, "203.0.113.9"), "bob", "ops").await;
    let (second, _) = Wire::full(behind_proxy(&server, "203.0.113.9"), "bob", "dev").await;
    for id in ["1", "2", "3"] {
        ana.send_chat_and_wait("ops", id, id).await;
    }
    let rows = sessions(&server, &[]);
    let counts: Vec<_> = rows.iter().map(|row| (&row["sent"], &row["received"])).collect();
    let (none, three) = (&json!(0), &json!(3));
    assert_eq!(counts[0], (three, three), "{rows:?}");
    assert!(
        counts[1..].contains(&(none, three)) && counts[1..].contains(&(none, none)),
        "{rows:?}"
    );
    let in_dev = sessions(&server, &["--user", "BOB", "--room", "dev"]);
    assert_eq!(in_dev.len(), 1, "{in_dev:?}");
    let id = in_dev[0]["session"].as_str().unwrap();
    assert_eq!(server.run_ok(&["ctl", "kick", "--session", id]), "ended              1\n");
    assert_eq!(second.until_closed().await.0, 4003);
    server.run_ok(&["ctl", "kick", "--network", "203.0.113.0/24"]);
    assert_eq!(bob.until_closed().await.0, 4003);
    assert_eq!(sessions(&server, &[]).len(), 1);
    // A table fits on a screen.
    let table = server.run_ok(&["ctl", "sessions"]);
    assert!(table.lines().all(|line| line.len() <= 80), "{table}");
    // Nothing is done where nothing matches, or the target is not clear.
    let refused: [(&[&str], i32, &str); 18] = [
        (&["kick", "zed"], 1, "there is no session of the user zed"),
        (&["kick", "--session", id], 1, "there is no session of this id"),
        (&["kick", "--address", "203.0.113.9"], 1, "no session of the address 203.0.113.9"),
        (&["kick", "--address", "here"], 2, "not an IP address"),
        (&["kick", "ana", "--session", id], 2, "cannot be used with"),
        (
            &["ban", "10.0.0.1"],
            2,
            "write --address 10.0.0.1; for a user of that name, write --user",
        ),
        (&["ban", "10.0.0.0/8"], 2, "write --network 10.0.0.0/8"),
        (&["ban", "--address", "10.0.0.0/8"], 2, "write --network 10.0.0.0/8"),
        (&["ban", "--network", "10.0.0.1/8"], 2, "did you mean 10.0.0.0/8?"),
        (
            &["ban", "--address", "127.0.0.1"],
            1,
            "would ban the clients and proxies on this computer",
        ),
        (&["ban", "--network", "0.0.0.0/0"], 1, "loopback (127.0.0.0/8) is in it"),
        (&["ban", "--network", "::/0"], 1, "loopback (::1/128) is in it"),
        (&["ban", "eve", "--for", "soon"], 2, "10m, 1h or 7d"),
        (&["ban", "eve", "--for", "0s"], 2, "10m, 1h or 7d"),
        (&["ban", "eve", "--why", "a\u{1b}[2J"], 2, "without control characters"),
        (&["ban", "eve", "--why", &"x".repeat(201)], 2, "at most 200 characters"),
        (&["mute", "eve", "--room", "Bad Room"], 2, "a room's name"),
        (&["unban", "--network", "203.0.113.0/24"], 1, "203.0.113.0/24 is not banned"),
    ];
    for (words, code, text) in refused {
        let output = server.run(&[&["ctl"], words].concat());
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {printed}");
        assert!(printed.contains(text) && output.stdout.is_empty(), "{words:?}: {printed}");
    }
    assert!(bans(&server).is_empty());
    server.run_ok(&["ctl", "ban", "--user", "10.0.0.1"]);
    assert_eq!(bans(&server)[0]["kind"], "user");
    let proxies = "[listen]\ntrusted_proxies = [\"127.0.0.1/32\", \"10.1.0.0/16\"]\n";
    std::fs::write(server.config_file(), proxies).unwrap();
    server.run_ok(&["ctl", "reload"]);
    let output = server.run(&["ctl", "ban", "--network", "10.0.0.0/8"]);
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains("the trusted proxy 10.1.0.0/16"), "{printed}");
    assert_eq!(output.status.code(), Some(1));
    // Secrets in a reason are not kept.
    let token = server.token("ana", &[]);
    server.run_ok(&["ctl", "ban", "eve", "--why", &format!("has {token}")]);
    let file = std::fs::read_to_string(server.state().join("access.json")).unwrap();
    assert!(!file.contains(&token) && bans(&server)[1]["why"] == "has ***", "{file}");
    assert!(!server.log_lines().join("\n").contains(&token));
}
