//! Counters, gauges and histograms of the server, for `/metrics` and `ctl status`.
//!
//! Each is updated where something happens and read without asking any part of the server, so a
//! question costs the same with ten sessions and with ten thousand, and is answered also while the hub
//! hangs. Updates are relaxed atomic operations; in the delivery of a message there is one per batch,
//! not one per member.
//!
//! Every set of words by which something is counted is closed: a client can't make it grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::activity::Activity;
use crate::conversation::server::registration::Dialect;
use crate::net::send_queue::SendQueueTotals;
use crate::policy::client_network::ClientNetwork;
use crate::protocol::{ErrorCode, Timestamp};
use crate::sys::clock::wall_clock;

/// The reasons of `session_closed` in the server log, as `docs/logging.md` lists them.
pub const CLOSE_REASONS: [&str; 20] = [
    "closed_by_peer",
    "connection_lost",
    "ping_timeout",
    "slow_reader",
    "stalled_reader",
    "delivery_failed",
    "frame_too_big",
    "bad_utf8",
    "bad_websocket",
    "too_many_fragments",
    "unfinished_message",
    "server_stopping",
    "history_failed",
    "kicked",
    "banned",
    "access_ended",
    "access_changed",
    "room_deleted",
    "history_replaced",
    "isolated",
];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one away.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter for each word of a closed set. What has none of the words is counted as `other`.
#[derive(Debug)]
pub struct CounterByWord {
    counters: Vec<(&'static str, Counter)>,
    other: Counter,
}

impl CounterByWord {
    fn new(words: impl IntoIterator<Item = &'static str>) -> Self {
        let counters = words.into_iter().map(|word| (word, Counter::default())).collect();
        CounterByWord { counters, other: Counter::default() }
    }

    /// Adds one to the counter of `word`.
    pub fn increment(&self, word: &str) {
        let counter = self.counters.iter().find(|(known, _)| *known == word);
        counter.map_or(&self.other, |(_, counter)| counter).increment();
    }

    /// Every word with its count; `other` only if something was counted as such.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let known = self.counters.iter().map(|(word, counter)| (*word, counter.get()));
        let other = Some(("other", self.other.get())).filter(|(_, count)| *count > 0);
        known.chain(other)
    }

    /// The sum of all counts.
    pub fn total(&self) -> u64 {
        self.counts().map(|(_, count)| count).sum()
    }
}

/// A number per protocol of the clients.
#[derive(Debug, Default)]
pub struct ByDialect<T> {
    /// For clients of the basic protocol.
    pub basic: T,
    /// For clients of the full protocol.
    pub full: T,
    /// For HTTP requests that follow a room.
    pub http: T,
}

impl<T> ByDialect<T> {
    /// The number for clients of this protocol.
    pub fn of(&self, dialect: Dialect) -> &T {
        match dialect {
            Dialect::Basic => &self.basic,
            Dialect::Full => &self.full,
            Dialect::Lines | Dialect::Events => &self.http,
        }
    }
}

/// The upper bounds of the buckets of a [`Histogram`].
const BOUNDS: [Duration; 16] = {
    let micros = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
        1_000_000, 2_500_000, 5_000_000, 10_000_000,
    ];
    let mut bounds = [Duration::ZERO; 16];
    let mut index = 0;
    while index < micros.len() {
        bounds[index] = Duration::from_micros(micros[index]);
        index += 1;
    }
    bounds
};

/// How many durations fell into each of a few buckets, and their sum.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One per bound, and one for what is longer than all of them.
    buckets: [Counter; BOUNDS.len() + 1],
    sum_nanos: Counter,
}

