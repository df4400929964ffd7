//! `chat-server ctl` and the metrics: what an operator can ask of a running server.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::access::TOKENS;
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::stall::Stall;
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, eventually, programs};

/// Every command of `ctl`, a word in its text output, and a field in its JSON output.
const VERBS: [(&[&str], &str, &str); 17] = [
    (&["status"], "durable", "durable"),
    (&["top"], "the last", "addresses"),
    (&["log-level"], "info", "log_level"),
    (&["log-level", "info", "--for", "1m"], "log_level_seconds_left", "log_level_configured"),
    (&["rooms"], "lobby", "rooms"),
    (&["sessions"], "ana", "sessions"),
    (&["rotate"], "done", "ok"),
    (&["reload"], "done", "ok"),
    (&["kick", "ana"], "ended", "ended"),
    (&["mute", "eve"], "muted", "target"),
    (&["ban", "eve"], "ended", "ended"),
    (&["bans"], "eve", "bans"),
    (&["unban", "eve"], "done", "ok"),
    (&["unmute", "eve"], "done", "ok"),
    (&["delete", "ops", "1"], "deleted", "deleted"),
    (&["room", "delete", "lobby"], "deleted", "deleted"),
    // The last one, because the server exits.
    (&["drain"], "done", "ok"),
];

/// Stores a message in the room ops.
fn send_to_ops(server: &Server, token: &str) {
    let url = server.url();
    let sent = Client::start_with(
        &["send", "--url", &url, "-r", "ops", "a message"],
        &[("CHAT_ACCESS_TOKEN", token)],
    );
    assert_eq!(sent.finish(TIMEOUT).code, Some(0));
}

