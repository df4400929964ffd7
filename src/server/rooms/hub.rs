//! The hub: the one thread that owns all rooms. A thread and not a task, because serving a large room
//! takes long enough to keep other tasks of a worker waiting.
//!
//! It is told what sessions want ([`Command`]) and what the log_writer wrote ([`Committed`]), one thing
//! after the other, so a key changes between two messages and a member comes or goes between two
//! messages, without a lock. It never waits for a reader: what a socket does not take stays in that
//! reader's own bounded queue.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::log_writer::{Committed, LogWriterStats};
use super::operator::{RoomStatus, SessionStatus};
use super::peer::Peer;
use super::room::Room;
use crate::crypto::key_ring::KeyRing;
use crate::net::uring::UringSender;
use crate::policy::access::AccessList;
use crate::protocol::frame::Position;
use crate::protocol::{CloseCode, RoomName, Seq, SessionId, Timestamp, UserName};
use crate::store::RoomLogReader;

/// A room's keys, shared with the sessions that are in it. The hub holds the writing side while it
/// hands a new key to every member, so whoever seals under a key can be sure that it is known.
pub type SharedKeyRing = Arc<RwLock<KeyRing>>;

/// Messages after which no further batch is added to a delivery.
const DELIVERED_TOGETHER: usize = 1024;

/// Commands after which batches have their turn again.
const COMMANDS_TOGETHER: usize = 64;

/// Members from which on a batch waits for those after it, as long as they are on their way.
const MANY: usize = 64;
/// How long at most.
const WAIT_FOR_MORE: Duration = Duration::from_millis(2);

/// What the hub goes by; a reload replaces it whole.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// How often a room's key is replaced; `None` is never.
    pub rotate_every: Option<Duration>,
    /// How long the key before is accepted.
    pub grace: Duration,
    /// Above this many members, joins and leaves are not announced.
    pub presence_members: usize,
    /// The bound of a member's queue, in bytes.
    pub outbound_bytes: usize,
    /// What a full client is told at its start.
    pub limits: crate::protocol::frame::Limits,
    /// Whether an `ack` outlives a power cut.
    pub durable: bool,
}

/// A room somebody enters.
pub struct RoomEntry {
    /// The room.
    pub room: RoomName,
    /// Whether the session first reads what it missed; until [`Command::Attach`] it gets nothing live.
    pub catching_up: bool,
}

/// A room somebody is in.
pub struct Membership {
    /// The room.
    pub room: RoomName,
    /// Its keys.
    pub ring: SharedKeyRing,
    /// Where it stands.
    pub at: Position,
}

/// Whether a reader that caught up is live now.
#[derive(Debug, PartialEq, Eq)]
pub enum Attached {
    /// Everything after what it has comes by itself.
    Live,
    /// There is more to read first.
    Behind,
}

