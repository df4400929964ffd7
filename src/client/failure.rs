//! Why a run can't go on: one enum, with one exit code and one sentence per reason, for the pipe,
//! the history and the terminal alike.

use std::fmt;
use std::time::Duration;

use super::end_to_end::Problem;
use super::exit_code::ExitCode;
use crate::net::dial::DialError;
use crate::protocol::ErrorCode;
use crate::sys::termination_signal::Signal;

/// A reason to end the run.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server can't be connected to, and trying again can't help.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No attempt to connect led to a session within the timeout.
    #[error("{}", no_session(server, *timeout, attempt, *asked_pause))]
    NoSession {
        /// The server's URL.
        server: String,
        /// `--timeout`.
        timeout: Duration,
        /// How the last attempt ended.
        attempt: Box<Attempt>,
        /// The pause that the server asked for, if that alone is longer than the time that was left.
        asked_pause: Option<Duration>,
        /// Whether an earlier connection of this run was registered.
        was_registered: bool,
    },
    /// The server sends bytes that are no WebSocket by RFC 6455.
    #[error("{server} does not speak WebSocket: {reason}")]
    NotWebSocket {
        /// The server's URL.
        server: String,
        /// The error.
        reason: String,
    },
    /// The server's first frames are not those of the chat.
    #[error("{server} speaks another protocol: {reason}")]
    OtherProtocol {
        /// The server's URL.
        server: String,
        /// The part of the answer that the client can't use.
        reason: String,
    },
    /// The server speaks only the basic protocol, which has no history.
    #[error("this server speaks only the basic protocol and keeps no history")]
    NoHistory,
    /// The server answers requests for the history with pages that are no further than those before.
    #[error("the server sends no more of the history of {room} and does not say that it ends")]
    NoProgress {
        /// The room.
        room: String,
    },
    /// A frame exceeds the client's limit.
    #[error("the server sent a message that is too large: {0}")]
    TooLarge(String),
    /// The server closed the connection for good.
    #[error("{}", closed(code, reason))]
    Closed {
        /// The WebSocket close code.
        close_code: u16,
        /// The code of the error frame that came before, else the close code.
        code: String,
        /// The text of that error frame, else the close reason; empty if the user was told it already, or
        /// there is none.
        reason: String,
    },
    /// The timeout passed while messages were not acknowledged.
    #[error("{}", unacked(*timeout, refusal.as_ref()))]
    Unacked {
        /// `--timeout`.
        timeout: Duration,
        /// Why the server refuses the messages for now, if it does.
        refusal: Option<Refusal>,
    },
    /// The timeout passed before everything asked for was printed.
    #[error("gave up after {}; only {printed} messages arrived", humantime::format_duration(*timeout))]
    Incomplete {
        /// `--timeout`.
        timeout: Duration,
        /// Messages printed.
        printed: u64,
    },
    /// The cursor file can't be written.
    #[error("{0}")]
    Cursor(String),
    /// Standard output can't be written, for another reason than a closed pipe.
    #[error("standard output can't be written: {reason}")]
    Output {
        /// The error of the system.
        reason: String,
    },
    /// An end-to-end room can't be used, or must not be.
    #[error(transparent)]
    EndToEnd(#[from] Problem),
    /// A signal ended the run.
    #[error("ended by {0}")]
    Signal(Signal),
}

/// Why the server refuses the client or a message, in the server's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code of the error frame that came last, else the close code.
    pub code: String,
    /// The text of that error frame, else the close reason.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

/// How an attempt to connect ended that led to no session.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// It has not ended yet.
    Unfinished,
    /// The connection could not be made.
    Failed(DialError),
    /// The server accepted the connection and did not answer `register`.
    Unanswered,
    /// The server ended the connection without an answer to `register`.
    Dropped,
    /// The server refused to register the client for now.
    Refused(Refusal),
    /// There was none since the last session ended.
    AfterSession,
}

