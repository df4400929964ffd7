//! Only who belongs: access tokens, and leaving that means leaving (P23). Who may do what is in `rights`.

mod eviction;
mod file;
mod tokens;

use serde_json::json;

use crate::support::endpoint::Endpoint;
use crate::support::wire::Wire;

/// A server that wants access tokens, and is in nobody's way otherwise.
pub const TOKENS: &str = "[auth]\nmode = \"token\"\n[limits]\nrate_messages = 100000\n";

/// Registers with the full protocol; gives the connection whatever came of it.
async fn register(endpoint: impl Into<Endpoint>, token: &str, rooms: &[&str]) -> Wire {
    let mut wire = Wire::connect(endpoint).await;
    wire.send(json!({"type": "register", "protocol": 1, "username": "whoever",
        "access_token": token, "rooms": rooms, "presence": false}))
        .await;
    wire
}

/// The same, where it must be let in.
async fn entered(endpoint: impl Into<Endpoint>, token: &str, room: &str) -> Wire {
    let mut wire = register(endpoint, token, &[room]).await;
    wire.next_of("welcome").await;
    wire.next_of("encryption_key").await;
    wire
}

/// How a `register` that must fail was answered: code and closing code, and that no key came.
async fn refusal(wire: Wire) -> (String, u16) {
    let (close, before) = wire.until_closed().await;
    assert!(before.iter().all(|frame| frame["type"] != "encryption_key"), "a key left: {before:?}");
    (before[0]["code"].as_str().unwrap().to_owned(), close)
}

fn refused(code: &str, close: u16) -> (String, u16) {
    (code.to_owned(), close)
}
