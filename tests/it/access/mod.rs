//! P23: access tokens and evictions. The rights of each role are in `rights`.

mod authorization;
mod bans;
mod eviction;
mod file;
mod tokens;

use serde_json::json;

use crate::support::endpoint::Endpoint;
use crate::support::wire::Wire;

/// Token mode with a high rate limit.
pub const TOKENS: &str = "[auth]\nmode = \"token\"\n[limits]\nrate_messages = 100000\n";

/// Registers with the full protocol, whatever the answer is.
async fn register(endpoint: impl Into<Endpoint>, token: &str, rooms: &[&str]) -> Wire {
    let mut wire = Wire::connect(endpoint).await;
    wire.send(json!({"type": "register", "protocol": 1, "username": "whoever",
        "access_token": token, "rooms": rooms, "presence": false}))
        .await;
    wire
}

/// Registers, and must be admitted.
async fn entered(endpoint: impl Into<Endpoint>, token: &str, room: &str) -> Wire {
    let mut wire = register(endpoint, token, &[room]).await;
    wire.next_of("welcome").await;
    wire.next_of("encryption_key").await;
    wire
}

/// The code and close code of a refused `register`. Checks that no key came.
async fn refusal(wire: Wire) -> (String, u16) {
    let (close, before) = wire.until_closed().await;
    assert!(before.iter().all(|frame| frame["type"] != "encryption_key"), "a key left: {before:?}");
    (before[0]["code"].as_str().unwrap().to_owned(), close)
}

fn refused(code: &str, close: u16) -> (String, u16) {
    (code.to_owned(), close)
}
