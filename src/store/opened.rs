//! The result of opening a store.

use std::sync::Arc;

use super::room_log::{RoomLog, RoomLogReader};

/// An opened store: its two ends, and what was found while opening it.
pub struct OpenedStore {
    /// For the log writer.
    pub log: Box<dyn RoomLog>,
    /// For the sessions and the hub.
    pub reader: Arc<dyn RoomLogReader>,
    /// For the server log.
    pub findings: Vec<Finding>,
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
    /// The store is intact but may be an older copy, so it got a new epoch.
    #[error(
        "{file}: {reason}, so newer messages may be missing; all messages in the file were kept, and \
         clients will be notified of a possible gap"
    )]
    Restored {
        /// The store's file.
        file: String,
        /// Why it may be an older copy.
        reason: String,
    },
    /// An interrupted rekey was finished or undone.
    #[error("{0}")]
    Resumed(String),
}
