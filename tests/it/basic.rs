//! The basic protocol, as old clients use it, and every kind of bad frame.

use fernet::Fernet;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::server::{Server, command};
use crate::support::wire::Wire;
use crate::support::{Mode, in_both_modes};

in_both_modes!(
    a_new_session_gets_the_key_then_its_join_then_the_user_list,
    every_join_in_a_burst_is_announced_before_its_messages,
    a_basic_client_gets_only_the_six_basic_types,
    every_bad_frame_gets_one_error_and_the_session_goes_on,
    a_first_frame_other_than_a_valid_register_closes_without_a_key,
    a_connection_that_does_not_register_in_time_is_closed_with_4008,
    a_message_over_the_rate_limit_is_refused_and_not_delivered,
    a_frame_over_the_size_limit_is_closed_with_1009,
    a_request_without_an_upgrade_gets_an_http_status,
    a_page_from_another_origin_is_refused,
);

async fn a_new_session_gets_the_key_then_its_join_then_the_user_list(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut alice = Wire::connect(&server).await;
    alice.send(json!({"type": "register", "username": "Alice"})).await;
    let kinds = ["encryption_key", "user_joined", "user_list"];
    for kind in kinds {
        assert_eq!(alice.next().await["type"], kind);
    }
    let mut bob = Wire::connect(&server).await;
    // In token mode the name is proven and not cleaned.
    let given = if mode == Mode::Open { " Bob! " } else { "Bob" };
    bob.send(json!({"type": "register", "username": given})).await;
    bob.next_of("encryption_key").await;
    assert_eq!(bob.next_of("user_joined").await["message"], "Bob se ha unido al chat");
    assert_eq!(bob.next_of("user_list").await["users"], json!(["Alice", "Bob"]));
    assert_eq!(alice.next_of("user_joined").await["username"], "Bob");

    alice.send_chat("Hola Bob! 🎉").await;
    let received = bob.next_text().await;
    let own = alice.next_text().await;
    assert_eq!(received, own, "the same frame to all, the sender too");
    let frame: Value = serde_json::from_str(&received).unwrap();
    assert_eq!(
        (&frame["username"], frame["type"].as_str()),
        (&json!("Alice"), Some("chat_message"))
    );
    assert_eq!(bob.read(&frame), "Hola Bob! 🎉");
    let digits = frame["timestamp"].as_str().unwrap().split('.').nth(1).unwrap();
    assert_eq!(digits.len(), 7, "six digits and Z");

    drop(alice);
    let left = bob.next_of("user_left").await;
    assert_eq!(left["message"], "Alice ha salido del chat");
}

/// A long ping interval, so that no ping flushes the announcements.
async fn every_join_in_a_burst_is_announced_before_its_messages(mode: Mode) {
    let server = Server::with("[limits]\nping_interval = \"1h\"\n").mode(mode).start();
    let mut alice = Wire::register(&server, "Alice").await;
    let mut crowd = Vec::new();
    for number in 0..8 {
        crowd.push(Wire::register(&server, &format!("c{number}")).await);
    }
    for number in 0..8 {
        assert_eq!(alice.next_of("user_joined").await["username"], format!("c{number}"));
    }
    for name in ["d0", "d1"] {
        Wire::register(&server, name).await.send_chat("hola").await;
    }
    let mut received = Vec::new();
    while received.len() < 6 {
        let frame = alice.next().await;
        received.push(format!("{} {}", frame["username"].as_str().unwrap(), frame["type"]));
    }
    for name in ["d0", "d1"] {
        let of_this = received.iter().filter(|what| what.starts_with(name)).map(String::as_str);
        let kinds: Vec<_> = of_this.map(|what| what.split('"').nth(1).unwrap()).collect();
        assert_eq!(kinds, ["user_joined", "chat_message", "user_left"], "{received:?}");
    }
    drop(crowd);
    for _ in 0..8 {
        alice.next_of("user_left").await;
    }
}

async fn a_basic_client_gets_only_the_six_basic_types(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut basic = Wire::register(&server, "old").await;
    let (mut full, _) = Wire::full(&server, "new", "lobby").await;
    full.send_chat_in("lobby", "1", "hola").await;
    full.next_of("ack").await;
    for _ in 0..2 {
        let kind = basic.next().await["type"].as_str().unwrap().to_owned();
        assert!(kind == "user_joined" || kind == "chat_message", "{kind}");
    }
}

