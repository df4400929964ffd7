//! A peer: one registered session, as the hub and the log writer see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::encoding;
use crate::conversation::server::registration::Dialect;
use crate::crypto::key_ring::KeyRing;
use crate::net::send_queue::{CloseReason, FrameForm, SendQueue};
use crate::policy::access::Grant;
use crate::policy::bans::MutedRooms;
use crate::policy::client_network::ClientNetwork;
use crate::policy::rights::{Action, Decision, Role, RoomRelation, decide};
use crate::protocol::device::DeviceId;
use crate::protocol::frame::{ErrorFrame, ServerFrame};
use crate::protocol::{CloseCode, Epoch, RoomName, Seq, SessionId, Timestamp, UserName};
use crate::server::activity::Tally;
use crate::server::client_info::ClientInfo;
use crate::store::{Entry, Gap, Redaction};

/// Messages of one session that may be in flight to the room log. At this number the server stops
/// reading the session's socket.
const MAX_MESSAGES_IN_FLIGHT: u32 = 256;

/// A registered session.
pub struct Peer {
    /// The session's id.
    pub session: SessionId,
    /// The user's name.
    pub user: UserName,
    /// The grant of the access token; `None` in open mode, where everything is allowed.
    pub grant: Option<Arc<Grant>>,
    /// The protocol the client uses.
    pub dialect: Dialect,
    /// Whether the client wants its own messages back.
    pub echo: bool,
    /// Whether the client wants joins, leaves and user lists.
    pub presence: bool,
    /// The device of a client that can take part in end-to-end rooms.
    pub device: Option<DeviceId>,
    /// How many key packages of the device the server had when the session registered.
    pub key_packages: u64,
    /// The client's address.
    pub client: ClientInfo,
    /// When the session registered.
    pub since: Instant,
    /// The session's send queue.
    pub outbound: Arc<SendQueue>,
    /// What the session does.
    pub tally: Arc<Tally>,
    /// The session's messages that were stored.
    pub sent: AtomicU64,
    /// The messages that were put into its send queue, live or replayed. The hub adds those of a room
    /// when it counts, or when the session leaves the room.
    pub received: AtomicU64,
    /// The rooms in which the user is muted; set by the hub.
    muted: ArcSwapOption<MutedRooms>,
    in_flight: AtomicU32,
    /// How often a message of the session was not stored, or perhaps not.
    failed_appends: AtomicU32,
    reading_stopped: AtomicBool,
    /// Where the outcome of the message goes, if the sender is a request without a session.
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
}

/// The outcome of a message that was sent without a session.
#[derive(Debug)]
pub enum Answer {
    /// It is in the room log.
    Stored {
        /// Its number.
        seq: Seq,
        /// When it was stored.
        at: Timestamp,
        /// Whether it was stored before, under the same id.
        duplicate: bool,
    },
    /// It is not stored.
    Refused(Box<ErrorFrame>),
}

impl Peer {
    /// A session that has just registered.
    pub fn new(
        session: SessionId,
        user: UserName,
        grant: Option<Arc<Grant>>,
        dialect: Dialect,
        options: DeliveryOptions,
        client: ClientInfo,
        outbound: Arc<SendQueue>,
    ) -> Self {
        Peer {
            tally: Tally::of_session(user.clone(), ClientNetwork::of(client.address)),
            session,
            user,
            grant,
            dialect,
            echo: options.echo,
            presence: options.presence,
            device: options.device,
            key_packages: options.key_packages,
            client,
            since: Instant::now(),
            outbound,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            muted: ArcSwapOption::empty(),
            in_flight: AtomicU32::new(0),
            failed_appends: AtomicU32::new(0),
            reading_stopped: AtomicBool::new(false),
            answer: Mutex::default(),
        }
    }

    /// The sender of one message that has no session. Nothing is sent to it but the answer.
    pub fn for_request(
        session: SessionId,
        user: UserName,
        grant: Option<Arc<Grant>>,
        client: ClientInfo,
        answer: oneshot::Sender<Answer>,
    ) -> Self {
        let outbound = Arc::new(SendQueue::new(None, 0, Arc::default()));
        let options =
            DeliveryOptions { echo: false, presence: false, device: None, key_packages: 0 };
        let mut peer = Peer::new(session, user, grant, Dialect::Full, options, client, outbound);
        peer.answer = Mutex::new(Some(answer));
        peer
    }

    /// Where the outcome of the message goes; `None` if the sender is a session.
    pub fn take_answer(&self) -> Option<oneshot::Sender<Answer>> {
        self.answer.lock().take()
    }

    /// Whether an access token proved the name.
    pub fn verified(&self) -> bool {
        self.grant.is_some()
    }

    /// Whether the session may do `action` in a room it is in.
    pub fn may(&self, action: Action, room: &RoomName) -> bool {
        self.decide(action, room, true) == Decision::Allowed
    }

    /// Decides whether the session may do `action`; `joined`: whether it is in that room. Every
    /// check of rights on the server ends here.
    pub fn decide(&self, action: Action, room: &RoomName, joined: bool) -> Decision {
        match &self.grant {
            Some(grant) => grant.decide(action, room, joined),
            None => decide(
                Role::Admin,
                action,
                if joined { RoomRelation::Joined } else { RoomRelation::NotJoined },
            ),
        }
    }

