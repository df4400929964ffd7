//! Errors of a client's WebSocket in words for its user: those of the library name its parts.

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};

/// The sentence of an answer that is not HTTP.
const NOT_HTTP: &str = "its answer is not HTTP";

/// What is wrong with the answer to the WebSocket handshake.
pub fn of_handshake(error: &Error) -> String {
    match error {
        Error::Protocol(error) => of_answer(error),
        Error::AttackAttempt | Error::Capacity(_) => "the head of its answer is too long".into(),
        Error::HttpFormat(_) | Error::Utf8(_) => NOT_HTTP.into(),
        _ => "it broke the WebSocket handshake off".into(),
    }
}

fn of_answer(error: &ProtocolError) -> String {
    let text = match error {
        ProtocolError::HttparseError(_) => NOT_HTTP,
        ProtocolError::WrongHttpVersion => "it answered with HTTP 1.0",
        ProtocolError::MissingConnectionUpgradeHeader
        | ProtocolError::MissingUpgradeWebSocketHeader
        | ProtocolError::MissingSecWebSocketVersionHeader
        | ProtocolError::SecWebSocketAcceptKeyMismatch
        | ProtocolError::InvalidHeader(_) => {
            "its answer is no WebSocket handshake, because a header is missing or wrong"
        }
        ProtocolError::SecWebSocketSubProtocolError(_) => {
            "it chose a WebSocket subprotocol, and the chat has none"
        }
        ProtocolError::HandshakeIncomplete => "it closed the connection during the handshake",
        _ => "it broke the WebSocket handshake off",
    };
    text.into()
}

/// What is wrong with a frame.
pub fn of_frame(error: &ProtocolError) -> String {
    match error {
        ProtocolError::NonZeroReservedBits => {
            "a frame is compressed or extended, which was not agreed on".into()
        }
        ProtocolError::MaskedFrameFromServer => "a frame is masked".into(),
        ProtocolError::FragmentedControlFrame | ProtocolError::ControlFrameTooBig => {
            "a control frame has more than 125 bytes or comes in pieces".into()
        }
        ProtocolError::UnknownControlFrameType(code)
        | ProtocolError::UnknownDataFrameType(code)
        | ProtocolError::InvalidOpcode(code) => format!("a frame has the unknown type {code}"),
        ProtocolError::UnexpectedContinueFrame | ProtocolError::ExpectedFragment(_) => {
            "the pieces of a message are out of order".into()
        }
        ProtocolError::InvalidCloseSequence => "a close frame is malformed".into(),
        ProtocolError::ReceivedAfterClosing => "a frame follows the close frame".into(),
        _ => "a frame breaks the rules of WebSocket".into(),
    }
}

/// How large a message was that is too large.
pub fn of_size(error: &CapacityError) -> String {
    match error {
        CapacityError::MessageTooLong { size, max_size } => {
            format!("it has {size} bytes, and {max_size} are the limit")
        }
        CapacityError::TooManyHeaders => "it has too many headers".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_speaks_of_a_library() {
        let errors = [
            of_handshake(&Error::AttackAttempt),
            of_handshake(&Error::Protocol(ProtocolError::SecWebSocketAcceptKeyMismatch)),
            of_handshake(&Error::Protocol(ProtocolError::JunkAfterRequest)),
            of_frame(&ProtocolError::InvalidOpcode(3)),
            of_frame(&ProtocolError::NonZeroReservedBits),
            of_size(&CapacityError::MessageTooLong { size: 9, max_size: 8 }),
        ];
        for error in errors {
            let lower = error.to_lowercase();
            for word in ["attack", "httparse", "tungstenite", "opcode", "capacity", "error"] {
                assert!(!lower.contains(word), "{error}");
            }
        }
    }
}
