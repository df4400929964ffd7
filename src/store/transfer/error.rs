//! Why a history can't be exported or imported.

use std::io;
use std::path::PathBuf;

use crate::protocol::RoomName;
use crate::store::room_log::StoreError;

/// Why a history can't be exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A file operation failed.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{0}: this is not a history that `chat-server export` wrote; nothing was imported")]
    NotAnExport(String),
    /// The file is sealed.
    #[error(
        "{file}: {reason}; nothing was imported; name a file with the passphrase with --passphrase-file"
    )]
    Sealed {
        /// The file.
        file: String,
        /// Why it does not open.
        reason: String,
    },
    /// A newer program wrote the file.
    #[error(
        "{file}: written by a newer chat-server (form {form}; this one knows {known}); nothing was imported; import it \
         with the newer program"
    )]
    Newer {
        /// The file.
        file: String,
        /// Its form.
        form: u32,
        /// The newest form that this program knows.
        known: u32,
    },
    /// The file was cut short or altered.
    #[error(
        "{file}: line {line}: {reason}: the file was cut short or altered; nothing was imported; export again"
    )]
    Damaged {
        /// The file.
        file: String,
        /// The number of the line.
        line: u64,
        /// How that shows.
        reason: &'static str,
    },
    /// The file changed between two readings.
    #[error("{0}: the file was changed during the import; export again, and import again")]
    Changed(String),
    /// The room has messages that are not in the file.
    #[error(
        "the room {room} has messages here that are not in the file, so the file's can't be put before them; {stored} \
         messages of other rooms were imported; keep what is there, or delete it (chat-server ctl room delete {room}) \
         and import again"
    )]
    OtherMessages {
        /// The room.
        room: RoomName,
        /// Messages that were imported before.
        stored: u64,
    },
    /// The store failed.
    #[error("the room {room}: {source}; run the same import again: it goes on where it stopped")]
    Store {
        /// The room.
        room: RoomName,
        /// Why.
        source: StoreError,
    },
    /// A server runs on the store.
    #[error(
        "{0}: a server uses this history, or another command does; nothing was imported; stop the server (systemctl \
         stop chat-server.socket chat-server.service), and import again"
    )]
    InUse(PathBuf),
    /// The store can't be closed.
    #[error(
        "the history can't be closed: {0}; everything is imported, and the next start recovers it"
    )]
    Closing(StoreError),
    /// The rooms of the store can't be listed.
    #[error("the rooms can't be listed: {0}")]
    Rooms(StoreError),
}
