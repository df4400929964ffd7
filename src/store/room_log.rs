//! The two ends of a store as traits, and the values that go in and out.

use std::io;
use std::time::Duration;

use super::deletion::{Deleted, DeletedRoom, EraseStep};
use super::deposits::{E2eFound, E2eQuery, E2eReply, E2eRequest};
use super::entry::{Draft, Entry};
use super::original::Original;
pub use super::page::{Gap, GapReason, Head, Page, PageItem, PageRange, Resumption};
use super::retention::Retention;
use crate::protocol::frame::Position;
use crate::protocol::{RoomName, Seq, SeqRange, Timestamp};

/// The writing end of a store. It belongs to one thread, the log writer.
pub trait RoomLog: Send {
    /// Appends checked messages in one transaction with one sync. Returns one outcome per draft, in
    /// order. On return, every `Appended` and `Duplicate` message is durable (if [`Self::durable`]).
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome>;

    /// Appends messages of another store in their order, with their own times. On return all of them are durable
    /// (if [`Self::durable`]); after an error, the first of them may be stored.
    fn import(&mut self, _batch: Vec<Original>, _now: Timestamp) -> Result<(), StoreError> {
        Err(StoreError::Failed("this store takes no messages of another one".into()))
    }

    /// Upkeep that can wait until the senders of a batch have their answers. No answer depends on
    /// it.
    fn after_commit(&mut self);

    /// Does one bounded step of pruning: drops messages beyond the [`Retention`], and message ids
    /// older than [`ID_RETENTION`](super::retention::ID_RETENTION), and gives free space back to the file
    /// system. `uptime` is the monotonic time
    /// since the store was opened: the wall clock `now` may be wrong, so a store on disk drops only
    /// what `uptime` and its own newest message justify.
    fn prune(&mut self, now: Timestamp, uptime: Duration) -> PruneResult;

    /// Deletes the texts of messages. On return no reader gets them any more, and that is durable.
    /// Their bytes are gone from the files once [`Self::erase_step`] has returned
    /// [`EraseStep::Done`].
    fn delete(&mut self, room: &RoomName, ranges: &[SeqRange]) -> Result<Deleted, DeleteError>;

    /// Deletes every message of a room. Its sequence numbers go on, so that every reader that lacks
    /// something is told. The rest is as with [`Self::delete`].
    fn delete_room(&mut self, room: &RoomName, now: Timestamp) -> Result<DeletedRoom, DeleteError>;

    /// Where the last deletion is noted in a log with a tail: once [`Tail::place`](super::Tail::place) is there, the tail
    /// has yielded it.
    fn noted_at(&self) -> u64 {
        0
    }

    /// Changes what end-to-end rooms need besides their logs, in one transaction with one sync. Returns one reply
    /// per request, in order; on return they are durable. After an error nothing is changed; over an engine, the first
    /// of them may be done, and each may be asked again.
    fn e2e(
        &mut self,
        _requests: Vec<E2eRequest>,
        _now: Timestamp,
    ) -> Result<Vec<E2eReply>, StoreError> {
        Err(StoreError::without_e2e())
    }

    /// Does one bounded step of erasing deleted bytes from the files of the store.
    fn erase_step(&mut self) -> EraseStep;

    /// Whether the store is larger than its limit now, so that the next step should come soon.
    fn is_over_limit(&self) -> bool;

    /// Whether an appended message survives `kill -9` and power loss.
    fn durable(&self) -> bool;

    /// Changes how much is kept. Surplus messages are dropped later, not by this call.
    fn set_retention(&mut self, retention: Retention);

    /// Ends the use of the store: afterwards its main file alone is complete, and the next start
    /// knows that. Every later append is refused. A store that is dropped without this call looks
    /// like the store of a server that was killed.
    fn close(&mut self) -> Result<(), StoreError>;
}

/// How many rooms a store has. The answer comes from memory, at once.
pub trait RoomCount: Send + Sync {
    /// How many rooms the store has: those with messages, and those whose messages were pruned until
    /// they are forgotten.
    fn room_count(&self) -> u64;
}

/// The reading end of a store, shared by all readers. Every call may wait for the disk.
pub trait RoomLogReader: RoomCount {
    /// Where the log of a room begins and ends. A room without messages has `last` 0.
    fn head(&self, room: &RoomName) -> Result<Head, StoreError>;

    /// Decides how a reader with this position continues. The position may name the epoch of any
    /// start.
    fn resume(&self, room: &RoomName, position: &Position) -> Result<Resumption, StoreError>;

