//! The result of opening a store.

use std::sync::Arc;

use super::room_log::{RoomLog, RoomLogReader};
use super::tail::Tail;

/// An opened store: its logs, its reading end, and what was found while opening it.
pub struct OpenedStore {
    /// One log per independent order of messages. A room is in one of them
    /// ([`RoomLogReader::log_of`]).
    pub logs: Vec<OpenedLog>,
    /// For the sessions, and its [`RoomCount`](super::RoomCount) for the hub.
    pub reader: Arc<dyn RoomLogReader>,
    /// For the server log.
    pub findings: Vec<Finding>,
}

/// One of the logs of a store.
pub struct OpenedLog {
    /// For a log writer.
    pub log: Box<dyn RoomLog>,
    /// The messages as they were committed, if other servers append to this log as well.
    pub tail: Option<Box<dyn Tail>>,
}

impl OpenedStore {
    /// A store with one log that only this process appends to.
    pub fn of_one(
        log: impl RoomLog + 'static,
        reader: Arc<dyn RoomLogReader>,
        findings: Vec<Finding>,
    ) -> Self {
        let logs = vec![OpenedLog { log: Box::new(log), tail: None }];
        OpenedStore { logs, reader, findings }
    }

    /// The first log; the only one of a store on one node.
    pub fn log(&mut self) -> &mut dyn RoomLog {
        self.logs[0].log.as_mut()
    }
}

/// Something that operators should know about a store that was opened. The text is for the server
/// log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The folder had no store, and a new one was created.
    #[error("{0}: no message history was found, so a new one was created")]
    Created(String),
    /// The store was damaged. What could be read was copied into a new store with a new epoch.
    #[error(
        "{file}: {reason}; {messages} messages were recovered into a new file, the damaged file was \
         moved to {moved_to}, and clients will be notified of the gap"
    )]
    Recovered {
        /// The store's file.
        file: String,
        /// The damage.
        reason: String,
        /// Messages that were recovered.
        messages: u64,
        /// Where the damaged file is now.
        moved_to: String,
    },
    /// The store may lack its newest messages, so all earlier epochs were forgotten.
    #[error(
        "{file}: {reason}, so newer messages may be missing; clients will be notified of a possible gap"
    )]
    Restored {
        /// The store's file.
        file: String,
        /// Why messages may be missing.
        reason: String,
    },
    /// The store was restored by a command, which forgot all earlier epochs.
    #[error("{file}: restored from a backup of {made}; clients will be notified of a possible gap")]
    FromBackup {
        /// The store's file.
        file: String,
        /// When the backup was made.
        made: String,
    },
    /// A write-ahead log that belongs to another copy of the store was moved away.
    #[error(
        "{file}: {store} was closed cleanly, so this write-ahead log is of another copy of it, or has no \
         message; it was not used, and was moved to {moved_to}"
    )]
    ForeignWal {
        /// The write-ahead log.
        file: String,
        /// The store's file.
        store: String,
        /// Where the log is now.
        moved_to: String,
    },
    /// Damaged files that earlier starts moved away are still there.
    #[error(
        "{folder}: {files} files named history.sqlite3.damaged-N take {bytes} bytes; inspect them, then \
         remove them"
    )]
    DamagedFiles {
        /// The store's folder.
        folder: String,
        /// How many there are.
        files: u64,
        /// Their size in all.
        bytes: u64,
    },
    /// Bytes of deleted messages may still be in the files.
    #[error(
        "{file}: deleted messages could not be erased from the file ({reason}), so it may still contain \
         them, encrypted; the next start tries it again"
    )]
    NotErased {
        /// The store's file.
        file: String,
        /// Why.
        reason: String,
    },
    /// An interrupted rekey was finished or undone.
    #[error("{0}")]
    Resumed(String),
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Operators should know of it.
    Warning,
    /// Messages were lost, or may have been.
    Error,
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Finding::Recovered { .. } => Severity::Error,
            _ => Severity::Warning,
        }
    }
}
