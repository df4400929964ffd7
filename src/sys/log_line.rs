//! The lines of the server log: one JSON object each, without control characters and without secrets.
//!
//! The lines are formatted here, and not by the JSON layer of `tracing-subscriber`, so that no field
//! appears twice and no control character from a peer reaches a terminal, and so that every text is cut
//! and has no secrets.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::clock::wall_clock;
use crate::config::LogLevel;
use crate::protocol::mask;

/// The event of what a library reports.
const LIBRARY_EVENT: &str = "library";
/// The names of fields that the bridge from the `log` crate adds to what a library reports begin so.
const LOG_CRATE_PREFIX: &str = "log.";

/// One event of the server log, formatted in parts.
pub struct LogLine {
    /// How severe the event is.
    pub level: LogLevel,
    /// The fixed word for programs.
    pub event: String,
    /// The field `user`; only if asked for, as the next two.
    pub user: Option<String>,
    /// The field `room`.
    pub room: Option<String>,
    /// The field `session`.
    pub session: Option<String>,
    time: String,
    message: String,
    /// All other fields, as JSON: `,"name":value` each.
    rest: String,
}

impl LogLine {
    /// Formats an event. User, room and session are kept beside the text if `with_subject`.
    pub fn new(event: &Event<'_>, with_subject: bool) -> Self {
        let level = level_of(event.metadata().level());
        let mut fields = Fields { with_subject, line: Self::empty(level, "") };
        event.record(&mut fields);
        let mut line = fields.line;
        if line.event.is_empty() {
            line.event = LIBRARY_EVENT.into();
        }
        line
    }

    /// The line in the place of lines that a watcher of the log was too slow for.
    pub fn tail_lines_dropped(lines: u64) -> Self {
        LogLine {
            message: "lines are missing here because they were not read in time".into(),
            rest: format!(",\"lines\":{lines}"),
            ..Self::empty(LogLevel::Warn, "tail_lines_dropped")
        }
    }

    fn empty(level: LogLevel, event: &str) -> Self {
        LogLine {
            level,
            event: event.into(),
            user: None,
            room: None,
            session: None,
            time: wall_clock().to_string(),
            message: String::new(),
            rest: String::new(),
        }
    }

    /// The line as one JSON object, without an end of line.
    pub fn json(&self) -> String {
        let LogLine { level, event, time, message, rest, .. } = self;
        let level = level.as_str();
        let (event, message) = (quoted(event), quoted(message));
        format!(
            "{{\"timestamp\":\"{time}\",\"level\":\"{level}\",\"event\":{event},\"message\":{message}{rest}}}"
        )
    }

    /// The line for people, without an end of line.
    pub fn pretty(&self) -> String {
        let LogLine { level, event, time, message, rest, .. } = self;
        let (message, rest) = (without_control(message), without_control(rest));
        format!("{time} {:5} {event}: {message}{rest}", level.as_str().to_ascii_uppercase())
    }
}

/// Writes the fields of an event into a line.
struct Fields {
    line: LogLine,
    with_subject: bool,
}

impl Fields {
    fn push(&mut self, name: &str, json: fmt::Arguments<'_>) {
        if !name.starts_with(LOG_CRATE_PREFIX) {
            let _ = write!(self.line.rest, ",\"{name}\":{json}");
        }
    }
}

impl Visit for Fields {
    /// A text may be what a stranger sent, or a part of a file.
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = mask::secrets(value);
        let line = &mut self.line;
        match field.name() {
            "event" => return line.event = value.into_owned(),
            "message" => return line.message = value.into_owned(),
            _ if !self.with_subject => {}
            "user" => line.user = Some(value.clone().into_owned()),
            "room" => line.room = Some(value.clone().into_owned()),
            "session" => line.session = Some(value.clone().into_owned()),
            _ => {}
        }
        self.push(field.name(), format_args!("{}", quoted(&value)));
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
pub fn quoted(text: &str) -> String {
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

/// The text with a replacement character for each that could control a terminal.
pub fn without_control(text: &str) -> String {
    text.chars().map(|c| if is_safe(c) { c } else { '\u{fffd}' }).collect()
}

/// Whether a character is neither a control character (C0, DEL, C1) nor one that reorders or hides
/// text (UAX #9).
fn is_safe(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The level of an event, as the configuration names it.
pub fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
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
