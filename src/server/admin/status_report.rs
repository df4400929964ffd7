//! The report of `ctl status`: everything an operator wants to see first, with what is wrong named.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::status_cluster::ClusterStatus;
use crate::policy::access::AccessList;
use crate::protocol::{ErrorCode, Timestamp};
use crate::server::rates::Increase;
use crate::server::rooms::status::FullestSendQueue;

/// A certificate that ends sooner is something wrong.
const MIN_CERTIFICATE_TIME: Duration = Duration::from_secs(14 * 86_400);
/// Access tokens that expire sooner are counted, and are something wrong.
const MIN_TOKEN_TIME: Duration = Duration::from_secs(7 * 86_400);
/// A failed append is something wrong for this long.
const APPEND_FAILURE_TIME: Duration = Duration::from_secs(15 * 60);
/// A rotation by age may be so late.
const MAX_ROTATION_DELAY: Duration = Duration::from_secs(60);
/// A write-ahead log above this is not checkpointed.
const MAX_WAL_BYTES: u64 = 128 << 20;
/// Commands that may wait for a hub that keeps up.
const MAX_WAITING_COMMANDS: u64 = 1000;

/// What `ctl status --json` prints. `docs/operations.md` lists the fields.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    pub server: &'static str,
    pub version: &'static str,
    pub pid: u32,
    pub started: Timestamp,
    pub seconds: u64,
    pub ready: bool,
    pub health: String,
    pub log_level: &'static str,
    /// When it is another one than that of the configuration: until then.
    pub log_level_seconds_left: Option<u64>,
    pub problems: Vec<String>,
    /// The lines of the screen that show something wrong.
    pub wrong: Vec<&'static str>,
    pub mode: String,
    pub store: String,
    pub durable: bool,
    pub sessions: u64,
    pub sessions_full: u64,
    pub sessions_basic: u64,
    pub sessions_http: u64,
    pub connections: u64,
    pub connections_limit: u64,
    pub rooms: u64,
    pub rooms_limit: u64,
    pub history_rooms: u64,
    pub messages: u64,
    pub deliveries: u64,
    pub refused: u64,
    pub rates: [Rate; 2],
    /// In the longer span.
    pub refused_by_code: BTreeMap<&'static str, u64>,
    /// `ok`, or why the next two are not known.
    pub hub: &'static str,
    pub send_queue_bytes: Option<u64>,
    pub fullest_send_queue: Option<FullestSendQueue>,
    pub send_queue_limit_bytes: u64,
    pub log_writer: String,
    pub log_writer_messages: u64,
    pub log_writer_bytes: u64,
    pub log_writer_limit_bytes: u64,
    pub hub_commands: u64,
    pub append_failures: u64,
    pub last_append_failure: Option<AppendFailure>,
    pub history_bytes: Option<u64>,
    pub wal_bytes: Option<u64>,
    pub damaged_bytes: Option<u64>,
    pub disk_free_bytes: Option<u64>,
    pub disk_total_bytes: Option<u64>,
    pub last_backup: Option<Moment>,
    pub rotations: u64,
    pub oldest_key_seconds: Option<u64>,
    pub next_rotation_seconds: Option<u64>,
    pub certificate_expires: Option<Timestamp>,
    pub certificate_seconds: Option<i64>,
    pub tokens: u64,
    pub tokens_active: u64,
    pub tokens_expired: u64,
    pub tokens_expiring: u64,
    pub reload: String,
    pub last_reload: Option<LastReload>,
    pub restart_needed: Vec<String>,
    pub log_lines_dropped: u64,
    /// Of a node in a cluster.
    pub cluster: Option<ClusterStatus>,
    /// For `wrong`, not part of the answer.
    #[serde(skip)]
    pub rotate_every: Option<Duration>,
    #[serde(skip)]
    pub is_disk_low: bool,
}

/// How much was done per second in a span.
#[derive(Debug, Serialize)]
pub struct Rate {
    pub minutes: u64,
    /// How long the span really is.
    pub seconds: f64,
    pub messages: f64,
    pub deliveries: f64,
    pub refused: f64,
}

impl Rate {
    pub fn new(span: Duration, increase: &Increase) -> Self {
        Rate {
            minutes: span.as_secs() / 60,
            seconds: (increase.span.as_secs_f64() * 10.0).round() / 10.0,
            messages: increase.per_second(increase.messages),
            deliveries: increase.per_second(increase.deliveries),
            refused: increase.per_second(increase.all_refused()),
        }
    }
}

