//! Gives free pages back to the file system, a few at a time. Pruning leaves free pages in the file, and
//! later messages use them again. Some free pages stay for them; the surplus is given back.
//!
//! The file of a store that an earlier version created does not shrink until `rekey` or a recovery writes
//! it anew.

use std::fs;
use std::path::PathBuf;

use rusqlite::{Connection, Result};

use super::schema::PAGE_BYTES;
use super::size_limit::pragma;

/// Pages that one step gives back (1 MiB).
const PAGES_PER_STEP: u64 = 256;
/// Free pages that stay in the file: this many, and this part of all pages.
const MIN_SPARE_PAGES: u64 = 64;
const SPARE_PART: u64 = 16;
/// `PRAGMA auto_vacuum` of a file that can shrink.
const INCREMENTAL: u64 = 2;

/// Shrinks the main file of a store.
pub(super) struct Vacuum {
    main_file: PathBuf,
    is_possible: bool,
    /// Whether the main file is still longer than the store: only a checkpoint makes it shorter.
    is_checkpoint_due: bool,
}

impl Vacuum {
    pub fn new(db: &Connection, main_file: PathBuf) -> Result<Self> {
        let is_possible = pragma(db, "PRAGMA auto_vacuum")? == INCREMENTAL;
        Ok(Vacuum { main_file, is_possible, is_checkpoint_due: false })
    }

    /// Does one bounded step. Returns whether another one should follow right away.
    pub fn step(&mut self, db: &Connection) -> Result<bool> {
        if !self.is_possible {
            return Ok(false);
        }
        let pages = pragma(db, "PRAGMA page_count")?;
        let surplus = pragma(db, "PRAGMA freelist_count")?
            .saturating_sub(MIN_SPARE_PAGES.max(pages / SPARE_PART));
        if surplus > 0 {
            let count = surplus.min(PAGES_PER_STEP);
            let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({count})"))?;
            // Each row is a page.
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
            self.is_checkpoint_due = true;
            return Ok(true);
        }
        if self.is_checkpoint_due {
            // A reader can prevent it; then the next step tries it again.
            db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
            let length = fs::metadata(&self.main_file).map_or(0, |found| found.len());
            self.is_checkpoint_due = length > pages * PAGE_BYTES as u64;
        }
        Ok(false)
    }
}
