//! An open connection to a server, as every client of ours reads it, speaks into it and leaves it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::dial::Stream;
use crate::protocol::CloseCode;

/// How long writing may take; a server that slows us down reads a window in that time.
const WRITTEN: Duration = Duration::from_secs(60);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a client sees where a closing frame has no number, and where there was none at all.
pub const NO_NUMBER: u16 = 1005;

/// One connection.
pub struct ClientConnection {
    socket: WebSocketStream<Box<dyn Stream>>,
    farewell: ClosingHandshake,
}

/// What came next.
#[derive(Debug)]
pub enum Incoming {
    /// A text frame, whole.
    Text(Utf8Bytes),
    /// A binary frame, whole.
    Binary(Bytes),
    /// A ping or a pong: somebody is there.
    Heartbeat,
    /// The server closes: its number ([`NO_NUMBER`] for none) and reason.
    Closed(u16, String),
    /// A message above the limit; nothing can be read after it.
    TooLarge(String),
    /// It does not speak RFC 6455; nothing can be read after it.
    Invalid(String),
    /// The connection ended without a word.
    Lost,
}

/// What is still to be said at the end.
enum ClosingHandshake {
    /// Goodbye.
    Ours(Option<CloseCode>),
    /// The answer to the server's goodbye, which the library has ready.
    Answer,
    /// Nobody is there any more.
    None,
}

impl ClientConnection {
    pub(super) fn new(socket: WebSocketStream<Box<dyn Stream>>) -> Self {
        ClientConnection { socket, farewell: ClosingHandshake::Ours(None) }
    }

    /// Waits for what comes. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Incoming {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(bytes))) => Incoming::Binary(bytes),
            Some(Ok(Message::Close(close))) => {
                self.farewell = ClosingHandshake::Answer;
                let number = close.as_ref().map_or(NO_NUMBER, |close| close.code.into());
                Incoming::Closed(
                    number,
                    close.map(|close| close.reason.to_string()).unwrap_or_default(),
                )
            }
            Some(Ok(_)) => Incoming::Heartbeat,
            Some(Err(error)) => self.broken(&error),
            None => {
                self.farewell = ClosingHandshake::None;
                Incoming::Lost
            }
        }
    }

    fn broken(&mut self, error: &Error) -> Incoming {
        let (close, came) = match error {
            Error::Capacity(error) => (CloseCode::TooBig, Incoming::TooLarge(error.to_string())),
            Error::Utf8(_) => {
                (CloseCode::NotUtf8, Incoming::Invalid("a text frame that is not UTF-8".into()))
            }
            Error::Protocol(error) if *error != ProtocolError::ResetWithoutClosingHandshake => {
                (CloseCode::Protocol, Incoming::Invalid(error.to_string()))
            }
            _ => {
                self.farewell = ClosingHandshake::None;
                return Incoming::Lost;
            }
        };
        self.farewell = ClosingHandshake::Ours(Some(close));
        came
    }

    /// Puts a text frame where [`Self::flush`] sends it from; false where the connection is gone.
    pub async fn feed(&mut self, text: String) -> bool {
        within(WRITTEN, self.socket.feed(Message::text(text))).await
    }

    /// Sends what was put there.
    pub async fn flush(&mut self) -> bool {
        within(WRITTEN, self.socket.flush()).await
    }

    /// Sends a text frame.
    pub async fn send(&mut self, text: String) -> bool {
        self.feed(text).await && self.flush().await
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: Bytes) -> bool {
        within(WRITTEN, self.socket.send(Message::Binary(bytes))).await
    }

    /// Asks whether the server is still there.
    pub async fn ping(&mut self, patience: Duration) -> bool {
        within(patience, self.socket.send(Message::Ping(Bytes::new()))).await
    }

    /// Leaves as RFC 6455 has it: says goodbye, or why nothing can be read any more, or answers the
    /// server's goodbye; and lets the server hang up first, so that it hears that.
    pub async fn end(mut self) {
        let goodbye = async {
            let said = match self.farewell {
                ClosingHandshake::None => return,
                ClosingHandshake::Answer => self.socket.flush().await,
                ClosingHandshake::Ours(why) => {
                    let frame = why.map(|close| CloseFrame {
                        code: close.as_u16().into(),
                        reason: Utf8Bytes::default(),
                    });
                    self.socket.close(frame).await
                }
            };
            let mut rest = [0; 4096];
            while said.is_ok()
                && !matches!(self.socket.get_mut().read(&mut rest).await, Ok(0) | Err(_))
            {
            }
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

async fn within(patience: Duration, write: impl Future<Output = Result<(), Error>>) -> bool {
    matches!(tokio::time::timeout(patience, write).await, Ok(Ok(())))
}
