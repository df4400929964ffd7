//! Where the server listens, for `chat-server invite`.

use serde_json::{Value, json};

use crate::server::context::Context;

/// The addresses of the listeners, whether they use TLS, and the mode.
pub fn report(context: &Context) -> Value {
    let active = context.active_config.load();
    json!({
        "addresses": context.addresses, "tls": active.tls.is_some(),
        "mode": active.config.raw.auth.mode,
    })
}