/// Runs a `ctl` command; gives the exit code, standard output and standard error.
fn ctl(server: &Server, verb: &[&str], json: bool) -> (i32, String, String) {
    let json: &[&str] = if json { &["--json"] } else { &[] };
    let words = [&["ctl"], verb, json].concat();
    let output = server.run(&words);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn every_ctl_command_prints_text_and_json_without_secrets() {
    let mut server = Server::with(TOKENS).start();
    let token = server.token("ana", &[]);
    send_to_ops(&server, &server.token("ci", &["--room", "ops"]));
    let file = std::fs::read_to_string(server.state().join("access.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    let hash = file["tokens"][0]["hash"].as_str().unwrap();
    for json in [false, true] {
        let mut wire = Wire::connect(&server).await;
        wire.send(json!({"type": "register", "access_token": token})).await;
        let key = wire.next_of("encryption_key").await["key"].as_str().unwrap().to_owned();
        wire.send_chat("a message to delete").await;
        wire.next_of("chat_message").await;
        for (verb, shown, found) in VERBS {
            let (code, out, err) = ctl(&server, verb, json);
            assert_eq!((code, &err[..]), (0, ""), "{verb:?}: {out}");
            for secret in [&token[..], hash, &key] {
                assert!(!out.contains(secret), "{verb:?}: {out}");
            }
            if json {
                assert_eq!(out.lines().count(), 1, "{verb:?}: {out}");
                let answer: Value = serde_json::from_str(&out).expect(&out);
                assert_eq!(answer["ok"], true, "{verb:?}: {out}");
                assert!(answer.get(found).is_some(), "{verb:?}: {out}");
            } else {
                assert!(out.contains(shown), "{verb:?}: {out}");
            }
        }
        assert!(server.wait().success());
        server.start_again();
    }
    // Refused commands, and commands that do not exist.
    for json in [false, true] {
        let (code, out, err) = ctl(&server, &["unban", "eve"], json);
        assert_eq!((code, &out[..]), (1, ""), "{err}");
        assert_eq!(err, "chat-server: no user named eve is banned\n");
        for verb in [&["dance"][..], &["kick"], &["kick", "ana", "bob"], &[]] {
            let (code, out, err) = ctl(&server, verb, json);
            assert_eq!((code, &out[..]), (2, ""), "{verb:?}: {err}");
            assert!(err.contains("Usage: chat-server ctl"), "{verb:?}: {err}");
        }
    }
}

#[test]
fn without_a_running_server_every_ctl_command_names_the_socket() {
    let mut server = Server::start();
    let socket = server.state().parent().unwrap().join("run/admin.sock");
    // A server that stops removes its socket; a killed one leaves it behind.
    for ending in ["ended", "killed"] {
        match ending {
            "ended" => drop(server.stop()),
            _ => {
                server.start_again();
                server.kill();
            }
        }
        assert_eq!(socket.exists(), ending == "killed");
        for (verb, ..) in VERBS {
            for json in [false, true] {
                let (code, out, err) = ctl(&server, verb, json);
                assert_eq!((code, &out[..]), (69, ""), "{verb:?}: {err}");
                assert_eq!(err.lines().count(), 1, "{verb:?}: {err}");
                assert!(err.contains(&*socket.to_string_lossy()), "{verb:?}: {err}");
                assert!(err.contains("is it running, with this configuration?"), "{err}");
            }
        }
    }
    server.start_again();
    assert_eq!(ctl(&server, &["status"], true).0, 0, "the socket left behind is taken over");
    // Without a server and with a broken file, the error is about the file.
    std::fs::write(server.config_file(), "[lisen]\n").unwrap();
    server.kill();
    let (code, out, err) = ctl(&server, &["status"], false);
    assert_eq!((code, &out[..]), (78, ""), "{err}");
    assert!(err.contains("chat-server.toml"), "it names the file: {err}");
}

/// An operator can evict a session without repairing the file first.
#[tokio::test]
async fn ctl_commands_work_with_a_broken_configuration_file() {
    let mut server = Server::start();
    let _ana = Wire::register(server.address(), "ana").await;
    send_to_ops(&server, "");
    let url = server.url();
    assert_eq!(Client::pipe(&[&url, "-u", "ci"], b"a message\n").code, Some(0));
    for broken in ["[lisen]\n", "[listen\n"] {
        std::fs::write(server.config_file(), broken).unwrap();
        let (code, out, err) = ctl(&server, &["reload"], false);
        assert_eq!((code, &out[..]), (1, ""), "{err}");
        assert!(err.contains("chat-server.toml"), "it names the file: {err}");
    }
    eventually("the server log has both reasons", || server.event_count("reload_failed") == 2);
    for (verb, ..) in VERBS.into_iter().filter(|(verb, ..)| verb[0] != "reload") {
        let (code, _, err) = ctl(&server, verb, false);
        assert_eq!(code, 0, "{verb:?}: {err}");
        assert!(err.contains("chat-server.toml"), "{verb:?}: {err}");
    }
    assert!(server.wait().success());
}

/// Somebody pastes the access token where its id is wanted, or a URL with a password.
#[test]
fn secrets_in_arguments_and_files_are_not_shown() {
    let server = Server::with(TOKENS).start();
    let token = server.token("ana", &[]);
    let id = server.token_id("ana");
    let url = "ws://bob:s3cr3t@host";
    let commands: [&[&str]; 10] = [
        &["token", "revoke", &token],
        &["token", "rotate", &token],
        &["token", "list", &token],
        &["token", "add", "--user", &token],
        &["token", "add", "--user", "bob", "--role", &token],
        &["token", "add", "--user", "bob", "--expires", url],
        &["ctl", "kick", &token],
        &["ctl", &token],
        &["--port", url],
        &["check", "--log-level", &token],
    ];
    for command in commands {
        let output = server.run(command);
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(2 | 78)), "{command:?}: {printed}");
        assert!(!printed.contains(&token[4..]) && !printed.contains("s3cr3t"), "{printed}");
        assert!(!printed.is_empty(), "{command:?}");
    }
    let printed = String::from_utf8(server.run(commands[0]).stderr).unwrap();
    assert!(printed.contains(&format!("its id is {id}")), "{printed}");
    // A text of a file, in the server log and in the answer to an operator.
    let long = "x".repeat(900_000);
    for value in [&token, &long] {
        std::fs::write(server.config_file(), format!("[log]\nlevel = \"{value}\"\n")).unwrap();
        let (code, _, err) = ctl(&server, &["reload"], false);
        assert!(code == 1 && err.len() < 5_000 && !err.contains(&token[4..]), "{err}");
        std::fs::write(server.config_file(), format!("[log]\n\"{value}\" = 1\n")).unwrap();
        let (code, _, err) = ctl(&server, &["reload"], false);
        assert!(code == 1 && err.len() < 5_000 && !err.contains(&token[4..]), "{}", err.len());
    }
    eventually("every reload is logged", || server.event_count("reload_failed") == 4);
    for line in server.log_lines() {
        assert!(line.len() < 10_000 && !line.contains(&token[4..]), "{line}");
    }
}

/// A reload is compared with the configuration that runs, so the same reload says the same again.
#[test]
fn a_reload_says_what_is_in_force_and_what_needs_a_restart() {
    let server = Server::with("[limits]\nrate_messages = 7\n").start();
    let access_file = server.state().join("other.json");
    let text = format!(
        "[limits]\nrate_messages = 8\n[keys]\ngrace = \"1m\"\n[listen]\nhost = \"127.0.0.2\"\n\
         [auth]\naccess_file = {access_file:?}\n[log]\nformat = \"pretty\"\n"
    );
    std::fs::write(server.config_file(), text).unwrap();
    for _ in 0..2 {
        let answer: Value =
            serde_json::from_str(&server.run_ok(&["ctl", "reload", "--json"])).unwrap();
        assert_eq!(answer["changed"], json!(["keys.grace", "limits.rate_messages"]), "{answer}");
        let waiting = json!(["auth.access_file", "listen.host", "log.format"]);
        assert_eq!(answer["restart_needed"], waiting, "{answer}");
        let text = server.run_ok(&["ctl", "reload"]);
        assert!(
            text.contains("changed since the start: keys.grace, limits.rate_messages"),
            "{text}"
        );
        assert!(text.contains("next start: auth.access_file, listen.host, log.format"), "{text}");
        let status = server.run_ok(&["ctl", "status"]);
        assert!(
            status.contains("! reload       a restart is needed for auth.access_file"),
            "{status}"
        );
    }
    // The server goes on with the access file that it started with.
    server.run_ok(&["ctl", "ban", "eve"]);
    assert!(!access_file.exists() && server.state().join("access.json").exists());
    let bans = server.run_ok(&["ctl", "bans"]);
    assert!(bans.contains("eve"), "{bans}");
    // Back at the configuration of the start, nothing is different any more.
    std::fs::write(server.config_file(), "[limits]\nrate_messages = 7\n").unwrap();
    let text = server.run_ok(&["ctl", "reload"]);
    assert!(text.ends_with("changed since the start: nothing\n"), "{text}");
    assert!(!server.run_ok(&["ctl", "status"]).contains("a restart is needed"));
}

/// The listeners stay where they are until the next start, so open mode must fit them.
#[test]
fn a_reload_does_not_open_the_server_to_other_machines() {
    let server = Server::with("[listen]\nhost = \"0.0.0.0\"\n[auth]\nmode = \"token\"\n").start();
    let next = "[listen]\nhost = \"127.0.0.1\"\n[auth]\nmode = \"open\"\n";
    std::fs::write(server.config_file(), next).unwrap();
    let (code, _, err) = ctl(&server, &["reload"], false);
    assert!(code == 1 && err.contains("allow_open"), "{err}");
    let status = server.run_ok(&["ctl", "status"]);
    assert!(status.contains("token mode"), "{status}");
    assert!(status.contains("failed:"), "{status}");
}

#[tokio::test]
async fn a_command_that_is_not_carried_out_is_not_reported_as_done() {
    let test = "a_command_that_is_not_carried_out_is_not_reported_as_done";
    let Some(stall) = Stall::at("hub", test) else { return };
    let server = Server::with(TOKENS).stalling_at(&stall).start();
    let token = server.token("ana", &[]);
    let id = server.token_id("ana");
    server.run_ok(&["ctl", "ban", "eve"]);
    let mut ana = Wire::connect(&server).await;
    let register = json!({"type": "register", "protocol": 1, "access_token": token});
    ana.send(register).await;
    ana.next_of("encryption_key").await;
    // After this answer the hub stalls and can't carry out commands.
    stall.begin();
    ana.send(json!({"type": "who", "room": "lobby"})).await;
    ana.next_of("user_list").await;
    let unfinished =
        "sessions that lost their access are still open: the server does not answer; see its log";
    let commands: [(&[&str], i32, String); 8] = [
        (&["token", "revoke", &id], 1, format!("chat-server: {id} is revoked, but {unfinished}\n")),
        (&["token", "add", "--user", "bob"], 0, format!("shown only now; but {unfinished}\n")),
        (&["ctl", "ban", "mal"], 1, format!("chat-server: mal is banned, but {unfinished}\n")),
        (
            &["ctl", "unban", "eve"],
            1,
            "chat-server: the ban of eve is lifted, but the server".into(),
        ),
        (&["ctl", "reload"], 1, format!("configuration is in force, but {unfinished}\n")),
        (&["ctl", "status"], 1, "chat-server: the server does not answer".into()),
        (&["ctl", "rotate"], 1, "the keys are not replaced yet: the server does not".into()),
        (&["ctl", "kick", "bob"], 1, "the sessions of bob are still open: the server".into()),
    ];
    let outputs = std::thread::scope(|scope| {
        let server = &server;
        let runs = commands.each_ref().map(|(verb, ..)| scope.spawn(move || server.run(verb)));
        runs.map(|runs| runs.join().unwrap())
    });
    for ((verb, code, expected), output) in commands.into_iter().zip(outputs) {
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{verb:?}: {err}");
        assert!(err.contains(&expected), "{verb:?}: {err}");
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(out.starts_with("sct_"), verb[1] == "add", "{verb:?}: {out}");
    }
    server.wait_for_event("access_not_upheld");
    // The hub carries out the commands as soon as it runs again.
    stall.end();
    assert_eq!(ana.until_closed().await.0, 4001);
}

#[tokio::test]
async fn ctl_lists_sessions_and_rooms() {
    let mut server = Server::start();
    let _ana = Wire::register(server.address(), "Ana").await;
    let (_bob, _) = Wire::full(server.address(), "bob", "ops").await;
    let ask = |verb: &str| -> Value {
        serde_json::from_str(&server.run_ok(&["ctl", verb, "--json"])).unwrap()
    };
    let status = ask("status");
    assert_eq!((&status["sessions"], &status["rooms"]), (&json!(2), &json!(2)), "{status}");
    let sessions = ask("sessions");
    assert_eq!(sessions["sessions"][0]["user"], "Ana");
    assert_eq!(sessions["sessions"][1]["rooms"], json!(["ops"]));
    assert_eq!(ask("rooms")["rooms"][0]["room"], "lobby");
    let text = server.run_ok(&["ctl", "sessions"]);
    assert!(text.lines().count() == 3 && text.contains("ops"), "{text}");
    let socket = server.state().parent().unwrap().join("run/admin.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    server.run_ok(&["ctl", "drain"]);
    assert!(server.wait().success());
    assert!(!socket.exists());
}

/// Dropping an admin socket removes only its own file.
#[test]
fn a_server_that_stops_leaves_the_admin_socket_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let config = format!("[admin]\nsocket = {socket:?}\n");
    let mut first = Server::with(&config).start();
    // The second server can't see the first, as if that were hung.
    std::fs::remove_file(&socket).unwrap();
    let mut second = Server::with(&config).start();
    let pid = |server: &Server| -> Value {
        let status = server.run_ok(&["ctl", "status", "--json"]);
        serde_json::from_str::<Value>(&status).unwrap()["pid"].clone()
    };
    assert_eq!(pid(&first), json!(second.pid()), "the socket is the second server's");
    assert!(first.stop().success());
    assert_eq!(pid(&second), json!(second.pid()));
    assert!(second.stop().success());
    assert!(!socket.exists());
}

/// The server closes its sessions while more connections to the admin socket are silent than it serves at
/// the same time.
#[tokio::test]
async fn silent_connections_to_the_admin_socket_do_not_delay_a_stop() {
    let mut server = Server::with("[shutdown]\ngrace = \"8s\"\n").start();
    let (ana, _) = Wire::full(server.address(), "ana", "ops").await;
    let socket = server.state().parent().unwrap().join("run/admin.sock");
    let before = server.sockets();
    let _silent: Vec<_> = (0..17).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    eventually("the server has accepted them", || server.sockets() >= before + 17);
    server.signal("TERM");
    assert_eq!(ana.until_closed().await.0, 1012);
    assert!(server.wait().success());
    assert_eq!(server.wait_for_event("stopped")["drained"], true);
}

/// A session can be evicted even while another batch of messages is always waiting.
#[tokio::test]
async fn commands_wait_for_one_delivery_at_most() {
    let test = "commands_wait_for_one_delivery_at_most";
    let Some(stall) = Stall::at("delivered", test) else { return };
    let server = Server::with("").stalling_at(&stall).start();
    let (mut ana, _) = Wire::full(server.address(), "ana", "ops").await;
    // The hub stalls at the end of this delivery.
    stall.begin();
    ana.send_chat_and_wait("ops", "first", "first").await;
    // The command is queued before the message, because a session takes one frame after the other.
    ana.send(json!({"type": "who", "room": "ops"})).await;
    ana.send_chat_in("ops", "second", "second").await;
    ana.next_of("ack").await;
    stall.end();
    // Whether more messages wait or not, the hub carries out the command first.
    let next = loop {
        let frame = ana.next().await;
        if ["user_list", "chat_message"].contains(&frame["type"].as_str().unwrap()) {
            break frame;
        }
    };
    assert_eq!(next["type"], "user_list", "{next}");
    ana.next_of("chat_message").await;
}

#[test]
fn a_busy_server_still_carries_out_ctl_commands() {
    let limits = "[limits]\nrate_messages = 1000000\nconnections_per_address = 1000\n";
    let server = Server::with(limits).start();
    let url = server.url();
    let readers: Vec<Client> = (0..150)
        .map(|number| Client::start(&[&url, "--listen", "-u", &format!("r{number}")]))
        .collect();
    eventually("all readers are connected", || server.event_count("session_opened") >= 150);
    let program = programs::client();
    let program = program.display();
    let mut senders: Vec<_> = (0..4)
        .map(|number| {
            let flood =
                format!("yes hola | {program} {url} --timeout 60s -u s{number} >/dev/null 2>&1");
            std::process::Command::new("timeout").args(["120", "sh", "-c", &flood]).spawn().unwrap()
        })
        .collect();
    // There may be more sessions, because readers that were too slow reconnect.
    eventually("all senders are connected", || server.event_count("session_opened") >= 154);
    for _ in 0..5 {
        server.run_ok(&["ctl", "status"]);
    }
    eventually("s0 is evicted", || {
        // Its last session may have been closed as too slow.
        let output = server.run(&["ctl", "kick", "s0", "--json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        answer["ended"].as_u64() >= Some(1)
    });
    drop(readers);
    for sender in &mut senders {
        let _ = sender.kill();
        let _ = sender.wait();
    }
}

#[tokio::test]
async fn metrics_are_served_if_configured() {
    let server = Server::with("[admin]\nmetrics = \"127.0.0.1:0\"\n").start();
    let _ana = Wire::register(server.address(), "Ana").await;
    let address = server.wait_for_event("metrics")["address"].as_str().unwrap().to_owned();
    let get = async |path: &str| {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/").await.starts_with("HTTP/1.1 404"));
    assert!(get("/metrics").await.contains("\nchat_sessions{protocol=\"basic\"} 1\n"));
}

#[tokio::test]
async fn every_act_of_an_operator_leaves_an_audit_line() {
    let server = Server::with(TOKENS).start();
    let token_of_ana = server.token("ana", &[]);
    let id = server.token_id("ana");
    let mut ana = Wire::connect(&server).await;
    ana.send(json!({"type": "register", "access_token": token_of_ana})).await;
    ana.next_of("user_list").await;
    for command in [
        &["ctl", "kick", "ana"][..],
        &["ctl", "ban", "eve"],
        &["ctl", "unban", "eve"],
        &["token", "revoke", &id],
        &["ctl", "rotate"],
        &["ctl", "reload"],
    ] {
        server.run_ok(command);
    }
    eventually("the last act is logged", || server.event_count("audit") >= 7);
    let acts: Vec<Value> =
        server.log().into_iter().filter(|line| line["event"] == "audit").collect();
    let found: Vec<_> = acts
        .iter()
        .map(|act| (act["action"].as_str().unwrap(), act["user"].as_str().unwrap_or("")))
        .collect();
    let expected = [
        ("token_add", "ana"),
        ("kick", "ana"),
        ("ban", "eve"),
        ("unban", "eve"),
        ("token_revoke", "ana"),
        ("rotate", ""),
        ("reload", ""),
    ];
    assert_eq!(found, expected);
    let uid = std::os::unix::fs::MetadataExt::uid(&server.state().metadata().unwrap());
    for act in &acts {
        let by = act["by"].as_str().unwrap();
        // The server may notice the change of the file before the command tells it.
        let noticed = by == "access file" && act["token"].is_string();
        assert!(noticed || by.starts_with(&format!("uid {uid}, pid ")), "{by}");
    }
    assert_eq!((&acts[0]["token"], &acts[4]["token"]), (&json!(id), &json!(id)));
    // A file that somebody edits is noticed, too.
    let file = server.state().join("access.json");
    let token = server.token("bob", &[]);
    let text = std::fs::read_to_string(&file).unwrap();
    let mut content: Value = serde_json::from_str(&text).unwrap();
    content["tokens"] = json!([]);
    std::fs::write(&file, content.to_string()).unwrap();
    eventually("the change is noticed", || {
        server
            .log()
            .iter()
            .any(|line| line["action"] == "token_revoke" && line["by"] == "access file")
    });
    assert!(!server.log_lines().join("\n").contains(&token));
}
