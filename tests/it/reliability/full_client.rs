//! A full client for the reliability tests, written from docs/protocol.md alone: it reconnects, sends unacked
//! messages again under the same ids, resumes, and records everything.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use base64::Engine as _;
use fernet::Fernet;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::endpoint::{Endpoint, Socket};

/// How long one step of the protocol may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before reconnecting.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// What became of a sent message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acked with this seq.
    Stored(u64),
    /// Refused for good.
    Refused,
    /// Neither acked nor refused yet.
    Unknown,
}

/// A full client with at most one connection at a time.
pub struct FullClient {
    endpoint: Endpoint,
    name: String,
    room: String,
    socket: Option<Socket>,
    keys: HashMap<String, Fernet>,
    current: Option<Fernet>,
    earlier: Option<Fernet>,
    /// Encrypts under the key before the current one, like a client that processes a rotation late.
    pub uses_earlier_key: bool,
    /// The epoch of the last `welcome`.
    epoch: String,
    /// The epoch and seq of the last message received.
    pub position: Option<(String, u64)>,
    /// Every received message in order: (seq, text).
    pub received: Vec<(u64, String)>,
    /// Every reported gap: (after, next, reason).
    pub gaps: Vec<(u64, u64, String)>,
    /// Sent and not acked, in order: (id, text).
    unacked: VecDeque<(String, String)>,
    /// What became of every message, by text.
    pub statuses: BTreeMap<String, Outcome>,
    texts: HashMap<String, String>,
    /// How often the client has connected.
    pub connects: u64,
    reads: bool,
}

impl FullClient {
    /// Makes a client that is not connected yet. With `reads` it receives messages; without, only acks.
    pub fn new(endpoint: impl Into<Endpoint>, name: &str, room: &str, reads: bool) -> Self {
        FullClient {
            endpoint: endpoint.into(),
            name: name.into(),
            room: room.into(),
            socket: None,
            keys: HashMap::new(),
            current: None,
            earlier: None,
            uses_earlier_key: false,
            epoch: String::new(),
            position: None,
            received: Vec::new(),
            gaps: Vec::new(),
            unacked: VecDeque::new(),
            statuses: BTreeMap::new(),
            texts: HashMap::new(),
            connects: 0,
            reads,
        }
    }

    /// The user name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of unacked messages.
    pub fn outstanding(&self) -> usize {
        self.unacked.len()
    }

    /// Drops the connection without a close frame.
    pub fn drop_connection(&mut self) {
        self.socket = None;
    }

    /// Sends a message, now or after reconnecting.
    pub async fn send_chat(&mut self, text: &str) {
        let id = format!("{}-{}", self.name, self.statuses.len());
        self.statuses.insert(text.into(), Outcome::Unknown);
        self.texts.insert(id.clone(), text.into());
        self.unacked.push_back((id.clone(), text.into()));
        if self.socket.is_some() {
            self.send(&id, text).await;
        }
    }