/// When something was.
#[derive(Debug, Serialize)]
pub struct Moment {
    pub at: Timestamp,
    pub seconds_ago: u64,
}

impl Moment {
    /// The wall clock may have been set since, so the age is by the monotonic clock.
    pub fn of((instant, at): (Instant, Timestamp)) -> Self {
        Moment { at, seconds_ago: instant.elapsed().as_secs() }
    }
}

#[derive(Debug, Serialize)]
pub struct AppendFailure {
    #[serde(flatten)]
    pub moment: Moment,
    pub messages: u64,
    pub reason: String,
}

#[derive(Debug, Serialize)]
pub struct LastReload {
    #[serde(flatten)]
    pub moment: Moment,
    pub by: String,
}

/// The access tokens in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Those that have not expired.
    pub active: u64,
    /// Those that have.
    pub expired: u64,
    /// Those that expire within seven days.
    pub expiring: u64,
}

impl TokenCounts {
    /// Counts those of a list.
    pub fn of(list: &AccessList, now: Timestamp) -> Self {
        let mut counts = TokenCounts::default();
        for grant in list.grants() {
            match grant.expires.map(|expiry| expiry.since(now)) {
                _ if grant.is_expired(now) => counts.expired += 1,
                Some(left) if left <= MIN_TOKEN_TIME => {
                    counts.active += 1;
                    counts.expiring += 1;
                }
                _ => counts.active += 1,
            }
        }
        counts
    }
}

impl StatusReport {
    /// The lines of the screen that show something wrong.
    pub fn find_wrong(&self) -> Vec<&'static str> {
        let failed = [
            ErrorCode::StorageFull,
            ErrorCode::StorageFailed,
            ErrorCode::StorageUnknown,
            ErrorCode::RoomsFull,
        ];
        let has_failed = |code: &ErrorCode| self.refused_by_code.contains_key(code.as_str());
        let fullest = self.fullest_send_queue.as_ref().map_or(0, |queue| queue.bytes);
        let last_failure = self.last_append_failure.as_ref().map(|last| last.moment.seconds_ago);
        let ends_in = self.certificate_seconds.map(|left| u64::try_from(left).unwrap_or(0));
        let is_overdue =
            |(every, age): (Duration, u64)| Duration::from_secs(age) > every + MAX_ROTATION_DELAY;
        let lines = [
            ("state", !self.ready),
            ("connections", is_nearly_full(self.connections, self.connections_limit)),
            ("rooms", is_nearly_full(self.rooms.max(self.history_rooms), self.rooms_limit)),
            ("refused", failed.iter().any(has_failed)),
            ("hub", self.hub != "ok"),
            ("send_queues", is_half_full(fullest, self.send_queue_limit_bytes)),
            (
                "queues",
                self.log_writer != "ok"
                    || is_half_full(self.log_writer_bytes, self.log_writer_limit_bytes)
                    || self.hub_commands > MAX_WAITING_COMMANDS,
            ),
            ("appends", last_failure.is_some_and(|ago| ago < APPEND_FAILURE_TIME.as_secs())),
            (
                "disk",
                self.is_disk_low
                    || self.damaged_bytes.is_some_and(|bytes| bytes > 0)
                    || self.wal_bytes.is_some_and(|bytes| bytes > MAX_WAL_BYTES),
            ),
            ("keys", self.rotate_every.zip(self.oldest_key_seconds).is_some_and(is_overdue)),
            ("certificate", ends_in.is_some_and(|left| left < MIN_CERTIFICATE_TIME.as_secs())),
            ("tokens", self.tokens_expiring > 0 || self.mode == "token" && self.tokens_active == 0),
            ("reload", self.reload != "ok" || !self.restart_needed.is_empty()),
            ("log", self.log_lines_dropped > 0),
            ("cluster", self.cluster.as_ref().is_some_and(ClusterStatus::is_wrong)),
        ];
        lines.into_iter().filter(|(_, is_wrong)| *is_wrong).map(|(line, _)| line).collect()
    }
}

/// Whether nine tenths of a limit are used.
fn is_nearly_full(used: u64, limit: u64) -> bool {
    used >= limit.saturating_sub(limit / 10)
}

fn is_half_full(used: u64, limit: u64) -> bool {
    used > limit / 2
}
