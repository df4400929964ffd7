//! A sender of the full protocol for benchmarks.

use std::time::Instant;

use base64::Engine as _;
use fernet::Fernet;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Messages that are sent before their acks are there.
pub const IN_FLIGHT: usize = 64;
/// Messages per measurement.
pub const MESSAGES: usize = 20_000;
/// Messages per measurement of the time to an ack.
pub const ROUND_TRIPS: usize = 2_000;

/// A session that sends to the lobby.
pub struct Sender {
    socket: WebSocketStream<TcpStream>,
    key: Fernet,
    sent: usize,
}

impl Sender {
    /// Registers.
    pub async fn connect(address: &str) -> Self {
        let (mut socket, _) = dial(address, json!({"echo": false})).await;
        let key = loop {
            let frame = next(&mut socket).await;
            if frame["type"] == "encryption_key" {
                break frame["key"].as_str().expect("a key").to_owned();
            }
        };
        let key = base64::engine::general_purpose::STANDARD.decode(key).expect("base64");
        let key = Fernet::new(std::str::from_utf8(&key).expect("text")).expect("a Fernet key");
        Sender { socket, key, sent: 0 }
    }

    async fn feed_message(&mut self) {
        let content = self.key.encrypt("x".repeat(100).as_bytes());
        let id = format!("id{}", self.sent);
        self.sent += 1;
        let frame = json!({"type": "chat_message", "room": "lobby", "id": id, "content": content});
        self.socket.feed(Message::text(frame.to_string())).await.expect("sent");
    }

    async fn wait_for_ack(&mut self) {
        while next(&mut self.socket).await["type"] != "ack" {}
    }

    /// Returns the median time from send to ack with one message in flight, in seconds.
    pub async fn measure_ack_time(&mut self) -> f64 {
        let mut times = Vec::new();
        for _ in 0..ROUND_TRIPS {
            let start = Instant::now();
            self.feed_message().await;
            self.socket.flush().await.expect("sent");
            self.wait_for_ack().await;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    /// Returns acked messages per second with [`IN_FLIGHT`] in flight.
    pub async fn measure_throughput(&mut self) -> f64 {
        let start = Instant::now();
        let mut outstanding = 0;
        for _ in 0..MESSAGES {
            self.feed_message().await;
            outstanding += 1;
            if outstanding == IN_FLIGHT {
                self.socket.flush().await.expect("sent");
                self.wait_for_ack().await;
                outstanding -= 1;
            }
        }
        self.socket.flush().await.expect("sent");
        for _ in 0..outstanding {
            self.wait_for_ack().await;
        }
        MESSAGES as f64 / start.elapsed().as_secs_f64()
    }
}

/// Connects and registers, with additional fields; returns the socket and the `welcome`.
pub async fn dial(address: &str, fields: Value) -> (WebSocketStream<TcpStream>, Value) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    let upgrade = tokio_tungstenite::client_async(format!("ws://{address}/"), stream);
    let (mut socket, _) = upgrade.await.expect("a WebSocket");
    let mut register = json!({"type": "register", "protocol": 1, "username": "bench",
        "rooms": ["lobby"], "presence": false});
    for (name, value) in fields.as_object().expect("an object") {
        register[name] = value.clone();
    }
    socket.send(Message::text(register.to_string())).await.expect("sent");
    let welcome = next(&mut socket).await;
    (socket, welcome)
}

/// The next frame.
pub async fn next(socket: &mut WebSocketStream<TcpStream>) -> Value {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return serde_json::from_str(&text).expect("an object");
            }
            Some(Ok(_)) => {}
            other => panic!("expected a frame, got {other:?}"),
        }
    }
}
