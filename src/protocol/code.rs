//! The codes of `error` frames, and WebSocket close codes.

use serde::Serialize;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $temporary:literal;)*) => {
        /// The reason of an `error` frame. Its text is for programs and never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }

            /// Whether the same request can succeed later.
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
    /// A `type` that this server does not know.
    UnknownType = "unknown_type", false;
    /// A binary WebSocket frame. The protocol has only text frames.
    BinaryFrame = "binary_frame", false;
    /// The first frame was not `register`.
    NotRegistered = "not_registered", false;
    /// A second `register`.
    AlreadyRegistered = "already_registered", false;
    /// No `register` within the time limit.
    RegisterTimeout = "register_timeout", true;
    /// A protocol number that this server does not speak.
    BadProtocol = "bad_protocol", false;
    /// An empty message.
    EmptyMessage = "empty_message", false;
    /// More characters than `limits.message_chars`.
    MessageTooLong = "message_too_long", false;
    /// The decrypted content is not UTF-8.
    NotUtf8 = "not_utf8", false;
    /// The content is not a Fernet token under a key of the room.
    BadToken = "bad_token", false;
    /// The content is encrypted under a replaced key whose grace has ended.
    StaleKey = "stale_key", true;
    /// The timestamp of the Fernet token is far ahead of the server's clock.
    ClockSkew = "clock_skew", false;
    /// Too many messages, or too many failed authentications.
    RateLimited = "rate_limited", true;
    /// An invalid room name; see [`super::RoomName::RULE`].
    BadRoom = "bad_room", false;
    /// The session is not in that room.
    NotInRoom = "not_in_room", false;
    /// Too many rooms for one session.
    TooManyRooms = "too_many_rooms", false;
    /// As many rooms exist as `limits.rooms` allows.
    RoomsFull = "rooms_full", true;
    /// An invalid message id; see [`super::MessageId::RULE`].
    BadId = "bad_id", false;
    /// The id belongs to an earlier message with another text.
    IdConflict = "id_conflict", false;
    /// No valid access token.
    Unauthorized = "unauthorized", false;
    /// The access token does not give this right.
    Forbidden = "forbidden", false;
    /// An operator has muted the user in this room.
    Muted = "muted", false;
    /// The server does not send keys over an unencrypted connection.
    Plaintext = "plaintext_refused", false;
    /// The disk of the room log is full.
    StorageFull = "storage_full", true;
    /// The room log can't be written or read.
    StorageFailed = "storage_failed", true;
    /// It is not known whether the message is stored.
    StorageUnknown = "storage_unknown", true;
    /// The room is end-to-end encrypted, and the client did not say that it can do that.
    E2eOnly = "e2e_only", false;
    /// The room has a newer commit than the one that the sender had seen.
    StaleBase = "stale_base", true;
    /// A user has no key package left on the server.
    NoKeyPackage = "no_key_package", true;
    /// The server does not have the ratchet tree that a commit names, or that is asked for.
    NoTree = "no_tree", true;
    /// An HTTP request for a path that does not exist.
    NotFound = "not_found", false;
    /// An HTTP method that the path does not have.
    MethodNotAllowed = "method_not_allowed", false;
    /// An HTTP query that can't be read.
    BadQuery = "bad_query", false;
    /// The body of an HTTP request has another media type than text or JSON.
    UnsupportedType = "unsupported_type", false;
    /// The body of an HTTP request is larger than `limits.frame_bytes`.
    BodyTooLarge = "body_too_large", false;
    /// The body of an HTTP request did not arrive in time.
    BodyTimeout = "body_timeout", true;
    /// The `Host` of an HTTP request is not a name of this server.
    WrongHost = "wrong_host", false;
    /// The `Origin` of an HTTP request is not allowed.
    OriginRefused = "origin_refused", false;
}

impl ErrorCode {
    /// Whether it is only in answers to HTTP requests, and never in a frame.
    pub fn is_of_http(self) -> bool {
        use ErrorCode::*;
        matches!(
            self,
            NotFound
                | MethodNotAllowed
                | BadQuery
                | UnsupportedType
                | BodyTooLarge
                | BodyTimeout
                | WrongHost
                | OriginRefused
        )
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// WebSocket close codes: of RFC 6455 §7.4, and application codes from 4000. The close reason that is
/// sent along is text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The server stops.
    Leaving = 1001,
    /// The peer violated RFC 6455.
    Protocol = 1002,
    /// A text frame was not UTF-8.
    NotUtf8 = 1007,
    /// The client violated the protocol or a limit.
    Policy = 1008,
    /// A frame was larger than `limits.frame_bytes`.
    TooBig = 1009,
    /// An internal error.
    Internal = 1011,
    /// The server restarts, or the rights of the user changed.
    Restarting = 1012,
    /// The server is full, or the client reads too slowly.
    TryLater = 1013,
    /// No valid access token.
    Unauthorized = 4001,
    /// The client lacks a right: forbidden, kicked or banned.
    Forbidden = 4003,
    /// The client did not register in time.
    RegisterTimeout = 4008,
}

impl CloseCode {
    /// Every code that the server sends.
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

    /// Whether a client reconnects after this code. A client sees 1006 when the connection ends
    /// without a close frame.
    pub fn is_reconnectable(number: u16) -> bool {
        matches!(number, 1001 | 1006 | 1011 | 1012 | 1013)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_text_of_its_own() {
        let mut texts: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
    }
}
