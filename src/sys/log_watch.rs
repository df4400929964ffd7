//! Watchers of the server log: `chat-server ctl tail` and the bounded queue of lines for each.
//!
//! A watcher never delays the server: a line that does not fit in its queue is dropped and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::log_line::LogLine;
use crate::config::LogLevel;
use crate::policy::confusable_names::name_skeletons;
use crate::protocol::{RoomName, SessionId, UserName};

/// The most lines that wait for one watcher, in bytes.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;
/// What a line takes in the queue beside its text.
const LINE_OVERHEAD: usize = 64;

/// The lines that a watcher wants: those that fit each part. An empty list fits every line.
#[derive(Debug, Default)]
pub struct LogFilter {
    /// The least severe level. `None`: the lines that are also in the server log.
    pub level: Option<LogLevel>,
    /// The event is one of these.
    pub events: Vec<String>,
    /// The user is one of these, or has a name that looks the same.
    pub users: Vec<UserName>,
    /// The room is one of these.
    pub rooms: Vec<RoomName>,
    /// The session is one of these.
    pub sessions: Vec<SessionId>,
}

/// A watcher, as the server log sees it.
pub(super) struct Watcher {
    level: Option<LogLevel>,
    events: Vec<String>,
    users: Vec<[String; 2]>,
    rooms: Vec<RoomName>,
    sessions: Vec<SessionId>,
    queue: Mutex<Queue>,
    has_changed: Condvar,
    has_ended: AtomicBool,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Arc<str>>,
    bytes: usize,
    dropped: u64,
}

/// What a watcher receives.
#[derive(Debug, Default)]
pub struct Received {
    /// The lines, each without its end.
    pub lines: Vec<Arc<str>>,
    /// How many lines after these were dropped.
    pub dropped: u64,
    /// Whether no more lines will come.
    pub has_ended: bool,
}

impl Watcher {
    pub(super) fn new(filter: LogFilter) -> Self {
        let LogFilter { level, events, users, rooms, sessions } = filter;
        let users = users.iter().map(name_skeletons).collect();
        Watcher {
            level,
            events,
            users,
            rooms,
            sessions,
            queue: Mutex::default(),
            has_changed: Condvar::new(),
            has_ended: AtomicBool::new(false),
        }
    }

    pub(super) fn level(&self) -> Option<LogLevel> {
        self.level
    }

    /// Whether the watcher wants lines of this level. `is_written`: whether the line is also in the
    /// server log.
    pub(super) fn wants_level(&self, level: LogLevel, is_written: bool) -> bool {
        self.level.map_or(is_written, |wanted| level <= wanted)
    }

    /// Whether the watcher wants the line, whatever its level is.
    pub(super) fn wants(&self, line: &LogLine) -> bool {
        let one_of = |value: &Option<String>, fits: &dyn Fn(&str) -> bool| {
            value.as_deref().is_some_and(fits)
        };
        (self.events.is_empty() || self.events.contains(&line.event))
            && (self.rooms.is_empty()
                || one_of(&line.room, &|room| self.rooms.iter().any(|one| one.as_str() == room)))
            && (self.sessions.is_empty()
                || one_of(&line.session, &|session| {
                    self.sessions.iter().any(|one| one.as_str() == session)
                }))
            && (self.users.is_empty() || one_of(&line.user, &|user| self.is_of_user(user)))
    }

    fn is_of_user(&self, user: &str) -> bool {
        let Ok(user) = UserName::parse(user) else { return false };
        let skeletons = name_skeletons(&user);
        self.users.iter().flatten().any(|wanted| skeletons.contains(wanted))
    }

    /// Puts the line into the queue, or counts it as dropped.
    pub(super) fn push(&self, line: &Arc<str>) {
        let mut queue = self.queue.lock();
        let bytes = queue.bytes + line.len() + LINE_OVERHEAD;
        // After a dropped line, none is queued until those before it were taken: lines stay in order.
        if queue.dropped > 0 || bytes > MAX_QUEUED_BYTES {
            queue.dropped += 1;
            return;
        }
        queue.bytes = bytes;
        queue.lines.push_back(line.clone());
        drop(queue);
        self.has_changed.notify_one();
    }

    /// Takes everything that is queued; waits for at most `limit` if that is nothing.
    pub(super) fn take(&self, limit: Duration) -> Received {
        let deadline = Instant::now() + limit;
        let mut queue = self.queue.lock();
        while queue.lines.is_empty()
            && !self.has_ended()
            && !self.has_changed.wait_until(&mut queue, deadline).timed_out()
        {}
        let Queue { lines, dropped, .. } = std::mem::take(&mut *queue);
        Received { lines: lines.into(), dropped, has_ended: self.has_ended() }
    }

    /// Lets the watcher know that no more lines will come.
    pub(super) fn end(&self) {
        let _queue = self.queue.lock();
        self.has_ended.store(true, Ordering::Relaxed);
        self.has_changed.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_watcher_loses_lines_and_is_told_how_many() {
        let watcher = Watcher::new(LogFilter::default());
        let line: Arc<str> = "x".repeat(1000).into();
        for _ in 0..5_000 {
            watcher.push(&line);
        }
        let queued = watcher.queue.lock().bytes;
        assert!((MAX_QUEUED_BYTES / 2..=MAX_QUEUED_BYTES).contains(&queued), "{queued}");
        let first = watcher.take(Duration::ZERO);
        assert_eq!(first.lines.len() as u64 + first.dropped, 5_000);
        assert!(first.dropped > 3_000 && !first.has_ended, "{}", first.dropped);
        watcher.push(&line);
        watcher.end();
        let last = watcher.take(Duration::from_secs(60));
        assert_eq!((last.lines.len(), last.dropped, last.has_ended), (1, 0, true));
    }

    #[test]
    fn a_line_fits_if_it_fits_each_part_of_the_filter() {
        let user = |name: &str| UserName::parse(name).unwrap();
        let filter = LogFilter {
            level: Some(LogLevel::Info),
            events: vec!["session_opened".into(), "session_closed".into()],
            users: vec![user("ana"), user("bob")],
            ..LogFilter::default()
        };
        let watcher = Watcher::new(filter);
        let line = |event: &str, user: Option<&str>| {
            let mut line = LogLine::tail_lines_dropped(1);
            (line.event, line.user) = (event.into(), user.map(str::to_owned));
            line
        };
        assert!(watcher.wants(&line("session_opened", Some("bob"))));
        assert!(watcher.wants(&line("session_closed", Some("ANA"))), "it looks the same");
        assert!(!watcher.wants(&line("session_closed", Some("eve"))));
        assert!(!watcher.wants(&line("session_closed", None)));
        assert!(!watcher.wants(&line("gap", Some("ana"))));
        assert!(
            watcher.wants_level(LogLevel::Warn, true) && watcher.wants_level(LogLevel::Info, false)
        );
        assert!(!watcher.wants_level(LogLevel::Debug, true));
    }
}
