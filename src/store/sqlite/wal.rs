//! The log of commits (the WAL file): folded into the main file once it is large, then written
//! over from its beginning. A sync of a file that grows costs more than one of a file that does
//! not, so it gets its size with the first few commits, and is never cut.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, ErrorCode, Result, Transaction, TransactionBehavior, hooks};

use super::writer::DiskLog;

/// It is folded into the main file when it has so many pages (16 MiB).
const FOLD_PAGES: u32 = 4096;
/// And where a reader was in the way, again after so many more.
const FOLD_AGAIN: u32 = 256;
/// It is grown to what it has when it is folded: a page, 24 bytes before each, and what the last
/// commit was over. Larger than this it is cut when written over.
pub(super) const KEPT_BYTES: u64 = 18 << 20;
/// One step of growing.
const GROWN_BYTES: u64 = 1 << 20;

pub(super) struct Wal {
    path: PathBuf,
    /// Pages of commits in it. Its file's size says nothing.
    pages: Arc<AtomicU32>,
    fold_at: u32,
    /// Whether it has its size, or can't have it.
    grown: bool,
}

impl Wal {
    pub fn of(db: &mut Connection, path: PathBuf) -> Result<Self> {
        let pages = Arc::new(AtomicU32::new(0));
        let counted = pages.clone();
        db.wal_hook(Some(move |_: &mut hooks::Wal, pages| {
            counted.store(u32::try_from(pages).unwrap_or(u32::MAX), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Wal { path, pages, fold_at: FOLD_PAGES, grown: false })
    }

    fn longer(&self) -> io::Result<bool> {
        let length = fs::metadata(&self.path)?.len();
        if length >= KEPT_BYTES {
            return Ok(true);
        }
        let file = OpenOptions::new().write(true).open(&self.path)?;
        // Real zeros: space that is only reserved still has to be entered when it is written to.
        let zeros = vec![0; GROWN_BYTES.min(KEPT_BYTES - length) as usize];
        let written = file.write_all_at(&zeros, length).and_then(|()| file.sync_data());
        if written.is_err() {
            file.set_len(length)?;
        }
        written.map(|()| length + zeros.len() as u64 >= KEPT_BYTES)
    }
}

impl DiskLog {
    /// One step towards its size. What can't be had is done without: it only costs time.
    pub(super) fn grow_the_log(&mut self) {
        if self.wal.grown {
            return;
        }
        // As long as this lasts nobody else writes to it.
        let Ok(_alone) = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)
        else {
            return;
        };
        self.wal.grown = self.wal.longer().unwrap_or(true);
    }

    /// Folds the log of commits into the main file once it is large.
    pub(super) fn fold_if_large(&mut self) {
        let pages = self.wal.pages.load(Ordering::Relaxed);
        if pages < FOLD_PAGES {
            self.wal.fold_at = FOLD_PAGES;
        }
        if pages < self.wal.fold_at {
            return;
        }
        self.wal.fold_at = pages.saturating_add(FOLD_AGAIN);
        let folded: Result<()> =
            self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        // A full disk or a reader in the way is no harm: what is committed is safe where it is.
        if let Err(error) = folded
            && error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
        {
            self.judge(&error);
        }
    }
}
