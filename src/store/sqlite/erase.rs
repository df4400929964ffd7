//! Removes the bytes of deleted messages from the files of a store, one bounded step at a time.
//!
//! The rows are replaced or removed in the tables first ([`super::redact`]). Their old bytes can still be
//! in the write-ahead log, in free pages, and in unused parts of pages. So, while the server serves:
//!
//! 1. The records of deleted rooms are removed.
//! 2. The write-ahead log is moved into the main file and overwritten.
//! 3. The main file is searched for parts of the deleted values, and they are overwritten there. No row
//!    holds them any more, so SQLite does not use these bytes.
//! 4. If anything was found in the main file, or is in the write-ahead log by then (SQLite writes whole
//!    pages, with their unused parts), this begins again with the second step.
//!
//! A mark in the store says that this is not complete. A start that finds the mark writes the whole file
//! anew ([`rewrite`]), because the deleted values are not known any more.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rusqlite::{Connection, Result, Transaction, TransactionBehavior};

use super::folder::StoreFolder;
use super::opening::{Opening, OpeningStep};
use super::schema::PAGE_BYTES;
use super::traces::Traces;
use super::wal::Wal;
use super::{redact, rooms};
use crate::crypto::sealer::Sealer;
use crate::protocol::Seq;

/// Bytes that one step searches.
const STEP_BYTES: usize = 4 << 20;

/// What is being erased.
#[derive(Default)]
pub(super) struct Erasure {
    traces: Traces,
    /// Rooms whose records up to this sequence number are to be removed.
    rooms: VecDeque<(i64, Seq)>,
    stage: Stage,
    /// Whether anything was found in the main file since the write-ahead log was overwritten.
    found: bool,
}

#[derive(Default)]
enum Stage {
    /// Remove the records of deleted rooms.
    #[default]
    Drop,
    /// Move the write-ahead log into the main file, and overwrite it.
    OverwriteWal,
    /// Search the main file from this byte on.
    Search(u64),
}

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EraseError {
    #[error("another program reads the history")]
    BeingRead,
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Erasure {
    /// Adds values that no row holds any more.
    pub fn add(&mut self, traces: Traces) {
        self.stage = Stage::Drop;
        self.traces.extend(traces);
    }

    /// Adds a room whose messages are hidden.
    pub fn add_room(&mut self, number: i64, last: Seq) {
        self.stage = Stage::Drop;
        self.rooms.push_back((number, last));
    }

    /// Whether records of deleted rooms are still to be removed. Until then nothing may be pruned: the
    /// bytes of what pruning removes are not known.
    pub fn has_records(&self) -> bool {
        !self.rooms.is_empty()
    }

    /// Does one step. Returns whether there are more.
    pub fn step(
        &mut self,
        db: &Connection,
        sealer: &Sealer,
        folder: &StoreFolder,
        wal: &Wal,
    ) -> Result<bool, EraseError> {
        match self.stage {
            Stage::Drop => self.stage = self.drop_some(db, sealer)?,
            Stage::OverwriteWal => {
                if !wal.overwrite(db)? {
                    return Err(EraseError::BeingRead);
                }
                self.found = false;
                self.stage = Stage::Search(0);
            }
            Stage::Search(from) => match self.search(db, folder, from)? {
                Some(next) => self.stage = Stage::Search(next),
                None if self.found || self.is_in_wal(wal)? => self.stage = Stage::OverwriteWal,
                None => {
                    redact::set_erased(db)?;
                    return Ok(false);
                }
            },
        }
        Ok(true)
    }

    fn drop_some(&mut self, db: &Connection, sealer: &Sealer) -> Result<Stage> {
        let Some((number, last)) = self.rooms.front().copied() else {
            return Ok(Stage::OverwriteWal);
        };
        if !redact::drop_some(db, sealer, number, last, &mut self.traces)? {
            self.rooms.pop_front();
        }
        Ok(Stage::Drop)
    }

    /// Searches a part of the main file, and overwrites what is found. Returns where the next part
    /// begins.
    fn search(
        &mut self,
        db: &Connection,
        folder: &StoreFolder,
        from: u64,
    ) -> Result<Option<u64>, EraseError> {
        let file = folder.raw_store_file()?;
        let mut bytes = vec![0; STEP_BYTES];
        let length = read_up_to(file, &mut bytes, from)?;
        let pages = bytes[..length].chunks(PAGE_BYTES);
        let starts = (from..).step_by(PAGE_BYTES);
        let found: Vec<_> = starts
            .zip(pages)
            .flat_map(|(start, page)| {
                let found = self.traces.find(page).into_iter();
                found.map(move |range| (start + range.start as u64, range.len()))
            })
            .collect();
        if !found.is_empty() {
            self.found = true;
            // No other program writes meanwhile.
            let _exclusive = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
            for (start, length) in found {
                file.write_all_at(&vec![0; length], start)?;
            }
            file.sync_data()?;
        }
        if length == STEP_BYTES {
            return Ok(Some(from + length as u64));
        }
        // SQLite would write the pages that it holds in memory again, with their unused parts.
        db.execute_batch("PRAGMA shrink_memory")?;
        Ok(None)
    }

    fn is_in_wal(&self, wal: &Wal) -> io::Result<bool> {
        Ok(!self.traces.find(&wal.read_used()?).is_empty())
    }
}

fn read_up_to(file: &File, bytes: &mut [u8], from: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Completes an erasure that an earlier start did not complete: the whole file is written anew.
pub(super) fn rewrite(
    db: &Connection,
    sealer: &Sealer,
    wal: &Wal,
    opening: &Opening,
) -> Result<(), EraseError> {
    opening.begin(OpeningStep::Erase, None)?;
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    for number in rooms::numbers(db)? {
        if let Some(card) = rooms::card(db, sealer, number)? {
            rooms::drop_records(db, number, card.pruned_to)?;
        }
    }
    transaction.commit()?;
    // The copy may be larger than the memory.
    db.pragma_update(None, "temp_store", "file")?;
    let vacuumed = db.execute_batch("VACUUM");
    db.pragma_update(None, "temp_store", "memory")?;
    vacuumed?;
    if !wal.overwrite(db)? {
        return Err(EraseError::BeingRead);
    }
    redact::set_erased(db)?;
    Ok(())
}
