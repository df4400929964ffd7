//! One registered session: it reads the client's frames, checks them, and acts on them.
//!
//! For each frame, in this order: count it against the rate limits, parse it, check the rights, then
//! act. A chat message is decrypted, validated and submitted to the log writer (`submit`). `join`,
//! `leave` and `who` become commands for the hub. `history` is read here, from the room log
//! (`resume`). The first frame is not handled here but in `register`.
//!
//! Deliberately absent: acks and delivery. The log writer answers the sender and the hub delivers to
//! the members; both put frames straight into send queues, and this task only writes what the socket
//! did not take. Nothing here waits for a slow reader except the replay of the room log.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::Message;

use super::enter;
use crate::conversation::server::e2e_request::E2eFrame;
use crate::conversation::server::registration::{Dialect, JoinRequest, ROOMS_PER_SESSION};
use crate::conversation::server::request::{self, Request};
use crate::net::server_connection::{Received, ServerConnection};
use crate::policy::rate::Meter;
use crate::policy::rights::{Action, Decision, reading};
use crate::protocol::frame::{ErrorFrame, ServerFrame};
use crate::protocol::{ErrorCode, RoomName};
use crate::server::context::{ActiveConfig, Context};
use crate::server::refusal_log::RefusedMessage;
use crate::server::rooms::command::{Command, Membership, RoomEntry};
use crate::server::rooms::membership::not_in_room;
use crate::server::rooms::peer::Peer;
use crate::sys::fault_points;

/// A registered session.
pub(super) struct Session {
    registered: Registered,
    /// The rooms the session is in; frames without a room go to the first.
    pub(super) rooms: Vec<Membership>,
    pub(super) message_meter: Meter,
    frame_meter: Meter,
    byte_meter: Meter,
    /// Bytes received that are counted against the limits already.
    bytes_counted: u64,
    /// Bytes of `history` answers that are not counted against the limits yet.
    pub(super) answer_bytes: u64,
}

/// A session's registration with the hub. Dropping it removes the session from the hub.
pub(super) struct Registered {
    /// The server's shared state.
    pub(super) context: Arc<Context>,
    /// The session as the hub sees it.
    pub(super) peer: Arc<Peer>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = self.context.hub.send(Command::Quit(self.peer.clone()));
    }
}

