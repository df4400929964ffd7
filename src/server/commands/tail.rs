//! `chat-server ctl tail`: prints the lines of the server log as the running server sends them.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::output::print_error;
use crate::server::error::{CtlError, ServerError};
use crate::sys::log_line::{quoted, without_control};

/// How often the command looks whether its standard output was closed.
const TICK: Duration = Duration::from_millis(500);
/// The fields that begin the line for people.
const FIRST_FIELDS: [&str; 4] = ["timestamp", "level", "event", "message"];

/// Prints the lines until the server stops or nothing reads standard output any more. `json`: the
/// lines as they are in the log.
pub fn print_lines(mut server: BufReader<UnixStream>, json: bool) -> Result<(), ServerError> {
    let ended = |_| ServerError::Ctl(CtlError::TailEnded);
    server.get_ref().set_read_timeout(Some(TICK)).map_err(ended)?;
    let mut line = Vec::new();
    loop {
        match server.read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => {}
            Ok(_) => return Err(CtlError::TailEnded.into()),
            // EAGAIN is how an expired SO_RCVTIMEO is reported (socket(7)).
            Err(error) if error.kind() == ErrorKind::WouldBlock => match is_stdout_closed() {
                true => return Ok(()),
                false => continue,
            },
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(ended(error)),
        }
        let value = serde_json::from_slice::<Value>(&line).unwrap_or_default();
        if value["end"].is_string() {
            print_error("the server has stopped");
            return Ok(());
        }
        let shown = match json {
            true => line.clone(),
            false => format_line(&value).into_bytes(),
        };
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&shown).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(ServerError::Output)?,
        }
        line.clear();
    }
}

/// Whether standard output is a pipe or socket that nothing reads any more.
fn is_stdout_closed() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// A line for people: the time of day in UTC, level, event, message, and the other fields.
fn format_line(value: &Value) -> String {
    let text = |name: &str| without_control(value[name].as_str().unwrap_or_default());
    // `2026-11-26T18:36:01.123456Z` without the date and the microseconds.
    let timestamp = text("timestamp");
    let time = timestamp.get(11..23).unwrap_or(&timestamp);
    let mut line = format!("{time}Z {:5} {}: {}", text("level"), text("event"), text("message"));
    let fields = value.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| !FIRST_FIELDS.contains(&name.as_str())) {
        line.push_str(&format!(" {}={}", without_control(name), format_value(value)));
    }
    line.push('\n');
    line
}

/// A text is quoted if it could be taken for more than one word.
fn format_value(value: &Value) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.,:/*@+#[]".contains(c);
    match value {
        Value::String(text) if !text.is_empty() && text.chars().all(is_plain) => text.clone(),
        Value::String(text) => quoted(text),
        other => without_control(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_for_people_has_the_time_the_event_and_the_fields() {
        let line = json!({
            "timestamp": "2026-11-26T18:36:01.123456Z", "level": "info", "event": "session_opened",
            "message": "session registered", "session": "0a1b", "user": "Ana María", "verified": true,
        });
        assert_eq!(
            format_line(&line),
            "18:36:01.123Z info  session_opened: session registered session=0a1b \
             user=\"Ana María\" verified=true\n"
        );
    }

    #[test]
    fn a_line_for_people_has_no_control_characters() {
        let line =
            json!({"event": "x\u{1b}[31m", "message": "\u{9b}31m", "origin": "\u{202e}a\nb"});
        let shown = format_line(&line);
        assert!(shown.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{shown:?}");
        assert!(shown.ends_with("origin=\"\\u202ea\\nb\"\n"), "{shown}");
    }
}