/// What a session or an operator wants of the hub.
pub enum Command {
    /// A session has registered and enters its first rooms; `None` where the log can't be read.
    Enter(Arc<Peer>, Vec<RoomEntry>, oneshot::Sender<Option<Vec<Membership>>>),
    /// A session enters one more room.
    Join(Arc<Peer>, RoomEntry, oneshot::Sender<Option<Membership>>),
    /// A session has read everything up to there.
    Attach(Arc<Peer>, RoomName, Seq, oneshot::Sender<Attached>),
    /// A session leaves a room.
    Leave(Arc<Peer>, RoomName),
    /// A session is gone.
    Quit(Arc<Peer>),
    /// Who is in a room?
    Who(Arc<Peer>, RoomName),
    /// Replace every key now.
    Rotate(&'static str),
    /// Go by this from now on.
    Reconfigure(HubConfig),
    /// How do things stand?
    Status(oneshot::Sender<HubStatus>),
    /// End the sessions whose grant this list does not stand for; how many those were.
    Access(Arc<AccessList>, oneshot::Sender<usize>),
    /// End the sessions of a user, or of one that looks the same; how many those were.
    Kick(UserName, oneshot::Sender<usize>),
    /// Which rooms are there?
    Rooms(oneshot::Sender<Vec<RoomStatus>>),
    /// Who is there?
    Sessions(oneshot::Sender<Vec<SessionStatus>>),
    /// Say goodbye to everybody, as soon as their last messages are answered.
    Drain(CloseCode),
}

/// How things stand, for a status line.
#[derive(Clone, Debug, Default)]
pub struct HubStatus {
    /// Rooms with somebody in them.
    pub rooms: usize,
    /// Sessions registered.
    pub sessions: usize,
    /// Messages delivered to the log since the start.
    pub messages: u64,
    /// Frames handed to readers since the start.
    pub deliveries: u64,
    /// Key rotations since the start.
    pub rotations: u64,
}

/// The way to the hub. It has no bound of its own: a session has at most one command under way,
/// because it waits for the answer, and one `Quit`.
pub type Commands = mpsc::UnboundedSender<Command>;

/// A session, and the rooms it is in.
pub(super) struct SessionRooms {
    pub(super) peer: Arc<Peer>,
    pub(super) rooms: Vec<RoomName>,
}

/// All rooms.
pub struct Hub {
    pub(super) rooms: HashMap<RoomName, Room>,
    /// Sessions that are gone but whose last messages are still on their way.
    pub(super) leaving: Vec<Arc<Peer>>,
    pub(super) sessions: HashMap<SessionId, SessionRooms>,
    pub(super) reader: Arc<dyn RoomLogReader>,
    pub(super) policy: HubConfig,
    pub(super) standing: HubStatus,
    pub(super) next_rotation: Option<Instant>,
    /// Who has access, and when that was last held against the sessions.
    pub(super) access: Arc<AccessList>,
    pub(super) upheld: Timestamp,
    /// Rooms that somebody left for good: what is said there next is under a new key.
    pub(super) owed: BTreeSet<RoomName>,
    /// Rooms with comings and goings that are not written yet, and when they have to be.
    pub(super) gathered: BTreeSet<RoomName>,
    pub(super) announce_at: Option<Instant>,
    pub(super) draining: Option<CloseCode>,
    /// For writing to many at once, where the system has that.
    pub(super) ring: Option<UringSender>,
}

impl Hub {
    /// No rooms yet.
    pub fn new(policy: HubConfig, reader: Arc<dyn RoomLogReader>, access: Arc<AccessList>) -> Self {
        Hub {
            rooms: HashMap::new(),
            leaving: Vec::new(),
            sessions: HashMap::new(),
            reader,
            policy,
            standing: HubStatus::default(),
            next_rotation: None,
            access,
            upheld: wall(),
            owed: BTreeSet::new(),
            gathered: BTreeSet::new(),
            announce_at: None,
            draining: None,
            ring: UringSender::new(),
        }
    }

    /// Serves until the log_writer has ended.
    pub async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut committed: mpsc::Receiver<Vec<Committed>>,
        log_writer: Arc<LogWriterStats>,
    ) {
        loop {
            let rotation = sleep_until(self.next_rotation);
            let announcing = sleep_until(self.announce_at);
            tokio::select! {
                biased;
                () = rotation => self.guarded(Hub::rotate_what_is_due),
                () = announcing => self.guarded(Hub::write_what_was_gathered),
                // The log_writer ends last, when everything is raw.
                batch = committed.recv() => match batch {
                    Some(mut batch) => {
                        // What was committed meanwhile goes out in the same writes; and in a large
                        // room, where those cost more than a commit, so does what is on its way.
                        take_more(&mut batch, &mut committed);
                        let until = tokio::time::Instant::now() + WAIT_FOR_MORE;
                        while self.is_for_many(&batch)
                            && log_writer.more_to_come()
                            && let Ok(Some(more)) = timeout_at(until, committed.recv()).await
                        {
                            batch.extend(more);
                            take_more(&mut batch, &mut committed);
                        }
                        self.guarded(|hub| hub.deliver(batch));
                        // Or nobody would come, go or be put out while there is always a next batch.
                        self.obey_some(None, &mut commands);
                    }
                    None => return,
                },
                Some(command) = commands.recv() => self.obey_some(Some(command), &mut commands),
            }
        }
    }

    /// Joins and leaves come in crowds; what they write goes out by itself.
    fn obey_some(
        &mut self,
        first: Option<Command>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) {
        let next = || commands.try_recv().ok();
        for command in first.into_iter().chain(std::iter::from_fn(next)).take(COMMANDS_TOGETHER) {
            self.guarded(|hub| hub.obey(command));
        }
        self.guarded(Hub::rotate_what_is_owed);
    }

    fn is_for_many(&self, batch: &[Committed]) -> bool {
        let room = batch.last().and_then(|newest| self.rooms.get(&newest.room));
        batch.len() < DELIVERED_TOGETHER && room.is_some_and(|room| room.members.len() >= MANY)
    }