    /// Reads a page of a room's log: at most `limit` entries, whose texts together have at most
    /// `bytes` bytes. If `limit` is not 0, a page with `more` has an entry, however long its text
    /// is, or a gap, and `reached` is beyond the start of the range.
    fn page(
        &self,
        room: &RoomName,
        range: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError>;

    /// The position just before the time `at`: [`PageRange::After`] it holds every stored message
    /// from `at` on. If the clock was turned back, it may also hold some older messages.
    fn since(&self, room: &RoomName, at: Timestamp) -> Result<Seq, StoreError>;

    /// How many messages of a room are kept, with those whose text was deleted.
    fn kept(&self, room: &RoomName) -> Result<u64, StoreError>;

    /// Which of the store's logs the room is in, as an index of
    /// [`OpenedStore::logs`](super::OpenedStore::logs).
    fn log_of(&self, _room: &RoomName) -> usize {
        0
    }

    /// Whether numbers are left out in the log of a room, because all rooms share them.
    fn leaves_out_numbers(&self) -> bool {
        false
    }

    /// Reads what end-to-end rooms need besides their logs.
    fn e2e(&self, _query: E2eQuery) -> Result<E2eFound, StoreError> {
        Err(StoreError::without_e2e())
    }

    /// Every room that ever had a message, sorted by name.
    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError>;
}

/// What happened to a draft.
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
    /// It is in the log now under this number, and the [`Tail`](super::Tail) of the log yields it, with its time.
    Accepted {
        /// Its sequence number.
        seq: Seq,
    },
    /// It is not in the log: the newest commit of the room is not the one that the sender had read last.
    StaleBase {
        /// The newest commit that the sender had read.
        base: Seq,
        /// The newest commit of the room; 0 if it has none.
        newest: Seq,
    },
    /// It is not in the log: nobody has uploaded the ratchet tree that the commit names.
    NoTree,
    /// It is not in the log: its user has sent too many commits, and may send the next after this time.
    TooManyCommits(Duration),
    /// It is not in the log.
    Refused(StoreError),
    /// It is not known whether it is in the log. If it is, a repetition under the same id gives `Duplicate`. The
    /// text says why, for the server log.
    Unknown(String),
}

/// Why a store can't be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Something is used up. Writing works again as soon as there is more of it.
    #[error("{0}")]
    Full(Shortage),
    /// Anything else. The text is for the server log and never contains the text of a message.
    #[error("the room log failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// A panic ended the work.
    pub fn interrupted() -> Self {
        StoreError::Failed("an internal error interrupted it".into())
    }

    fn without_e2e() -> Self {
        StoreError::Failed("this store has no end-to-end rooms".into())
    }
}

/// Why nothing was deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// There is no such room.
    #[error("the history has no room of this name")]
    UnknownRoom,
    /// Without its commits, no device could follow an end-to-end room any more.
    #[error("message {0} is a commit, which every member needs; delete the whole room instead")]
    Commit(Seq),
    /// A message that is not there yet.
    #[error("the newest message of the room is {0}")]
    NotYet(Seq),
    /// The store can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a store may lack for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// ENOSPC.
    #[error("no space is left on the file system of the room log")]
    Space,
    /// EDQUOT.
    #[error("the disk quota of the room log's owner is used up")]
    Quota,
    /// EFBIG.
    #[error(
        "the limit on the size of a file is reached (LimitFSIZE=, ulimit -f, or the file system's)"
    )]
    FileSize,
    /// The engine of the cluster has no space.
    #[error("the cluster's engine has no space left for messages")]
    Engine,
}

impl Shortage {
    /// The shortage that a system call reported, if it was one.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull => Some(Shortage::Space),
            io::ErrorKind::QuotaExceeded => Some(Shortage::Quota),
            io::ErrorKind::FileTooLarge => Some(Shortage::FileSize),
            _ => None,
        }
    }
}

/// What a step of pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneResult {
    /// Messages dropped.
    pub messages: u64,
    /// The rooms that they were in.
    pub rooms: Vec<PrunedRoom>,
    /// Message ids dropped.
    pub ids: u64,
    /// Whether there is more to prune right away.
    pub more: bool,
    /// By how many bytes the store is over its limit, if no message can be dropped any more.
    pub excess_bytes: u64,
    /// Why the step failed, if it did.
    pub error: Option<StoreError>,
}

/// What pruning dropped from a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrunedRoom {
    /// The room.
    pub room: RoomName,
    /// Messages dropped.
    pub messages: u64,
    /// The first message that is left.
    pub first: Seq,
    /// Why they were dropped.
    pub reason: PruneReason,
}

/// Why messages were pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PruneReason {
    /// Too many in the room, or too old.
    Retention,
    /// The whole store was too large.
    MaxBytes,
}

impl PruneReason {
    /// The word in the server log.
    pub fn word(self) -> &'static str {
        match self {
            PruneReason::Retention => "retention",
            PruneReason::MaxBytes => "max_bytes",
        }
    }
}
