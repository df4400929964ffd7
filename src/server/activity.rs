//! Counts what each session and each room does, for `ctl top` and the lists of rooms and sessions.
//!
//! The hot path only adds to the atomic counters of a [`Tally`], which belongs to one session or one
//! room. A tally that has something new is queued once, and the admin thread collects the queued ones
//! every second into [`RecentActivity`], which is bounded whatever strangers send. Before an answer to
//! an operator they are collected too, so the answer lacks nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::policy::client_network::ClientNetwork;
use crate::policy::heavy_hitters::Counts;
use crate::policy::recent_activity::{Busiest, RecentActivity};
use crate::protocol::{RoomName, UserName};

/// From this many queued tallies on, the thread that queues the next one collects them.
const MAX_QUEUED: usize = 1024;

/// The activity of all users, rooms and client networks.
#[derive(Debug)]
pub struct Activity {
    queued: Mutex<Vec<Arc<Tally>>>,
    recent: Mutex<RecentActivity>,
    started: Instant,
}

/// The counters of one session or one room, since it began.
#[derive(Debug)]
pub struct Tally {
    subject: Subject,
    /// Messages that were accepted.
    messages: AtomicU64,
    /// Frames that were received.
    frames: AtomicU64,
    /// Bytes that were received; for a room, bytes of text.
    bytes: AtomicU64,
    /// Message frames that were put into send queues of the room's members.
    deliveries: AtomicU64,
    /// Messages and other frames that were refused.
    refused: AtomicU64,
    /// Whether it is queued to be collected.
    is_queued: AtomicBool,
    /// What was collected already.
    collected: Mutex<Counts>,
}

/// What a tally counts.
#[derive(Debug)]
enum Subject {
    Session(UserName, ClientNetwork),
    Room(RoomName),
}

impl Default for Activity {
    fn default() -> Self {
        let (queued, recent) = (Mutex::default(), Mutex::default());
        Activity { queued, recent, started: Instant::now() }
    }
}

impl Activity {
    /// A client network opened a connection.
    pub fn connection(&self, network: ClientNetwork) {
        self.record_network(network, &Counts { connections: 1, ..Counts::default() });
    }

    /// A connection from a client network was refused, or not allowed to register.
    pub fn connection_refused(&self, network: ClientNetwork) {
        self.record_network(network, &Counts { connections_refused: 1, ..Counts::default() });
    }

    /// A message to a room was refused.
    pub fn refused_in_room(&self, room: &RoomName) {
        let counts = Counts { refused: 1, ..Counts::default() };
        self.recent.lock().record_room(room, &counts, self.started.elapsed());
    }

    fn record_network(&self, network: ClientNetwork, counts: &Counts) {
        self.recent.lock().record_network(network, counts, self.started.elapsed());
    }

    /// Collects what the tallies counted since they were last collected. To be called every second
    /// or so.
    pub fn collect(&self) {
        let queued = std::mem::take(&mut *self.queued.lock());
        self.collect_from(&queued);
    }

    /// The busiest of at least the last `span`.
    pub fn busiest(&self, span: Duration) -> Busiest {
        self.collect();
        self.recent.lock().busiest(span, self.started.elapsed())
    }

    fn collect_from(&self, tallies: &[Arc<Tally>]) {
        let now = self.started.elapsed();
        for tally in tallies {
            let counts = tally.take_new();
            let mut recent = self.recent.lock();
            match &tally.subject {
                Subject::Session(user, network) => {
                    recent.record_session(user, *network, &counts, now);
                }
                Subject::Room(room) => recent.record_room(room, &counts, now),
            }
        }
    }

    fn enqueue(&self, tally: &Arc<Tally>) {
        let mut queued = self.queued.lock();
        queued.push(tally.clone());
        if queued.len() >= MAX_QUEUED {
            let full = std::mem::take(&mut *queued);
            drop(queued);
            self.collect_from(&full);
        }
    }
}

impl Tally {
    /// The tally of a session.
    pub fn of_session(user: UserName, network: ClientNetwork) -> Arc<Self> {
        Self::new(Subject::Session(user, network))
    }

    /// The tally of a room.
    pub fn of_room(room: RoomName) -> Arc<Self> {
        Self::new(Subject::Room(room))
    }

    fn new(subject: Subject) -> Arc<Self> {
        Arc::new(Tally {
            subject,
            messages: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            deliveries: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            is_queued: AtomicBool::new(false),
            collected: Mutex::default(),
        })
    }

