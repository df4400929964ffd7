//! A client's WebSocket connection: reading, writing without losing a frame, and the closing handshake.
//!
//! [`ClientConnection::poll_ready`] comes before each [`ClientConnection::start_send`], and
//! [`ClientConnection::poll_flush`] after the last. All of them can be dropped and polled again:
//! a frame is either not taken yet or on its way.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink as _, SinkExt as _, StreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::client_stream::ClientStream;
use super::websocket_error;
use crate::policy::reconnect::NO_CLOSE_CODE;
use crate::protocol::CloseCode;

/// Time limit of the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The connection can't be written to any more.
#[derive(Debug)]
pub struct Broken;

/// An open connection.
pub struct ClientConnection {
    socket: WebSocketStream<Box<dyn ClientStream>>,
    closing: Closing,
}

/// A frame from the server, or the end of the connection.
#[derive(Debug)]
pub enum Incoming {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame, which the chat does not use.
    #[cfg_attr(not(feature = "faults"), expect(dead_code, reason = "read by test peers"))]
    Binary(Bytes),
    /// A ping or a pong.
    Heartbeat,
    /// The server closes the connection: its code ([`NO_CLOSE_CODE`] for none) and reason.
    Closed(u16, String),
    /// A message above the limit; the connection can't be read any further.
    TooLarge(String),
    /// Bytes that are no WebSocket by RFC 6455; the connection can't be read any further.
    Invalid(String),
    /// The connection ended without a close frame.
    Lost,
}

/// The close frame that remains to be sent.
enum Closing {
    /// A close frame of ours, perhaps with a code.
    Initiate(Option<CloseCode>),
    /// The answer to the server's close frame, which tungstenite has queued.
    Answer,
    /// Nothing: the connection is gone.
    Nothing,
}

impl ClientConnection {
    pub(super) fn new(socket: WebSocketStream<Box<dyn ClientStream>>) -> Self {
        ClientConnection { socket, closing: Closing::Initiate(None) }
    }

    /// The next frame, for test peers.
    #[cfg(feature = "faults")]
    pub async fn next(&mut self) -> Incoming {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next frame. Nothing is lost when the task is not polled again.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        Poll::Ready(match ready!(self.socket.poll_next_unpin(cx)) {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(bytes))) => Incoming::Binary(bytes),
            Some(Ok(Message::Close(frame))) => {
                self.closing = Closing::Answer;
                let (code, reason) = frame.map_or((NO_CLOSE_CODE, String::new()), |frame| {
                    (frame.code.into(), frame.reason.to_string())
                });
                Incoming::Closed(code, reason)
            }
            Some(Ok(_)) => Incoming::Heartbeat,
            Some(Err(error)) => self.classify(&error),
            None => {
                self.closing = Closing::Nothing;
                Incoming::Lost
            }
        })
    }

    fn classify(&mut self, error: &Error) -> Incoming {
        let (close, incoming) = match error {
            Error::Capacity(error) => {
                (CloseCode::TooBig, Incoming::TooLarge(websocket_error::of_size(error)))
            }
            Error::Utf8(_) => {
                let text = "a text frame is not UTF-8".into();
                (CloseCode::NotUtf8, Incoming::Invalid(text))
            }
            Error::Protocol(error) if *error != ProtocolError::ResetWithoutClosingHandshake => {
                (CloseCode::Protocol, Incoming::Invalid(websocket_error::of_frame(error)))
            }
            _ => {
                self.closing = Closing::Nothing;
                return Incoming::Lost;
            }
        };
        self.closing = Closing::Initiate(Some(close));
        incoming
    }

    /// Whether [`Self::start_send`] may be called now.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.socket.poll_ready_unpin(cx).map_err(|_| Broken)
    }

    /// Takes one text frame.
    pub fn start_send(&mut self, text: String) -> Result<(), Broken> {
        self.start(Message::text(text))
    }

    /// Takes one empty ping.
    pub fn start_ping(&mut self) -> Result<(), Broken> {
        self.start(Message::Ping(Bytes::new()))
    }

    fn start(&mut self, message: Message) -> Result<(), Broken> {
        std::pin::Pin::new(&mut self.socket).start_send(message).map_err(|_| Broken)
    }

    /// Writes to the socket what was taken.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.socket.poll_flush_unpin(cx).map_err(|_| Broken)
    }

    /// Sends one frame of any kind and waits until it is written; for test peers.
    #[cfg(feature = "faults")]
    pub async fn send(&mut self, message: Message) -> bool {
        self.socket.send(message).await.is_ok()
    }

    /// Closes the connection as RFC 6455 §7 has it: sends a close frame (with a code, where the
    /// connection can't be read any further) or the answer to the server's, then waits for the
    /// server to close the TCP connection, so that it reads the frame.
    pub async fn close(mut self) {
        let handshake = async {
            let sent = match self.closing {
                Closing::Nothing => return,
                Closing::Answer => self.socket.flush().await,
                Closing::Initiate(code) => {
                    let frame = code.map(|code| CloseFrame {
                        code: code.as_u16().into(),
                        reason: Utf8Bytes::default(),
                    });
                    self.socket.close(frame).await
                }
            };
            let mut rest = [0; 4096];
            while sent.is_ok()
                && !matches!(self.socket.get_mut().read(&mut rest).await, Ok(0) | Err(_))
            {
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, handshake).await;
    }
}