    /// Whether the session is sent this entry of a room it is in. In an end-to-end room, who may not receive
    /// messages gets the commits, without which it could not send, and its own messages.
    pub fn gets(&self, entry: &Entry) -> bool {
        self.may(Action::Receive, &entry.room)
            || (self.is_write_only(&entry.room) && (entry.is_commit() || entry.user == self.user))
    }

    /// Whether the session is sent the commits of a room that it is in and its user's own messages alone. The client is
    /// told, because it would take the other entries for withheld ones.
    pub fn is_write_only(&self, room: &RoomName) -> bool {
        room.is_end_to_end() && self.may(Action::Follow, room) && !self.may(Action::Receive, room)
    }

    /// Whether the session may enter a room. It is not told of others, not even that its device was added there.
    pub fn may_enter(&self, room: &RoomName) -> bool {
        self.decide(Action::Join, room, false) == Decision::Allowed
    }

    /// Sets the rooms in which the user is muted.
    pub fn set_muted(&self, rooms: Option<MutedRooms>) {
        self.muted.store(rooms.map(Arc::new));
    }

    /// The rooms in which the user is muted.
    pub fn muted(&self) -> Option<Arc<MutedRooms>> {
        self.muted.load_full()
    }

    /// Whether the user's messages in this room are refused.
    pub fn is_muted(&self, room: &RoomName) -> bool {
        self.muted.load().as_ref().is_some_and(|rooms| rooms.contains(room))
    }

    /// Ends the session at once: its send queue is discarded, and only a partly written frame and
    /// the close frame are still written. `cause` is the reason in the server log.
    pub fn evict(&self, close: CloseCode, cause: &'static str, reason: &str) {
        self.stop_reading();
        self.outbound.evict(CloseReason { close, cause }, reason);
    }

    /// Puts a frame into the send queue; a flush must follow.
    pub fn push(&self, frame: &ServerFrame) {
        self.outbound.push(self.encode(frame));
    }

    /// Puts a frame into the send queue and flushes it.
    pub fn send(&self, frame: &ServerFrame) {
        self.outbound.send(&self.encode(frame));
    }

    /// Puts a stored message into the send queue of a peer that resumes; a flush must follow. `ring` must
    /// stay locked, so that no newer key precedes the message.
    pub fn push_replayed(&self, entry: &Entry, epoch: &Epoch, ring: &KeyRing) {
        self.push_encoded(|out| encoding::put_message(out, self.dialect, entry, epoch, ring, true));
    }

    /// Puts `redacted` into the send queue; a flush must follow.
    pub fn push_redacted(&self, room: &RoomName, redaction: Redaction) {
        self.push_encoded(|out| encoding::put_redacted(out, self.dialect, room, redaction));
    }

    /// Puts `gap` into the send queue; a flush must follow.
    pub fn push_gap(&self, room: &RoomName, gap: Gap, epoch: &Epoch) {
        self.push_encoded(|out| encoding::put_gap(out, self.dialect, room, gap, epoch));
    }

    fn encode(&self, frame: &ServerFrame) -> Bytes {
        let mut out = BytesMut::new();
        encoding::put_frame(&mut out, self.dialect, frame);
        out.freeze()
    }

    fn push_encoded(&self, put: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        put(&mut out);
        self.outbound.push(out.freeze());
    }

    /// The form of the frames that the peer gets.
    pub fn form(&self) -> FrameForm {
        encoding::form(self.dialect)
    }

    /// A message of the session was not stored, or perhaps not. What the session sent before it was told must not be
    /// stored either, or it would come before that message.
    pub fn note_failed_append(&self) {
        self.failed_appends.fetch_add(1, Ordering::AcqRel);
    }

    /// How often a message of the session was not stored, or perhaps not.
    pub fn failed_appends(&self) -> u32 {
        self.failed_appends.load(Ordering::Acquire)
    }

    /// Counts one more message in flight to the room log.
    pub fn increment_in_flight(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts one message fewer: it was stored or refused. Reading continues if it had stopped at
    /// [`MAX_MESSAGES_IN_FLIGHT`].
    pub fn decrement_in_flight(&self) {
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == MAX_MESSAGES_IN_FLIGHT {
            self.outbound.wake();
        }
    }

    /// Messages in flight to the room log.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Stops reading from the client for good.
    pub fn stop_reading(&self) {
        self.reading_stopped.store(true, Ordering::Release);
        self.outbound.wake();
    }

    /// Whether nothing more is read from the client.
    pub fn has_stopped_reading(&self) -> bool {
        self.reading_stopped.load(Ordering::Acquire)
    }

    /// Whether the connection may read the client's next frame now.
    pub fn may_read(&self) -> bool {
        self.in_flight() < MAX_MESSAGES_IN_FLIGHT && !self.has_stopped_reading()
    }

    /// Closes the session because the server stops. Everything in the send queue is written first.
    pub fn close_for_shutdown(&self, close: CloseCode) {
        let reason = match close {
            CloseCode::Restarting => "the server is restarting; reconnect in a moment",
            _ => "the server is shutting down",
        };
        self.outbound.close(CloseReason { close, cause: "server_stopping" }, reason);
    }

    /// Whether `other` is the same session.
    pub fn is(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other)
    }
}

/// The frames that a client asks for besides the messages of others.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryOptions {
    /// Its own messages.
    pub echo: bool,
    /// Joins, leaves and user lists.
    pub presence: bool,
    /// The device of a client that can take part in end-to-end rooms.
    pub device: Option<DeviceId>,
    /// How many key packages of it the server has.
    pub key_packages: u64,
}
