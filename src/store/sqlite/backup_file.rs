//! The form of a backup: a copy of the store in one SQLite file, with one more table.
//!
//! | name in the table `backup` | value |
//! | --- | --- |
//! | `form` | the version of this table |
//! | `made` | when the backup was made, for people |
//! | `manifest` | how much is in the store; sealed under the at-rest key |
//! | `access` | the access file, if there was one; sealed under the at-rest key |
//! | `key` | the at-rest key in the age format, if it was asked for |
//!
//! The manifest is sealed and holds a digest of every row of the store, so a changed or missing row is
//! noticed. The access file is sealed because it names users, and so that only the owner of the key can
//! change who may connect. The application id is not that of a store, so no server opens a backup as its
//! history.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Result, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::backup_error::BackupError;
use super::schema;
use crate::credentials::at_rest_key::AtRestKey;
use crate::crypto::sealer::Sealer;
use crate::protocol::hex::hex;
use crate::protocol::{RoomName, Seq, Timestamp};
use crate::store::lookup_tag::room_tag;
use crate::store::record::{self, Record, RoomCard};

/// "chbk" in the file's header, by which file(1) and a restore recognise a backup.
pub(super) const APPLICATION_ID: i32 = 0x6368_626b;
const PAGE_BYTES: u64 = schema::PAGE_BYTES as u64;
/// The version of the table `backup`.
const FORM: i32 = 1;
/// The digest in the manifest covers the schema, so that nobody can add a trigger, and these tables. A
/// restore empties the others.
const DIGESTED: [&str; 5] = [
    "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> 'backup' ORDER BY 1, 2",
    "SELECT * FROM meta ORDER BY 1",
    "SELECT * FROM rooms ORDER BY 1",
    "SELECT * FROM records ORDER BY 1, 2",
    "SELECT * FROM ids ORDER BY 1",
];
/// The first bytes of a file of SQLite, and where the numbers that matter here are (big-endian).
const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 72;
const PAGE_COUNT_AT: usize = 28;
const VERSION_AT: usize = 60;
const APPLICATION_ID_AT: usize = 68;

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// When it was made.
    pub made: Timestamp,
    /// Rooms with or without messages.
    pub rooms: u64,
    /// Messages that can be read.
    pub messages: u64,
    /// Messages that can't be read, because they are damaged in the store that was backed up.
    pub damaged: u64,
    /// The time of the newest message.
    pub newest: Option<Timestamp>,
    /// Whether it holds an access file.
    pub access: bool,
    /// SHA-256 of every row of the store, in hexadecimal.
    digest: String,
}

/// An open backup. It is only read.
#[derive(Debug)]
pub struct Backup {
    file: PathBuf,
    db: Connection,
}

impl Backup {
    /// Opens a backup. Refuses a file that is not a backup, was cut off, or was made by a newer program.
    pub fn open(file: &Path) -> Result<Self, BackupError> {
        let not_a_backup = |reason| BackupError::NotABackup { file: file.into(), reason };
        let read_error = |source| BackupError::Io { path: file.into(), source };
        let mut header = [0; HEADER_BYTES];
        let mut opened = File::open(file).map_err(read_error)?;
        let found = opened.metadata().map_err(read_error)?;
        if !found.is_file() {
            return Err(not_a_backup("it is not a regular file"));
        }
        match opened.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(not_a_backup("it is too short"));
            }
            read => read.map_err(read_error)?,
        }
        let number = |at: usize| {
            i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if !header.starts_with(MAGIC) {
            return Err(not_a_backup("it has another format"));
        }
        match number(APPLICATION_ID_AT) {
            APPLICATION_ID => {}
            schema::APPLICATION_ID => return Err(not_a_backup("it is the history itself")),
            _ => return Err(not_a_backup("it is another program's database")),
        }
        let newer = |form, known| BackupError::Newer { file: file.into(), form, known };
        if number(VERSION_AT) > schema::SCHEMA_VERSION {
            return Err(newer(number(VERSION_AT), schema::SCHEMA_VERSION));
        }
        let pages = number(PAGE_COUNT_AT) as u32 as u64;
        if pages * PAGE_BYTES != found.len() {
            let reason =
                format!("it has {} bytes and should have {}", found.len(), pages * PAGE_BYTES);
            return Err(BackupError::Damaged { file: file.into(), reason });
        }
        let db = schema::open_immutable(file).map_err(|error| BackupError::reading(file, error))?;
        let backup = Backup { file: file.into(), db };
        match backup.value("form")?.and_then(|form| String::from_utf8(form).ok()?.parse().ok()) {
            Some(form) if form > FORM => Err(newer(form, FORM)),
            Some(FORM) => Ok(backup),
            _ => Err(backup.damaged("its form is unknown")),
        }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The at-rest key in the age format, if the backup holds it.
    pub fn sealed_key(&self) -> Result<Option<String>, BackupError> {
        Ok(self.value("key")?.and_then(|text| String::from_utf8(text).ok()))
    }

    /// The access file, if the backup holds one that this key opens.
    pub fn access_file(&self, key: &AtRestKey) -> Result<Option<Vec<u8>>, BackupError> {
        Ok(self.value("access")?.and_then(|sealed| sealer(key).open(&sealed)))
    }

    /// Reads everything, and compares it with the manifest.
    pub fn verify(&self, key: &AtRestKey) -> Result<BackupSummary, BackupError> {
        let reading = |error| BackupError::reading(&self.file, error);
        let store = record::sealer(key);
        let check = schema::meta(&self.db, "check").map_err(reading)?;
        let manifest = self.value("manifest")?.ok_or_else(|| self.damaged("it has no manifest"))?;
        let Some(manifest) = sealer(key).open(&manifest) else {
            return Err(match check.is_some_and(|check| check == store.key_check()) {
                true => self.damaged("its manifest can't be read"),
                false => BackupError::WrongKey { file: self.file.clone(), key: describe(key) },
            });
        };
        let manifest: BackupSummary = serde_json::from_slice(&manifest)
            .map_err(|_| self.damaged("its manifest has another form"))?;
        let counted = count(&self.db, &store, manifest.made).map_err(reading)?;
        let mut counted = counted.map_err(|reason| self.damaged(reason))?;
        counted.access = self.access_file(key)?.is_some();
        match counted == manifest {
            true => Ok(manifest),
            false if counted.messages == manifest.messages => {
                Err(self.damaged("its content is not what was written"))
            }
            false => Err(self.damaged(&format!(
                "it should hold {} messages in {} rooms, and {} of {} can be read",
                manifest.messages, manifest.rooms, counted.messages, counted.rooms
            ))),
        }
    }

    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, BackupError> {
        let found = self.db.query_row("SELECT value FROM backup WHERE name = ?", [name], |row| {
            Ok(row.get_ref(0)?.as_bytes().map(<[u8]>::to_vec).unwrap_or_default())
        });
        found.optional().map_err(|error| BackupError::reading(&self.file, error))
    }

    fn damaged(&self, reason: &str) -> BackupError {
        BackupError::Damaged { file: self.file.clone(), reason: reason.into() }
    }
}