    /// Counts frames that the session sent, and their bytes.
    pub fn received(self: &Arc<Self>, frames: u64, bytes: u64, activity: &Activity) {
        self.frames.fetch_add(frames, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.enqueue(activity);
    }

    /// Counts an accepted message. Its frame was counted before.
    pub fn accepted(self: &Arc<Self>, activity: &Activity) {
        self.messages.fetch_add(1, Ordering::SeqCst);
        self.enqueue(activity);
    }

    /// Counts a message that the room got, and the bytes of its text.
    pub fn appended(self: &Arc<Self>, bytes: u64, activity: &Activity) {
        self.messages.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.enqueue(activity);
    }

    /// Counts message frames that were put into send queues of the room's members.
    pub fn delivered(self: &Arc<Self>, deliveries: u64, activity: &Activity) {
        self.deliveries.fetch_add(deliveries, Ordering::SeqCst);
        self.enqueue(activity);
    }

    /// Counts a refused message or frame.
    pub fn refused(self: &Arc<Self>, activity: &Activity) {
        self.refused.fetch_add(1, Ordering::SeqCst);
        self.enqueue(activity);
    }

    fn enqueue(self: &Arc<Self>, activity: &Activity) {
        if !self.is_queued.load(Ordering::SeqCst) && !self.is_queued.swap(true, Ordering::SeqCst) {
            activity.enqueue(self);
        }
    }

    /// Everything counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            messages: self.messages.load(Ordering::SeqCst),
            frames: self.frames.load(Ordering::SeqCst),
            bytes: self.bytes.load(Ordering::SeqCst),
            deliveries: self.deliveries.load(Ordering::SeqCst),
            refused: self.refused.load(Ordering::SeqCst),
            ..Counts::default()
        }
    }

    /// What was counted since the last call.
    fn take_new(&self) -> Counts {
        // Cleared first: what is counted from here on queues the tally again.
        self.is_queued.store(false, Ordering::SeqCst);
        let mut collected = self.collected.lock();
        let counts = self.counts();
        let new = counts.since(&collected);
        *collected = counts;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: ClientNetwork = ClientNetwork::V4([192, 0, 2, 1]);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn everything_counted_is_found_once() {
        let activity = Activity::default();
        let ana = Tally::of_session(UserName::clean("ana"), NETWORK);
        let room = Tally::of_room(RoomName::lobby());
        for _ in 0..3 {
            ana.received(1, 100, &activity);
            ana.accepted(&activity);
            room.appended(40, &activity);
            room.delivered(7, &activity);
            // An answer between two frames does not change the sum.
            activity.busiest(MINUTE);
        }
        ana.refused(&activity);
        activity.refused_in_room(&RoomName::lobby());
        activity.connection(NETWORK);
        activity.connection_refused(NETWORK);
        let busiest = activity.busiest(MINUTE);
        let session =
            Counts { messages: 3, frames: 3, bytes: 300, refused: 1, ..Counts::default() };
        assert_eq!(busiest.users, [(UserName::clean("ana"), session)]);
        let network = Counts { connections: 1, connections_refused: 1, ..session };
        assert_eq!(busiest.networks, [(NETWORK, network)]);
        let in_room =
            Counts { messages: 3, bytes: 120, deliveries: 21, refused: 1, ..Counts::default() };
        assert_eq!(busiest.rooms, [(RoomName::lobby(), in_room)]);
        assert_eq!(ana.counts(), session);
    }

    #[test]
    fn sessions_that_come_and_go_are_counted_and_not_kept() {
        let activity = Activity::default();
        for number in 0..10 * MAX_QUEUED {
            let tally = Tally::of_session(UserName::clean(&format!("u{}", number % 50)), NETWORK);
            tally.received(1, 0, &activity);
            assert!(activity.queued.lock().len() < MAX_QUEUED);
        }
        let busiest = activity.busiest(MINUTE);
        assert_eq!(busiest.networks[0].1.frames, 10 * MAX_QUEUED as u64);
        assert_eq!(busiest.users.len(), 50);
        assert!(activity.queued.lock().is_empty());
    }

    #[test]
    fn threads_lose_no_count() {
        let activity = Activity::default();
        let tally = Tally::of_session(UserName::clean("ana"), NETWORK);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..20_000).for_each(|_| tally.received(1, 2, &activity)));
            }
            (0..100).for_each(|_| activity.collect());
        });
        let counts = activity.busiest(MINUTE).users[0].1;
        assert_eq!((counts.frames, counts.bytes), (40_000, 80_000));
    }
}
