//! Every connection has one id in the server log, from its accept to its end, and refusals are few lines.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, eventually};

/// Sends `bytes` and reads until the server closes the connection.
fn say(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_a_connection_have_one_id_from_accept_to_close() {
    let server = Server::with(
        "[log]\nlevel = \"debug\"\n[limits]\nregister_timeout = \"3s\"\nconnections_per_address = 1\n",
    )
    .start();
    let address = server.address().to_owned();
    let ended = |count: usize| {
        eventually("each connection has ended", || {
            server.event_count("session_closed") + server.event_count("connection_dropped") == count
        });
    };
    // A request for a page; a request from another site; no request; no register; a wrong register.
    say(&address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    ended(1);
    say(
        &address,
        b"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    ended(2);
    say(&address, b"");
    ended(3);
    drop(Wire::connect(&address[..]).await);
    ended(4);
    let mut wire = Wire::connect(&address[..]).await;
    wire.send(json!({"type": "nothing"})).await;
    wire.until_closed().await;
    ended(5);
    // A session, one that was refused a message, and a connection above a limit.
    let (mut ana, welcome) = Wire::full(&address[..], "ana", "ops").await;
    ana.send(json!({"type": "chat_message", "room": "ops", "id": "a", "content": "x"})).await;
    ana.next_error().await;
    let office = server.endpoint().bound_to("127.0.0.8");
    let _bob = Wire::register(office.clone(), "bob").await;
    assert_eq!(Wire::try_connect(office).await.err(), Some(503));
    drop(ana);
    ended(6);
    let mut by_session: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in server.log() {
        if let Some(session) = line["session"].as_str() {
            by_session.entry(session.to_owned()).or_default().push(line);
        } else {
            assert!(line.get("peer").is_none(), "a line about a connection lacks its id: {line}");
        }
    }
    let mut stories: Vec<String> = by_session
        .values()
        .map(|lines| {
            let events = lines.iter().map(|line| match line["event"].as_str().unwrap() {
                event @ ("connection_dropped" | "register_refused" | "connection_refused") => {
                    format!("{event} {}", line["reason"].as_str().unwrap())
                }
                event => event.to_owned(),
            });
            events.collect::<Vec<_>>().join(", ")
        })
        .collect();
    stories.sort();
    assert_eq!(
        stories,
        [
            "connection_accepted, connection_dropped connection_lost",
            "connection_accepted, connection_dropped no_websocket",
            "connection_accepted, connection_dropped timeout",
            "connection_accepted, origin_refused, connection_dropped no_websocket",
            "connection_accepted, register_refused not_registered, connection_dropped refused",
            "connection_accepted, session_opened",
            "connection_accepted, session_opened, message_refused, session_closed",
            "connection_refused full_address",
        ]
    );
    let session = welcome["session"].as_str().unwrap();
    assert!(by_session[session].iter().any(|line| line["event"] == "message_refused"));
}

/// A client that connects anew for each refused message causes no more lines about them than one that stays.
#[tokio::test]
async fn refused_messages_of_many_sessions_of_a_user_are_a_few_lines() {
    let mut server = Server::start();
    for number in 0..20 {
        let (mut wire, _) = Wire::full(server.address(), "ana", "ops").await;
        let id = format!("job-{number}");
        wire.send(json!({"type": "chat_message", "room": "ops", "id": id, "content": "x"})).await;
        wire.next_error().await;
    }
    server.stop();
    server.wait_for_event("stopped");
    let lines: Vec<Value> =
        server.log().into_iter().filter(|line| line["event"] == "message_refused").collect();
    assert_eq!(lines.len(), 6, "five, and one with the count: {lines:#?}");
    let last = &lines[5];
    assert_eq!((&last["count"], &last["user"]), (&json!(15), &json!("ana")), "{last}");
    assert_eq!(last["peer"], "127.0.0.1");
}
