//! One session: the first frame decides whether it begins; then everything its client says is
//! metered, read, checked and handed on.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use super::upgrade::ClientInfo;
use crate::conversation::server::registration::{Dialect, ROOMS_PER_SESSION};
use crate::conversation::server::request::{self, Request};
use crate::net::admission::ConnectionPermit;
use crate::net::server_connection::{Received, ServerConnection};
use crate::policy::rate::Meter;
use crate::policy::rights::{Action, Decision};
use crate::protocol::frame::{ErrorFrame, ServerFrame};
use crate::protocol::{ErrorCode, MessageId, RoomName, Timestamp};
use crate::server::context::{ActiveConfig, Context};
use crate::server::rooms::hub::{Command, Membership, RoomEntry};
use crate::server::rooms::membership::not_in_room;
use crate::server::rooms::peer::Peer;
use crate::store::Draft;

/// How long the hub may take for an answer before the session is given up.
pub(super) const HUB_ANSWER: Duration = Duration::from_secs(10);

/// Who is on a connection before anything was said.
pub struct NewConnection {
    /// Its place; gone with the session.
    pub permit: ConnectionPermit,
    /// Whose limits it counts under, and whether keys may leave.
    pub client_info: ClientInfo,
}

/// What its client has said and may say.
pub(super) struct Session {
    pub(super) registered: Registered,
    pub(super) rooms: Vec<Membership>,
    pub(super) messages: Meter,
    pub(super) frames: Meter,
    pub(super) bytes: Meter,
    pub(super) counted: u64,
}

/// Being registered ends when this is dropped, whatever the way out.
pub(super) struct Registered {
    pub(super) context: Arc<Context>,
    pub(super) peer: Arc<Peer>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = self.context.hub.send(Command::Quit(self.peer.clone()));
    }
}

