//! Builds a new store file beside the old one: an empty one, one from the values that were recovered,
//! or one under another key. The caller renames it into place, so a kill at any point leaves either
//! the old store or the new one.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Result, params};

use super::e2e_items::E2eItems;
use super::error::OpenError;
use super::folder::StoreFolder;
use super::opening::{Opening, OpeningStep, StepCounter};
use super::{ids, rooms, schema};
use crate::crypto::sealer::Sealer;
use crate::protocol::{RoomName, Seq, Timestamp};
use crate::store::deposits::{Item, Items as _, Place};
use crate::store::lookup_tag::entry_id_tag;
use crate::store::record::{Record, RoomCard};
use crate::store::retention::ids_expire_before;

/// Items per transaction. Each commit syncs, so that the last one does not have to sync everything, which
/// nothing could stop.
const ITEMS_PER_COMMIT: u64 = 50_000;

/// Suffix of a store that is being built.
pub(super) const BUILDING: &str = ".part";

/// A sealed value of a store, decoded.
pub(super) enum StoredItem {
    Record(Record),
    Room(RoomCard),
    Deposit(Item),
}

impl StoredItem {
    pub fn open(sealer: &Sealer, sealed: &[u8]) -> Option<Self> {
        let record = Record::open(sealer, sealed).map(StoredItem::Record);
        let room = || RoomCard::open(sealer, sealed).map(StoredItem::Room);
        record.or_else(room).or_else(|| Item::open(sealer, sealed).map(StoredItem::Deposit))
    }
}

/// A store that is being built. Order of calls: [`Self::new`], [`Self::add`] for each item in any
/// order, [`Self::finish`].
pub(super) struct Rebuild<'a> {
    db: Connection,
    sealer: &'a Sealer,
    opening: &'a Opening,
    messages: u64,
    /// Items since the last commit.
    uncommitted: u64,
    /// The newest entry of each end-to-end room and the newest commit up to it, by the room's number.
    commits: HashMap<i64, (Seq, Seq)>,
}

impl<'a> Rebuild<'a> {
    /// Begins with an empty file. A stop of `opening` makes the calls that follow fail; then the caller
    /// removes the file.
    pub fn new(
        folder: &StoreFolder,
        sealer: &'a Sealer,
        opening: &'a Opening,
    ) -> Result<Self, OpenError> {
        folder.remove_database(BUILDING)?;
        let path = folder.with_suffix(BUILDING);
        let created = schema::create(&path, sealer).and_then(|db| {
            opening.watch(&db);
            db.execute_batch("BEGIN IMMEDIATE")?;
            Ok(Rebuild {
                db,
                sealer,
                opening,
                messages: 0,
                uncommitted: 0,
                commits: HashMap::new(),
            })
        });
        created.map_err(|error| OpenError::sqlite(path, error))
    }

    /// Messages added so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Adds an item, unless it is there already. `sealed` is a record in its sealed form; it is not
    /// used for a room.
    pub fn add(&mut self, item: StoredItem, sealed: &[u8], now: Timestamp) -> Result<()> {
        self.uncommitted += 1;
        if self.uncommitted >= ITEMS_PER_COMMIT {
            self.uncommitted = 0;
            self.db.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
        }
        match item {
            StoredItem::Record(record) => self.add_record(&record, sealed, now),
            StoredItem::Room(card) => self.add_room(card),
            StoredItem::Deposit(item) => self.add_deposit(item),
        }
    }

    /// Copies the epochs of a store, so that positions in it stay valid. `old_sealer` opens its rooms.
    pub fn copy_starts(&mut self, old: &Connection, old_sealer: &Sealer) -> Result<()> {
        let mut starts = old.prepare("SELECT number, word FROM starts")?;
        let mut rows = starts.query([])?;
        while let Some(row) = rows.next()? {
            let (number, word): (i64, String) = (row.get(0)?, row.get(1)?);
            self.db.execute("INSERT INTO starts VALUES (?, ?)", params![number, word])?;
        }
        let mut room_starts = old.prepare("SELECT start, first FROM room_starts WHERE room = ?")?;
        for number in rooms::numbers(old)? {
            let Some(end) = rooms::end(old, old_sealer, number)? else { continue };
            let Some(card) = rooms::card(old, old_sealer, number)? else { continue };
            let new_number = self.room_number(&card.name)?;
            rooms::set_last(&self.db, new_number, end.last)?;
            let mut rows = room_starts.query([number])?;
            while let Some(row) = rows.next()? {
                let (start, first): (i64, i64) = (row.get(0)?, row.get(1)?);
                self.db.execute(
                    "INSERT INTO room_starts VALUES (?, ?, ?)",
                    params![new_number, start, first],
                )?;
            }
        }
        Ok(())
    }

