//! The lines of the server log about refusals and gaps. It also counts refusals.
//!
//! A client can cause them as often as it likes. So only the first few of the same kind, per
//! client network (for messages and gaps: and user) and minute, get a line of their own; the others are
//! counted, and one line with the count follows when the minute is over or the server stops.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::activity::Tally;
use super::counters::Counters;
use crate::policy::access::Grant;
use crate::policy::client_network::ClientNetwork;
use crate::policy::ip_network::IpNetwork;
use crate::policy::log_limit::LogLimit;
use crate::protocol::{ErrorCode, RoomName, SessionId, UserName};
use crate::store::Gap;

/// Logs refusals, and counts them by error code.
pub struct RefusalLog {
    limit: Mutex<LogLimit<Refusal>>,
    /// How often banned clients were told that they are.
    explained: Mutex<LogLimit<ClientNetwork>>,
    counters: Arc<Counters>,
    started: Instant,
}

/// A message that was refused.
pub struct RefusedMessage<'a> {
    /// The session that sent it.
    pub session: &'a SessionId,
    /// Its client's address.
    pub peer: IpAddr,
    /// Its user.
    pub user: &'a UserName,
    /// What the session does.
    pub tally: &'a Arc<Tally>,
    /// The grant of its access token; `None` in open mode.
    pub grant: Option<&'a Grant>,
    /// The room, if the session is in one.
    pub room: Option<&'a RoomName>,
    /// The sender's id for the message.
    pub id: Option<&'a str>,
    /// The error code.
    pub code: &'a str,
}

/// A `gap` frame that a session was sent.
pub struct SentGap<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// Its client's address.
    pub peer: IpAddr,
    /// Its user.
    pub user: &'a UserName,
    /// The room whose messages are missing.
    pub room: &'a RoomName,
    /// The messages that are missing, and why.
    pub gap: &'a Gap,
}

