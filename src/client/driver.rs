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
use super::standstill::Standstill;
use crate::client::end_to_end::EndToEnd;
use crate::client::failure::{Attempt, Failure, Refusal};
use crate::client::now::now;
use crate::client::random::random;
use crate::conversation::client::conversation::Conversation;
use crate::conversation::client::event::{Event, PageItem, excerpt};
use crate::conversation::client::sealed_frame::{EndToEndFrame, is_answer_about_group};
use crate::net::client_connection::ClientConnection;
use crate::net::dial::{DialError, Dialer};
use crate::policy::backoff::Backoff;
use crate::policy::reconnect::{ConnectionEnd, NO_CLOSE_CODE, reconnects_after};
use crate::protocol::CloseCode;

/// Bounds of the pause before the next attempt to connect.
const MIN_RECONNECT_PAUSE: Duration = Duration::from_millis(250);
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(20);
/// The longest pause that a server can ask for.
const MAX_REQUESTED_PAUSE: Duration = Duration::from_secs(60);
/// How long a session must have lasted before the pauses start anew. A server that accepts each
/// session and closes it at once is not asked ever faster.
const STABLE_SESSION: Duration = Duration::from_secs(5);
/// Items of each end-to-end room that are shown at once.
const MAX_ITEMS: u32 = 512;

/// A conversation and the connection it runs on.
pub struct Driver {
    dialer: Arc<Dialer>,
    conversation: Conversation,
    /// The device and its end-to-end rooms, if the run has any.
    end_to_end: Option<Box<EndToEnd>>,
    state: State,
    backoff: Backoff,
    /// Whether the server accepted a `register` at least once.
    registered: bool,
    /// Since when the session of this connection lasts.
    session_since: Option<Instant>,
    /// The last frame, if it was an `error`, and when the server wants to be asked again.
    last_error: Option<(Refusal, Option<Duration>)>,
    /// How the last attempt to connect ended, if it led to no session.
    attempt: Attempt,
    /// The pause that the server asked for at the last attempt.
    requested_pause: Option<Duration>,
    /// Whether this process stood still between the start of the attempt and the session.
    standstill: Standstill,
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
    /// There may be something to show of an end-to-end room; it comes from [`Driver::items`].
    EndToEnd,
    /// An attempt to connect led to no session; the driver tries again.
    Retrying(Attempt),
    /// A session ended; the driver connects again.
    Disconnected,
    /// The driver can't go on.
    Failed(Failure),
}

