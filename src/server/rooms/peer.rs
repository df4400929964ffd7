//! One registered session, as everybody else sees it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;

use crate::conversation::server::registration::Dialect;
use crate::net::framing;
use crate::net::send_queue::{CloseReason, SendQueue};
use crate::policy::access::Grant;
use crate::policy::rights::{Action, Decision, Role, RoomRelation, decide};
use crate::protocol::frame::ServerFrame;
use crate::protocol::{CloseCode, RoomName, SessionId, UserName};

/// Messages of one session that may be on their way to the log; then its socket is not read.
pub const MESSAGES_IN_FLIGHT: u32 = 256;

/// A registered session.
pub struct Peer {
    /// Its name in logs.
    pub session: SessionId,
    /// What the user is called.
    pub user: UserName,
    /// What its access token gives it; `None` in open mode, where everybody may everything.
    pub grant: Option<Arc<Grant>>,
    /// What it speaks.
    pub dialect: Dialect,
    /// Whether it wants its own messages back.
    pub echo: bool,
    /// Whether it wants to know who comes and goes.
    pub presence: bool,
    /// Where it comes from.
    pub address: IpAddr,
    /// Since when.
    pub since: Instant,
    /// What waits for it.
    pub outbound: Arc<SendQueue>,
    in_flight: AtomicU32,
    draining: AtomicBool,
}

impl Peer {
    /// A session that has just registered.
    pub fn new(
        session: SessionId,
        user: UserName,
        grant: Option<Arc<Grant>>,
        dialect: Dialect,
        wants: DeliveryOptions,
        address: IpAddr,
        outbound: Arc<SendQueue>,
    ) -> Self {
        Peer {
            session,
            user,
            grant,
            dialect,
            echo: wants.echo,
            presence: wants.presence,
            address,
            since: Instant::now(),
            outbound,
            in_flight: AtomicU32::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// Whether an access token proved the name.
    pub fn verified(&self) -> bool {
        self.grant.is_some()
    }

    /// Whether it may do that in a room it is in.
    pub fn may(&self, verb: Action, room: &RoomName) -> bool {
        self.decide(verb, room, true) == Decision::Allowed
    }

    /// What becomes of its wish; `inside`: it is in that room. The one place where rights are asked for.
    pub fn decide(&self, verb: Action, room: &RoomName, inside: bool) -> Decision {
        match &self.grant {
            Some(grant) => grant.decide(verb, room, inside),
            None => decide(
                Role::Admin,
                verb,
                if inside { RoomRelation::Joined } else { RoomRelation::NotJoined },
            ),
        }
    }

    /// Puts it out at once: nothing that waits for it goes out any more.
    pub fn put_out(&self, close: CloseCode, cause: &'static str, reason: &str) {
        self.drain();
        self.outbound.evict(CloseReason { close, cause }, reason);
    }

    /// Puts a frame in its queue; a flush must follow.
    pub fn push(&self, frame: &ServerFrame) {
        self.outbound.push(encoded(frame));
    }

    /// Sends a frame now.
    pub fn send(&self, frame: &ServerFrame) {
        self.outbound.send(&encoded(frame));
    }

    /// One more of its messages is on its way to the log.
    pub fn set_out(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    /// One of its messages has arrived, or been refused.
    pub fn arrived(&self) {
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == MESSAGES_IN_FLIGHT {
            self.outbound.wake();
        }
    }

    /// Its messages that are on their way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Nothing more is read from it: the server is leaving.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.outbound.wake();
    }

    /// Whether more may be read from it now.
    pub fn may_speak(&self) -> bool {
        self.in_flight() < MESSAGES_IN_FLIGHT && !self.draining.load(Ordering::Acquire)
    }

    /// Says goodbye because the server leaves.
    pub fn dismiss(&self, close: CloseCode) {
        let reason = match close {
            CloseCode::Restarting => "the server is restarting; come back",
            _ => "the server is leaving",
        };
        self.outbound.close(CloseReason { close, cause: "server_stopping" }, reason);
    }

    /// Whether `other` is the same session.
    pub fn is(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other)
    }
}

/// What a session wants to hear.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryOptions {
    /// Its own messages.
    pub echo: bool,
    /// Who comes and goes.
    pub presence: bool,
}

/// A frame as WebSocket bytes.
pub fn encoded(frame: &ServerFrame) -> Bytes {
    framing::text(&frame.to_json())
}
