//! The progress of opening a store, and how another thread stops it.
//!
//! The thread that opens the store calls [`Opening::begin`] for each step that may take long, and
//! [`Opening::advance`] while it works. Any other thread may call [`Opening::stop`]. The step that a stop
//! interrupts is undone: a transaction is rolled back, and a file that was being built is removed.
//! The next start begins that step again.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, InterruptHandle, Result, ffi};

/// A step of opening a store that takes long if the store is large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpeningStep {
    /// Everything in the store is read and decrypted.
    Check,
    /// The tables of an earlier version are changed.
    Upgrade,
    /// What SQLite can read of a damaged store is copied into a new file.
    Copy,
    /// Every page of a damaged store is searched for more.
    Scan,
    /// The new file is completed.
    Finish,
    /// The newest message of each room is looked up.
    Rooms,
    /// The file is written anew, so that nothing of deleted messages is left in it.
    Erase,
    /// Everything is encrypted under another key.
    Rekey,
}

impl OpeningStep {
    /// The step's word in the server log.
    pub fn word(self) -> &'static str {
        match self {
            OpeningStep::Check => "check",
            OpeningStep::Upgrade => "upgrade",
            OpeningStep::Copy => "copy",
            OpeningStep::Scan => "scan",
            OpeningStep::Finish => "finish",
            OpeningStep::Rooms => "rooms",
            OpeningStep::Erase => "erase",
            OpeningStep::Rekey => "rekey",
        }
    }

    /// Whether the step is rare. A rare step is reported when it begins; the others are short in nearly
    /// every store, and are reported only if they take long.
    pub fn is_rare(self) -> bool {
        !matches!(self, OpeningStep::Check | OpeningStep::Rooms)
    }

    fn text(self) -> &'static str {
        match self {
            OpeningStep::Check => "checking the messages",
            OpeningStep::Upgrade => "upgrading it to the form of this version",
            OpeningStep::Copy => "copying the messages of a damaged file",
            OpeningStep::Scan => "searching the pages of a damaged file",
            OpeningStep::Finish => "completing the new file",
            OpeningStep::Rooms => "reading the list of rooms",
            OpeningStep::Erase => "erasing deleted messages",
            OpeningStep::Rekey => "encrypting the messages",
        }
    }
}

/// How far an opening has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpeningProgress {
    /// The current step.
    pub step: OpeningStep,
    /// The messages, pages or rooms that it has done.
    pub done: u64,
    /// How many there are in all; `None` if that is unknown.
    pub total: Option<u64>,
}

impl OpeningProgress {
    /// How much of the step is done; `None` if that is unknown.
    pub fn percent(&self) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0)?;
        Some((u128::from(self.done) * 100 / u128::from(total)).min(100) as u64)
    }
}

impl fmt::Display for OpeningProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.step.text())?;
        match (self.percent(), self.done) {
            (Some(percent), _) => write!(f, ", {percent} %"),
            (None, 0) => Ok(()),
            (None, done) => write!(f, ", {done} done"),
        }
    }
}

type Observer = Box<dyn Fn(OpeningProgress) + Send + Sync>;

/// Shared by the thread that opens a store and those that watch it.
pub struct Opening {
    stopped: AtomicBool,
    progress: Mutex<Option<OpeningProgress>>,
    /// The connections to interrupt; `None` once the opening can't be stopped any more.
    connections: Mutex<Option<Vec<InterruptHandle>>>,
    observer: Observer,
}

impl Default for Opening {
    fn default() -> Self {
        Opening::new(|_| {})
    }
}

impl Opening {
    /// An opening that has not begun. The opening thread calls `observer` when a step begins, and many
    /// times during it.
    pub fn new(observer: impl Fn(OpeningProgress) + Send + Sync + 'static) -> Self {
        Opening {
            stopped: AtomicBool::new(false),
            progress: Mutex::default(),
            connections: Mutex::new(Some(Vec::new())),
            observer: Box::new(observer),
        }
    }

    /// How far it has come; `None` before the first step.
    pub fn progress(&self) -> Option<OpeningProgress> {
        *self.progress.lock()
    }