impl Attempt {
    /// The failure as a sentence.
    pub fn describe(&self, server: &str) -> String {
        match self {
            Attempt::Unfinished => format!("{server} has not answered yet"),
            Attempt::Failed(error) => error.to_string(),
            Attempt::Unanswered => {
                format!("{server} accepts the connection and does not answer")
            }
            Attempt::Dropped => format!("{server} ends the connection without an answer"),
            Attempt::Refused(refusal) => {
                format!("the server did not let the client in: {refusal}")
            }
            Attempt::AfterSession => format!("{server} ended the connection"),
        }
    }

    /// Whether the server said something.
    pub fn has_answer(&self) -> bool {
        match self {
            Attempt::Refused(_) => true,
            Attempt::Failed(error) => {
                !matches!(error, DialError::Unreachable { .. } | DialError::NoAddress { .. })
            }
            Attempt::Unfinished
            | Attempt::Unanswered
            | Attempt::Dropped
            | Attempt::AfterSession => false,
        }
    }

    /// Whether it may be that no server runs at the address.
    pub fn found_nothing(&self) -> bool {
        let nothing = matches!(self, Attempt::Failed(DialError::Unreachable { .. }));
        nothing || matches!(self, Attempt::Unfinished)
    }
}

fn no_session(
    server: &str,
    timeout: Duration,
    attempt: &Attempt,
    asked_pause: Option<Duration>,
) -> String {
    let (what, timeout) = (attempt.describe(server), humantime::format_duration(timeout));
    match asked_pause {
        Some(pause) => {
            let pause = humantime::format_duration(pause);
            format!(
                "{what}; it asks for a pause of {pause}, which is longer than --timeout ({timeout})"
            )
        }
        None if attempt.found_nothing() => {
            format!("{what}; gave up after {timeout}; is the server running?")
        }
        None => format!("{what}; gave up after {timeout}"),
    }
}

fn unacked(timeout: Duration, refusal: Option<&Refusal>) -> String {
    let timeout = humantime::format_duration(timeout);
    match refusal {
        None => format!("gave up after {timeout} without an answer from the server"),
        Some(refusal) => {
            format!("the server takes no messages now: {refusal}; gave up after {timeout}")
        }
    }
}

fn closed(code: &str, reason: &str) -> String {
    match reason {
        "" => format!("the server closed the connection ({code})"),
        reason => format!("the server closed the connection: {reason} ({code})"),
    }
}

impl Failure {
    /// The exit code.
    pub fn exit(&self) -> ExitCode {
        match self {
            Failure::Dial(DialError::Refused { .. }) => ExitCode::Refused,
            Failure::Dial(
                DialError::NotChatServer { .. }
                | DialError::Redirected { .. }
                | DialError::WrongScheme { .. }
                | DialError::ProxyDropsHeaders { .. },
            ) => ExitCode::Protocol,
            Failure::Dial(_) | Failure::NoSession { was_registered: false, .. } => {
                ExitCode::NoServer
            }
            Failure::NotWebSocket { .. }
            | Failure::OtherProtocol { .. }
            | Failure::NoHistory
            | Failure::NoProgress { .. }
            | Failure::TooLarge(_) => ExitCode::Protocol,
            // The server does not understand what the client says.
            Failure::Closed { code, .. } if is_about_protocol(code) => ExitCode::Protocol,
            Failure::Closed { close_code: 1008 | 4001 | 4003 | 4008, .. } => ExitCode::Refused,
            Failure::Closed { .. } => ExitCode::Protocol,
            Failure::Unacked { .. }
            | Failure::Incomplete { .. }
            | Failure::NoSession { was_registered: true, .. } => ExitCode::Unacked,
            Failure::Cursor(_) => ExitCode::NoFile,
            Failure::Output { .. } => ExitCode::NoStdio,
            Failure::EndToEnd(problem) => problem.exit(),
            Failure::Signal(signal) => ExitCode::Signal(*signal),
        }
    }
}

/// Whether a refusal says that client and server do not speak the same protocol.
fn is_about_protocol(code: &str) -> bool {
    let codes = [
        ErrorCode::BadProtocol,
        ErrorCode::BadJson,
        ErrorCode::BadFrame,
        ErrorCode::UnknownType,
        ErrorCode::NotRegistered,
    ];
    codes.iter().any(|known| known.as_str() == code)
}
