//! Why a run with end-to-end rooms can't go on.

use std::fmt;

use crate::client::exit_code::ExitCode;
use crate::mls::{OpenError, RoomError, StateError};
use crate::protocol::device::UserKey;

/// What kind of reason it is, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key is not the one that is known, or this device's own state can't be used.
    Identity,
    /// The server showed something that no honest server shows.
    Evidence,
    /// This device is not in the room, or may not do this.
    NotAllowed,
    /// The server does not know end-to-end rooms.
    NotSupported,
    /// Somebody else must act first.
    Pending,
}

/// Why a run with end-to-end rooms can't go on: what was seen, and the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub kind: Kind,
    /// One sentence for standard error.
    pub text: String,
    /// A key that a user showed and that is not trusted, to be compared later.
    pub seen: Option<(String, UserKey)>,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Problem { kind, text: text.into(), seen: None }
    }

    /// Something that no honest server shows.
    pub fn evidence(text: impl Into<String>) -> Self {
        Problem::new(Kind::Evidence, text)
    }

    /// A key or a state that can't be used.
    pub fn identity(text: impl Into<String>) -> Self {
        Problem::new(Kind::Identity, text)
    }

    /// The exit code.
    pub fn exit(&self) -> ExitCode {
        match self.kind {
            Kind::Identity => ExitCode::Identity,
            Kind::Evidence => ExitCode::Evidence,
            Kind::NotAllowed => ExitCode::Refused,
            Kind::NotSupported => ExitCode::Protocol,
            Kind::Pending => ExitCode::Unacked,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Problem {}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        Problem::identity(error.to_string())
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        Problem::identity(error.to_string())
    }
}

impl From<RoomError> for Problem {
    fn from(error: RoomError) -> Self {
        let kind = match &error {
            RoomError::NotMember | RoomError::Void(_) => Kind::NotAllowed,
            RoomError::NotYet | RoomError::CommitPending => Kind::Pending,
            RoomError::Malformed | RoomError::InfoRefused | RoomError::WelcomeRefused => {
                Kind::Evidence
            }
            _ => Kind::Identity,
        };
        Problem::new(kind, error.to_string())
    }
}
