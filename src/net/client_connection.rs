//! A client's WebSocket connection to a server: reading, writing and closing, with time limits.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::client_stream::ClientStream;
use crate::protocol::CloseCode;

/// How long one write may take. Even a server that slows this client down reads within that time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Stands for the close code where a close frame has none (RFC 6455 §7.4.1), and where the
/// connection ended without a close frame.
pub const NO_CLOSE_CODE: u16 = 1005;

/// An open WebSocket connection.
pub struct ClientConnection {
    socket: WebSocketStream<Box<dyn ClientStream>>,
    closing: ClosingHandshake,
}

/// What a client receives.
#[derive(Debug)]
pub enum Incoming {
    /// A whole text message.
    Text(Utf8Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// A ping or a pong.
    Heartbeat,
    /// A close frame: its code ([`NO_CLOSE_CODE`] if it has none) and its reason.
    Closed(u16, String),
    /// A message above the size limit. Nothing can be read after it.
    TooLarge(String),
    /// A violation of RFC 6455. Nothing can be read after it.
    Invalid(String),
    /// The connection ended without a close frame.
    Lost,
}

/// The part of the closing handshake that this side still has to send.
enum ClosingHandshake {
    /// A close frame, with this code.
    Initiate(Option<CloseCode>),
    /// The reply to the server's close frame, which tungstenite has queued.
    Reply,
    /// Nothing: the connection is lost.
    Skip,
}

impl ClientConnection {
    pub(super) fn new(socket: WebSocketStream<Box<dyn ClientStream>>) -> Self {
        ClientConnection { socket, closing: ClosingHandshake::Initiate(None) }
    }

    /// Waits for the next message. Cancel safe.
    pub async fn next(&mut self) -> Incoming {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(bytes))) => Incoming::Binary(bytes),
            Some(Ok(Message::Close(close))) => {
                self.closing = ClosingHandshake::Reply;
                let code = close.as_ref().map_or(NO_CLOSE_CODE, |close| close.code.into());
                let reason = close.map(|close| close.reason.to_string()).unwrap_or_default();
                Incoming::Closed(code, reason)
            }
            Some(Ok(_)) => Incoming::Heartbeat,
            Some(Err(error)) => self.on_read_error(&error),
            None => {
                self.closing = ClosingHandshake::Skip;
                Incoming::Lost
            }
        }
    }

    fn on_read_error(&mut self, error: &Error) -> Incoming {
        let (code, incoming) = match error {
            Error::Capacity(error) => (CloseCode::TooBig, Incoming::TooLarge(error.to_string())),
            Error::Utf8(_) => {
                (CloseCode::NotUtf8, Incoming::Invalid("a text frame that is not UTF-8".into()))
            }
            Error::Protocol(error) if *error != ProtocolError::ResetWithoutClosingHandshake => {
                (CloseCode::Protocol, Incoming::Invalid(error.to_string()))
            }
            _ => {
                self.closing = ClosingHandshake::Skip;
                return Incoming::Lost;
            }
        };
        self.closing = ClosingHandshake::Initiate(Some(code));
        incoming
    }

    /// Buffers a text frame; [`Self::flush`] must follow. Returns false if the connection is lost, as
    /// all methods that write do.
    pub async fn feed(&mut self, text: String) -> bool {
        in_time(WRITE_TIMEOUT, self.socket.feed(Message::text(text))).await
    }

    /// Writes the buffered frames.
    pub async fn flush(&mut self) -> bool {
        in_time(WRITE_TIMEOUT, self.socket.flush()).await
    }

    /// Writes a text frame.
    pub async fn send(&mut self, text: String) -> bool {
        self.feed(text).await && self.flush().await
    }

    /// Writes a binary frame.
    pub async fn send_binary(&mut self, bytes: Bytes) -> bool {
        in_time(WRITE_TIMEOUT, self.socket.send(Message::Binary(bytes))).await
    }

    /// Writes a ping.
    pub async fn ping(&mut self, timeout: Duration) -> bool {
        in_time(timeout, self.socket.send(Message::Ping(Bytes::new()))).await
    }

    /// Performs the closing handshake (RFC 6455 §7.1): sends a close frame, with the reason why
    /// nothing can be read any more if there is one, or replies to the server's. Then waits briefly
    /// for the server to end the connection, so that the server receives the frame.
    pub async fn close(mut self) {
        let handshake = async {
            let sent = match self.closing {
                ClosingHandshake::Skip => return,
                ClosingHandshake::Reply => self.socket.flush().await,
                ClosingHandshake::Initiate(code) => {
                    let frame = code.map(|code| CloseFrame {
                        code: code.number().into(),
                        reason: Utf8Bytes::default(),
                    });
                    self.socket.close(frame).await
                }
            };
            if sent.is_err() {
                return;
            }
            let mut discarded = [0; 4096];
            while !matches!(self.socket.get_mut().read(&mut discarded).await, Ok(0) | Err(_)) {}
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, handshake).await;
    }
}

async fn in_time(timeout: Duration, write: impl Future<Output = Result<(), Error>>) -> bool {
    matches!(tokio::time::timeout(timeout, write).await, Ok(Ok(())))
}
