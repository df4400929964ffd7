//! The room log: the ordered, durable record of every room, behind two small traits.
//!
//! [`RoomLog`] is owned by one thread, the scribe: it alone appends, and what it gave back is safe.
//! [`RoomLogReader`] is shared by whoever reads history. Live delivery, history and resume all read the
//! same record, so there is one order. Time is an argument; nothing here logs, spawns or retries.
//!
//! Deliberately absent: editing, deleting one message, searching. A record only grows at its end
//! and is forgotten from its beginning.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::{Epoch, RoomName, Seq, Timestamp};

mod entry;
mod memory;
mod retention;
mod seal;
mod sqlite;

pub use entry::{Draft, Entry};
pub use memory::open_memory;
pub use sqlite::{OpenError, RekeyResult, open_disk, rekey};

/// How long a sender's id is remembered at least, so that sending again is not saying twice.
pub const ID_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// Owned by one thread, the scribe.
pub trait RoomLog: Send {
    /// Appends checked messages in one transaction with one sync. One outcome for each draft, in
    /// order. What is `Appended` or `Duplicate` is durable on return (where [`Self::durable`]).
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome>;

    /// What is left to do of a batch after everybody was told; nothing that was said rests on it.
    fn after_commit(&mut self);

    /// One bounded step of forgetting: messages beyond [`Retention`], ids older than [`ID_RETENTION`].
    fn prune(&mut self, now: Timestamp) -> PruneResult;

    /// Whether what is appended survives `kill -9` and power loss.
    fn durable(&self) -> bool;

    /// Keeps more or less from now on.
    fn set_retention(&mut self, keep: Retention);
}

/// Shared by whoever reads history.
pub trait RoomLogReader: Send + Sync {
    /// Where a room's record begins and ends. A room nobody wrote in has one too: its last is 0.
    fn head(&self, room: &RoomName) -> Result<Head, StoreError>;

    /// A piece of a room's record: at most `limit` entries whose texts are at most `bytes` long
    /// together, but at least one entry where there is any.
    fn page(
        &self,
        room: &RoomName,
        span: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError>;

    /// The last place before that moment: `PageRange::After` it holds every kept message from `at` on.
    /// Where the clock was turned back it may also hold some from before.
    fn since(&self, room: &RoomName, at: Timestamp) -> Result<Seq, StoreError>;

    /// Every room anybody wrote in, by name.
    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError>;
}

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It is in the record.
    Appended(Entry),
    /// The same sender said the same under the same id before: there.
    Duplicate {
        /// Where it is, or was before it was forgotten.
        seq: Seq,
        /// When it was appended.
        at: Timestamp,
    },
    /// The same sender said something else under that id.
    Conflict {
        /// Where that is.
        seq: Seq,
    },
    /// It is not in the record.
    Refused(StoreError),
}

/// Why the record can't be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space; works again when there is some.
    #[error("no space left for the room log")]
    Full,
    /// Broken; the words are for the log of the server and never contain text of a message.
    #[error("the room log failed: {0}")]
    Failed(String),
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Messages a room.
    pub messages: u64,
    /// Age of a message.
    pub age: Duration,
}

/// Where a room's record begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which record; one for all rooms of a store.
    pub epoch: Epoch,
    /// The newest message's place; 0 before the first.
    pub last: Seq,
    /// The oldest kept message's place; `last.next()` when none is kept.
    pub first: Seq,
}

/// Which piece of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRange {
    /// From the one after this place on.
    After(Seq),
    /// Those nearest before this place.
    Before(Seq),
    /// The newest.
    Newest,
}

/// A piece of a room's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Ascending.
    pub entries: Vec<Entry>,
    /// Whether there is more in the direction of the span.
    pub more: bool,
    /// Where the next page of that direction begins: `After(reached)`, or `Before(reached)`. Not
    /// always the outermost entry's place, because damage is passed over too.
    pub reached: Seq,
    /// ReadPositions inside this piece that were written and can't be read, ascending.
    pub damaged: Vec<SeqRange>,
    /// The room's head at the moment of reading.
    pub head: Head,
}

/// ReadPositions that were written and can't be read any more, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqRange {
    /// The first of them.
    pub first: Seq,
    /// The last of them.
    pub last: Seq,
}

/// What a step of forgetting did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneResult {
    /// Messages forgotten.
    pub messages: u64,
    /// Ids forgotten.
    pub ids: u64,
    /// Whether another step is due at once.
    pub more: bool,
    /// Why the step was not done.
    pub error: Option<StoreError>,
}

/// Something to tell operators about a store that was opened, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A new, empty record was begun.
    #[error("{0}: there was no history here, a new one begins")]
    Created(String),
    /// The record could not be trusted as it was.
    #[error(
        "{file}: {reason}; {kept} messages were saved into a new history, the old file is kept as \
         {aside}, and readers are told of the loss"
    )]
    Recovered {
        /// The store's file.
        file: String,
        /// What was wrong.
        reason: String,
        /// Messages that could be read and are in the new file.
        kept: u64,
        /// Where the old file is now.
        aside: String,
    },
    /// The record is whole but may be an older one.
    #[error(
        "{file}: {reason}; the messages in it are kept, and readers are told that some may be missing"
    )]
    Restored {
        /// The store's file.
        file: String,
        /// Why it may be older.
        reason: String,
    },
    /// An interrupted change of the key was finished or undone.
    #[error("{0}")]
    Resumed(String),
}

/// An opened store: the two ends of it, and what was found.
pub struct OpenedStore {
    /// For the scribe.
    pub log: Box<dyn RoomLog>,
    /// For readers.
    pub reader: Arc<dyn RoomLogReader>,
    /// For the log and operators.
    pub findings: Vec<Finding>,
}
