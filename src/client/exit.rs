//! How `chat-client` ends: one table of exit codes (sysexits.h).

use std::process::ExitCode;

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All done: what was to be sent is in the room log.
    Done = 0,
    /// The command line is wrong.
    Usage = 2,
    /// A line can't be sent; the rest was.
    BadInput = 65,
    /// No connection at all.
    NoServer = 69,
    /// A file of ours can't be raw.
    NoFile = 73,
    /// Gave up with messages unacked.
    Unacked = 75,
    /// What answers speaks something else.
    Protocol = 76,
    /// The server does not want us.
    Refused = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// One line for a person on standard error.
pub fn print_error(line: &str) {
    use std::io::Write as _;
    let clean: String = line
        .chars()
        .map(|c| if crate::conversation::client::event::is_unprintable(c) { '\u{fffd}' } else { c })
        .collect();
    // Nobody may be reading.
    let _ = writeln!(std::io::stderr(), "chat-client: {clean}");
}
