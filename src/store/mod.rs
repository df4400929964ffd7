//! The store of the room log, on disk or in memory.
//!
//! The room log is the ordered, durable record of the messages of every room. The store has two
//! ends: [`RoomLog`] appends and prunes, and belongs to one thread, the log writer.
//! [`RoomLogReader`] reads, and is shared by every session. Live delivery, history and resume all
//! read the same log, so there is one order.
//!
//! Order of calls: [`open_disk`] or [`open_memory`] once; then, on the log writer's thread,
//! [`RoomLog::append`] for each batch, [`RoomLog::after_commit`] once the senders have their answers,
//! [`RoomLog::prune`] from time to time, and [`RoomLog::close`] at the end. An entry may be delivered and acked as soon as `append`
//! returns it.
//!
//! An operator can delete the text of a message ([`RoomLog::delete`]) or all messages of a room. The
//! sequence number stays. [`RoomLog::erase_step`] then removes the bytes from the files, step by step.
//!
//! The current time is an argument; nothing here logs, spawns or retries. Deliberately absent:
//! editing, searching. The log of a room only grows at its end and is pruned from its beginning.

mod deletion;
mod deposits;
mod entry;
mod jetstream;
mod lookup_tag;
mod memory;
mod opened;
mod original;
mod page;
mod page_builder;
mod record;
mod retention;
mod room_log;
mod sqlite;
mod tail;
mod transfer;

pub use deletion::{Deleted, DeletedRoom, EraseStep, Redaction, Stored};
pub use deposits::{DeviceKeys, E2eFound, E2eQuery, E2eReply, E2eRequest, GroupInfo, Invited};
pub use entry::{Draft, Entry};
pub use jetstream::{
    Assurance, ClusterError, ClusterPlan, Credentials, EngineAddress, EngineInspector, EngineTls,
    Inspection, Mismatch, ReachedEngine, Waiting, open_cluster, reach,
};
pub use memory::open_memory;
#[cfg(any(test, feature = "faults"))]
pub use memory::open_sparse_memory;
pub use opened::{Finding, OpenedLog, OpenedStore, Severity};
pub use original::Original;
pub use retention::{ID_RETENTION, Retention};
pub use room_log::{
    AppendOutcome, DeleteError, Gap, GapReason, Head, Page, PageItem, PageRange, PruneReason,
    PruneResult, PrunedRoom, Resumption, RoomCount, RoomLog, RoomLogReader, Shortage, StoreError,
};
pub use sqlite::{
    Backup, BackupContent, BackupError, BackupSummary, DiskUsage, OpenError, Opening,
    OpeningProgress, OpeningStep, RekeyResult, RestoreRequest, Restored, backup, older_copies,
    open_disk, open_disk_watched, read_disk, refuse_newer_store, rekey, restore,
};
pub use tail::{Tail, TailDeletion, TailItem, TailMessage};
pub use transfer::{ExportFile, Exported, Imported, TransferError, export, import};