/// The refusals that share a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Refusal {
    Register { network: ClientNetwork, code: &'static str },
    Request { network: ClientNetwork, code: &'static str },
    Origin { network: ClientNetwork },
    Message { network: ClientNetwork, user: UserName, code: String },
    Gap { network: ClientNetwork, user: UserName, room: RoomName, reason: &'static str },
    Banned { network: IpNetwork },
}

impl RefusalLog {
    /// Logs nothing yet, and counts with `counters`.
    pub fn new(counters: Arc<Counters>) -> Self {
        RefusalLog {
            limit: Mutex::default(),
            explained: Mutex::default(),
            counters,
            started: Instant::now(),
        }
    }

    /// A connection was not allowed to register.
    pub fn register_refused(&self, session: &SessionId, peer: IpAddr, code: ErrorCode) {
        // Only the throttle of wrong access tokens limits the rate of registrations.
        if matches!(code, ErrorCode::Unauthorized | ErrorCode::RateLimited) {
            self.counters.auth_failures.increment();
        }
        let code = code.as_str();
        self.counters.refusals.increment(code);
        self.counters.activity.connection_refused(ClientNetwork::of(peer));
        if self.admit(Refusal::Register { network: ClientNetwork::of(peer), code }) {
            tracing::info!(event = "register_refused", session = %session, peer = %peer, reason = code,
                "a connection did not register");
        }
    }

    /// A request without a WebSocket was refused.
    pub fn request_refused(&self, session: &SessionId, peer: IpAddr, code: ErrorCode) {
        if code == ErrorCode::Unauthorized {
            self.counters.auth_failures.increment();
        }
        let code = code.as_str();
        self.counters.refusals.increment(code);
        self.counters.activity.connection_refused(ClientNetwork::of(peer));
        if self.admit(Refusal::Request { network: ClientNetwork::of(peer), code }) {
            tracing::info!(event = "request_refused", session = %session, peer = %peer, reason = code,
                "an HTTP request was refused");
        }
    }

    /// A web page's `Origin` is not allowed.
    pub fn origin_refused(&self, session: &SessionId, peer: IpAddr, origin: &str) {
        self.counters.connection_refused("origin", ClientNetwork::of(peer));
        if self.admit(Refusal::Origin { network: ClientNetwork::of(peer) }) {
            tracing::info!(event = "origin_refused", session = %session, peer = %peer, origin,
                "the origin of a web page is not allowed; allowed origins are listed in listen.origins");
        }
    }

    /// A client in a banned network connected. The lines of all clients in that network share a limit.
    pub fn address_refused(&self, session: &SessionId, peer: IpAddr, banned: IpNetwork) {
        self.counters.connection_refused("banned", ClientNetwork::of(peer));
        if self.admit(Refusal::Banned { network: banned }) {
            tracing::info!(event = "address_refused", session = %session, peer = %peer, banned = banned.short(),
                "a client in a banned network was refused");
        }
    }

    /// Whether a banned client may still learn in this minute that it is banned, for the price of a TLS
    /// handshake and a request: the first few times per client network.
    pub fn may_explain_ban(&self, peer: IpAddr) -> bool {
        self.explained.lock().admit(ClientNetwork::of(peer), self.started.elapsed())
    }

    /// A session's message was refused.
    pub fn message_refused(&self, message: &RefusedMessage<'_>) {
        let RefusedMessage { session, peer, user, tally, grant, room, id, code } = *message;
        self.counters.refusals.increment(code);
        tally.refused(&self.counters.activity);
        if let Some(room) = room {
            self.counters.activity.refused_in_room(room);
        }
        let refusal = Refusal::Message {
            network: ClientNetwork::of(peer),
            user: user.clone(),
            code: code.to_owned(),
        };
        if self.admit(refusal) {
            let token = grant.map(|grant| grant.id.as_str());
            let room = room.map(RoomName::as_str);
            tracing::info!(event = "message_refused", session = %session, user = %user, peer = %peer,
                room, id, code, token, "a message was refused");
        }
    }

    /// A session's frame other than a message was refused.
    pub fn frame_refused(
        &self,
        session: &SessionId,
        user: &UserName,
        tally: &Arc<Tally>,
        code: &str,
    ) {
        self.counters.refusals.increment(code);
        tally.refused(&self.counters.activity);
        tracing::debug!(event = "refused", session = %session, user = %user, reason = code,
            "a frame was refused");
    }

    /// A session was sent a `gap`. A client can ask for the same one again and again.
    pub fn gap_sent(&self, sent: &SentGap<'_>) {
        let SentGap { session, peer, user, room, gap } = *sent;
        let reason = gap.reason.word();
        let network = ClientNetwork::of(peer);
        if self.admit(Refusal::Gap { network, user: user.clone(), room: room.clone(), reason }) {
            tracing::info!(event = "gap", session = %session, user = %user, peer = %peer, room = %room,
                after = gap.after.0, next = gap.next.0, reason,
                "messages are missing; the client was sent a gap");
        }
    }

    /// Logs how many refusals got no line, for the minutes that are over. To be called every second
    /// or so.
    pub fn report_left_out(&self) {
        let now = self.started.elapsed();
        drop(self.explained.lock().take_left_out(now));
        let left_out = self.limit.lock().take_left_out(now);
        Self::log_left_out(left_out);
    }

    /// Logs the counts of the minutes that are not over, too. To be called when the server stops.
    pub fn report_all_left_out(&self) {
        let left_out = self.limit.lock().take_all_left_out();
        Self::log_left_out(left_out);
    }

    fn log_left_out(left_out: Vec<(Option<Refusal>, u64)>) {
        for (refusal, count) in left_out {
            match refusal {
                Some(Refusal::Register { network, code }) => {
                    tracing::info!(event = "register_refused", peer = %network, reason = code, count,
                        "more connections from this network did not register");
                }
                Some(Refusal::Request { network, code }) => {
                    tracing::info!(event = "request_refused", peer = %network, reason = code, count,
                        "more HTTP requests from this network were refused");
                }
                Some(Refusal::Origin { network }) => {
                    tracing::info!(event = "origin_refused", peer = %network, count,
                        "more requests of web pages from this network were refused");
                }
                Some(Refusal::Banned { network }) => {
                    tracing::info!(
                        event = "address_refused",
                        banned = network.short(),
                        count,
                        "more clients in this banned network were refused"
                    );
                }
                Some(Refusal::Message { network, user, code }) => {
                    tracing::info!(event = "message_refused", user = %user, peer = %network, code, count,
                        "more messages of this user from this network were refused");
                }
                Some(Refusal::Gap { network, user, room, reason }) => {
                    tracing::info!(event = "gap", user = %user, peer = %network, room = %room, reason,
                        count, "more gaps were sent to this user in this network");
                }
                None => {
                    tracing::warn!(
                        event = "refusals_not_logged",
                        count,
                        "there were too many kinds of refusals to log each"
                    );
                }
            }
        }
    }

    fn admit(&self, refusal: Refusal) -> bool {
        self.limit.lock().admit(refusal, self.started.elapsed())
    }
}