    /// Stops the opening soon, unless it is nearly complete. SQLite ignores an interruption that comes
    /// between two statements, so this must be called again and again until the opening has ended.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let connections = self.connections.lock();
        connections.iter().flatten().for_each(InterruptHandle::interrupt);
    }

    /// Lets [`Self::stop`] interrupt the statements of a connection.
    pub(super) fn watch(&self, db: &Connection) {
        if let Some(connections) = self.connections.lock().as_mut() {
            connections.push(db.get_interrupt_handle());
        }
    }

    /// Begins a step. Fails if the opening was stopped.
    pub(super) fn begin(&self, step: OpeningStep, total: Option<u64>) -> Result<()> {
        let progress = OpeningProgress { step, done: 0, total };
        *self.progress.lock() = Some(progress);
        (self.observer)(progress);
        self.check()
    }

    /// Adds to what the current step has done. Fails if the opening was stopped.
    pub(super) fn advance(&self, count: u64) -> Result<()> {
        let progress = self.progress.lock().as_mut().map(|progress| {
            progress.done += count;
            *progress
        });
        progress.into_iter().for_each(|progress| (self.observer)(progress));
        self.check()
    }

    /// Fails, with the error of an interrupted statement, if the opening was stopped.
    pub(super) fn check(&self) -> Result<()> {
        if self.stopped.load(Ordering::SeqCst) && self.connections.lock().is_some() {
            let interrupted = ffi::Error::new(ffi::SQLITE_INTERRUPT);
            return Err(rusqlite::Error::SqliteFailure(interrupted, None));
        }
        Ok(())
    }

    /// From here on the opening can't be stopped. Fails if it was.
    pub(super) fn make_unstoppable(&self) -> Result<()> {
        self.check()?;
        *self.connections.lock() = None;
        Ok(())
    }
}

/// Counts items, and calls [`Opening::advance`] once for many of them.
pub(super) struct StepCounter<'a> {
    opening: &'a Opening,
    per_call: u64,
    count: u64,
}

impl<'a> StepCounter<'a> {
    pub fn new(opening: &'a Opening, per_call: u64) -> Self {
        StepCounter { opening, per_call, count: 0 }
    }

    /// Counts one item. Fails if the opening was stopped.
    pub fn add(&mut self) -> Result<()> {
        self.count += 1;
        if self.count < self.per_call {
            return Ok(());
        }
        self.opening.advance(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_as_percent_where_the_total_is_known() {
        let progress =
            |done, total| OpeningProgress { step: OpeningStep::Scan, done, total }.to_string();
        assert_eq!(progress(41, Some(100)), "searching the pages of a damaged file, 41 %");
        assert_eq!(progress(0, None), "searching the pages of a damaged file");
        assert_eq!(progress(7, None), "searching the pages of a damaged file, 7 done");
        assert_eq!(progress(1, Some(0)), "searching the pages of a damaged file, 1 done");
        assert_eq!(progress(u64::MAX, Some(3)), "searching the pages of a damaged file, 100 %");
    }

    #[test]
    fn a_stop_is_seen_until_the_opening_is_unstoppable() {
        let opening = Opening::default();
        opening.begin(OpeningStep::Check, None).unwrap();
        opening.stop();
        assert!(opening.advance(1).is_err() && opening.make_unstoppable().is_err());
        let opening = Opening::default();
        opening.make_unstoppable().unwrap();
        opening.stop();
        assert!(opening.begin(OpeningStep::Scan, Some(2)).is_ok() && opening.check().is_ok());
    }

    #[test]
    fn a_running_statement_is_interrupted() {
        let opening = Opening::default();
        let db = Connection::open_in_memory().unwrap();
        opening.watch(&db);
        std::thread::scope(|scope| {
            let query = scope.spawn(move || {
                let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                    SELECT sum(i) FROM n";
                db.query_row(endless, [], |_| Ok(()))
            });
            while !query.is_finished() {
                opening.stop();
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let error = query.join().unwrap().unwrap_err();
            assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::OperationInterrupted));
        });
    }
}
