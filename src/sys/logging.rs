//! The server log: one JSON object per line on standard output.
//!
//! A thread writes the lines, which it receives through a bounded queue, so that a full or closed
//! standard output never blocks the chat. Lines that do not fit in the queue are dropped and counted,
//! and the count is logged once lines are written again. This module formats the lines itself,
//! instead of using the JSON layer of `tracing-subscriber`, so that no field appears twice and no
//! control character from a peer reaches a terminal, and so that every text is cut and has no secrets.

use std::fmt::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use super::clock::wall_clock;
use crate::config::{Log, LogFormat, LogLevel};
use crate::protocol::mask;

/// The most lines that wait for a slow standard output.
const MAX_QUEUED_LINES: usize = 8_192;

/// The running server log. Dropping it writes the queued lines, for at most one second.
pub struct ServerLog {
    level: reload::Handle<Targets, Registry>,
    dropped: ErrorCounter,
    /// The dropped lines that were already reported.
    reported: usize,
    _writer: WorkerGuard,
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
    let (level, handle) = reload::Layer::new(targets(log.level));
    let format = LineFormat { pretty: log.format == LogFormat::Pretty, journal: is_journal() };
    let lines = tracing_subscriber::fmt::layer().event_format(format).with_writer(writer);
    // A second start in one process (tests) keeps the first log.
    let _ = tracing_subscriber::registry().with(level).with(lines).try_init();
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
    ServerLog { level: handle, dropped, reported: 0, _writer: guard }
}

impl ServerLog {
    /// Changes which levels are logged from now on.
    pub fn set_level(&self, level: LogLevel) {
        let _ = self.level.reload(targets(level));
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

fn targets(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Only errors of libraries: at lower levels they may quote the data they handle.
    Targets::new().with_target("secure_chat", own).with_default(LevelFilter::ERROR)
}

/// Whether standard output is the systemd journal, which reads a priority at the start of each line
/// (systemd.exec(5), `$JOURNAL_STREAM`; sd-daemon(3)).
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(output) = std::fs::metadata("/proc/self/fd/1") else { return false };
    stream == format!("{}:{}", output.dev(), output.ino())
}

struct LineFormat {
    pretty: bool,
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        let now = wall_clock();
        if self.journal {
            write!(writer, "<{}>", priority(level))?;
        }
        if fields.event.is_empty() {
            fields.event = "library".into();
        }
        if self.pretty {
            let Fields { event, message, rest } = fields;
            return writeln!(
                writer,
                "{now} {level:5} {event}: {}{}",
                without_control(&message),
                without_control(&rest)
            );
        }
        write!(writer, "{{\"timestamp\":\"{now}\",\"level\":\"{}\"", level_name(level))?;
        write!(
            writer,
            ",\"event\":{},\"message\":{}",
            quoted(&fields.event),
            quoted(&fields.message)
        )?;
        writeln!(writer, "{}}}", fields.rest)
    }
}

/// The fields of one event; `rest` holds all but event and message, already as JSON.
#[derive(Default)]
struct Fields {
    event: String,
    message: String,
    rest: String,
}

impl Fields {
    fn push(&mut self, name: &str, json: fmt::Arguments<'_>) {
        let _ = write!(self.rest, ",\"{name}\":{json}");
    }
}

impl Visit for Fields {
    /// A text may be what a stranger sent, or a part of a file.
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = mask::secrets(value);
        match field.name() {
            "event" => self.event = value.into_owned(),
            "message" => self.message = value.into_owned(),
            name => self.push(name, format_args!("{}", quoted(&value))),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field.name(), format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), format_args!("{}", if value.is_finite() { value } else { 0.0 }));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// A JSON string without any character that could control a terminal.
fn quoted(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into());
    if json.chars().all(is_safe) {
        return json;
    }
    json.chars().fold(String::with_capacity(json.len() + 16), |mut out, c| {
        if is_safe(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
        out
    })
}

fn without_control(text: &str) -> String {
    text.chars().map(|c| if is_safe(c) { c } else { '\u{fffd}' }).collect()
}

/// Whether a character is neither a control character (C0, DEL, C1) nor one that reorders or hides
/// text (UAX #9).
pub fn is_safe(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Half of the characters are in the blocks that have those to be escaped.
    fn character() -> impl Strategy<Value = char> {
        prop_oneof![
            any::<char>(),
            proptest::char::range('\0', '\u{a0}'),
            proptest::char::range('\u{2000}', '\u{206f}'),
            proptest::char::range('\u{e0000}', '\u{e007f}'),
        ]
    }

    proptest! {
        #[test]
        fn quoted_text_parses_back_and_has_no_control_characters(
            text in proptest::collection::vec(character(), 0..40).prop_map(String::from_iter),
        ) {
            let json = quoted(&text);
            prop_assert!(json.chars().all(is_safe));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
