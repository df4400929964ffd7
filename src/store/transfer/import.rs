//! Appends what is in an exported file to a store.
//!
//! The file is read whole before anything is written. Then, room by room, what the store has is compared with the file: it
//! must be a run of the file's messages without a hole, and what follows in the file is appended. So an import that was
//! interrupted is repeated, and one that is complete changes nothing. At the end all of it is compared once more.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::TransferError;
use super::export::{Pages, items};
use super::form::{LineReader, Part};
use super::sealed_file::{SealedReader, UnsealError};
use crate::protocol::{RoomName, Timestamp};
use crate::store::deletion::Stored;
use crate::store::opened::OpenedStore;
use crate::store::original::Original;
use crate::store::retention::expires_before;

/// The most messages, and the most bytes of text, that are appended at once.
const BATCH_MESSAGES: usize = 500;
const BATCH_BYTES: usize = 512 << 10;
/// How long nothing may come until a log counts as read to its end.
const CATCH_UP: Duration = Duration::from_millis(500);

/// A file that is whole.
pub struct ExportFile {
    path: PathBuf,
    passphrase: Option<Zeroizing<String>>,
    /// When the export was made.
    pub made: Timestamp,
    /// Messages in it.
    pub messages: u64,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rooms in the file.
    pub rooms: u64,
    /// Messages that were appended.
    pub messages: u64,
    /// Messages that were there already.
    pub already: u64,
    /// Messages that were left out, because the store would not keep them for their age.
    pub expired: u64,
}

type Lines = LineReader<BufReader<File>>;

impl ExportFile {
    /// Reads a file to its end, and refuses one that is not whole.
    pub fn check(
        path: &Path,
        passphrase: Option<Zeroizing<String>>,
    ) -> Result<Self, TransferError> {
        let made = Timestamp::from_micros(0);
        let mut file = ExportFile { path: path.into(), passphrase, made, messages: 0 };
        let mut lines = file.open()?;
        file.made = lines.made;
        loop {
            match lines.next()? {
                Part::Room(_) => {}
                Part::Message(_) => file.messages += 1,
                Part::End => return Ok(file),
            }
        }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn open(&self) -> Result<Lines, TransferError> {
        let failed = |source| TransferError::Io { file: self.name(), source };
        let file = File::open(&self.path).map_err(failed)?;
        let passphrase = self.passphrase.as_ref().map(|text| text.as_str());
        let unsealed = SealedReader::new(BufReader::new(file), passphrase);
        let unsealed = unsealed.map_err(|error| match error {
            UnsealError::Io(source) if source.kind() != std::io::ErrorKind::InvalidData => {
                failed(source)
            }
            error => TransferError::Sealed { file: self.name(), reason: error.to_string() },
        })?;
        LineReader::new(&self.name(), unsealed)
    }
}

/// Appends what the store lacks. Messages older than `keep_for` are left out in a room that is empty. `progress` is
/// called from time to time with the messages that were looked at.
pub fn import(
    store: &mut OpenedStore,
    file: &ExportFile,
    keep_for: Duration,
    now: Timestamp,
    progress: &mut dyn FnMut(u64),
) -> Result<Imported, TransferError> {
    let kept_from = expires_before(now, keep_for);
    let done = Run::new(store, file, kept_from, now)?.all(progress)?;
    // Somebody may have written into one of the rooms meanwhile.
    catch_up(store)?;
    let mut run = Run::new(store, file, kept_from, now)?;
    run.is_check = true;
    run.done.messages = done.messages;
    run.all(&mut |_| {})?;
    Ok(done)
}

/// Reads what was appended to the logs since the store was opened, so that the reader knows of it.
fn catch_up(store: &mut OpenedStore) -> Result<(), TransferError> {
    let tails = store.logs.iter_mut().filter_map(|log| log.tail.as_mut());
    for tail in tails {
        while !tail.next(CATCH_UP).map_err(TransferError::Rooms)?.is_empty() {}
    }
    Ok(())
}

struct Run<'a> {
    store: &'a mut OpenedStore,
    file: &'a ExportFile,
    lines: Lines,
    kept_from: Timestamp,
    now: Timestamp,
    is_check: bool,
    /// The room whose line was read last.
    room: Option<RoomName>,
    /// Whether the room that is being imported has no more messages in the file.
    has_ended: bool,
    done: Imported,
}