impl Driver {
    /// Needs a tokio runtime from the first call of [`Self::next`] on.
    pub fn new(
        dialer: Dialer,
        mut conversation: Conversation,
        end_to_end: Option<EndToEnd>,
    ) -> Self {
        let dialer = Arc::new(dialer);
        if let Some(end_to_end) = &end_to_end {
            conversation.set_device(end_to_end.device_id(), end_to_end.direct_users());
        }
        Driver {
            state: dial(&dialer),
            dialer,
            conversation,
            end_to_end: end_to_end.map(Box::new),
            backoff: Backoff::new(MIN_RECONNECT_PAUSE, MAX_RECONNECT_PAUSE),
            registered: false,
            session_since: None,
            last_error: None,
            attempt: Attempt::Unfinished,
            requested_pause: None,
            standstill: Standstill::default(),
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

    /// The device and its end-to-end rooms.
    pub fn end_to_end(&self) -> Option<&EndToEnd> {
        self.end_to_end.as_deref()
    }

    /// The same, to be changed.
    pub fn end_to_end_mut(&mut self) -> Option<&mut EndToEnd> {
        self.end_to_end.as_deref_mut()
    }

    /// What is to be shown of end-to-end rooms, after [`Update::EndToEnd`], in parts: until it is empty.
    pub fn items(&mut self) -> Result<Vec<PageItem<'static>>, Failure> {
        let Some(end_to_end) = &mut self.end_to_end else { return Ok(Vec::new()) };
        Ok(end_to_end.items(&mut self.conversation, MAX_ITEMS)?)
    }

    /// Lines for standard error about end-to-end rooms.
    pub fn take_notes(&mut self) -> Vec<String> {
        self.end_to_end.as_mut().map(|end_to_end| end_to_end.take_notes()).unwrap_or_default()
    }

    /// Whether no backfill is in progress, and everything was shown that end-to-end rooms had at first.
    pub fn is_caught_up(&self) -> bool {
        let is_shown = self.end_to_end.as_ref().is_none_or(|end_to_end| end_to_end.is_caught_up());
        self.conversation.is_caught_up() && is_shown
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

    /// How a run ends that has no session within its timeout.
    pub fn no_session_within(&self, timeout: Duration) -> Failure {
        self.no_session(timeout, None)
    }

    /// How a run ends at once, because the server asks for a pause that is longer than the time that the
    /// run has left.
    pub fn asks_for_more_than(&self, left: Option<Duration>, timeout: Duration) -> Option<Failure> {
        let asked = self.requested_pause?;
        let is_late = asked.min(MAX_REQUESTED_PAUSE) > left?;
        is_late.then(|| self.no_session(timeout, Some(asked)))
    }

    fn no_session(&self, timeout: Duration, asked_pause: Option<Duration>) -> Failure {
        Failure::NoSession {
            server: self.server(),
            timeout,
            attempt: Box::new(self.attempt.clone()),
            asked_pause,
            was_registered: self.registered,
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
            Event::Registered(welcome) => {
                self.registered = true;
                self.session_since = Some(Instant::now());
                if let Some(end_to_end) = &mut self.end_to_end {
                    end_to_end.registered(welcome.as_deref(), &mut self.conversation);
                }
            }
            Event::Error(error) => {
                let refusal =
                    Refusal { code: error.code.to_string(), text: excerpt(&error.message) };
                self.last_error = Some((refusal, error.retry_after_ms.map(Duration::from_millis)));
                if let Some(end_to_end) = &mut self.end_to_end {
                    let frame = EndToEndFrame::Error(error.clone());
                    end_to_end.receive(frame, &mut self.conversation);
                    if is_answer_about_group(error) {
                        return Ok(Event::Nothing);
                    }
                }
            }
            Event::Unreadable if !self.registered => {
                let reason = "its answer to register is none of the chat".to_owned();
                return Err(Failure::OtherProtocol { server: self.dialer.server(), reason });
            }
            Event::Violation(reason) => {
                let reason = reason.clone();
                return Err(Failure::OtherProtocol { server: self.dialer.server(), reason });
            }
            _ => {}
        }
        let event = match (event, &mut self.end_to_end) {
            (Event::EndToEnd(frame), Some(end_to_end)) => {
                end_to_end.receive(frame, &mut self.conversation);
                Event::Nothing
            }
            (event, _) => event,
        };
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
            if self.session_since.is_none() {
                self.standstill.poll(cx);
            }
            match &mut self.state {
                State::Dialing(attempt) => match ready!(attempt.as_mut().poll(cx)) {
                    Ok(connection) => {
                        self.last_error = None;
                        self.requested_pause = None;
                        // The end of an earlier attempt says more than silence that has just begun.
                        if !self.attempt.has_answer() && !matches!(self.attempt, Attempt::Dropped) {
                            self.attempt = Attempt::Unanswered;
                        }
                        self.conversation.set_invitation_token(self.dialer.invitation_token());
                        if let Some(end_to_end) = &mut self.end_to_end {
                            end_to_end.connecting(&mut self.conversation);
                        }
                        let register = self.conversation.register();
                        self.state = State::Open(Box::new(Connection::new(connection, register)));
                    }
                    Err(error) => {
                        self.requested_pause = error.retry_after();
                        self.pause();
                        if !reconnects_after(error.end(), self.registered) {
                            return Poll::Ready(Update::Failed(error.into()));
                        }
                        self.attempt = Attempt::Failed(error);
                        return Poll::Ready(Update::Retrying(self.attempt.clone()));
                    }
                },
                State::Open(connection) => {
                    let end_to_end = self.end_to_end.as_deref_mut();
                    let step = ready!(connection.poll_step(cx, &mut self.conversation, end_to_end));
                    return Poll::Ready(match step {
                        Step::Frame(text) => Update::Frame(text),
                        Step::EndToEnd => Update::EndToEnd,
                        Step::Ended(how) => self.end_connection(how),
                    });
                }
                State::Closing(handshake) => {
                    ready!(handshake.as_mut().poll(cx));
                    self.pause();
                }
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.standstill = Standstill::default();
                    self.state = dial(&self.dialer);
                }
            }
        }
    }

    fn pause(&mut self) {
        let pause = match self.requested_pause {
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
            Ended::Lost | Ended::Unanswered => ConnectionEnd::Lost,
            // The server waited for a client that was stopped.
            Ended::Closed(code, _) if self.was_stopped_before(*code) => ConnectionEnd::Lost,
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
            Ended::Lost | Ended::Unanswered => return self.disconnected(&how),
        })
    }

    fn was_stopped_before(&self, close_code: u16) -> bool {
        let is_late = close_code == CloseCode::RegisterTimeout.as_u16();
        is_late && self.session_since.is_none() && self.standstill.was_seen()
    }

    /// The end of a connection after which the driver connects again.
    fn disconnected(&mut self, how: &Ended) -> Update {
        if self.session_since.is_some() {
            self.attempt = Attempt::AfterSession;
            return Update::Disconnected;
        }
        let said = self.last_error.take();
        self.requested_pause = said.as_ref().and_then(|(_, pause)| *pause);
        self.attempt = match (said, how) {
            (Some((refusal, _)), _) => Attempt::Refused(refusal),
            (None, Ended::Closed(NO_CLOSE_CODE, _)) => Attempt::Dropped,
            (None, Ended::Closed(code, reason)) => {
                let text = match reason.as_str() {
                    "" => "it gave no reason".to_owned(),
                    reason => excerpt(reason),
                };
                Attempt::Refused(Refusal { code: code.to_string(), text })
            }
            (None, Ended::Unanswered) => Attempt::Unanswered,
            (None, _) => Attempt::Dropped,
        };
        Update::Retrying(self.attempt.clone())
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
