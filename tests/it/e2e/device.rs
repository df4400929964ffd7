//! A device of an end-to-end room that sends opaque bytes: the server reads none of them.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::endpoint::Endpoint;
use crate::support::wire::Wire;

/// The id of device number `number`: 16 characters of base32.
pub fn device_id(number: u8) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut id = "a".repeat(15);
    id.insert(0, char::from(ALPHABET[usize::from(number) % 32]));
    id
}

/// The base64 of a text, as a device would send an encrypted one.
pub fn opaque(text: &str) -> String {
    STANDARD.encode(text)
}

/// The SHA-256 of a text, in hexadecimal digits.
pub fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    let hash: [u8; 32] = sha2::Sha256::digest(text.as_bytes()).into();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A registered device.
pub struct Device {
    pub wire: Wire,
    pub welcome: Value,
    /// Messages that came before an answer.
    unread: VecDeque<Value>,
}

/// The `register` of a device.
pub fn register(user: &str, device: u8, rooms: &[&str]) -> Value {
    json!({"type": "register", "protocol": 1, "username": user, "rooms": rooms, "presence": false,
        "e2e": {"v": 1, "device": device_id(device)}})
}

impl Device {
    /// Registers device 0 of a user in one room.
    pub async fn enter(endpoint: impl Into<Endpoint>, user: &str, room: &str) -> Device {
        Device::register(endpoint, register(user, 0, &[room])).await
    }

    /// Registers with this frame.
    pub async fn register(endpoint: impl Into<Endpoint>, register: Value) -> Device {
        let mut wire = Wire::connect(endpoint).await;
        wire.send(register).await;
        let welcome = wire.next_of("welcome").await;
        Device { wire, welcome, unread: VecDeque::new() }
    }

    /// Sends a message.
    pub async fn say(&mut self, room: &str, id: &str, base: u64, text: &str) {
        self.wire
            .send(json!({"type": "chat_message", "room": room, "id": id, "base": base, "content": opaque(text)}))
            .await;
    }

    /// Sends a commit, without any welcome.
    pub async fn commit(&mut self, room: &str, id: &str, base: u64) {
        self.upload(room, &tree(id)).await;
        let frame = commit(room, id, base, json!([]));
        self.wire.send(frame).await;
    }

    /// Uploads a ratchet tree in one part.
    pub async fn upload(&mut self, room: &str, tree: &str) {
        self.wire
            .send(json!({"type": "e2e_blob", "room": room, "sha256": sha256(tree), "part": 0,
                "parts": 1, "content": opaque(tree)}))
            .await;
    }

    /// The next answer: the number of an ack, or the error's code and `base`.
    pub async fn answer(&mut self) -> Result<u64, (String, Option<u64>)> {
        loop {
            let frame = self.wire.next().await;
            match frame["type"].as_str().unwrap() {
                "ack" => return Ok(frame["seq"].as_u64().unwrap()),
                "error" => {
                    let code = frame["code"].as_str().unwrap().to_owned();
                    return Err((code, frame["base"].as_u64()));
                }
                "encryption_key" => {
                    assert_ne!(&frame["room"].as_str().unwrap()[..1], "+", "{frame}")
                }
                "chat_message" => self.unread.push_back(frame),
                _ => {}
            }
        }
    }

    /// Sends a message, and gives its number.
    pub async fn say_and_wait(&mut self, room: &str, id: &str, base: u64, text: &str) -> u64 {
        self.say(room, id, base, text).await;
        self.answer().await.expect("an ack")
    }

    /// Sends a commit, and gives its number.
    pub async fn commit_and_wait(&mut self, room: &str, id: &str, base: u64) -> u64 {
        self.commit(room, id, base).await;
        self.answer().await.expect("an ack")
    }

    /// The next message: its number, its kind, its base and its text.
    pub async fn read(&mut self) -> (u64, String, u64, String) {
        let frame = match self.unread.pop_front() {
            Some(frame) => frame,
            None => self.wire.next_of("chat_message").await,
        };
        described(&frame)
    }
}

/// The tree that the commit with this id names.
pub fn tree(id: &str) -> String {
    format!("tree of {id}")
}

/// A commit as a frame.
pub fn commit(room: &str, id: &str, base: u64, welcomes: Value) -> Value {
    json!({"type": "chat_message", "room": room, "id": id, "base": base, "kind": "commit",
        "content": opaque(&format!("commit {id}")), "welcomes": welcomes,
        "info": opaque(&format!("info of {id}")), "tree": sha256(&tree(id))})
}

/// The number, the kind, the base and the text of a `chat_message`.
pub fn described(frame: &Value) -> (u64, String, u64, String) {
    assert!(frame.get("key_id").is_none(), "it is encrypted under no key of the server: {frame}");
    let content = STANDARD.decode(frame["content"].as_str().unwrap()).unwrap();
    (
        frame["seq"].as_u64().unwrap(),
        frame["kind"].as_str().unwrap().to_owned(),
        frame["base"].as_u64().unwrap(),
        String::from_utf8(content).unwrap(),
    )
}

/// The answer to what was sent without the newest commit, which is `base`.
pub fn stale(base: u64) -> Result<u64, (String, Option<u64>)> {
    Err(("stale_base".into(), Some(base)))
}

/// Every device sends a commit with the base `base` at once. Gives the number of the only one that is acked.
pub async fn commit_at_once(devices: &mut [Device], room: &str, round: u64, base: u64) -> u64 {
    for (number, device) in devices.iter_mut().enumerate() {
        device.commit(room, &format!("c{round}-{number}"), base).await;
    }
    let mut acked = Vec::new();
    for device in devices {
        match device.answer().await {
            Ok(seq) => acked.push(seq),
            Err(error) => assert_eq!(error.0, "stale_base"),
        }
    }
    assert_eq!(acked.len(), 1, "round {round}");
    acked[0]
}
