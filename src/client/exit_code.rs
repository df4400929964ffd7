//! How `chat-client` ends: one table of exit codes (sysexits.h), and one place that prints errors.

use std::io::Write as _;

use crate::conversation::client::event::is_unprintable;
use crate::protocol::mask;

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything is done: every message that was to be sent is in the room log.
    Done = 0,
    /// The command line is wrong.
    Usage = 2,
    /// A line can't be sent; all other lines were sent.
    BadInput = 65,
    /// No connection to the server.
    NoServer = 69,
    /// A file can't be read or written.
    NoFile = 73,
    /// Gave up while messages were not acknowledged.
    Unacked = 75,
    /// The server speaks another protocol.
    Protocol = 76,
    /// The server refused the connection or the request.
    Refused = 77,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

/// Why the client ends early: an exit code and a text for standard error.
pub type Refusal = (ExitCode, String);

/// Prints one line on standard error. Characters that could act on a terminal are replaced, and secrets
/// are masked.
pub fn print_error(line: &str) {
    let line = mask::secrets(line);
    let printable: String =
        line.chars().map(|c| if is_unprintable(c) { '\u{fffd}' } else { c }).collect();
    // A closed standard error is not an error of this run.
    let _ = writeln!(std::io::stderr(), "chat-client: {printable}");
}
