//! The server log: one JSON object per line on standard output, and for those who watch it.
//!
//! A thread writes the lines, which it receives through a bounded queue, so that a full or closed
//! standard output never blocks the chat. Lines that do not fit in the queue are dropped and counted,
//! and the count is logged once lines are written again. [`LogControl`] changes the level while the
//! server runs, and registers watchers, which have bounded queues of their own (`log_watch`).

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{Event, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use super::log_line::{LogLine, level_of};
use super::log_watch::{LogFilter, Received, Watcher};
use crate::config::{Log, LogFormat, LogLevel};

/// The most lines that wait for a slow standard output.
const MAX_QUEUED_LINES: usize = 8_192;
/// The most watchers at the same time.
pub const MAX_WATCHERS: usize = 8;
/// How long the end of the server log waits until its watchers have written what they received.
const WATCHERS_END_TIMEOUT: Duration = Duration::from_millis(500);
/// The part of the program whose lines are logged at every level: an operator's acts.
const AUDIT_TARGET: &str = "secure_chat::server::audit";

/// The running server log. Dropping it ends its watchers and writes the queued lines, for at most one
/// second.
pub struct ServerLog {
    control: Arc<LogControl>,
    dropped: ErrorCounter,
    /// The dropped lines that were already reported.
    reported: usize,
    _writer: WorkerGuard,
}

/// Changes the level of the server log, and registers its watchers.
pub struct LogControl {
    filter: reload::Handle<Targets, Registry>,
    level: Mutex<LevelState>,
    outputs: Arc<Outputs>,
}

/// The level of the server log, and why it is that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelState {
    /// The level of the configuration.
    pub configured: LogLevel,
    /// The level that an operator chose, and until when.
    pub chosen: Option<(LogLevel, Instant)>,
}

/// Where lines go.
struct Outputs {
    /// The level in force for standard output.
    written: AtomicU8,
    watchers: ArcSwap<Vec<Arc<Watcher>>>,
}

/// Receives lines of the server log until it is dropped.
pub struct LogWatch {
    watcher: Arc<Watcher>,
    control: Arc<LogControl>,
}

/// Counts the lines that were dropped since the start, because standard output was too slow.
#[derive(Clone)]
pub struct DroppedLines(ErrorCounter);

impl DroppedLines {
    /// The number of lines now.
    pub fn count(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}

/// Starts the server log of this process; panics are logged too.
pub fn start(log: &Log) -> ServerLog {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_QUEUED_LINES)
        .thread_name("log")
        .finish(std::io::stdout());
    let dropped = writer.error_counter();
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let outputs =
        Arc::new(Outputs { written: AtomicU8::new(log.level as u8), watchers: ArcSwap::default() });
    let is_pretty = log.format == LogFormat::Pretty;
    let lines = LineLayer { is_pretty, is_journal: is_journal(), writer, outputs: outputs.clone() };
    // A second start in one process (tests) keeps the first log.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    std::panic::set_hook(Box::new(|panic| {
        // Only the location: the message of a panic can quote what a peer sent.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        tracing::error!(
            event = "panic",
            place,
            thread,
            "a part of the server panicked; the rest keeps running"
        );
    }));
    let level = Mutex::new(LevelState { configured: log.level, chosen: None });
    let control = Arc::new(LogControl { filter: handle, level, outputs });
    ServerLog { control, dropped, reported: 0, _writer: guard }
}

impl ServerLog {
    /// A handle that changes the log.
    pub fn control(&self) -> Arc<LogControl> {
        self.control.clone()
    }

    /// Counts the dropped lines, for metrics.
    pub fn dropped_lines(&self) -> DroppedLines {
        DroppedLines(self.dropped.clone())
    }

    /// Logs how many lines were dropped since the last report, if any.
    pub fn report_dropped(&mut self) {
        let dropped = self.dropped.dropped_lines();
        let lines = dropped.saturating_sub(self.reported) as u64;
        if lines > 0 {
            self.reported = dropped;
            tracing::warn!(
                event = "log_lines_dropped",
                lines,
                "log lines were dropped because standard output is too slow"
            );
            if self.dropped.dropped_lines() > dropped {
                // This line was dropped too: the next report repeats the count and includes this line.
                self.reported = dropped.saturating_sub(lines as usize);
            }
        }
    }
}

