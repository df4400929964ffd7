//! A raw connection that sends whatever a test wants, right or wrong.

use std::sync::Arc;

use base64::Engine as _;
use fernet::Fernet;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::TIMEOUT;
use super::endpoint::{AccessTokens, Endpoint, Socket};

/// A connection and the room keys it has received.
pub struct Wire {
    socket: Socket,
    /// Access tokens for `register`, if the server wants them.
    tokens: Option<Arc<AccessTokens>>,
    /// Every key with its room, the newest last.
    keys: Vec<(String, Fernet)>,
}

impl Wire {
    /// Connects and sends nothing.
    pub async fn connect(endpoint: impl Into<Endpoint>) -> Wire {
        Wire::try_connect(endpoint).await.expect("a WebSocket")
    }

    /// Connects, or gives the HTTP status of the refusal; 0 without an answer.
    pub async fn try_connect(endpoint: impl Into<Endpoint>) -> Result<Wire, u16> {
        let endpoint = endpoint.into();
        let socket = endpoint.open().await?;
        Ok(Wire { socket, tokens: endpoint.tokens, keys: Vec::new() })
    }

    /// Connects from another loopback address.
    pub async fn try_connect_from(from: &str, endpoint: impl Into<Endpoint>) -> Option<Wire> {
        Wire::try_connect(endpoint.into().bound_to(from)).await.ok()
    }

    /// Registers with the basic protocol and reads up to the user list.
    pub async fn register(endpoint: impl Into<Endpoint>, name: &str) -> Wire {
        let mut wire = Wire::connect(endpoint).await;
        wire.send(json!({"type": "register", "username": name})).await;
        wire.next_of("user_list").await;
        wire
    }

    /// Registers with the full protocol in one room and reads up to the key; gives the `welcome` too.
    pub async fn full(endpoint: impl Into<Endpoint>, name: &str, room: &str) -> (Wire, Value) {
        let mut wire = Wire::connect(endpoint).await;
        wire.send(json!({"type": "register", "protocol": 1, "username": name, "rooms": [room],
            "presence": false}))
            .await;
        let welcome = wire.next_of("welcome").await;
        wire.next_of("encryption_key").await;
        (wire, welcome)
    }

    /// Sends an object. If the server wants access tokens, adds the user's to a `register`.
    pub async fn send(&mut self, mut frame: Value) {
        if let Some(tokens) = &self.tokens
            && frame["type"] == "register"
            && let Some(user) = frame["username"].as_str().map(str::to_owned)
            && frame.get("access_token").is_none()
        {
            frame["access_token"] = tokens.of(&user).into();
        }
        self.send_text(&frame.to_string()).await;
    }

    /// Sends a text frame.
    pub async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    /// Sends a WebSocket message.
    pub async fn send_message(&mut self, message: Message) {
        tokio::time::timeout(TIMEOUT, self.socket.send(message))
            .await
            .expect("in time")
            .expect("sent");
    }

    /// Sends a chat message under the newest key, with the basic protocol.
    pub async fn send_chat(&mut self, text: &str) {
        let content = self.encrypt(text.as_bytes());
        self.send(json!({"type": "chat_message", "content": content})).await;
    }

    /// Sends a chat message in a room under an id, with the full protocol.
    pub async fn send_chat_in(&mut self, room: &str, id: &str, text: &str) {
        let content = self.key(room).encrypt(text.as_bytes());
        self.send(json!({"type": "chat_message", "room": room, "id": id, "content": content}))
            .await;
    }

    /// Sends a chat message and waits for its delivery. An ack alone comes before the members get the message.
    pub async fn send_chat_and_wait(&mut self, room: &str, id: &str, text: &str) {
        self.send_chat_in(room, id, text).await;
        let seq = self.next_of("ack").await["seq"].clone();
        while self.next_of("chat_message").await["seq"] != seq {}
    }

    /// Encrypts under the newest key.
    pub fn encrypt(&self, plain: &[u8]) -> String {
        self.keys.last().expect("a key").1.encrypt(plain)
    }

    /// Encrypts under the newest key, at a time so many seconds from now.
    pub fn encrypt_at(&self, plain: &[u8], seconds_ahead: u64) -> String {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        self.keys.last().expect("a key").1.encrypt_at_time(plain, now + seconds_ahead)
    }

    /// The newest key of a room.
    pub fn key(&self, room: &str) -> &Fernet {
        &self.keys.iter().rfind(|(name, _)| name == room).expect("a key of that room").1
    }

    /// Decrypts a message under any key received so far.
    pub fn read(&self, frame: &Value) -> String {
        let token = frame["content"].as_str().expect("content");
        let plain = self.keys.iter().rev().find_map(|(_, key)| key.decrypt(token).ok());
        String::from_utf8(plain.expect("readable under a key that came before")).unwrap()
    }

    /// The next frame, as an object.
    pub async fn next(&mut self) -> Value {
        let text = self.next_text().await;
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["type"] == "encryption_key" {
            self.store_key(&frame);
        }
        frame
    }

    /// The next text frame, as it came.
    pub async fn next_text(&mut self) -> String {
        loop {
            let next =
                tokio::time::timeout(TIMEOUT, self.socket.next()).await.expect("a frame in time");
            match next {
                Some(Ok(Message::Text(text))) => return text.as_str().to_owned(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("instead of a frame: {other:?}"),
            }
        }
    }

    /// The next object of a type; skips others, and panics at an error.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
            assert_ne!(frame["type"], "error", "instead of {kind}: {frame}");
        }
    }

    /// The code of the next error; skips other frames.
    pub async fn next_error(&mut self) -> String {
        loop {
            let frame = self.next().await;
            if frame["type"] == "error" {
                return frame["code"].as_str().unwrap().to_owned();
            }
        }
    }

    /// Reads to the end; gives the close code (1006 without a close frame) and the frames before it.
    pub async fn until_closed(mut self) -> (u16, Vec<Value>) {
        let mut before = Vec::new();
        loop {
            let next =
                tokio::time::timeout(TIMEOUT, self.socket.next()).await.expect("an end in time");
            match next {
                Some(Ok(Message::Text(text))) => before.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), before),
                Some(Ok(Message::Close(None))) => return (1005, before),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (1006, before),
            }
        }
    }

    /// The WebSocket itself.
    pub fn stream(&mut self) -> &mut Socket {
        &mut self.socket
    }

    fn store_key(&mut self, frame: &Value) {
        let standard = base64::engine::general_purpose::STANDARD;
        let once = standard.decode(frame["key"].as_str().unwrap()).expect("standard base64");
        let key = Fernet::new(std::str::from_utf8(&once).unwrap()).expect("a Fernet key");
        let room = frame["room"].as_str().unwrap_or("lobby").to_owned();
        self.keys.push((room, key));
    }
}
