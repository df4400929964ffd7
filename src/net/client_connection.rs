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
use crate::protocol::Close;

/// How long writing may take; a server that slows us down reads a window in that time.
const WRITTEN: Duration = Duration::from_secs(60);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a client sees where a closing frame has no number, and where there was none at all.
pub const NO_NUMBER: u16 = 1005;

/// One connection.
pub struct Call {
    socket: WebSocketStream<Box<dyn Stream>>,
    farewell: Farewell,
}

/// What came next.
#[derive(Debug)]
pub enum Came {
    /// A text frame, whole.
    Text(Utf8Bytes),
    /// A binary frame, whole.
    Binary(Bytes),
    /// A ping or a pong: somebody is there.
    Sign,
    /// The server closes: its number ([`NO_NUMBER`] for none) and reason.
    Closed(u16, String),
    /// A message above the limit; nothing can be read after it.
    TooLarge(String),
    /// It does not speak RFC 6455; nothing can be read after it.
    Nonsense(String),
    /// The connection ended without a word.
    Gone,
}

/// What is still to be said at the end.
enum Farewell {
    /// Goodbye.
    Ours(Option<Close>),
    /// The answer to the server's goodbye, which the library has ready.
    Answer,
    /// Nobody is there any more.
    None,
}

impl Call {
    pub(super) fn new(socket: WebSocketStream<Box<dyn Stream>>) -> Self {
        Call { socket, farewell: Farewell::Ours(None) }
    }

    /// Waits for what comes. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Came {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => Came::Text(text),
            Some(Ok(Message::Binary(bytes))) => Came::Binary(bytes),
            Some(Ok(Message::Close(close))) => {
                self.farewell = Farewell::Answer;
                let number = close.as_ref().map_or(NO_NUMBER, |close| close.code.into());
                Came::Closed(
                    number,
                    close.map(|close| close.reason.to_string()).unwrap_or_default(),
                )
            }
            Some(Ok(_)) => Came::Sign,
            Some(Err(fault)) => self.broken(&fault),
            None => {
                self.farewell = Farewell::None;
                Came::Gone
            }
        }
    }

    fn broken(&mut self, fault: &Error) -> Came {
        let (close, came) = match fault {
            Error::Capacity(fault) => (Close::TooBig, Came::TooLarge(fault.to_string())),
            Error::Utf8(_) => {
                (Close::NotUtf8, Came::Nonsense("a text frame that is not UTF-8".into()))
            }
            Error::Protocol(fault) if *fault != ProtocolError::ResetWithoutClosingHandshake => {
                (Close::Protocol, Came::Nonsense(fault.to_string()))
            }
            _ => {
                self.farewell = Farewell::None;
                return Came::Gone;
            }
        };
        self.farewell = Farewell::Ours(Some(close));
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
                Farewell::None => return,
                Farewell::Answer => self.socket.flush().await,
                Farewell::Ours(why) => {
                    let frame = why.map(|close| CloseFrame {
                        code: close.number().into(),
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