    /// A panic costs the command it happened in, not the rooms.
    fn guarded(&mut self, deed: impl FnOnce(&mut Hub)) {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            deed(self);
            crate::sys::fault_points::point("hub");
        }));
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Enter(peer, rooms, answer) => self.enter(&peer, rooms, answer),
            Command::Join(peer, room, answer) => self.join(&peer, room, answer),
            Command::Attach(peer, room, after, answer) => {
                let _ = answer.send(self.attach(&peer, &room, after));
            }
            Command::Leave(peer, room) => self.leave(&peer, &room),
            Command::Quit(peer) => self.quit(peer),
            Command::Who(peer, room) => self.who(&peer, &room),
            Command::Rotate(cause) => self.rotate_all(cause),
            Command::Reconfigure(policy) => self.reconfigure(policy),
            Command::Drain(close) => self.drain(close),
            Command::Access(list, answer) => {
                let _ = answer.send(self.uphold(&list));
            }
            Command::Kick(user, answer) => {
                let _ = answer.send(self.kick(&user));
            }
            Command::Rooms(answer) => {
                let _ = answer.send(self.room_standings());
            }
            Command::Sessions(answer) => {
                let _ = answer.send(self.session_standings());
            }
            Command::Status(answer) => {
                let _ = answer.send(HubStatus {
                    rooms: self.rooms.len(),
                    sessions: self.sessions.len(),
                    ..self.standing.clone()
                });
            }
        }
    }

    fn reconfigure(&mut self, policy: HubConfig) {
        if policy.outbound_bytes != self.policy.outbound_bytes {
            for SessionRooms { peer, .. } in self.sessions.values() {
                peer.outbound.set_max_bytes(policy.outbound_bytes);
            }
        }
        self.policy = policy;
        self.plan_rotation();
    }

    fn drain(&mut self, close: CloseCode) {
        self.draining = Some(close);
        for SessionRooms { peer, .. } in self.sessions.values() {
            peer.drain();
            if peer.in_flight() == 0 {
                peer.dismiss(close);
            }
        }
    }

    fn rotate_all(&mut self, cause: &'static str) {
        let now = Instant::now();
        for (name, room) in &mut self.rooms {
            room.rotate(name, now, self.policy.grace);
        }
        self.standing.rotations += 1;
        tracing::info!(
            event = "keys_rotated",
            cause,
            rooms = self.rooms.len() as u64,
            "every room has a new key"
        );
        self.plan_rotation();
    }

    fn rotate_what_is_due(&mut self) {
        let now = Instant::now();
        let Some(every) = self.policy.rotate_every else { return self.plan_rotation() };
        let mut count = 0u64;
        for (name, room) in &mut self.rooms {
            if now.saturating_duration_since(room.key_made()) >= every {
                room.rotate(name, now, self.policy.grace);
                count += 1;
            }
        }
        if count > 0 {
            self.standing.rotations += 1;
            tracing::info!(
                event = "keys_rotated",
                cause = "age",
                rooms = count,
                "keys have reached their age"
            );
        }
        self.plan_rotation();
    }

    fn write_what_was_gathered(&mut self) {
        let now = Instant::now();
        self.announce_at = None;
        for name in std::mem::take(&mut self.gathered) {
            if let Some(room) = self.rooms.get_mut(&name) {
                room.write_announced(&name, now);
            }
        }
    }

    /// Who left a room gets no later key: what is said after it left is under another.
    fn rotate_what_is_owed(&mut self) {
        let now = Instant::now();
        for name in std::mem::take(&mut self.owed) {
            if let Some(room) = self.rooms.get_mut(&name) {
                room.rotate(&name, now, self.policy.grace);
                self.standing.rotations += 1;
                tracing::debug!(event = "room_key_replaced", room = %name, "a member left the room");
            }
        }
    }

    pub(super) fn plan_rotation(&mut self) {
        self.next_rotation = self.policy.rotate_every.and_then(|every| {
            let oldest = self.rooms.values().map(Room::key_made).min()?;
            // Rooms whose keys are nearly of one age rotate together.
            Some((oldest + every).max(Instant::now() + Duration::from_millis(10)))
        });
    }
}

fn take_more(batch: &mut Vec<Committed>, committed: &mut mpsc::Receiver<Vec<Committed>>) {
    while batch.len() < DELIVERED_TOGETHER {
        let Ok(more) = committed.try_recv() else { break };
        batch.extend(more);
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

pub(super) fn wall() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}
