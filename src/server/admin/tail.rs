//! `ctl tail`: the lines of the server log, as they come, on a connection of the admin socket.
//!
//! The answer is a line with `"ok":true`, then the lines of the server log, and a line with `end` when the
//! server stops. Each watcher has a thread of its own, because it writes until the last line of the
//! server log, when the runtimes have ended. The lines wait in the bounded queue of the watcher; the
//! thread alone waits for a slow reader.

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::request::TailFilter;
use crate::config::LogLevel;
use crate::protocol::{RoomName, SessionId, UserName};
use crate::sys::log_line::LogLine;
use crate::sys::log_watch::LogFilter;
use crate::sys::logging::{LogControl, LogWatch, MAX_WATCHERS};
use crate::sys::thread;

/// The most values of one kind in a filter.
const MAX_VALUES: usize = 32;
/// How often the thread looks whether the reader has gone, or the server log has ended.
const TICK: Duration = Duration::from_millis(250);
/// A reader that takes nothing for so long is given up, so that it does not keep its place for ever.
const STALL_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long the last lines may take.
const END_TIMEOUT: Duration = Duration::from_millis(400);
/// The line that ends the answer when the server stops.
const END: &str = "{\"end\":\"stopped\"}\n";

/// Begins to collect the lines that `filter` is for. The error is the text for the operator.
pub fn watch(log: &Arc<LogControl>, filter: &TailFilter) -> Result<LogWatch, String> {
    let filter = parse(filter)?;
    log.watch(filter).ok_or_else(|| {
        format!("{MAX_WATCHERS} commands read the log with ctl tail already; end one of them first")
    })
}

/// Writes the lines to `stream` until the client closes it or the server log ends.
pub fn serve(stream: UnixStream, watch: LogWatch) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(TICK))?;
    thread::spawn("tail", move || {
        // The error is that the client has gone, or reads nothing.
        let _ = copy(&mut Output { stream, watch: &watch, ends_at: None });
    })?;
    Ok(())
}

fn parse(filter: &TailFilter) -> Result<LogFilter, String> {
    let TailFilter { level, events, users, rooms, sessions } = filter;
    if [events, users, rooms, sessions].iter().any(|values| values.len() > MAX_VALUES) {
        return Err(format!("more than {MAX_VALUES} values of one kind are too many for a filter"));
    }
    let level = level.as_deref().map(|name| {
        LogLevel::parse(name)
            .ok_or_else(|| format!("{name:?} is no level; use error, warn, info, debug or trace"))
    });
    let room =
        |text: &String| RoomName::parse(text).ok_or_else(|| format!("{text:?} is no room name"));
    let session = |text: &String| {
        SessionId::parse(text).ok_or_else(|| format!("{text:?} is no session: {}", SessionId::RULE))
    };
    Ok(LogFilter {
        level: level.transpose()?,
        events: events.clone(),
        users: users
            .iter()
            .map(|user| UserName::parse(user).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?,
        rooms: rooms.iter().map(room).collect::<Result<_, _>>()?,
        sessions: sessions.iter().map(session).collect::<Result<_, _>>()?,
    })
}

/// The connection of a watcher.
struct Output<'a> {
    stream: UnixStream,
    watch: &'a LogWatch,
    /// When the thread gives up, once the server log has ended.
    ends_at: Option<Instant>,
}

fn copy(output: &mut Output<'_>) -> io::Result<()> {
    output.write("{\"ok\":true}\n")?;
    loop {
        let received = output.watch.take(TICK);
        for line in &received.lines {
            output.write(&format!("{line}\n"))?;
        }
        if received.dropped > 0 {
            let line = LogLine::tail_lines_dropped(received.dropped).json();
            output.write(&format!("{line}\n"))?;
        }
        if received.has_ended {
            return output.write(END);
        }
        if received.lines.is_empty() && output.is_closed() {
            return Ok(());
        }
    }
}

impl Output<'_> {
    /// Writes the whole text, and waits for the reader as long as that is allowed.
    fn write(&mut self, text: &str) -> io::Result<()> {
        let mut rest = text.as_bytes();
        let stalled_at = Instant::now() + STALL_TIMEOUT;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // EAGAIN is how an expired SO_SNDTIMEO is reported (socket(7)).
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.is_over(stalled_at) {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the client has gone.
    fn is_closed(&mut self) -> bool {
        // Sends nothing, and fails with EPIPE if the other end is closed (send(2)).
        self.stream.write(&[]).is_err()
    }

    fn is_over(&mut self, stalled_at: Instant) -> bool {
        let now = Instant::now();
        if self.watch.has_ended() {
            let ends_at = *self.ends_at.get_or_insert(now + END_TIMEOUT);
            return now >= ends_at;
        }
        now >= stalled_at
    }
}
