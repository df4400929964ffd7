//! The two ends of a store as traits, and the values that go in and out.

use super::entry::{Draft, Entry};
use super::retention::Retention;
use crate::protocol::{Epoch, RoomName, Seq, Timestamp};

/// The writing end of a store. It belongs to one thread, the log writer.
pub trait RoomLog: Send {
    /// Appends checked messages in one transaction with one sync. Returns one outcome per draft, in
    /// order. On return, every `Appended` and `Duplicate` message is durable (if [`Self::durable`]).
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome>;

    /// Upkeep that can wait until the senders of a batch have their answers. No answer depends on
    /// it.
    fn after_commit(&mut self);

    /// Does one bounded step of pruning: drops messages beyond the [`Retention`], and message ids
    /// older than [`ID_RETENTION`](super::retention::ID_RETENTION).
    fn prune(&mut self, now: Timestamp) -> PruneResult;

    /// Whether an appended message survives `kill -9` and power loss.
    fn durable(&self) -> bool;

    /// Changes how much is kept. Surplus messages are dropped later, not by this call.
    fn set_retention(&mut self, retention: Retention);
}

/// The reading end of a store, shared by all readers.
pub trait RoomLogReader: Send + Sync {
    /// Where the log of a room begins and ends. A room without messages has `last` 0.
    fn head(&self, room: &RoomName) -> Result<Head, StoreError>;

    /// Reads a page of a room's log: at most `limit` entries, whose texts together have at most
    /// `bytes` bytes. If there is an entry in the range and `limit` is not 0, the page has at least
    /// one, however long its text is.
    fn page(
        &self,
        room: &RoomName,
        range: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError>;

    /// The seq before the first message from the time `at` on: [`PageRange::After`] this seq is
    /// every stored message from `at` on, and, if the clock was turned back, perhaps some older
    /// ones.
    fn since(&self, room: &RoomName, at: Timestamp) -> Result<Seq, StoreError>;

    /// Every room that ever had a message, sorted by name.
    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError>;
}

/// The outcome for a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It is in the log now.
    Appended(Entry),
    /// The same user sent the same text under the same id before.
    Duplicate {
        /// The sequence number of the first message. It may have been pruned since.
        seq: Seq,
        /// When the first message was appended.
        at: Timestamp,
    },
    /// The same user sent another text under the same id before.
    Conflict {
        /// The sequence number of the other message.
        seq: Seq,
    },
    /// It is not in the log.
    Refused(StoreError),
}

/// Why a store can't be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. Writing works again as soon as there is space.
    #[error("no space left for the room log")]
    Full,
    /// Anything else. The text is for the server log and never contains the text of a message.
    #[error("the room log failed: {0}")]
    Failed(String),
}

/// Where the log of a room begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The epoch of the store; all rooms share it.
    pub epoch: Epoch,
    /// The newest message; 0 before the first.
    pub last: Seq,
    /// The oldest stored message; `last.next()` if none is stored.
    pub first: Seq,
}

/// Which part of a room's log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRange {
    /// The first entries after this sequence number.
    After(Seq),
    /// The last entries before this sequence number.
    Before(Seq),
    /// The newest entries.
    Newest,
}

/// A part of a room's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In ascending order, whatever the range.
    pub entries: Vec<Entry>,
    /// Whether the range has more entries.
    pub more: bool,
    /// Where the next page continues: `After(reached)` or `Before(reached)`. It can lie beyond the
    /// outermost entry, because damaged entries are skipped.
    pub reached: Seq,
    /// Entries inside this page that were written but can't be read, in ascending order.
    pub damaged: Vec<SeqRange>,
    /// The head of the room at the time of reading.
    pub head: Head,
}

/// A range of sequence numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqRange {
    /// The first number.
    pub first: Seq,
    /// The last number.
    pub last: Seq,
}

/// The result of a step of pruning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneResult {
    /// Messages dropped.
    pub messages: u64,
    /// Message ids dropped.
    pub ids: u64,
    /// Whether there is more to prune right away.
    pub more: bool,
    /// Why the step failed, if it did.
    pub error: Option<StoreError>,
}
