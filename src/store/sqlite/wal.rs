//! The write-ahead log (WAL): it is checkpointed into the main file when it is large, and then
//! overwritten from its beginning. A sync costs more when the file grows, so the WAL file is extended
//! to [`WAL_BYTES`] within the first few commits, and is never made smaller than that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

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

/// How long to wait for a lock that another process holds, such as an operator's sqlite3.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long overwriting the WAL waits for a reader.
const OVERWRITE_BUSY_TIMEOUT: Duration = Duration::from_millis(200);
/// The WAL format (sqlite.org/fileformat2.html): a header, and a frame with a header of its own per page.
const HEADER_BYTES: u64 = 32;
const FRAME_BYTES: u64 = 24 + PAGE_BYTES;
const PAGE_BYTES: u64 = 4096;

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

    /// Moves the whole WAL into the main file, and overwrites the rest of the WAL file after one more
    /// commit. Returns `false` if a reader prevents it. The file keeps its length.
    pub fn overwrite(&self, db: &Connection) -> Result<bool> {
        // A reader that takes long must not delay the commits.
        db.busy_timeout(OVERWRITE_BUSY_TIMEOUT)?;
        let restarted = self.restart(db);
        db.busy_timeout(BUSY_TIMEOUT)?;
        if !restarted? {
            return Ok(false);
        }
        // The frames behind the last commit are not used by SQLite, and nothing is committed meanwhile.
        let _exclusive = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
        self.overwrite_unused().map_err(|error| {
            let reason = format!("the write-ahead log can't be overwritten: {error}");
            let failure = ffi::Error::new(ffi::SQLITE_IOERR_WRITE);
            rusqlite::Error::SqliteFailure(failure, Some(reason))
        })?;
        Ok(true)
    }

    /// Makes SQLite write the WAL from its beginning again. Returns `false` if a reader prevents it.
    fn restart(&self, db: &Connection) -> Result<bool> {
        let before = self.header();
        let busy: i64 = db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))?;
        if busy != 0 {
            return Ok(false);
        }
        // The next commit writes a new header, and then its frames behind it.
        db.execute("INSERT OR REPLACE INTO meta VALUES ('restarted', randomblob(8))", [])?;
        Ok(self.header() != before)
    }

    fn header(&self) -> Option<[u8; HEADER_BYTES as usize]> {
        let mut header = [0; HEADER_BYTES as usize];
        let file = OpenOptions::new().read(true).open(&self.path).ok()?;
        file.read_exact_at(&mut header, 0).ok()?;
        Some(header)
    }

    fn overwrite_unused(&self) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let length = file.metadata()?.len();
        let mut at = self.used_bytes();
        let (mut bytes, zeros) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        while at < length {
            let count = (length - at).min(zeros.len() as u64) as usize;
            file.read_exact_at(&mut bytes[..count], at)?;
            if bytes[..count] != zeros[..count] {
                file.write_all_at(&zeros[..count], at)?;
            }
            at += count as u64;
        }
        file.sync_data()
    }

    /// The bytes that the commits in the WAL take.
    fn used_bytes(&self) -> u64 {
        HEADER_BYTES + u64::from(self.pages.load(Ordering::Relaxed)) * FRAME_BYTES
    }

    /// The bytes of the commits in the WAL.
    pub fn read_used(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(self.used_bytes()).read_to_end(&mut bytes)?;
        Ok(bytes)
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
