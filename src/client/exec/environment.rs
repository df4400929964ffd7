//! The environment of the command, beside what the client itself was given.

use crate::conversation::client::event::Message;

/// Variables with their values, and those that are removed.
pub type Environment = Vec<(&'static str, Option<String>)>;

/// What the command may know of the client's own connection.
pub struct BotIdentity {
    /// The server's URL.
    pub server: String,
    /// The access token; `None` keeps it from the command.
    pub access_token: Option<String>,
}

/// The variables for one message. The text goes to standard input only.
pub fn of_message(bot: &BotIdentity, name: &str, message: &Message<'_>) -> Environment {
    let seq = message.seq.map(|seq| seq.to_string()).unwrap_or_default();
    // Empty, so that both `[ -n "$CHAT_REPLAY" ]` and `set -u` work.
    let replay = if message.replay { "1" } else { "" };
    let set = |value: &str| Some(value.replace('\0', ""));
    vec![
        ("CHAT_ROOM", set(&message.room)),
        ("CHAT_USERNAME", set(&message.username)),
        ("CHAT_VERIFIED", set(&message.verified.to_string())),
        ("CHAT_ID", set(&message.id)),
        ("CHAT_SEQ", set(&seq)),
        ("CHAT_TIMESTAMP", set(&message.timestamp)),
        ("CHAT_REPLAY", set(replay)),
        ("CHAT_URL", set(&bot.server)),
        ("CHAT_USER", set(name)),
        ("CHAT_ACCESS_TOKEN", bot.access_token.as_deref().and_then(set)),
    ]
}