impl<'a> Run<'a> {
    fn new(
        store: &'a mut OpenedStore,
        file: &'a ExportFile,
        kept_from: Timestamp,
        now: Timestamp,
    ) -> Result<Self, TransferError> {
        let lines = file.open()?;
        let done = Imported::default();
        Ok(Run {
            store,
            file,
            lines,
            kept_from,
            now,
            is_check: false,
            room: None,
            has_ended: false,
            done,
        })
    }

    fn all(mut self, progress: &mut dyn FnMut(u64)) -> Result<Imported, TransferError> {
        // The first line is that of a room, or the last one.
        if self.message()?.is_some() {
            return Err(TransferError::Changed(self.file.name()));
        }
        while let Some(room) = self.room.take() {
            self.done.rooms += 1;
            self.has_ended = false;
            self.import_room(&room, progress)?;
        }
        Ok(self.done)
    }

    /// The next message of the room; `None` if it has no more.
    fn message(&mut self) -> Result<Option<Stored>, TransferError> {
        if self.has_ended {
            return Ok(None);
        }
        match self.lines.next()? {
            Part::Message(stored) => return Ok(Some(stored)),
            Part::Room(room) => self.room = Some(room),
            Part::End => {}
        }
        self.has_ended = true;
        Ok(None)
    }

    fn import_room(
        &mut self,
        room: &RoomName,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), TransferError> {
        let (has_any, mut latest) = self.compare(room)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(stored) = self.message()? {
            let at = time(&stored);
            if !has_any && latest.is_none() && at < self.kept_from {
                self.done.expired += 1;
                continue;
            }
            if self.is_check {
                return Err(self.other_messages(room));
            }
            let reached = latest.max(Some(at.min(self.now)));
            latest = reached;
            bytes += stored.text_bytes();
            batch.push(Original { stored, room: room.clone(), latest: reached.unwrap_or(at) });
            if batch.len() >= BATCH_MESSAGES || bytes >= BATCH_BYTES {
                self.append(room, std::mem::take(&mut batch))?;
                bytes = 0;
                progress(self.done.messages + self.done.already + self.done.expired);
            }
        }
        self.append(room, batch)
    }

    /// Reads the file as far as the store has its messages. Returns whether it has any, and the latest time of them.
    fn compare(&mut self, room: &RoomName) -> Result<(bool, Option<Timestamp>), TransferError> {
        let reader = self.store.reader.clone();
        let mut pages = Pages::new(reader.as_ref(), room);
        let (mut has_any, mut latest) = (false, None);
        let mut damaged = 0;
        while let Some(page) = pages.next()? {
            for there in items(page, &mut damaged) {
                loop {
                    let Some(ours) = self.message()? else {
                        // The file ends where newer messages begin, or has nothing of this.
                        return match has_any {
                            true => Ok((true, latest)),
                            false => Err(self.other_messages(room)),
                        };
                    };
                    if is_same(&ours, &there) {
                        break;
                    }
                    if has_any {
                        return Err(self.other_messages(room));
                    }
                    // It was left out for its age, or pruned.
                    self.done.expired += 1;
                }
                has_any = true;
                self.done.already += 1;
                latest = latest.max(Some(time(&there)));
            }
        }
        if damaged > 0 {
            return Err(self.other_messages(room));
        }
        Ok((has_any, latest))
    }

    fn append(&mut self, room: &RoomName, batch: Vec<Original>) -> Result<(), TransferError> {
        let count = batch.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let log = self.store.reader.log_of(room);
        let appended = self.store.logs[log].log.import(batch, self.now);
        appended.map_err(|source| TransferError::Store { room: room.clone(), source })?;
        self.done.messages += count;
        Ok(())
    }

    fn other_messages(&self, room: &RoomName) -> TransferError {
        TransferError::OtherMessages { room: room.clone(), stored: self.done.messages }
    }
}

fn time(stored: &Stored) -> Timestamp {
    match stored {
        Stored::Message(entry) => entry.at,
        Stored::Redacted(redaction) => redaction.at,
    }
}

/// Whether a message of the file is the one in the store. Its text may have been deleted since.
fn is_same(ours: &Stored, there: &Stored) -> bool {
    match (ours, there) {
        (Stored::Message(ours), Stored::Message(there)) => {
            let is_same_sender = (&ours.user, ours.verified) == (&there.user, there.verified);
            is_same_sender && (ours.at, &ours.id, &ours.text) == (there.at, &there.id, &there.text)
        }
        (ours, Stored::Redacted(there)) => time(ours) == there.at,
        (Stored::Redacted(_), Stored::Message(_)) => false,
    }
}
