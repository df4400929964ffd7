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
use crate::client::failure::{Failure, Refusal};
use crate::client::now::now;
use crate::client::random::random;
use crate::conversation::client::conversation::Conversation;
use crate::conversation::client::event::{Event, excerpt};
use crate::net::client_connection::ClientConnection;
use crate::net::dial::{DialError, Dialer};
use crate::policy::backoff::Backoff;
use crate::policy::reconnect::{ConnectionEnd, NO_CLOSE_CODE, reconnects_after};

/// Bounds of the pause before the next attempt to connect.
const MIN_RECONNECT_PAUSE: Duration = Duration::from_millis(250);
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(20);
/// The longest pause that a server can ask for.
const MAX_REQUESTED_PAUSE: Duration = Duration::from_secs(60);
/// How long a session must have lasted before the pauses start anew. A server that accepts each
/// session and closes it at once is not asked ever faster.
const STABLE_SESSION: Duration = Duration::from_secs(5);

/// A conversation and the connection it runs on.
pub struct Driver {
    dialer: Arc<Dialer>,
    conversation: Conversation,
    state: State,
    backoff: Backoff,
    /// Whether the server accepted a `register` at least once.
    registered: bool,
    /// Since when the session of this connection lasts.
    session_since: Option<Instant>,
    /// The last frame, if it was an `error`, and when the server wants to be asked again.
    last_error: Option<(Refusal, Option<Duration>)>,
    /// Why the server did not register the client at the last attempt, if it said so.
    refusal: Option<Refusal>,
    /// The pause that the server asked for with that refusal.
    requested_pause: Option<Duration>,
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
    /// The connection ended; the driver connects again. A connection that the server ended before it
    /// registered the client has the server's reason, if it named one.
    Disconnected(Option<Refusal>),
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
            session_since: None,
            last_error: None,
            refusal: None,
            requested_pause: None,
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
        self.dialer.server()
    }

    /// Whether the server accepted a `register` at least once.
    pub fn was_registered(&self) -> bool {
        self.registered
    }

    /// Whether the server registered the client on this connection.
    pub fn has_session(&self) -> bool {
        self.session_since.is_some()
    }

    /// Why the server did not register the client at the last attempt to connect, if it said so.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// How a run ends that can't register within its timeout.
    pub fn not_registered_within(&self, timeout: Duration) -> Failure {
        match self.refusal.clone() {
            Some(refusal) => {
                Failure::NotLetIn { refusal, timeout, was_registered: self.registered }
            }
            None => Failure::NoConnection { server: self.server(), timeout },
        }
    }

    /// Sends what is due and returns what happens next.
    pub async fn next(&mut self) -> Update {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Reads one frame. An error means that the server speaks another protocol.
    pub fn receive<'a>(&mut self, frame: &'a str) -> Result<Event<'a>, Failure> {
        self.last_error = None;
        let event = self.conversation.receive(frame, now());
        match &event {
            Event::Registered(_) => {
                self.registered = true;
                self.refusal = None;
                self.session_since = Some(Instant::now());
            }
            Event::Error(error) => {
                let refusal =
                    Refusal { code: error.code.to_string(), text: excerpt(&error.message) };
                self.last_error = Some((refusal, error.retry_after_ms.map(Duration::from_millis)));
            }
            Event::Unreadable if !self.registered => {
                return Err(Failure::OtherProtocol { server: self.dialer.server() });
            }
            _ => {}
        }
        match self.conversation.stalled_room() {
            Some(room) => Err(Failure::NoProgress { room: room.to_owned() }),
            None => Ok(event),
        }
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
                        self.conversation.set_invitation_token(self.dialer.invitation_token());
                        let register = self.conversation.register();
                        self.state = State::Open(Box::new(Connection::new(connection, register)));
                    }
                    Err(error) => {
                        self.refusal = None;
                        self.pause(error.retry_after());
                        return Poll::Ready(match reconnects_after(error.end(), self.registered) {
                            true => Update::Retrying(error),
                            false => Update::Failed(error.into()),
                        });
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
                    let requested = self.requested_pause.take();
                    self.pause(requested);
                }
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.state = dial(&self.dialer);
                }
            }
        }
    }

    fn pause(&mut self, requested: Option<Duration>) {
        let pause = match requested {
            None => self.backoff.pause(random()),
            Some(requested) => {
                self.backoff.pause_of_at_least(requested.min(MAX_REQUESTED_PAUSE), random())
            }
        };
        self.state = State::Pausing(Box::pin(tokio::time::sleep(pause)));
    }

    fn end_connection(&mut self, how: Ended) -> Update {
        let update = self.classify(how);
        if self.session_since.take().is_some_and(|since| since.elapsed() >= STABLE_SESSION) {
            self.backoff.reset();
        }
        self.conversation.disconnected();
        let closing = State::Closing(Box::pin(std::future::ready(())));
        if let State::Open(connection) = std::mem::replace(&mut self.state, closing) {
            self.state = State::Closing(Box::pin(connection.close()));
        }
        update
    }

    /// Whether the driver reconnects, or the run ends.
    fn classify(&mut self, how: Ended) -> Update {
        let end = match &how {
            Ended::Lost => ConnectionEnd::Lost,
            Ended::Closed(code, _) => ConnectionEnd::Closed(*code),
            Ended::TooLarge(_) => ConnectionEnd::TooLarge,
            Ended::Invalid(_) => ConnectionEnd::NotChatServer,
        };
        if reconnects_after(end, self.registered) {
            return self.disconnected(&how);
        }
        Update::Failed(match how {
            Ended::Closed(close_code, reason) => {
                // The error frame right before the close says more than the close.
                let (code, reason) = match self.last_error.take() {
                    Some((Refusal { code, text }, _)) => (code, text),
                    None => (close_code.to_string(), excerpt(&reason)),
                };
                Failure::Closed { close_code, code, reason }
            }
            Ended::TooLarge(reason) => Failure::TooLarge(reason),
            Ended::Invalid(reason) => Failure::NotWebSocket { server: self.server(), reason },
            Ended::Lost => return self.disconnected(&how),
        })
    }

    /// The end of a connection after which the driver connects again.
    fn disconnected(&mut self, how: &Ended) -> Update {
        self.refusal = None;
        if self.session_since.is_none() {
            let said = self.last_error.take();
            self.requested_pause = said.as_ref().and_then(|(_, pause)| *pause);
            self.refusal = match (said, how) {
                (Some((refusal, _)), _) => Some(refusal),
                (None, Ended::Closed(NO_CLOSE_CODE, _)) => None,
                (None, Ended::Closed(code, reason)) => {
                    let text = match reason.as_str() {
                        "" => "it gave no reason".to_owned(),
                        reason => excerpt(reason),
                    };
                    Some(Refusal { code: code.to_string(), text })
                }
                (None, _) => None,
            };
        }
        Update::Disconnected(self.refusal.clone())
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