impl Drop for ServerLog {
    fn drop(&mut self) {
        let watchers = &self.control.outputs.watchers;
        watchers.load().iter().for_each(|watcher| watcher.end());
        let deadline = Instant::now() + WATCHERS_END_TIMEOUT;
        while !watchers.load().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl LevelState {
    /// The level in force.
    pub fn in_force(&self) -> LogLevel {
        self.chosen.map_or(self.configured, |(level, _)| level)
    }
}

impl LogControl {
    /// The level in force, and why.
    pub fn level(&self) -> LevelState {
        *self.level.lock()
    }

    /// The configuration has another level. A level that an operator chose stays in force until its
    /// end.
    pub fn configure_level(&self, level: LogLevel) {
        self.change_level(|state| state.configured = level);
    }

    /// Logs at this level until `until`, whatever the configuration says. `None` ends that.
    pub fn choose_level(&self, chosen: Option<(LogLevel, Instant)>) {
        self.change_level(|state| state.chosen = chosen);
    }

    /// Receives the lines that fit the filter, from now on. `None` if there are too many watchers.
    pub fn watch(self: &Arc<Self>, filter: LogFilter) -> Option<LogWatch> {
        let watcher = Arc::new(Watcher::new(filter));
        let level = self.level.lock();
        let mut watchers = Vec::clone(&self.outputs.watchers.load());
        if watchers.len() >= MAX_WATCHERS {
            return None;
        }
        watchers.push(watcher.clone());
        self.outputs.watchers.store(Arc::new(watchers));
        self.apply(&level);
        drop(level);
        Some(LogWatch { watcher, control: self.clone() })
    }

    fn end_watch(&self, watcher: &Arc<Watcher>) {
        let level = self.level.lock();
        let mut watchers = Vec::clone(&self.outputs.watchers.load());
        watchers.retain(|other| !Arc::ptr_eq(other, watcher));
        self.outputs.watchers.store(Arc::new(watchers));
        self.apply(&level);
    }

    fn change_level(&self, change: impl FnOnce(&mut LevelState)) {
        let mut level = self.level.lock();
        change(&mut level);
        self.outputs.written.store(level.in_force() as u8, Ordering::Relaxed);
        self.apply(&level);
    }

    /// Events that neither the log nor a watcher wants cost nothing: they are disabled where they
    /// occur.
    fn apply(&self, level: &LevelState) {
        let watchers = self.outputs.watchers.load();
        let watched = watchers.iter().filter_map(|watcher| watcher.level()).max();
        let wanted = watched.map_or(level.in_force(), |watched| watched.max(level.in_force()));
        let _ = self.filter.reload(targets(wanted));
    }
}

impl LogWatch {
    /// Takes the lines that have come; waits for at most `limit` if there are none.
    pub fn take(&self, limit: Duration) -> Received {
        self.watcher.take(limit)
    }

    /// Whether the server log has ended, so that no more lines will come.
    pub fn has_ended(&self) -> bool {
        self.watcher.has_ended()
    }
}

impl Drop for LogWatch {
    fn drop(&mut self) {
        self.control.end_watch(&self.watcher);
    }
}

fn targets(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Only errors of libraries: at lower levels they may quote the data they handle.
    Targets::new()
        .with_target("secure_chat", own)
        .with_target(AUDIT_TARGET, own.max(LevelFilter::INFO))
        // What it has to say, the server log says in its own words.
        .with_target("async_nats", LevelFilter::OFF)
        .with_default(LevelFilter::ERROR)
}

/// Whether standard output is the systemd journal, which reads a priority at the start of each line
/// (systemd.exec(5), `$JOURNAL_STREAM`; sd-daemon(3)).
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(output) = std::fs::metadata("/proc/self/fd/1") else { return false };
    stream == format!("{}:{}", output.dev(), output.ino())
}

/// Formats each event once and passes it to the outputs that want it.
struct LineLayer {
    is_pretty: bool,
    is_journal: bool,
    writer: NonBlocking,
    outputs: Arc<Outputs>,
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let is_written = self.is_written(event.metadata());
        let level = level_of(event.metadata().level());
        let watchers = self.outputs.watchers.load();
        let mut watchers =
            watchers.iter().filter(|watcher| watcher.wants_level(level, is_written)).peekable();
        let is_watched = watchers.peek().is_some();
        if !is_written && !is_watched {
            return;
        }
        let line = LogLine::new(event, is_watched);
        let json = (is_watched || !self.is_pretty).then(|| line.json());
        if is_written {
            self.write(&line, json.as_deref());
        }
        if let Some(json) = json
            && is_watched
        {
            let json: Arc<str> = json.into();
            watchers.filter(|watcher| watcher.wants(&line)).for_each(|watcher| watcher.push(&json));
        }
    }
}

impl LineLayer {
    fn is_written(&self, metadata: &Metadata<'_>) -> bool {
        level_of(metadata.level()) as u8 <= self.outputs.written.load(Ordering::Relaxed)
            || metadata.target() == AUDIT_TARGET
    }

    fn write(&self, line: &LogLine, json: Option<&str>) {
        let mut text = String::with_capacity(json.map_or(0, str::len) + 4);
        if self.is_journal {
            text.push_str(priority(line.level));
        }
        match json {
            Some(json) if !self.is_pretty => text.push_str(json),
            _ => text.push_str(&line.pretty()),
        }
        text.push('\n');
        // The queue takes all of it or counts it as dropped.
        let _ = self.writer.clone().write(text.as_bytes());
    }
}

fn priority(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "<3>",
        LogLevel::Warn => "<4>",
        LogLevel::Info => "<6>",
        LogLevel::Debug | LogLevel::Trace => "<7>",
    }
}
