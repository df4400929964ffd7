//! Building a record anew: an empty one, one from what can still be read of a broken one, or one
//! under another key. It is built beside the old one and takes its place in one rename, so a
//! server that is killed in the middle finds either.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::watermark::{self, Watermark};
use super::{OpenError, StoreFolder, page_scan, schema, writer};
use crate::credentials::at_rest_key::AtRestKey;
use crate::protocol::{Epoch, RoomName, Seq, Timestamp};
use crate::store::seal::{Record, RoomCard, Sealer};
use crate::store::{Finding, retention};

/// A record that is being built.
pub(super) const PART: &str = ".part";
/// A salvaged record that is whole and is to take the place of the damaged one.
const SAVED: &str = ".saved";
/// Written when damage is met while the record is in use: look closely at the next start.
pub(super) const SUSPECT: &str = ".suspect";
/// What is shorter than this is not one of our sealed values.
const SEALED_LEAST: usize = 40;

/// Begins a new, empty record.
pub(super) fn begin(place: &StoreFolder, sealer: &Sealer) -> Result<(), OpenError> {
    let build = Build::new(place, sealer, &Epoch::fresh())?;
    let part = build.close(place)?;
    place.rename(&part, &place.store())?;
    place.remove(&place.mark())?;
    Watermark::open(place, sealer).map(drop)
}

/// Gives a whole record a new epoch, because it may be an older one.
pub(super) fn renew(
    place: &StoreFolder,
    sealer: &Sealer,
    reason: String,
) -> Result<Finding, OpenError> {
    let renewed = schema::writer(&place.store())
        .and_then(|db| schema::renew_epoch(&db, sealer, &Epoch::fresh()));
    renewed.map_err(|source| OpenError::Store { path: place.store(), source })?;
    // Now the mark may be begun anew: the loss is told.
    place.remove(&place.mark())?;
    Watermark::open(place, sealer)?;
    Ok(Finding::Restored { file: place.store().display().to_string(), reason })
}

/// Saves what can be read into a new record under a fresh epoch; the old file is moved aside.
pub(super) fn recover(
    place: &StoreFolder,
    sealer: &Sealer,
    key: &AtRestKey,
    reason: &str,
    now: Timestamp,
) -> Result<Finding, OpenError> {
    let mut build = Build::new(place, sealer, &Epoch::fresh())?;
    // The mark is under the same key, and so is the head of the file, which is not a piece of ours.
    let (mut looked_at, mut fits) = (0u64, watermark::read(place, sealer).is_some());
    let mut failure = None;
    let mut take = |sealed: &[u8]| {
        if sealed.len() < SEALED_LEAST || failure.is_some() {
            return;
        }
        looked_at += 1;
        let Some(plain) = RecoveredItem::open(sealer, sealed) else {
            fits |= sealer.open(sealed).is_some();
            return;
        };
        fits = true;
        if let Err(error) = build.add(plain, sealed, now) {
            failure = Some(error);
        }
    };
    // First what SQLite still reads, in its order: that is sure to have been committed.
    if let Ok(old) = schema::reader(&place.store()) {
        let _ = read_values(&old, &mut take);
    }
    page_scan::scan_pages(&place.store(), &place.beside("-wal"), &mut take)
        .map_err(|source| place.io(place.store(), source))?;
    if let Some(source) = failure {
        return Err(OpenError::Store { path: place.beside(PART), source });
    }
    // A file full of sealed values none of which opens is not broken: the key is wrong.
    if looked_at > 0 && !fits {
        return Err(place.wrong_key(key));
    }
    let kept = build.kept;
    let part = build.close(place)?;
    place.rename(&part, &place.beside(SAVED))?;
    let aside = finish(place)?;
    Watermark::open(place, sealer)?;
    Ok(Finding::Recovered {
        file: place.store().display().to_string(),
        reason: reason.into(),
        kept,
        aside: aside.display().to_string(),
    })
}

/// Puts a salvaged record in its place, also where a kill came in between.
pub(super) fn finish(place: &StoreFolder) -> Result<PathBuf, OpenError> {
    remove_with_log(place, PART)?;
    let saved = place.beside(SAVED);
    let mut aside = PathBuf::new();
    if saved.exists() {
        let number = (1..).find(|number| {
            let aside = place.beside(&format!(".damaged-{number}"));
            !aside.exists() && !place.beside(&format!(".damaged-{number}-wal")).exists()
        });
        let ending = format!(".damaged-{}", number.unwrap_or(1));
        aside = place.beside(&ending);
        // The log first: beside a file that it does not belong to it would do harm.
        for part in ["-wal", ""] {
            if place.beside(part).exists() {
                place.rename(&place.beside(part), &place.beside(&format!("{ending}{part}")))?;
            }
        }
        place.remove(&place.beside("-shm"))?;
        place.remove(&place.mark())?;
        place.remove(&place.beside(SUSPECT))?;
        place.rename(&saved, &place.store())?;
    }
    Ok(aside)
}

fn remove_with_log(place: &StoreFolder, ending: &str) -> Result<(), OpenError> {
    for part in ["", "-wal", "-shm"] {
        place.remove(&place.beside(&format!("{ending}{part}")))?;
    }
    Ok(())
}