    /// Receives until `done` holds, and reconnects when the connection ends; false at the deadline.
    pub async fn until(&mut self, deadline: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        while !done(self) {
            if Instant::now() >= deadline {
                return false;
            }
            if self.socket.is_none() && !self.connect().await {
                tokio::time::sleep(RECONNECT_PAUSE).await;
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.listen(left.min(Duration::from_millis(100))).await;
        }
        true
    }

    /// Receives one frame, waiting no longer than `wait`.
    pub async fn listen(&mut self, wait: Duration) {
        let Some(socket) = &mut self.socket else { return };
        match tokio::time::timeout(wait, socket.next()).await {
            Err(_) => {}
            Ok(Some(Ok(Message::Text(text)))) => self.process(&text).await,
            Ok(Some(Ok(Message::Close(_)))) | Ok(Some(Err(_))) | Ok(None) => self.socket = None,
            Ok(Some(Ok(_))) => {}
        }
    }

    async fn connect(&mut self) -> bool {
        self.try_connect().await.is_some()
    }

    async fn try_connect(&mut self) -> Option<()> {
        let mut socket =
            tokio::time::timeout(STEP_TIMEOUT, self.endpoint.open()).await.ok()?.ok()?;
        let mut register = json!({"type": "register", "protocol": 1, "username": self.name,
            "rooms": [self.room], "echo": self.reads, "presence": false});
        if let Some(tokens) = &self.endpoint.tokens {
            register["access_token"] = tokens.of(&self.name).into();
        }
        if let Some((epoch, seq)) = self.position.as_ref().filter(|_| self.reads) {
            register["resume"] = json!({ &self.room: {"epoch": epoch, "seq": seq} });
        }
        socket.send(Message::text(register.to_string())).await.ok()?;
        let welcome = tokio::time::timeout(STEP_TIMEOUT, next(&mut socket)).await.ok()??;
        if welcome["type"] == "error" && welcome["temporary"] == true {
            return None;
        }
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let at = &welcome["rooms"][&self.room];
        self.epoch = at["epoch"].as_str().unwrap().to_owned();
        if self.position.is_none() {
            self.position = Some((self.epoch.clone(), at["seq"].as_u64().unwrap()));
        }
        let key = tokio::time::timeout(STEP_TIMEOUT, next(&mut socket)).await.ok()??;
        self.connects += 1;
        self.socket = Some(socket);
        self.store_key(&key);
        let again: Vec<_> = self.unacked.iter().cloned().collect();
        for (id, text) in again {
            self.send(&id, &text).await;
        }
        Some(())
    }

    async fn send(&mut self, id: &str, text: &str) {
        let key = self.earlier.as_ref().filter(|_| self.uses_earlier_key).or(self.current.as_ref());
        let (Some(socket), Some(key)) = (&mut self.socket, key) else { return };
        let frame = json!({"type": "chat_message", "room": self.room, "id": id,
            "content": key.encrypt(text.as_bytes())});
        let sent =
            tokio::time::timeout(STEP_TIMEOUT, socket.send(Message::text(frame.to_string()))).await;
        if !matches!(sent, Ok(Ok(()))) {
            self.socket = None;
        }
    }

    fn store_key(&mut self, frame: &Value) {
        assert_eq!(frame["type"], "encryption_key", "{frame}");
        let standard = base64::engine::general_purpose::STANDARD;
        let key = standard.decode(frame["key"].as_str().unwrap()).unwrap();
        let key = Fernet::new(std::str::from_utf8(&key).unwrap()).unwrap();
        self.keys.insert(frame["key_id"].as_str().unwrap().to_owned(), key.clone());
        self.earlier = self.current.replace(key);
    }

    async fn process(&mut self, text: &str) {
        let frame: Value = serde_json::from_str(text).unwrap();
        match frame["type"].as_str().unwrap() {
            "encryption_key" => self.store_key(&frame),
            "ack" => self.finish(&frame, Outcome::Stored(frame["seq"].as_u64().unwrap())),
            "chat_message" => {
                let key = &self.keys[frame["key_id"].as_str().unwrap()];
                let plain = key.decrypt(frame["content"].as_str().unwrap()).expect("readable");
                let seq = frame["seq"].as_u64().unwrap();
                self.received.push((seq, String::from_utf8(plain).unwrap()));
                self.position = Some((self.epoch.clone(), seq));
            }
            "gap" => {
                let number = |field: &str| frame[field].as_u64().unwrap();
                let reason = frame["reason"].as_str().unwrap().to_owned();
                let position = (frame["epoch"].as_str().unwrap().to_owned(), number("next") - 1);
                self.gaps.push((number("after"), number("next"), reason));
                self.position = Some(position);
            }
            "error" if frame["code"] == "stale_key" => {
                let id = frame["id"].as_str().unwrap().to_owned();
                let text = self.texts[&id].clone();
                self.send(&id, &text).await;
            }
            "error" if frame["temporary"] == true => {
                // The store fails for a moment; the client sends the message again after reconnecting.
                tokio::time::sleep(RECONNECT_PAUSE).await;
                self.socket = None;
            }
            "error" => self.finish(&frame, Outcome::Refused),
            _ => {}
        }
    }

    fn finish(&mut self, frame: &Value, status: Outcome) {
        let id = frame["id"].as_str().unwrap_or_default();
        self.unacked.retain(|(waiting, _)| waiting != id);
        if let Some(text) = self.texts.get(id) {
            self.statuses.insert(text.clone(), status);
        }
    }
}

/// The messages of a room: (seq, sender, text) in order.
pub type History = Vec<(u64, String, String)>;

/// Reads the whole history of a room.
pub async fn whole_history(endpoint: impl Into<Endpoint>, room: &str) -> History {
    try_history(&endpoint.into(), room).await.expect("the history")
}

/// Reads the whole history of a room as soon as the server can read it, within `limit`.
pub async fn whole_history_within(limit: Duration, endpoint: &Endpoint, room: &str) -> History {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(history) = try_history(endpoint, room).await {
            return history;
        }
        assert!(Instant::now() < deadline, "the history can't be read within {limit:?}");
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// `None` if the server ends the session, because it can't read the history now.
async fn try_history(endpoint: &Endpoint, room: &str) -> Option<History> {
    let mut auditor = FullClient::new(endpoint, "auditor", room, true);
    let mut socket = auditor.endpoint.open().await.expect("a connection");
    let mut register = json!({"type": "register", "protocol": 1, "username": "auditor",
        "rooms": [room], "presence": false});
    if let Some(tokens) = &auditor.endpoint.tokens {
        register["access_token"] = tokens.of("auditor").into();
    }
    socket.send(Message::text(register.to_string())).await.ok()?;
    let mut history = Vec::new();
    let mut after = 0;
    loop {
        let ask = json!({"type": "history", "room": room, "after": after, "limit": 500});
        socket.send(Message::text(ask.to_string())).await.ok()?;
        let page = loop {
            let frame = tokio::time::timeout(STEP_TIMEOUT, next(&mut socket)).await.unwrap()?;
            match frame["type"].as_str().unwrap() {
                "encryption_key" => auditor.store_key(&frame),
                "history" => break frame,
                _ => {}
            }
        };
        for message in page["messages"].as_array().unwrap() {
            let key = &auditor.keys[message["key_id"].as_str().unwrap()];
            let plain = key.decrypt(message["content"].as_str().unwrap()).unwrap();
            after = message["seq"].as_u64().unwrap();
            let user = message["username"].as_str().unwrap().to_owned();
            history.push((after, user, String::from_utf8(plain).unwrap()));
        }
        if page["more"] == false {
            return Some(history);
        }
    }
}

async fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}
