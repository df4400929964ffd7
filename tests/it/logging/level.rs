//! `ctl log-level`: another level of the server log, for a time.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::server::Server;
use crate::support::wire::Wire;

fn log_level(server: &Server, arguments: &[&str]) -> Value {
    let words = [&["ctl", "log-level", "--json"], arguments].concat();
    serde_json::from_str(&server.run_ok(&words)).unwrap()
}

/// Whether a connection leaves a line of level debug.
async fn logs_debug(server: &Server) -> bool {
    let before = server.event_count("connection_accepted");
    let opened = server.event_count("session_opened") + 1;
    drop(Wire::register(server.address(), "ana").await);
    eventually("the session is logged", || server.event_count("session_opened") == opened);
    server.event_count("connection_accepted") > before
}

#[tokio::test]
async fn a_level_is_changed_for_a_time_and_then_that_of_the_configuration() {
    let server = Server::start();
    assert_eq!(log_level(&server, &[]), json!({"log_level": "info", "ok": true}));
    assert!(!logs_debug(&server).await);
    let answer = log_level(&server, &["debug"]);
    assert_eq!(
        (&answer["log_level"], &answer["log_level_configured"]),
        (&json!("debug"), &json!("info"))
    );
    let left = answer["log_level_seconds_left"].as_u64().unwrap();
    assert!((500..=600).contains(&left), "{left}");
    assert!(logs_debug(&server).await);
    let status = server.run_ok(&["ctl", "status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["log_level"], "debug", "{status}");
    // A reload changes the level that is returned to.
    std::fs::write(server.config_file(), "[log]\nlevel = \"warn\"\n").unwrap();
    server.run_ok(&["ctl", "reload"]);
    let answer = log_level(&server, &[]);
    assert_eq!(
        (&answer["log_level"], &answer["log_level_configured"]),
        (&json!("debug"), &json!("warn"))
    );
    assert!(logs_debug(&server).await);
    // By itself, and at once.
    assert_eq!(log_level(&server, &["info", "--for", "1s"])["log_level"], "info");
    let ended = server.wait_for_event("log_level_ended");
    assert_eq!(ended["log_level"], "warn");
    assert_eq!(log_level(&server, &[]), json!({"log_level": "warn", "ok": true}));
    log_level(&server, &["trace", "--for", "24h"]);
    assert_eq!(log_level(&server, &["reset"]), json!({"log_level": "warn", "ok": true}));
    // The acts of operators are logged at every level.
    log_level(&server, &["error"]);
    server.run_ok(&["ctl", "kick", "nobody"]);
    eventually("the acts are logged", || server.event_count("audit") == 7);
    let acts = server.log().into_iter().filter(|line| line["event"] == "audit");
    let acts: Vec<Value> =
        acts.map(|line| json!([line["action"], line["log_level"], line["seconds"]])).collect();
    let none = Value::Null;
    assert_eq!(
        json!(acts),
        json!([
            ["log_level", "debug", 600],
            ["reload", none, none],
            ["log_level", "info", 1],
            ["log_level", "trace", 86_400],
            ["log_level", "reset", none],
            ["log_level", "error", 600],
            ["kick", none, none],
        ])
    );
}

#[test]
fn a_wrong_level_or_time_is_refused() {
    let server = Server::start();
    for (arguments, expected) in [
        (&["loud"][..], "must be error, warn, info, debug, trace or reset"),
        (&["debug", "--for", "25h"], "must be a number with a unit between 1s and 24h"),
        (&["debug", "--for", "0s"], "must be a number with a unit between 1s and 24h"),
        (&["debug", "--for", "10"], "must be a number with a unit between 1s and 24h"),
        (&["--for", "10m"], "<LEVEL>"),
    ] {
        let output = server.run(&[&["ctl", "log-level"], arguments].concat());
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
    assert_eq!(log_level(&server, &[]), json!({"log_level": "info", "ok": true}));
}
