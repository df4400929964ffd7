//! What can go wrong with the state of a device.

use std::path::PathBuf;

/// The state of a device can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// SQLite failed.
    #[error("the state of the device can't be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// A value can't be encoded.
    #[error("a value of the state can't be encoded")]
    Encoding,
    /// A value can't be decoded or decrypted.
    #[error("the state of the device is damaged, or it is sealed with another key")]
    Damaged,
    /// A newer version wrote it.
    #[error(
        "the state of the device was written by a newer chat-client (form {found}; this one knows {known})"
    )]
    Newer {
        /// The form that was found.
        found: i32,
        /// The newest form that this program knows.
        known: i32,
    },
    /// Others can read it, or it belongs to somebody else.
    #[error("{path:?} {problem}")]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and the next step.
        problem: &'static str,
    },
    /// The operating system failed.
    #[error("{path:?}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        error: std::io::Error,
    },
}