impl Session {
    /// A session in its first rooms. `bytes_received`: what the connection has received so far.
    pub(super) fn new(registered: Registered, rooms: Vec<Membership>, bytes_received: u64) -> Self {
        Session {
            registered,
            rooms,
            message_meter: Meter::default(),
            frame_meter: Meter::default(),
            byte_meter: Meter::default(),
            bytes_counted: bytes_received,
            answer_bytes: 0,
        }
    }

    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.registered.peer
    }

    pub(super) fn context(&self) -> &Context {
        &self.registered.context
    }

    /// Serves the client's frames until the connection ends. Returns the reason for the server log.
    pub(super) async fn run(&mut self, connection: &mut ServerConnection) -> &'static str {
        let peer = self.peer().clone();
        loop {
            let frame = match connection.next(|| peer.may_read()).await {
                Received::Ended(reason) => return reason,
                Received::Frame(frame) => frame,
            };
            fault_points::point("session");
            let active = self.context().active_config.load_full();
            connection.set_timeouts(active.timeouts);
            self.meter(connection, &active, &frame);
            match frame {
                Message::Text(text) => self.receive(connection, &active, &text).await,
                Message::Binary(_) => {
                    self.refuse(ErrorFrame::new(
                        ErrorCode::BinaryFrame,
                        "only text frames are accepted",
                    ));
                }
                _ => {}
            }
        }
    }

    /// Counts a frame of any kind and its bytes against the limits, before anything is decrypted.
    /// Above a limit, the server pauses reading from this client.
    fn meter(&mut self, connection: &mut ServerConnection, active: &ActiveConfig, frame: &Message) {
        let now = self.context().started.elapsed();
        let bytes = connection.received_bytes() - self.bytes_counted;
        self.bytes_counted += bytes;
        // Pongs are not counted as frames, because they answer the server's pings.
        let frames = u64::from(!matches!(frame, Message::Pong(_)));
        self.peer().tally.received(frames, bytes, &self.context().counters.activity);
        let (meter, quota) = match self.peer().dialect {
            Dialect::Basic => (&mut self.frame_meter, active.frames),
            _ => (&mut self.message_meter, active.messages),
        };
        let pauses =
            [meter.spend(quota, frames, now), self.byte_meter.spend(active.bytes, bytes, now)];
        if let Some(pause) = pauses.into_iter().flatten().max() {
            connection.pause(pause);
        }
    }

    /// Counts a `history` answer like bytes that the client sent. Above the limit, the server pauses
    /// reading from this client.
    fn meter_answer(&mut self, connection: &mut ServerConnection, active: &ActiveConfig) {
        let now = self.context().started.elapsed();
        let bytes = std::mem::take(&mut self.answer_bytes);
        if let Some(pause) = self.byte_meter.spend(active.bytes, bytes, now) {
            connection.pause(pause);
        }
    }

    /// Acts on one text frame.
    async fn receive(
        &mut self,
        connection: &mut ServerConnection,
        active: &ActiveConfig,
        text: &str,
    ) {
        let request = match request::read(self.peer().dialect, text) {
            Ok(request) => request,
            Err(mut error) => {
                if error.code == ErrorCode::BadId.as_str() && error.room.is_none() {
                    error.room = self.first_room().map(RoomName::to_string);
                }
                return self.refuse(*error);
            }
        };
        if let Err(error) = self.check_rights(&request) {
            return match &request {
                Request::Message { room, .. } => self.refuse_message(room.as_ref(), *error),
                _ => self.refuse(*error),
            };
        }
        match request {
            Request::Message { room, id, token, opaque } => {
                if let Some(draft) = self.prepare_draft(active, room, id, &token, opaque) {
                    self.peer().tally.accepted(&self.context().counters.activity);
                    let log_writer = self.context().log_writers.of(&draft.room);
                    if let Err(draft) = log_writer.try_submit(draft, self.peer()) {
                        let (peer, log_writer) = (self.peer().clone(), log_writer.clone());
                        Box::pin(connection.flush_during(log_writer.submit(draft, peer))).await;
                    }
                }
            }
            Request::EndToEnd(request) => {
                Box::pin(self.end_to_end(connection, *request)).await;
                self.meter_answer(connection, active);
            }
            Request::Join(request) => Box::pin(self.join(connection, *request)).await,
            Request::Leave(room) => {
                self.rooms.retain(|membership| membership.room != room);
                Box::pin(self.send_to_hub(connection, room, Command::Leave)).await;
            }
            Request::Who(room) => {
                Box::pin(self.send_to_hub(connection, room, Command::Who)).await;
            }
            Request::History(room, range, limit) => {
                Box::pin(self.history(&mut connection.writer(), &room, range, limit)).await;
                self.meter_answer(connection, active);
            }
        }
    }

    /// Sends the hub a request that has no answer; waits while too many are queued.
    async fn send_to_hub(
        &self,
        connection: &mut ServerConnection,
        room: RoomName,
        command: fn(Arc<Peer>, RoomName, OwnedSemaphorePermit) -> Command,
    ) {
        let command = |permit| command(self.peer().clone(), room, permit);
        connection.flush_during(self.context().hub.send_with_permit(command)).await;
    }

    /// Checks the right that a request needs in its room; without a room, that is the first.
    fn check_rights(&self, request: &Request<'_>) -> Result<(), Box<ErrorFrame>> {
        if let Request::EndToEnd(request) = request
            && request.room().is_none()
        {
            // About the device itself, whatever rooms it is in.
            return Ok(());
        }
        let (action, room) = required_right(request);
        let Some(room) = room.or_else(|| self.first_room()) else {
            return Err(Box::new(in_no_room()));
        };
        let joined = self.rooms.iter().any(|membership| membership.room == *room);
        let error = match self.peer().decide(action, room, joined) {
            Decision::Allowed if action == Action::Send && self.peer().is_muted(room) => {
                request::muted(room)
            }
            Decision::Allowed => return Ok(()),
            Decision::Forbidden => request::forbidden(room),
            Decision::NotInRoom => not_in_room(room),
        };
        let id = match request {
            Request::Message { id, .. } => id.as_ref().map(|id| id.as_str().to_owned()),
            _ => None,
        };
        Err(Box::new(ErrorFrame { id, ..error }))
    }

    async fn join(&mut self, connection: &mut ServerConnection, request: JoinRequest) {
        if !enter::may_enter(self.peer(), &request) {
            return self.refuse(request::not_direct(&request.room));
        }
        let JoinRequest { room, resume, .. } = request;
        let resume = resume.filter(|_| self.peer().may(reading(&room), &room));
        let already_joined = self.rooms.iter().any(|membership| membership.room == room);
        if !already_joined && self.rooms.len() >= ROOMS_PER_SESSION {
            return self.refuse(ErrorFrame {
                room: Some(room.to_string()),
                ..ErrorFrame::new(
                    ErrorCode::TooManyRooms,
                    format!(
                        "a session can be in at most {ROOMS_PER_SESSION} rooms; leave one first"
                    ),
                )
            });
        }
        let entry = RoomEntry { room: room.clone(), resuming: resume.is_some(), opening: None };
        let joined = enter::join(self.context(), self.peer(), entry);
        match connection.flush_during(joined).await {
            Ok(membership) => {
                self.rooms.retain(|membership| membership.room != room);
                self.rooms.push(membership);
                if let Some(position) = resume {
                    self.resume(&mut connection.writer(), &room, position).await;
                }
            }
            Err(error) => {
                self.refuse(ErrorFrame { room: Some(room.to_string()), ..error.frame() });
            }
        }
    }

    /// The session's membership of `room`; without one, the client is sent `not_in_room`.
    pub(super) fn membership(&self, room: &RoomName) -> Option<&Membership> {
        let found = self.rooms.iter().find(|membership| membership.room == *room);
        if found.is_none() {
            self.refuse(not_in_room(room));
        }
        found
    }

    /// The room of frames that name none.
    fn first_room(&self) -> Option<&RoomName> {
        self.rooms.first().map(|first| &first.room)
    }

    /// Answers a frame with an `error`.
    pub(super) fn refuse(&self, error: ErrorFrame) {
        let peer = self.peer();
        let refusals = &self.context().refusals;
        refusals.frame_refused(&peer.session, &peer.user, &peer.tally, &error.code);
        self.peer().send(&ServerFrame::Error(error));
    }

    /// Answers a message with an `error`. Without a room, the message was for the first.
    pub(super) fn refuse_message(&self, room: Option<&RoomName>, mut error: ErrorFrame) {
        let room = room.or_else(|| self.first_room());
        error.room = room.map(RoomName::to_string);
        let peer = self.peer();
        self.context().refusals.message_refused(&RefusedMessage {
            session: &peer.session,
            peer: peer.client.address,
            user: &peer.user,
            tally: &peer.tally,
            grant: peer.grant.as_deref(),
            room,
            id: error.id.as_deref(),
            code: &error.code,
        });
        peer.send(&ServerFrame::Error(error));
    }

    pub(super) fn log_opened(&self) {
        let peer = self.peer();
        self.context().counters.sessions_opened.of(peer.dialect).increment();
        tracing::info!(event = "session_opened", session = %peer.session, user = %peer.user,
            peer = %peer.client.address, protocol = peer.dialect.word(), verified = peer.verified(), "session registered");
    }

    pub(super) fn log_closed(&self, reason: &'static str) {
        let peer = self.peer();
        let seconds = peer.since.elapsed().as_secs();
        self.context().counters.sessions_closed.increment(reason);
        tracing::info!(event = "session_closed", session = %peer.session, user = %peer.user,
            reason, seconds, bytes = self.bytes_counted, "session closed");
    }
}

