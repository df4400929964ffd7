//! The words of refusal: `error` codes for programs, and WebSocket closing codes.

use serde::Serialize;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $temporary:literal;)*) => {
        /// Why something was refused. The word is for programs and never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $word,)* }
            }

            /// Whether trying the same again can help.
            pub fn is_temporary(self) -> bool {
                match self { $(ErrorCode::$name => $temporary,)* }
            }
        }
    };
}

codes! {
    /// The frame is not JSON, or not a JSON object.
    BadJson = "bad_json", false;
    /// A field is missing or has the wrong type.
    BadFrame = "bad_frame", false;
    /// The `type` is none that this server knows.
    UnknownType = "unknown_type", false;
    /// A binary WebSocket frame; only text is spoken here.
    BinaryFrame = "binary_frame", false;
    /// The first frame was something else than `register`.
    NotRegistered = "not_registered", false;
    /// `register` came a second time.
    AlreadyRegistered = "already_registered", false;
    /// No `register` within the time limit.
    RegisterTimeout = "register_timeout", true;
    /// A protocol number this server does not speak.
    BadProtocol = "bad_protocol", false;
    /// A message without a character in it.
    EmptyMessage = "empty_message", false;
    /// More characters than `limits.message_chars`.
    MessageTooLong = "message_too_long", false;
    /// What was encrypted is not UTF-8.
    NotUtf8 = "not_utf8", false;
    /// The content is no Fernet token under any key of the room.
    BadToken = "bad_token", false;
    /// The key it was encrypted under is past its grace; the current one works.
    StaleKey = "stale_key", true;
    /// The token was made by a clock far ahead of the server's.
    ClockSkew = "clock_skew", false;
    /// Too many messages in too short a time.
    RateLimited = "rate_limited", true;
    /// A room name outside the rule.
    BadRoom = "bad_room", false;
    /// The session is not in that room.
    NotInRoom = "not_in_room", false;
    /// More rooms than one session may be in.
    TooManyRooms = "too_many_rooms", false;
    /// A message id outside the rule.
    BadId = "bad_id", false;
    /// The same id came before with other content.
    IdConflict = "id_conflict", false;
    /// No valid access token.
    Unauthorized = "unauthorized", false;
    /// The access token does not give this right.
    Forbidden = "forbidden", false;
    /// Keys do not leave over this unencrypted connection.
    Plaintext = "plaintext_refused", false;
    /// The history has no room left on its disk.
    StorageFull = "storage_full", true;
    /// The history can't be written or read.
    StorageFailed = "storage_failed", true;
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Closing codes (RFC 6455 §7.4 and our own above 4000). The reason beside them is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The server leaves for good.
    Leaving = 1001,
    /// What came was no WebSocket.
    Protocol = 1002,
    /// Text frame that is not UTF-8.
    NotUtf8 = 1007,
    /// Against the rules.
    Policy = 1008,
    /// A frame above the limit.
    TooBig = 1009,
    /// Something of ours broke.
    Internal = 1011,
    /// The server restarts; come back.
    Restarting = 1012,
    /// Full, or too slow to read; come back later.
    TryLater = 1013,
    /// No valid access token.
    Unauthorized = 4001,
    /// Without the right.
    Forbidden = 4003,
    /// Not registered in time.
    RegisterTimeout = 4008,
}

impl CloseCode {
    /// Every one that a server of ours sends.
    pub const ALL: &'static [CloseCode] = &[
        CloseCode::Leaving,
        CloseCode::Protocol,
        CloseCode::NotUtf8,
        CloseCode::Policy,
        CloseCode::TooBig,
        CloseCode::Internal,
        CloseCode::Restarting,
        CloseCode::TryLater,
        CloseCode::Unauthorized,
        CloseCode::Forbidden,
        CloseCode::RegisterTimeout,
    ];

    /// The number on the wire.
    pub fn as_u16(self) -> u16 {
        self as u16
    }

    /// Whether a client should come back by itself after this number
    /// (1006 is what a client sees when the connection just ended).
    pub fn is_reconnectable(number: u16) -> bool {
        matches!(number, 1001 | 1006 | 1011 | 1012 | 1013)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_word() {
        let mut words: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ErrorCode::ALL.len());
    }
}
