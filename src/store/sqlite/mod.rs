//! A store on disk: SQLite in WAL mode, with one sync per commit.
//!
//! | file | content |
//! | --- | --- |
//! | `history.sqlite3` (`-wal`, `-shm`) | the store; messages, names and ids in it are encrypted or hashed |
//! | `history.key` | the at-rest key, unless it is a systemd credential |
//! | `history.mark` | the commit watermark: what the newest commit was, so that a loss is noticed |
//! | `history.lock` | locked by the process that has the folder open |
//! | `history.sqlite3.damaged-N` | a damaged store that was replaced, kept for manual inspection |
//!
//! Opening: lock the folder, finish an interrupted rekey or recovery, check the integrity, and then
//! either go on with the file or recover what can be read into a new file. Then the start is noted under
//! a new epoch (decision 0012). One
//! connection writes, a few read. A reader works in one SQLite snapshot, so a page and its head
//! show the same state.

mod append;
mod backup;
mod backup_error;
mod backup_file;
mod copies;
mod disk_usage;
mod e2e_items;
mod erase;
mod error;
mod folder;
mod ids;
mod integrity;
mod lacking;
mod migrate;
mod open;
mod opening;
mod page_scan;
mod prune;
mod prune_clock;
mod read_only;
mod reader;
mod rebuild;
mod recovery;
mod redact;
mod rekey;
mod restore;
mod restore_install;
mod rooms;
mod schema;
mod size_limit;
mod starts;
#[cfg(test)]
mod tests;
mod traces;
mod vacuum;
mod wal;
mod watermark;
mod write_failure;
mod writer;

pub use backup::{BackupContent, backup};
pub use backup_error::BackupError;
pub use backup_file::{Backup, BackupSummary};
pub use copies::older_copies;
pub use disk_usage::DiskUsage;
pub use error::OpenError;
pub use integrity::refuse_newer_store;
pub use open::{open_disk, open_disk_watched};
pub use opening::{Opening, OpeningProgress, OpeningStep};
pub use read_only::read_disk;
pub use rekey::{RekeyResult, rekey};
pub use restore::{RestoreRequest, Restored, restore};