/// Turns a copy of a store into a backup, in one transaction.
pub(super) fn write(
    db: &Connection,
    key: &AtRestKey,
    access: Option<&[u8]>,
    sealed_key: Option<&str>,
    made: Timestamp,
) -> Result<Result<(), &'static str>> {
    let mut summary = match count(db, &record::sealer(key), made)? {
        Ok(summary) => summary,
        Err(reason) => return Ok(Err(reason)),
    };
    summary.access = access.is_some();
    let sealer = sealer(key);
    let manifest = serde_json::to_vec(&summary).expect("numbers and times are plain JSON");
    db.execute_batch(
        "BEGIN IMMEDIATE;
         CREATE TABLE backup (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;",
    )?;
    let add = |name: &str, value: &dyn rusqlite::ToSql| {
        db.execute("INSERT INTO backup VALUES (?, ?)", params![name, value])
    };
    add("form", &FORM.to_string())?;
    add("made", &made.to_string())?;
    add("manifest", &sealer.seal(manifest))?;
    if let Some(access) = access {
        add("access", &sealer.seal(access.to_vec()))?;
    }
    if let Some(sealed_key) = sealed_key {
        add("key", &sealed_key)?;
    }
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    db.execute_batch("COMMIT")?;
    Ok(Ok(()))
}

fn sealer(key: &AtRestKey) -> Sealer {
    Sealer::new(key.bytes(), "backup")
}

/// Where a key came from, for errors.
pub(super) fn describe(key: &AtRestKey) -> String {
    key.file().map_or("the given one".into(), |file| file.display().to_string())
}

/// Reads every room and every message. The inner error says how the structure is damaged.
fn count(
    db: &Connection,
    sealer: &Sealer,
    made: Timestamp,
) -> Result<Result<BackupSummary, &'static str>> {
    let report: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if report != "ok" {
        return Ok(Err("the structure of the database is damaged"));
    }
    let mut rooms: HashMap<i64, RoomName> = HashMap::new();
    let mut cards = db.prepare("SELECT number, tag, sealed FROM rooms")?;
    let mut rows = cards.query([])?;
    while let Some(row) = rows.next()? {
        let (number, tag): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let card = RoomCard::open(sealer, row.get_ref(2)?.as_blob().unwrap_or_default());
        match card.filter(|card| card.number == number && room_tag(sealer, &card.name)[..] == tag) {
            Some(card) => rooms.insert(number, card.name),
            None => return Ok(Err("the list of rooms is damaged")),
        };
    }
    let mut summary = BackupSummary {
        made,
        rooms: rooms.len() as u64,
        messages: 0,
        damaged: 0,
        newest: None,
        access: false,
        digest: digest(db)?,
    };
    let mut records = db.prepare("SELECT room, seq, sealed FROM records")?;
    let mut rows = records.query([])?;
    while let Some(row) = rows.next()? {
        let (number, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
        let sealed = row.get_ref(2)?.as_blob().unwrap_or_default();
        let room = rooms.get(&number);
        let record = room.and_then(|room| Record::open_at(sealer, sealed, room, Seq(seq as u64)));
        match record {
            Some(record) => {
                summary.messages += 1;
                summary.newest = summary.newest.max(Some(record.entry.at));
            }
            None => summary.damaged += 1,
        }
    }
    Ok(Ok(summary))
}

/// The digest of the schema and of every row, in the order of the primary keys.
fn digest(db: &Connection) -> Result<String> {
    let mut digest = Sha256::new();
    for query in DIGESTED {
        let mut values = db.prepare(query)?;
        let columns = values.column_count();
        digest.update(format!("{query} {columns};"));
        let mut rows = values.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                let (kind, bytes) = match row.get_ref(column)? {
                    ValueRef::Null => ('n', Vec::new()),
                    ValueRef::Integer(number) => ('i', number.to_be_bytes().to_vec()),
                    ValueRef::Real(number) => ('r', number.to_be_bytes().to_vec()),
                    ValueRef::Text(text) => ('t', text.to_vec()),
                    ValueRef::Blob(blob) => ('b', blob.to_vec()),
                };
                digest.update(format!("{kind}{};", bytes.len()));
                digest.update(bytes);
            }
        }
    }
    Ok(hex(&digest.finalize()))
}
