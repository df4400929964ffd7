//! Dials, registers, reconnects, and hands every frame from the server to a front end.
//!
//! Order of calls: [`Driver::next`] until it returns [`Update::Failed`] or the front end is done,
//! with each [`Update::Frame`] passed to [`Driver::receive`]; then [`Driver::close`]. Between two
//! calls of `next` the front end may change the [`Conversation`]; the next call sends the new
//! messages. `next` may be dropped and called again (in `select!`) without losing anything.
//!
//! Deliberately absent: when to give up and when everything is done, which each front end decides.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::connection::{Connection, Ended, Step};
use crate::client::failure::Failure;
use crate::client::now::now;
use crate::client::random::random;
use crate::conversation::client::conversation::Conversation;
use crate::conversation::client::event::Event;
use crate::net::client_connection::{ClientConnection, NO_CLOSE_CODE};
use crate::net::dial::{DialError, Dialer};
use crate::policy::backoff::Backoff;
use crate::protocol::CloseCode;

/// Bounds of the pause before the next attempt to connect.
const MIN_RECONNECT_PAUSE: Duration = Duration::from_millis(250);
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(20);

/// A conversation and the connection it runs on.
pub struct Driver {
    dialer: Arc<Dialer>,
    conversation: Conversation,
    state: State,
    backoff: Backoff,
    /// Whether the server accepted a `register` at least once.
    registered: bool,
    /// Code and text of the last `error` frame of this connection.
    last_error: Option<(String, String)>,
}

enum State {
    Dialing(Pin<Box<dyn Future<Output = Result<ClientConnection, DialError>>>>),
    Open(Box<Connection>),
    /// The closing handshake of a connection that ended.
    Closing(Pin<Box<dyn Future<Output = ()>>>),
    /// The pause before the next attempt.
    Pausing(Pin<Box<Sleep>>),
}

/// An event of the driver.
#[derive(Debug)]
pub enum Update {
    /// A text frame came; it goes to [`Driver::receive`].
    Frame(Utf8Bytes),
    /// An attempt to connect failed; the driver tries again.
    Retrying(DialError),
    /// The connection ended; the driver connects again.
    Disconnected,
    /// The driver can't go on.
    Failed(Failure),
}

impl Driver {
    /// Needs a tokio runtime from the first call of [`Self::next`] on.
    pub fn new(dialer: Dialer, conversation: Conversation) -> Self {
        let dialer = Arc::new(dialer);
        Driver {
            state: dial(&dialer),
            dialer,
            conversation,
            backoff: Backoff::new(MIN_RECONNECT_PAUSE, MAX_RECONNECT_PAUSE),
            registered: false,
            last_error: None,
        }
    }

    /// The conversation, to be read.
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// The conversation, to be changed: what it has to send leaves with the next [`Self::next`].
    pub fn conversation_mut(&mut self) -> &mut Conversation {
        &mut self.conversation
    }

    /// The server's URL, for messages.
    pub fn server(&self) -> String {
        self.dialer.target().to_string()
    }

    /// Whether the server accepted a `register` at least once.
    pub fn was_registered(&self) -> bool {
        self.registered
    }

    /// Sends what is due and returns what happens next.
    pub async fn next(&mut self) -> Update {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Reads one frame. An error means that the server speaks another protocol.
    pub fn receive<'a>(&mut self, frame: &'a str) -> Result<Event<'a>, Failure> {
        let event = self.conversation.receive(frame, now());
        match &event {
            Event::Registered(_) => {
                self.registered = true;
                self.backoff.reset();
            }
            Event::Error(error) => {
                self.last_error = Some((error.code.to_string(), error.message.to_string()));
            }
            Event::Unreadable if !self.registered => {
                return Err(Failure::OtherProtocol { server: self.server() });
            }
            _ => {}
        }
        Ok(event)
    }

    /// Closes the connection, if there is one, and waits for the closing handshake.
    pub async fn close(self) {
        match self.state {
            State::Open(connection) => connection.close().await,
            State::Closing(handshake) => handshake.await,
            State::Dialing(_) | State::Pausing(_) => {}
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Update> {
        loop {
            match &mut self.state {
                State::Dialing(attempt) => match ready!(attempt.as_mut().poll(cx)) {
                    Ok(connection) => {
                        self.last_error = None;
                        let register = self.conversation.register();
                        self.state = State::Open(Box::new(Connection::new(connection, register)));
                    }
                    Err(error) if error.is_temporary() => {
                        self.pause();
                        return Poll::Ready(Update::Retrying(error));
                    }
                    Err(error) => {
                        self.pause();
                        return Poll::Ready(Update::Failed(error.into()));
                    }
                },
                State::Open(connection) => {
                    let step = ready!(connection.poll_step(cx, &mut self.conversation));
                    return Poll::Ready(match step {
                        Step::Frame(text) => Update::Frame(text),
                        Step::Ended(how) => self.end_connection(how),
                    });
                }
                State::Closing(handshake) => {
                    ready!(handshake.as_mut().poll(cx));
                    self.pause();
                }
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.state = dial(&self.dialer);
                }
            }
        }
    }

    fn pause(&mut self) {
        let pause = self.backoff.pause(random());
        self.state = State::Pausing(Box::pin(tokio::time::sleep(pause)));
    }

    fn end_connection(&mut self, how: Ended) -> Update {
        let update = self.classify(how);
        self.conversation.disconnected();
        let closing = State::Closing(Box::pin(std::future::ready(())));
        if let State::Open(connection) = std::mem::replace(&mut self.state, closing) {
            self.state = State::Closing(Box::pin(connection.close()));
        }
        update
    }

    /// Whether the driver reconnects, or the run ends.
    fn classify(&mut self, how: Ended) -> Update {
        Update::Failed(match how {
            Ended::Lost => return Update::Disconnected,
            Ended::Closed(code, _)
                if CloseCode::is_reconnectable(code) || code == NO_CLOSE_CODE =>
            {
                return Update::Disconnected;
            }
            Ended::Closed(close_code, reason) => {
                let (code, reason) =
                    self.last_error.take().unwrap_or((close_code.to_string(), reason));
                Failure::Closed { close_code, code, reason }
            }
            Ended::TooLarge(reason) => Failure::TooLarge(reason),
            Ended::Invalid(_) if self.registered => return Update::Disconnected,
            Ended::Invalid(reason) => Failure::NotWebSocket { server: self.server(), reason },
        })
    }
}

fn dial(dialer: &Arc<Dialer>) -> State {
    let dialer = dialer.clone();
    State::Dialing(Box::pin(async move { dialer.dial().await }))
}

/// Sleeps until a moment; for ever where there is none.
pub async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