/// The right that a request needs, and the room if it names one.
fn required_right<'a>(request: &'a Request<'_>) -> (Action, Option<&'a RoomName>) {
    match request {
        Request::Message { room, opaque: Some(opaque), .. } if opaque.commit.is_some() => {
            (Action::Commit, room.as_ref())
        }
        Request::EndToEnd(request) => match &**request {
            E2eFrame::TakeKeys(room, _) | E2eFrame::Blob { room, .. } => {
                (Action::Commit, Some(room))
            }
            E2eFrame::GetBlob(room, _) | E2eFrame::GetInfo(room) => (Action::Follow, Some(room)),
            E2eFrame::PutKeys { .. } | E2eFrame::WelcomeDone(..) => (Action::Follow, None),
        },
        Request::Message { room, .. } => (Action::Send, room.as_ref()),
        Request::Leave(room) => (Action::Leave, Some(room)),
        Request::Join(request) => (Action::Join, Some(&request.room)),
        Request::Who(room) => (Action::ListMembers, Some(room)),
        Request::History(room, ..) => (reading(room), Some(room)),
    }
}

/// The `error` frame for a request without a room from a session that is in no room.
pub(super) fn in_no_room() -> ErrorFrame {
    ErrorFrame::new(ErrorCode::NotInRoom, "you are in no room; join one first")
}