fn read_values(old: &Connection, take: &mut impl FnMut(&[u8])) -> Result<()> {
    for table in ["rooms", "records"] {
        let mut values = old.prepare(&format!("SELECT sealed FROM {table}"))?;
        let mut rows = values.query([])?;
        while let Some(row) = rows.next()? {
            take(row.get_ref(0)?.as_blob().unwrap_or_default());
        }
    }
    Ok(())
}

/// Something of ours that was found.
pub(super) enum RecoveredItem {
    Record(Record),
    Room(RoomCard),
}

impl RecoveredItem {
    pub fn open(sealer: &Sealer, sealed: &[u8]) -> Option<Self> {
        let record = sealer.open_record(sealed).map(RecoveredItem::Record);
        record.or_else(|| sealer.open_room(sealed).map(RecoveredItem::Room))
    }
}

/// A record on its way.
pub(super) struct Build<'a> {
    db: Connection,
    sealer: &'a Sealer,
    /// Messages in it.
    pub kept: u64,
}

impl<'a> Build<'a> {
    pub fn new(place: &StoreFolder, sealer: &'a Sealer, epoch: &Epoch) -> Result<Self, OpenError> {
        remove_with_log(place, PART)?;
        let path = place.beside(PART);
        let made = schema::create(&path, sealer, epoch).and_then(|db| {
            db.execute_batch("BEGIN IMMEDIATE")?;
            Ok(Build { db, sealer, kept: 0 })
        });
        made.map_err(|source| OpenError::Store { path, source })
    }

    pub fn add(&mut self, piece: RecoveredItem, sealed: &[u8], now: Timestamp) -> Result<()> {
        match piece {
            RecoveredItem::Record(record) => self.add_record(&record, sealed, now),
            RecoveredItem::Room(card) => self.add_room(card),
        }
    }

    fn add_record(&mut self, record: &Record, sealed: &[u8], now: Timestamp) -> Result<()> {
        let entry = &record.entry;
        let tag = entry.id.as_ref().map(|id| self.sealer.id_tag(&entry.room, &entry.user, id));
        if let Some(tag) = &tag {
            let known: Option<i64> = self
                .db
                .prepare_cached("SELECT seq FROM ids WHERE tag = ?")?
                .query_row([tag], |row| row.get(0))
                .optional()?;
            // What was rolled back may lie around under another place: it was sent again since.
            if known.is_some_and(|seq| seq as u64 != entry.seq.0) {
                return Ok(());
            }
        }
        let number = self.number(&entry.room)?;
        let seq = entry.seq.0 as i64;
        let added = self
            .db
            .prepare_cached("INSERT OR IGNORE INTO records (room, seq, sealed) VALUES (?, ?, ?)")?
            .execute(params![number, seq, sealed])?;
        self.kept += added as u64;
        if let Some(tag) = tag
            && added > 0
            && entry.at >= retention::ids_before(now)
        {
            writer::add_id(&self.db, self.sealer, &tag, entry)?;
        }
        Ok(())
    }

    /// Keeps what is known of a room, of two states the later one.
    fn add_room(&mut self, card: RoomCard) -> Result<()> {
        let number = self.number(&card.name)?;
        let known = writer::card(&self.db, self.sealer, number)?;
        if known.is_none_or(|known| known.forgotten < card.forgotten) {
            let card = RoomCard { number, ..card };
            self.db
                .prepare_cached("UPDATE rooms SET sealed = ? WHERE number = ?")?
                .execute(params![self.sealer.seal_room(&card), number])?;
        }
        Ok(())
    }

    fn number(&mut self, room: &RoomName) -> Result<i64> {
        match writer::number_of(&self.db, self.sealer, room)? {
            Some(number) => Ok(number),
            None => writer::add_room(&self.db, self.sealer, room),
        }
    }

    /// Drops what its room has already forgotten, and makes the file whole and safe by itself.
    pub fn close(self, place: &StoreFolder) -> Result<PathBuf, OpenError> {
        let part = place.beside(PART);
        let closed = self.drop_forgotten().and_then(|()| {
            self.db.execute_batch("COMMIT")?;
            schema::fold(&self.db)
        });
        closed.map_err(|source| OpenError::Store { path: part.clone(), source })?;
        let db = self.db.close().map_err(|(_, source)| source);
        db.map_err(|source| OpenError::Store { path: part.clone(), source })?;
        sync(&part).map_err(|source| place.io(part.clone(), source))?;
        Ok(part)
    }

    fn drop_forgotten(&self) -> Result<()> {
        let mut rooms = self.db.prepare("SELECT number FROM rooms")?;
        let numbers: Vec<i64> = rooms.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
        for number in numbers {
            let forgotten =
                writer::card(&self.db, self.sealer, number)?.map_or(Seq(0), |card| card.forgotten);
            self.db
                .prepare_cached("DELETE FROM records WHERE room = ? AND seq <= ?")?
                .execute([number, forgotten.0 as i64])?;
        }
        Ok(())
    }
}

fn sync(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let file = std::fs::File::open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.sync_all()
}
