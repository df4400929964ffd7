//! The environment of the command, beside what the client itself was given.

use crate::conversation::client::event::Message;

/// Variables with their values, and those that are removed.
pub type Environment = Vec<(&'static str, Option<String>)>;

/// The parts of the client's own connection that the command gets.
pub struct BotConnection<'a> {
    /// The server's URL.
    pub server: String,
    /// The bot's own name.
    pub name: &'a str,
}

/// The variables for one message. The text goes to standard input only. Without `access_token`, the
/// command gets none.
pub fn of_message(
    bot: &BotConnection<'_>,
    access_token: Option<&str>,
    message: &Message<'_>,
) -> Environment {
    let seq = message.seq.map(|seq| seq.to_string()).unwrap_or_default();
    // Empty, so that both `[ -n "$CHAT_REPLAY" ]` and `set -u` work.
    let replay = if message.replay { "1" } else { "" };
    // An international name is shown in two forms; the first one is an address by itself.
    let server = bot.server.split(" (").next().unwrap_or_default();
    let set = |value: &str| Some(value.replace('\0', ""));
    vec![
        ("CHAT_ROOM", set(&message.room)),
        ("CHAT_USERNAME", set(&message.username)),
        ("CHAT_VERIFIED", set(&message.verified.to_string())),
        ("CHAT_ID", set(&message.id)),
        ("CHAT_SEQ", set(&seq)),
        ("CHAT_TIMESTAMP", set(&message.timestamp)),
        ("CHAT_REPLAY", set(replay)),
        ("CHAT_URL", set(server)),
        ("CHAT_USER", set(bot.name)),
        // A client refuses to start with both this and CHAT_URL.
        ("CHAT_URL_FILE", None),
        ("CHAT_ACCESS_TOKEN", access_token.and_then(set)),
    ]
}
