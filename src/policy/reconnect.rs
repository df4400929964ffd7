//! Whether the client tries again after a connection ended or could not be made. This is the one
//! table; every front end follows it.
//!
//! At the first attempt a wrong address or a foreign certificate can only be mended by the user. Once
//! the server has accepted a `register`, the same answers come from something in between (a tunnel
//! that restarts, a proxy without its upstream, a captive portal), and pass.

use crate::protocol::CloseCode;

/// The code that stands for a close frame without a code (RFC 6455 §7.4.1).
pub const NO_CLOSE_CODE: u16 = 1005;

/// How a connection ended, or why it could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// No answer: the name, the network, TCP, TLS, a time limit, or the end of the connection.
    Lost,
    /// The server, or a proxy on the way, answered the HTTP request with this status.
    HttpStatus(u16),
    /// The certificate is not trusted.
    Untrusted,
    /// The answer is not one of a chat server.
    NotChatServer,
    /// A proxy named by the user does not pass the connection on, and says that this is its rule.
    ProxyRefused,
    /// The server closed the connection with this WebSocket close code.
    Closed(u16),
    /// A message above the client's limit, which the server would send again.
    TooLarge,
}

/// Whether the client connects again. `registered`: whether the server accepted a `register` of this
/// run at least once.
pub fn reconnects_after(end: ConnectionEnd, registered: bool) -> bool {
    match end {
        ConnectionEnd::Lost => true,
        ConnectionEnd::HttpStatus(status) if is_temporary_status(status) => true,
        ConnectionEnd::HttpStatus(401 | 403) => false,
        ConnectionEnd::HttpStatus(_)
        | ConnectionEnd::Untrusted
        | ConnectionEnd::NotChatServer
        | ConnectionEnd::ProxyRefused => registered,
        ConnectionEnd::Closed(code) => CloseCode::is_reconnectable(code) || code == NO_CLOSE_CODE,
        ConnectionEnd::TooLarge => false,
    }
}

/// Whether an HTTP status says that the same request can succeed later (RFC 9110 §15, RFC 6585,
/// RFC 8470).
pub fn is_temporary_status(status: u16) -> bool {
    matches!(status, 408 | 421 | 425 | 429 | 500..=599)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConnectionEnd::{
        Closed, HttpStatus, Lost, NotChatServer, ProxyRefused, TooLarge, Untrusted,
    };

    #[test]
    fn the_whole_table() {
        // Whether the client tries again: at first, and once it was registered.
        for (ends, at_first, later) in [
            (&[Lost][..], true, true),
            (&[408, 421, 425, 429, 500, 502, 503, 504, 530, 599].map(HttpStatus), true, true),
            (&[401, 403].map(HttpStatus), false, false),
            (
                &[200, 301, 302, 307, 308, 400, 404, 405, 407, 410, 426, 451].map(HttpStatus),
                false,
                true,
            ),
            (&[Untrusted, NotChatServer, ProxyRefused], false, true),
            (&[1001, 1005, 1006, 1011, 1012, 1013].map(Closed), true, true),
            (
                &[1000, 1002, 1003, 1007, 1008, 1009, 1010, 1014, 3000, 4000, 4001, 4003, 4008]
                    .map(Closed),
                false,
                false,
            ),
            (&[TooLarge], false, false),
        ] {
            for end in ends {
                assert_eq!(reconnects_after(*end, false), at_first, "at first: {end:?}");
                assert_eq!(reconnects_after(*end, true), later, "later: {end:?}");
            }
        }
    }
}
