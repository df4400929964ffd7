//! What can be wrong with a configuration, each in one line that names the place, the key, the
//! value, and what is allowed.

use std::fmt;

/// Everything that is wrong.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn one(problem: Problem) -> Self {
        ConfigError { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file can't be read as text.
    #[error("{file}: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{file}:{line}:{column}: not TOML (toml.io): {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key `{key}`{}", nearest.as_ref()
        .map_or_else(|| "; etc/chat-server.toml lists every key".to_owned(),
            |known| format!("; did you mean `{known}`?")))]
    UnknownKey {
        /// A file, or `environment` or `flags`.
        place: String,
        /// As raw.
        key: String,
        /// The known key most like it.
        nearest: Option<String>,
    },
    /// The value can't be right.
    #[error("{place}: {key} = {value}: {allowed}")]
    Value {
        /// A file, or `environment`, `flags` or `defaults`.
        place: String,
        /// The key.
        key: String,
        /// As raw.
        value: String,
        /// What is allowed, and why.
        allowed: String,
    },
}
