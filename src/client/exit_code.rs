//! How `chat-client` ends: one table of exit codes (sysexits.h), and one place that prints errors.

use crate::protocol::json_line::is_unprintable;
use crate::protocol::mask;
use crate::sys::stdio;
use crate::sys::termination_signal::Signal;

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Everything is done: every message that was to be sent is in the room log.
    Done,
    /// The command line is wrong.
    Usage,
    /// A line can't be sent; all other lines were sent.
    BadInput,
    /// No connection to the server.
    NoServer,
    /// A file can't be read or written.
    NoFile,
    /// Standard input can't be read, or standard output can't be written.
    NoStdio,
    /// Gave up while messages were not acknowledged.
    Unacked,
    /// The server speaks another protocol.
    Protocol,
    /// The server refused the connection or the request.
    Refused,
    /// A key is not the one that is known, or the state of this device can't be used.
    Identity,
    /// The server showed something that no honest server shows.
    Evidence,
    /// A signal ended the run.
    Signal(Signal),
}

/// Every exit code except those of signals, and its meaning.
const TABLE: [(ExitCode, &str); 11] = [
    (ExitCode::Done, "done: every line is stored, and everything asked for was printed"),
    (ExitCode::Usage, "the command line is wrong"),
    (ExitCode::BadInput, "a line can't be sent (the others were sent)"),
    (ExitCode::NoServer, "no connection to the server, or it lets the client in only later"),
    (ExitCode::NoFile, "the cursor file can't be used, or another chat-client uses it"),
    (ExitCode::NoStdio, "standard input can't be read, or standard output can't be written"),
    (ExitCode::Unacked, "gave up with unacknowledged lines, or before everything arrived"),
    (ExitCode::Protocol, "the peer does not speak this protocol"),
    (ExitCode::Refused, "the server refused the connection or the request"),
    (
        ExitCode::Identity,
        "end-to-end: a key is not the known one, or this device's state can't be used",
    ),
    (ExitCode::Evidence, "end-to-end: the server, or a member that is named, is not honest"),
];

impl ExitCode {
    /// The number.
    pub fn number(self) -> u8 {
        match self {
            ExitCode::Done => 0,
            ExitCode::Usage => 2,
            ExitCode::BadInput => 65,
            ExitCode::NoServer => 69,
            ExitCode::NoFile => 73,
            ExitCode::NoStdio => 74,
            ExitCode::Unacked => 75,
            ExitCode::Protocol => 76,
            ExitCode::Refused => 77,
            ExitCode::Identity => 78,
            ExitCode::Evidence => 79,
            ExitCode::Signal(signal) => signal.exit_code(),
        }
    }

    /// The table for `--help` and the manual page.
    pub fn help() -> String {
        let mut text = "Exit codes:\n".to_owned();
        for (code, meaning) in TABLE {
            text.push_str(&format!("{:>7}  {meaning}\n", code.number()));
        }
        text.push_str("  128+n  ended by signal n (SIGHUP, SIGINT, SIGTERM)\n");
        text.push_str(
            "With every code except 0, standard error names the lines that are not known to be stored.",
        );
        text
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code.number())
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
    stdio::write_stderr(format!("chat-client: {printable}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first lines of every table of exit codes that a person reads.
    #[test]
    fn every_page_that_lists_exit_codes_lists_all_of_them() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for page in ["README.md", "README.es.md", "docs/guide.md"] {
            let text = std::fs::read_to_string(root.join(page)).unwrap();
            let heads = ["Exit codes: ", "Códigos de salida: ", "## Exit codes"];
            let at = heads.iter().find_map(|head| text.find(head)).expect(page);
            let rest = &text[at..];
            let end = rest[4..].find("\n\n##").map_or(rest.len(), |end| end + 4);
            for (code, _) in TABLE {
                let number = code.number().to_string();
                let words = rest[..end].split(|c: char| !c.is_ascii_alphanumeric());
                assert!(words.into_iter().any(|word| word == number), "{page} lacks {number}");
            }
        }
    }
}
