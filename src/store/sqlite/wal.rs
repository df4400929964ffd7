//! The write-ahead log (WAL): it is checkpointed into the main file when it is large, and then
//! overwritten from its beginning. A sync costs more when the file grows, so the WAL file is extended
//! to [`WAL_BYTES`] within the first few commits, and is never made smaller than that.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, ErrorCode, Result, Transaction, TransactionBehavior, ffi, hooks};

/// Pages in the WAL that trigger a checkpoint (16 MiB).
const CHECKPOINT_PAGES: u32 = 4096;
/// If a reader blocked the checkpoint, it is tried again after this many more pages.
const CHECKPOINT_RETRY_PAGES: u32 = 256;
/// The size of the WAL file: [`CHECKPOINT_PAGES`] with a header of 24 bytes each, and the pages of
/// one more commit. A file that became larger is truncated to this size when it is overwritten.
pub(super) const WAL_BYTES: u64 = 18 << 20;
/// Bytes added by one call of [`Wal::extend`].
const EXTEND_STEP_BYTES: u64 = 1 << 20;

pub(super) struct Wal {
    path: PathBuf,
    /// Committed pages in the WAL. They can't be derived from the size of the file.
    pages: Arc<AtomicU32>,
    checkpoint_at: u32,
    /// Whether the file has its full size, or extending it failed.
    extended: bool,
}

impl Wal {
    /// Starts to count the pages that `db` commits. `path` is the WAL file.
    pub fn watch(db: &mut Connection, path: PathBuf) -> Result<Self> {
        let pages = Arc::new(AtomicU32::new(0));
        let counter = pages.clone();
        db.wal_hook(Some(move |_: &mut hooks::Wal, pages| {
            counter.store(u32::try_from(pages).unwrap_or(u32::MAX), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Wal { path, pages, checkpoint_at: CHECKPOINT_PAGES, extended: false })
    }

    /// Extends the file one step towards its full size. Errors are ignored, because a shorter file
    /// only costs time.
    pub fn extend(&mut self, db: &Connection) {
        if self.extended {
            return;
        }
        // Until this transaction ends, no other process writes to the WAL.
        let Ok(_exclusive) = Transaction::new_unchecked(db, TransactionBehavior::Immediate) else {
            return;
        };
        self.extended = self.extend_file().unwrap_or(true);
    }

    /// Runs a checkpoint if the WAL is large. Fails only on an I/O error: a full disk or a reader
    /// that blocks the checkpoint does no harm, because commits are safe in the WAL.
    pub fn checkpoint_if_large(&mut self, db: &Connection) -> Result<()> {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < CHECKPOINT_PAGES {
            self.checkpoint_at = CHECKPOINT_PAGES;
        }
        if pages < self.checkpoint_at {
            return Ok(());
        }
        self.checkpoint_at = pages.saturating_add(CHECKPOINT_RETRY_PAGES);
        match db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the file has its full size now.
    fn extend_file(&self) -> io::Result<bool> {
        let length = fs::metadata(&self.path)?.len();
        if length >= WAL_BYTES {
            return Ok(true);
        }
        let file = OpenOptions::new().write(true).open(&self.path)?;
        // Real zeros: the first write to space that is only reserved would still change metadata.
        let zeros = vec![0; EXTEND_STEP_BYTES.min(WAL_BYTES - length) as usize];
        let written = file.write_all_at(&zeros, length).and_then(|()| file.sync_data());
        if written.is_err() {
            file.set_len(length)?;
        }
        written.map(|()| length + zeros.len() as u64 >= WAL_BYTES)
    }
}

/// Moves the whole WAL into the main file and empties it. Returns `false` if a reader prevents it.
pub(super) fn checkpoint_and_truncate(db: &Connection) -> Result<bool> {
    let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(busy == 0)
}

/// Moves the whole WAL into the main file. The WAL file keeps its length.
pub(super) fn checkpoint(db: &Connection) -> Result<()> {
    let busy: i64 = db.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| row.get(0))?;
    match busy {
        0 => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)),
    }
}
