//! The problems of a configuration. Each is one line that names the source, the key,
//! the value, and what is allowed.

use std::fmt;

/// All problems of a configuration.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// At least one problem.
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

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file can't be read, or is not text.
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
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// The error of the parser.
        reason: String,
    },
    /// The key does not exist.
    #[error("{set_in}: unknown key `{key}`{}", nearest.as_ref()
        .map_or_else(|| "; etc/chat-server.toml lists every key".to_owned(),
            |known| format!("; did you mean `{known}`?")))]
    UnknownKey {
        /// The source: a file or a variable.
        set_in: String,
        /// As the source has it.
        key: String,
        /// The most similar key that exists.
        nearest: Option<String>,
    },
    /// The value is not allowed.
    #[error("{set_in}: {key} = {value}: {allowed}")]
    Value {
        /// The source: a file, a variable, `environment`, `flags` or `defaults`.
        set_in: String,
        /// The key.
        key: String,
        /// As the source has it.
        value: String,
        /// The allowed values.
        allowed: String,
    },
}