    /// Drops the messages that their rooms had already pruned, makes the file durable, and returns
    /// its path.
    pub fn finish(self, folder: &StoreFolder, now: Timestamp) -> Result<PathBuf, OpenError> {
        let path = folder.with_suffix(BUILDING);
        let committed = self.finish_rooms(now).and_then(|()| {
            self.db.execute_batch("COMMIT")?;
            schema::finish_creation(&self.db)
        });
        committed.map_err(|error| OpenError::sqlite(&path, error))?;
        self.db.close().map_err(|(_, error)| OpenError::sqlite(&path, error))?;
        for part in ["-wal", "-shm"] {
            folder.remove(&folder.with_suffix(&format!("{BUILDING}{part}")))?;
        }
        make_private_and_sync(&path).map_err(|error| OpenError::io(&path, error))?;
        Ok(path)
    }

    fn add_record(&mut self, record: &Record, sealed: &[u8], now: Timestamp) -> Result<()> {
        let entry = &record.entry;
        let tag = entry_id_tag(self.sealer, entry);
        if let Some(tag) = &tag
            && ids::find_seq(&self.db, tag)?.is_some_and(|seq| seq != entry.seq)
        {
            // A leftover of a transaction that was rolled back; the message was sent again and got
            // another sequence number.
            return Ok(());
        }
        let number = self.room_number(&entry.room)?;
        let added = self
            .db
            .prepare_cached("INSERT OR IGNORE INTO records (room, seq, sealed) VALUES (?, ?, ?)")?
            .execute(params![number, entry.seq.0 as i64, sealed])?;
        self.messages += added as u64;
        if let Some(e2e) = &entry.e2e {
            // It was appended because its `base` was the newest commit then, which may be pruned by now.
            let commit = if entry.is_commit() { entry.seq } else { e2e.base };
            let newest = self.commits.entry(number).or_default();
            *newest = (entry.seq, commit).max(*newest);
        }
        if added == 0 && record.is_redacted {
            // What was found before is a leftover from the time before the text was deleted.
            self.db
                .prepare_cached("UPDATE records SET sealed = ? WHERE room = ? AND seq = ?")?
                .execute(params![sealed, number, entry.seq.0 as i64])?;
        }
        let is_new = added > 0 || record.is_redacted;
        match tag.filter(|_| is_new && entry.at >= ids_expire_before(now)) {
            Some(tag) if record.is_redacted => ids::add_redacted(&self.db, &tag, entry),
            Some(tag) => ids::add(&self.db, self.sealer, &tag, entry),
            None => Ok(()),
        }
    }

    /// Of two cards of the same room, the one that was pruned further is newer and is kept; of two that were
    /// pruned as far, the one with the newer commit.
    fn add_room(&mut self, card: RoomCard) -> Result<()> {
        let number = self.room_number(&card.name)?;
        let known = rooms::card(&self.db, self.sealer, number)?;
        let age = |card: &RoomCard| (card.pruned_to, card.newest_commit);
        if known.is_none_or(|known| age(&known) < age(&card)) {
            rooms::set_card(&self.db, self.sealer, &RoomCard { number, ..card })?;
        }
        Ok(())
    }

    /// Of two items in one place, the one of the later commit is kept.
    fn add_deposit(&mut self, item: Item) -> Result<()> {
        let mut items = E2eItems { db: &self.db, sealer: self.sealer };
        let Place { kind, owner, number, sub } = item.place();
        let known = items.list(kind, &owner, number..=number, usize::MAX)?;
        let is_newer = |known: &Item| {
            known.place().sub == sub && (known.seq(), known.at()) >= (item.seq(), item.at())
        };
        if known.iter().any(is_newer) { Ok(()) } else { items.put(item) }
    }

    fn room_number(&mut self, room: &RoomName) -> Result<i64> {
        match rooms::find_number(&self.db, self.sealer, room)? {
            Some(number) => Ok(number),
            None => rooms::add(&self.db, self.sealer, room),
        }
    }

    fn finish_rooms(&self, now: Timestamp) -> Result<()> {
        let numbers = rooms::numbers(&self.db)?;
        if !numbers.is_empty() {
            self.opening.begin(OpeningStep::Finish, Some(numbers.len() as u64))?;
        }
        let mut counter = StepCounter::new(self.opening, 64);
        for number in numbers {
            counter.add()?;
            let card = rooms::card(&self.db, self.sealer, number)?;
            let pruned_to = card.as_ref().map_or(Seq(0), |card| card.pruned_to);
            // A damaged card may have taken the number with it. The entries of a deleted room count no more.
            let newest = self.commits.get(&number).filter(|(seq, _)| *seq > pruned_to);
            if let (Some((_, commit)), Some(card)) = (newest, &card)
                && *commit > card.newest_commit
            {
                rooms::set_newest_commit(&self.db, self.sealer, number, *commit)?;
            }
            rooms::drop_records(&self.db, number, pruned_to)?;
            rooms::find_oldest(&self.db, self.sealer, number, now)?;
        }
        rooms::note_ends(&self.db)
    }
}

fn make_private_and_sync(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.sync_all()
}