impl Session {
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.registered.peer
    }

    pub(super) fn context(&self) -> &Context {
        &self.registered.context
    }

    pub(super) async fn talk(&mut self, link: &mut ServerConnection) -> &'static str {
        let peer = self.peer().clone();
        loop {
            let frame = match link.next(|| peer.may_speak()).await {
                Received::Ended(reason) => return reason,
                Received::Frame(frame) => frame,
            };
            crate::sys::fault_points::point("session");
            let live = self.context().live.load_full();
            self.meter(link, &live, &frame);
            match frame {
                Message::Text(text) => self.hear(link, &live, &text).await,
                Message::Binary(_) => {
                    self.object(ErrorFrame::new(
                        ErrorCode::BinaryFrame,
                        "only text frames are spoken here",
                    ));
                }
                _ => {}
            }
        }
    }

    /// Counts and bytes of frames of every kind, before anything is decrypted: who sends more than
    /// the limits is read more slowly.
    fn meter(&mut self, link: &mut ServerConnection, live: &ActiveConfig, frame: &Message) {
        let now = self.context().started.elapsed();
        let came = link.received_bytes() - self.counted;
        self.counted += came;
        let (meter, quota) = match self.peer().dialect {
            Dialect::Full => (&mut self.messages, live.messages),
            Dialect::Basic => (&mut self.frames, live.frames),
        };
        let counts = u64::from(!matches!(frame, Message::Pong(_)));
        let over = [meter.spend(quota, counts, now), self.bytes.spend(live.bytes, came, now)];
        if let Some(pause) = over.into_iter().flatten().max() {
            link.pause(pause);
        }
    }

    async fn hear(&mut self, link: &mut ServerConnection, live: &ActiveConfig, text: &str) {
        let heard = match request::read(self.peer().dialect, text) {
            Ok(heard) => heard,
            Err(objection) => return self.object(*objection),
        };
        if let Err(objection) = self.rule(&heard) {
            return self.object(*objection);
        }
        match heard {
            Request::Message { room, id, token } => {
                if let Some(draft) = self.check(live, room, id, &token)
                    && let Err(draft) = self.context().log_writer.try_submit(draft, self.peer())
                {
                    let peer = self.peer().clone();
                    let log_writer = self.context().log_writer.clone();
                    Box::pin(link.flush_during(log_writer.submit(draft, peer))).await;
                }
            }
            Request::Join(room, resume) => Box::pin(self.join(link, room, resume)).await,
            Request::Leave(room) => {
                self.rooms.retain(|membership| membership.room != room);
                let _ = self.context().hub.send(Command::Leave(self.peer().clone(), room));
            }
            Request::Who(room) => {
                let _ = self.context().hub.send(Command::Who(self.peer().clone(), room));
            }
            Request::History(room, window, limit) => {
                Box::pin(self.history(link, &room, window, limit)).await;
            }
        }
    }

    /// Asks the table of rights.
    fn rule(&self, heard: &Request<'_>) -> Result<(), Box<ErrorFrame>> {
        let (verb, room) = wanted(heard);
        let Some(room) = room.or_else(|| self.rooms.first().map(|first| &first.room)) else {
            return Err(Box::new(ErrorFrame::new(
                ErrorCode::NotInRoom,
                "you are in no room; join one",
            )));
        };
        let inside = self.rooms.iter().any(|membership| membership.room == *room);
        let objection = match self.peer().decide(verb, room, inside) {
            Decision::Allowed => return Ok(()),
            Decision::Forbidden => forbidden(room),
            Decision::NotInRoom => not_in_room(room),
        };
        let id = match heard {
            Request::Message { id, .. } => id.as_ref().map(|id| id.as_str().to_owned()),
            _ => None,
        };
        Err(Box::new(ErrorFrame { id, ..objection }))
    }

    /// Everything that can be said against a message, in the order of what it costs.
    fn check(
        &mut self,
        live: &ActiveConfig,
        room: Option<RoomName>,
        id: Option<MessageId>,
        token: &str,
    ) -> Option<Draft> {
        let about = id.as_ref().map(|id| id.as_str().to_owned());
        match self.draft(live, room, id, token) {
            Ok(draft) => Some(draft),
            Err(mut objection) => {
                objection.id = about;
                self.object(*objection);
                None
            }
        }
    }

    fn draft(
        &mut self,
        live: &ActiveConfig,
        room: Option<RoomName>,
        id: Option<MessageId>,
        token: &str,
    ) -> Result<Draft, Box<ErrorFrame>> {
        if self.peer().dialect == Dialect::Basic {
            let now = self.context().started.elapsed();
            self.messages.take(live.messages, 1, now).map_err(too_fast)?;
        }
        let membership = match &room {
            None => self.rooms.first(),
            Some(room) => self.rooms.iter().find(|membership| membership.room == *room),
        };
        let Some(membership) = membership else {
            return Err(Box::new(ErrorFrame::new(
                ErrorCode::NotInRoom,
                "you are in no room; join one",
            )));
        };
        let wall = Timestamp::from_system(SystemTime::now());
        let plain = membership
            .ring
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .decrypt(token, Instant::now(), wall)
            .map_err(|why| request::sealed(why, wall))?;
        let text = request::validate_text(plain, live.config.limits.message_chars)?;
        Ok(Draft {
            room: membership.room.clone(),
            user: self.peer().user.clone(),
            verified: self.peer().verified(),
            id,
            text,
        })
    }

    async fn join(
        &mut self,
        link: &mut ServerConnection,
        room: RoomName,
        resume: Option<crate::protocol::frame::Position>,
    ) {
        let resume = resume.filter(|_| self.peer().may(Action::ReadHistory, &room));
        let known = self.rooms.iter().any(|membership| membership.room == room);
        if !known && self.rooms.len() >= ROOMS_PER_SESSION {
            return self.object(ErrorFrame {
                room: Some(room.to_string()),
                ..ErrorFrame::new(
                    ErrorCode::TooManyRooms,
                    format!("a session may be in {ROOMS_PER_SESSION} rooms at most; leave one"),
                )
            });
        }
        let entering = RoomEntry { room: room.clone(), catching_up: resume.is_some() };
        let (answer, answered) = oneshot::channel();
        let _ = self.context().hub.send(Command::Join(self.peer().clone(), entering, answer));
        match link.flush_during(tokio::time::timeout(HUB_ANSWER, answered)).await {
            Ok(Ok(Some(membership))) => {
                self.rooms.retain(|known| known.room != room);
                self.rooms.push(membership);
                if let Some(position) = resume {
                    self.catch_up(link, &room, position).await;
                }
            }
            _ => self.object(ErrorFrame {
                room: Some(room.to_string()),
                ..ErrorFrame::new(
                    ErrorCode::StorageFailed,
                    "the room log can't be read at the moment",
                )
            }),
        }
    }

    pub(super) fn membership(&self, room: &RoomName) -> Option<&Membership> {
        let found = self.rooms.iter().find(|membership| membership.room == *room);
        if found.is_none() {
            self.object(not_in_room(room));
        }
        found
    }

    pub(super) fn object(&self, objection: ErrorFrame) {
        tracing::debug!(event = "refused", session = %self.peer().session, user = %self.peer().user,
            reason = objection.code, "a frame was refused");
        self.peer().send(&ServerFrame::Error(objection));
    }

    pub(super) fn say_opened(&self) {
        let peer = self.peer();
        let dialect = match peer.dialect {
            Dialect::Basic => "basic",
            Dialect::Full => "full",
        };
        tracing::info!(event = "session_opened", session = %peer.session, user = %peer.user,
            peer = %peer.address, protocol = dialect, verified = peer.verified(), "registered");
    }

    pub(super) fn say_closed(&self, reason: &'static str) {
        let peer = self.peer();
        let seconds = peer.since.elapsed().as_secs();
        tracing::info!(event = "session_closed", session = %peer.session, user = %peer.user,
            reason, seconds, bytes = self.counted, "gone");
    }
}

/// The right that a wish needs, and where; without a room it is the first.
fn wanted<'a>(heard: &'a Request<'_>) -> (Action, Option<&'a RoomName>) {
    match heard {
        Request::Message { room, .. } => (Action::Send, room.as_ref()),
        Request::Leave(room) => (Action::Leave, Some(room)),
        Request::Join(room, _) => (Action::Join, Some(room)),
        Request::Who(room) => (Action::ListMembers, Some(room)),
        Request::History(room, ..) => (Action::ReadHistory, Some(room)),
    }
}

fn forbidden(room: &RoomName) -> ErrorFrame {
    ErrorFrame {
        room: Some(room.to_string()),
        ..ErrorFrame::new(
            ErrorCode::Forbidden,
            "your access token does not give that right in this room",
        )
    }
}

fn too_fast(wait: Duration) -> Box<ErrorFrame> {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    Box::new(ErrorFrame {
        retry_after_ms: Some(wait),
        ..ErrorFrame::new(
            ErrorCode::RateLimited,
            format!("too many messages; this one was not delivered, send it again in {wait} ms"),
        )
    })
}