/// The content of a [`Histogram`] at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSnapshot {
    /// The upper bounds in seconds, each with the number of durations up to it.
    pub buckets: Vec<(f64, u64)>,
    /// The number of all durations.
    pub count: u64,
    /// The sum of all durations, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.observe_all([duration]);
    }

    /// Counts some durations, with one atomic operation per bucket that they fall into.
    pub fn observe_all(&self, durations: impl IntoIterator<Item = Duration>) {
        let mut counts = [0; BOUNDS.len() + 1];
        let mut sum = Duration::ZERO;
        for duration in durations {
            let bucket = BOUNDS.partition_point(|bound| *bound < duration);
            counts[bucket] += 1;
            sum = sum.saturating_add(duration);
        }
        for (bucket, count) in self.buckets.iter().zip(counts).filter(|(_, count)| *count > 0) {
            bucket.add(count);
        }
        self.sum_nanos.add(u64::try_from(sum.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The content now.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut count = 0;
        let mut up_to = |bucket: &Counter| {
            count += bucket.get();
            count
        };
        let bounds = BOUNDS.iter().map(Duration::as_secs_f64);
        let buckets = bounds.zip(self.buckets.iter().map(&mut up_to)).collect();
        let count = up_to(&self.buckets[BOUNDS.len()]);
        HistogramSnapshot { buckets, count, sum: self.sum_nanos.get() as f64 / 1e9 }
    }
}

/// A moment by the wall clock, or none yet.
#[derive(Debug, Default)]
pub struct Moment(Gauge);

impl Moment {
    /// Sets the moment.
    pub fn set(&self, moment: Timestamp) {
        self.0.set(u64::try_from(moment.micros()).unwrap_or(0));
    }

    /// The moment that was set last.
    pub fn get(&self) -> Option<Timestamp> {
        let micros = i64::try_from(self.0.get()).ok().filter(|micros| *micros > 0)?;
        Some(Timestamp::from_micros(micros))
    }
}

/// What the parts of the server count since its start.
#[derive(Debug)]
pub struct Counters {
    /// When the server started, by the wall clock.
    pub started_at: Timestamp,
    /// The zero of [`Counters::set_oldest_key`].
    started: Instant,
    /// Registered sessions.
    pub sessions: ByDialect<Gauge>,
    /// Sessions that registered.
    pub sessions_opened: ByDialect<Counter>,
    /// Sessions that ended, by the reason in `session_closed`.
    pub sessions_closed: CounterByWord,
    /// Rooms with at least one member.
    pub rooms: Gauge,
    /// Messages stored.
    pub messages: Counter,
    /// Message frames put into send queues.
    pub deliveries: Counter,
    /// What waits in the send queues of all connections.
    pub send_queues: Arc<SendQueueTotals>,
    /// Key rotations.
    pub rotations: Counter,
    /// From the arrival of a message to the moment when its ack or refusal is in the sender's queue.
    pub send_to_ack: Histogram,
    /// How long a commit of the room log took, with its sync.
    pub commits: Histogram,
    /// What users, rooms and client networks did in the last minutes.
    pub activity: Activity,
    /// Connections that were accepted.
    pub connections_accepted: Counter,
    /// Connections that were refused before they registered: by a limit, a ban, or the origin of a page.
    pub connections_refused: CounterByWord,
    /// Times when no connection could be accepted, because the system was out of descriptors or memory.
    pub accept_pauses: Counter,
    /// Refused registrations, messages and other frames, by error code.
    pub refusals: CounterByWord,
    /// Registrations without a valid access token.
    pub auth_failures: Counter,
    /// The last successful reload.
    pub reloaded_at: Moment,
    /// The last backup that was made while the server ran.
    pub backed_up_at: Moment,
    /// Messages of other nodes that were refused: not sealed with the cluster's secret, a wrong time, or repeated.
    pub node_messages_refused: CounterByWord,
    /// Messages between nodes that were lost at this end.
    pub node_messages_lost: Counter,
    /// When the oldest room key was made: microseconds since `started` and one, or 0 without any room.
    oldest_key: Gauge,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            started_at: wall_clock(),
            started: Instant::now(),
            sessions: ByDialect::default(),
            sessions_opened: ByDialect::default(),
            sessions_closed: CounterByWord::new(CLOSE_REASONS),
            rooms: Gauge::default(),
            messages: Counter::default(),
            deliveries: Counter::default(),
            send_queues: Arc::default(),
            rotations: Counter::default(),
            send_to_ack: Histogram::default(),
            commits: Histogram::default(),
            activity: Activity::default(),
            connections_accepted: Counter::default(),
            connections_refused: CounterByWord::new(["full", "full_address", "banned", "origin"]),
            accept_pauses: Counter::default(),
            refusals: CounterByWord::new(ErrorCode::ALL.iter().map(|code| code.as_str())),
            auth_failures: Counter::default(),
            reloaded_at: Moment::default(),
            backed_up_at: Moment::default(),
            node_messages_refused: CounterByWord::new(["foreign", "clock", "repeated"]),
            node_messages_lost: Counter::default(),
            oldest_key: Gauge::default(),
        }
    }
}

impl Counters {
    /// Counts a connection that was refused, under a word of `connections_refused` and for the network.
    pub fn connection_refused(&self, reason: &str, network: ClientNetwork) {
        self.connections_refused.increment(reason);
        self.activity.connection_refused(network);
    }

    /// Sets when the oldest room key was made; `None` without any room.
    pub fn set_oldest_key(&self, made: Option<Instant>) {
        let since_start = |made: Instant| made.saturating_duration_since(self.started).as_micros();
        let micros = made.map_or(0, |made| since_start(made).saturating_add(1));
        self.oldest_key.set(u64::try_from(micros).unwrap_or(u64::MAX));
    }

    /// The age of the oldest room key at `now`; `None` without any room.
    pub fn oldest_key_age(&self, now: Instant) -> Option<Duration> {
        let micros = self.oldest_key.get().checked_sub(1)?;
        let made = self.started + Duration::from_micros(micros);
        Some(now.saturating_duration_since(made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_has_room_for_it() {
        let histogram = Histogram::default();
        histogram.observe_all([0, 100, 101, 10_000_000, 10_000_001].map(Duration::from_micros));
        let HistogramSnapshot { buckets, count, sum } = histogram.snapshot();
        assert_eq!((buckets[0], buckets[1], buckets[2]), ((0.0001, 2), (0.00025, 3), (0.0005, 3)));
        assert_eq!((buckets.last(), count), (Some(&(10.0, 4)), 5));
        assert!((sum - 20.000202).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_word_outside_the_set_makes_no_new_counter() {
        let counter = CounterByWord::new(["a", "b"]);
        for word in ["b", "b", "c", "d", ""] {
            counter.increment(word);
        }
        assert_eq!(counter.counts().collect::<Vec<_>>(), [("a", 0), ("b", 2), ("other", 3)]);
        assert_eq!(counter.total(), 5);
    }

    #[test]
    fn the_age_of_the_oldest_key_is_that_at_the_time_of_the_question() {
        let counters = Counters::default();
        let made = counters.started;
        assert_eq!(counters.oldest_key_age(made), None);
        counters.set_oldest_key(Some(made));
        let age = counters.oldest_key_age(made + Duration::from_secs(7));
        assert_eq!(age, Some(Duration::from_secs(7)));
        counters.set_oldest_key(None);
        assert_eq!(counters.oldest_key_age(made), None);
    }
}
