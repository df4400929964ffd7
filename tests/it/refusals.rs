//! Refusals: a valid access token is never locked out, and a flood of refusals is a few log lines.

use std::time::Duration;

use serde_json::json;

use crate::access::TOKENS;
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::server::Server;
use crate::support::wire::Wire;

/// Registers, and gives the type of the answer, or the code of the refusal.
async fn register(endpoint: &Endpoint, token: &str) -> String {
    let mut wire = Wire::connect(endpoint.clone()).await;
    wire.send(json!({"type": "register", "protocol": 1, "username": "x", "access_token": token}))
        .await;
    let answer = wire.next().await;
    answer["code"].as_str().unwrap_or(answer["type"].as_str().unwrap()).to_owned()
}

#[tokio::test]
async fn a_stale_token_does_not_lock_out_clients_behind_the_same_address() {
    let server = Server::with(TOKENS).start();
    let token = server.token("ana", &[]);
    let office = server.endpoint().bound_to("127.0.0.8");
    // A bot with a stale token reconnects again and again: its token counts once.
    for _ in 0..30 {
        assert_eq!(register(&office, "sct_stale").await, "unauthorized");
        assert_eq!(register(&office, &token).await, "welcome");
    }
    // Somebody guesses, and is throttled. A valid access token is still let in.
    let mut throttled = 0;
    for number in 0..20 {
        throttled +=
            usize::from(register(&office, &format!("sct_{number}")).await == "rate_limited");
        assert_eq!(register(&office, &token).await, "welcome", "after {number} guesses");
    }
    assert!(throttled > 5, "{throttled}");
    assert_eq!(register(&office, "sct_stale").await, "unauthorized", "it was known already");
}

#[tokio::test]
async fn a_flood_of_refusals_is_a_few_lines_and_a_count() {
    let mut server = Server::with(
        "[auth]\nmode = \"token\"\n[limits]\nregister_timeout = \"60s\"\n\
        [admin]\nmetrics = \"127.0.0.1:0\"\n",
    )
    .start();
    let guesser = server.endpoint().bound_to("127.0.0.8");
    for number in 0..100 {
        register(&guesser, &format!("sct_{number}")).await;
    }
    let by_code = |code: &str| {
        server
            .log()
            .iter()
            .filter(|line| line["event"] == "register_refused" && line["reason"] == code)
            .count()
    };
    assert_eq!((by_code("unauthorized"), by_code("rate_limited")), (5, 5));
    // Another network has lines of its own.
    register(&server.endpoint().bound_to("127.0.0.9"), "sct_x").await;
    eventually("its own line", || by_code("unauthorized") == 6);
    let metrics = fetch_metrics(&server).await;
    assert!(metrics.contains("chat_refused_total{code=\"rate_limited\"} 9"), "{metrics}");
    if crate::support::is_long_run() {
        tokio::time::sleep(Duration::from_secs(61)).await;
        let counted = || server.log().into_iter().find(|line| line["count"].is_u64());
        eventually("a line with the count", || counted().is_some());
        assert_eq!(counted().unwrap()["peer"], "127.0.0.8");
    } else {
        // A stop does not wait until the minute is over.
        server.stop();
        eventually("the log is read", || server.event_count("stopped") == 1);
        let counts: Vec<_> = server
            .log()
            .into_iter()
            .filter_map(|line| Some((line["reason"].as_str()?.to_owned(), line["count"].as_u64()?)))
            .collect();
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 90, "{counts:?}");
        assert_eq!(counts.len(), 2, "{counts:?}");
    }
}

#[tokio::test]
async fn a_refused_message_is_logged_with_user_room_id_code_and_token() {
    let server = Server::with(TOKENS).start();
    let token = server.token("ana", &["--room", "ops", "--role", "reader"]);
    let mut wire = Wire::connect(server.endpoint()).await;
    wire.send(json!({"type": "register", "protocol": 1, "access_token": token, "rooms": ["ops"]}))
        .await;
    wire.next_of("encryption_key").await;
    for number in 0..50 {
        let id = format!("job-{number}");
        wire.send(json!({"type": "chat_message", "room": "ops", "id": id, "content": "x"})).await;
        assert_eq!(wire.next_of("error").await["code"], "forbidden");
    }
    let lines: Vec<_> =
        server.log().into_iter().filter(|line| line["event"] == "message_refused").collect();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    let line = &lines[0];
    assert_eq!(
        (&line["level"], &line["user"], &line["room"]),
        (&json!("info"), &json!("ana"), &json!("ops"))
    );
    assert_eq!((&line["id"], &line["code"]), (&json!("job-0"), &json!("forbidden")));
    assert_eq!(line["token"], server.token_id("ana"));
}

#[tokio::test]
async fn a_conflicting_id_is_logged_at_info() {
    let server = Server::start();
    let (mut wire, _) = Wire::full(server.address(), "ana", "ops").await;
    wire.send_chat_in("ops", "job", "one").await;
    wire.next_of("ack").await;
    wire.send_chat_in("ops", "job", "two").await;
    assert_eq!(wire.next_of("error").await["code"], "id_conflict");
    let line = server.wait_for_event("message_refused");
    assert_eq!(
        (&line["code"], &line["id"], &line["user"]),
        (&json!("id_conflict"), &json!("job"), &json!("ana"))
    );
}

/// The text of `/metrics`.
pub async fn fetch_metrics(server: &Server) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = server.wait_for_event("metrics")["address"].as_str().unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