async fn every_bad_frame_gets_one_error_and_the_session_goes_on(mode: Mode) {
    let server = Server::with("[limits]\nrate_messages = 1000\n").mode(mode).start();
    let mut wire = Wire::register(&server, "Ana").await;
    let foreign = Fernet::new(&Fernet::generate_key()).unwrap();
    let mut timestamp = vec![0x80];
    timestamp.extend_from_slice(&u64::MAX.to_be_bytes());
    timestamp.extend_from_slice(&[0; 48]);
    let url_safe = base64::engine::general_purpose::URL_SAFE;
    let forged_future = base64::Engine::encode(&url_safe, &timestamp);
    let good = wire.encrypt(b"hola");
    // Changes the last byte of the HMAC.
    let mut raw = base64::Engine::decode(&url_safe, &good).unwrap();
    *raw.last_mut().unwrap() ^= 1;
    let flipped = base64::Engine::encode(&url_safe, raw);
    let say = |content: &str| json!({"type": "chat_message", "content": content}).to_string();
    let early = wire.key("lobby").encrypt_at_time(b"x", u64::MAX);
    let cases = [
        ("{", "bad_json"),
        ("[]", "bad_json"),
        ("\"text\"", "bad_json"),
        ("null", "bad_json"),
        ("", "bad_json"),
        ("{}", "bad_frame"),
        (r#"{"type":7}"#, "bad_frame"),
        (r#"{"type":"dance"}"#, "unknown_type"),
        (r#"{"type":"who","room":"lobby"}"#, "unknown_type"),
        (r#"{"type":"register","username":"x"}"#, "already_registered"),
        (r#"{"type":"chat_message"}"#, "bad_frame"),
        (r#"{"type":"chat_message","content":null}"#, "bad_frame"),
        (r#"{"type":"chat_message","content":"\ud800"}"#, "bad_frame"),
        (&format!("{}1{}", "[".repeat(3000), "]".repeat(3000)), "bad_json"),
        // An unknown field is skipped, whatever it holds.
        (
            &format!(
                r#"{{"type":"chat_message","content":"x","more":{}1{}}}"#,
                "[".repeat(3000),
                "]".repeat(3000)
            ),
            "bad_token",
        ),
        (r#"{"type":"chat_message","type":"who","content":"x"}"#, "bad_frame"),
        (r#"{"type":"chat_message","content":"x"} {}"#, "bad_json"),
        (&say(""), "bad_token"),
        (&say("not a token"), "bad_token"),
        (&say(&foreign.encrypt(b"hola")), "bad_token"),
        (&say(&good[..good.len() - 4]), "bad_token"),
        (&say(&forged_future), "bad_token"),
        (&say(forged_future.trim_end_matches('=')), "bad_token"),
        (&say(&flipped), "bad_token"),
        (&say(&format!("{good}\n")), "bad_token"),
        (&say("\u{feff}"), "bad_token"),
        (&say(&early), "clock_skew"),
        (&say(&wire.encrypt(b"")), "empty_message"),
        (&say(&wire.encrypt("ñ".repeat(4097).as_bytes())), "message_too_long"),
        (&say(&wire.encrypt(&[0xff, 0xfe])), "not_utf8"),
    ];
    for (frame, code) in cases {
        wire.send_text(frame).await;
        let shown: String = frame.chars().take(60).collect();
        assert_eq!(wire.next_error().await, code, "{shown}");
    }
    wire.send_message(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(wire.next_error().await, "binary_frame");
    // Without its `=` padding a token is still valid.
    let stripped = wire.encrypt(b"hola");
    assert!(stripped.ends_with('='), "something to strip");
    wire.send_text(&say(stripped.trim_end_matches('='))).await;
    let frame = wire.next_of("chat_message").await;
    assert_eq!(wire.read(&frame), "hola");
    assert!(frame["content"].as_str().unwrap().len() % 4 == 0, "the server sends padded tokens");
    wire.send_chat(&"ñ".repeat(4096)).await;
    let frame = wire.next_of("chat_message").await;
    assert_eq!(wire.read(&frame).chars().count(), 4096, "the session goes on");
}

async fn a_first_frame_other_than_a_valid_register_closes_without_a_key(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    for (first, code) in [
        ("hello", "bad_json"),
        (r#"{"type":"chat_message","content":"x"}"#, "not_registered"),
        (r#"{"type":"register","username":[]}"#, "bad_frame"),
        (r#"{"type":"register","protocol":9}"#, "bad_protocol"),
    ] {
        let mut wire = Wire::connect(&server).await;
        wire.send_text(first).await;
        let (close, before) = wire.until_closed().await;
        assert_eq!((close, before.len()), (1008, 1), "{first}: {before:?}");
        assert_eq!(before[0]["code"], code, "{first}");
    }
}

async fn a_connection_that_does_not_register_in_time_is_closed_with_4008(mode: Mode) {
    let server = Server::with("[limits]\nregister_timeout = \"1s\"\n").mode(mode).start();
    let wire = Wire::connect(&server).await;
    let (close, before) = wire.until_closed().await;
    assert_eq!(close, 4008);
    assert_eq!(before[0]["code"], "register_timeout");
}

async fn a_message_over_the_rate_limit_is_refused_and_not_delivered(mode: Mode) {
    let server =
        Server::with("[limits]\nrate_messages = 3\nrate_per = \"2s\"\n").mode(mode).start();
    let mut wire = Wire::register(&server, "Ana").await;
    for number in 0..4 {
        wire.send_chat(&format!("message {number}")).await;
    }
    // The error may arrive before the messages that are still being stored.
    let (mut received, mut error) = (Vec::new(), None);
    while received.len() < 3 || error.is_none() {
        let frame = wire.next().await;
        match frame["type"].as_str().unwrap() {
            "error" => error = Some(frame),
            "chat_message" => received.push(wire.read(&frame)),
            _ => {}
        }
    }
    let error = error.unwrap();
    assert_eq!(error["code"], "rate_limited");
    let wait = error["retry_after_ms"].as_u64().unwrap();
    assert!((1..=2000).contains(&wait), "{wait}");
    assert!(!received.contains(&"message 3".to_owned()), "{received:?}");
}

async fn a_frame_over_the_size_limit_is_closed_with_1009(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut wire = Wire::register(&server, "Ana").await;
    wire.send_text(&"x".repeat(70_000)).await;
    assert_eq!(wire.until_closed().await.0, 1009);
}

#[tokio::test]
async fn names_are_cleaned_and_may_be_shared_in_open_mode() {
    let server = Server::start();
    for (given, name) in
        [("  Eva ", "Eva"), ("<b>Eva</b>", "bEvab"), ("\u{1b}[0m", "0m"), ("!!!", "Anónimo")]
    {
        let mut wire = Wire::connect(server.address()).await;
        wire.send(json!({"type": "register", "username": given})).await;
        assert_eq!(wire.next_of("user_joined").await["username"], name, "{given:?}");
    }
}

#[test]
fn open_mode_on_all_addresses_needs_allow_open() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    std::fs::write(&config, "[listen]\nhost = \"0.0.0.0\"\n").unwrap();
    let output = command(folder.path(), &[]).arg("--config").arg(&config).output().unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{printed}");
    for word in ["0.0.0.0", "auth.mode", "auth.allow_open"] {
        assert!(printed.contains(word), "{printed}");
    }
}

async fn a_request_without_an_upgrade_gets_an_http_status(mode: Mode) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::with("").mode(mode).start();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "426"),
        ("GET /else HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let mut stream = server.endpoint().stream().await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // With TLS, an end without close_notify is an error: an attacker could have cut the answer.
        let ended = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert!(ended.is_ok(), "{request:?}: {ended:?}");
    }
}

async fn a_page_from_another_origin_is_refused(mode: Mode) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server =
        Server::with("[listen]\norigins = [\"https://chat.example\"]\n").mode(mode).start();
    for (origin, status) in [
        ("https://evil.example", "403"),
        ("null", "403"),
        ("https://chat.example.evil", "403"),
        ("https://chat.example", "101"),
        (&server.url().replacen("ws", "http", 1), "101"),
    ] {
        let mut stream = server.endpoint().stream().await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            server.address()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[9..], status.as_bytes(), "{origin}");
    }
}
