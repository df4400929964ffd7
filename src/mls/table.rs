//! The table `kv`: its keys, its values, and the memory of the first error.

use std::cell::Cell;

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::crypto::sealer::Sealer;

/// The reason why a value can't be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A value can't be encoded, or a stored one can't be read.
    #[error("a stored value of an end-to-end room is damaged")]
    Damaged,
    /// A stored value does not open under the key that was given.
    #[error("a stored value of an end-to-end room does not open with this key")]
    Sealed,
    /// Something that rooms don't use.
    #[error("end-to-end rooms do not store this")]
    Unsupported,
}

/// The kind of a row, the first byte of its key. Never change a number.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Config = 1,
    Tree = 2,
    Context = 3,
    Interim = 4,
    ConfirmationTag = 5,
    GroupState = 6,
    MessageSecrets = 7,
    ResumptionSecrets = 8,
    OwnLeaf = 9,
    EpochSecrets = 10,
    EncryptionKey = 11,
    EpochKeys = 12,
    KeyPackage = 13,
}

/// The table, in a transaction.
pub struct Storage<'t> {
    transaction: &'t Transaction<'t>,
    sealer: Option<&'t Sealer>,
    failed: Cell<bool>,
}

impl<'t> Storage<'t> {
    pub(super) fn new(transaction: &'t Transaction<'t>, sealer: Option<&'t Sealer>) -> Self {
        Storage { transaction, sealer, failed: Cell::new(false) }
    }

    /// Fails if anything failed since the transaction began, even if openmls passed over it.
    pub fn check(&self) -> Result<(), StorageError> {
        match self.failed.get() {
            true => Err(StorageError::Damaged),
            false => Ok(()),
        }
    }

    fn noting<T>(&self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        if result.is_err() {
            self.failed.set(true);
        }
        result
    }

    pub(super) fn put(
        &self,
        kind: Kind,
        key: &impl Serialize,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), StorageError> {
        self.noting((|| {
            let key = row_key(kind, key)?;
            let value = serde_json::to_vec(value).map_err(|_| StorageError::Damaged)?;
            let value = match self.sealer {
                Some(sealer) => Zeroizing::new(sealer.seal_for(&key, value)),
                None => Zeroizing::new(value),
            };
            self.transaction
                .prepare_cached("INSERT OR REPLACE INTO kv (key, value) VALUES (?1, ?2)")?
                .execute(params![key, *value])?;
            Ok(())
        })())
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        kind: Kind,
        key: &impl Serialize,
    ) -> Result<Option<T>, StorageError> {
        self.noting((|| {
            let key = row_key(kind, key)?;
            let stored: Option<Vec<u8>> = self
                .transaction
                .prepare_cached("SELECT value FROM kv WHERE key = ?1")?
                .query_row(params![key], |row| row.get(0))
                .optional()?;
            let Some(stored) = stored else { return Ok(None) };
            let value = match self.sealer {
                Some(sealer) => sealer.open_for(&key, &stored).ok_or(StorageError::Sealed)?,
                None => stored,
            };
            let value = Zeroizing::new(value);
            serde_json::from_slice(&value).map(Some).map_err(|_| StorageError::Damaged)
        })())
    }

    pub(super) fn remove(&self, kind: Kind, key: &impl Serialize) -> Result<(), StorageError> {
        self.noting((|| {
            let key = row_key(kind, key)?;
            self.transaction
                .prepare_cached("DELETE FROM kv WHERE key = ?1")?
                .execute(params![key])?;
            Ok(())
        })())
    }

    pub(super) fn unsupported<T>(&self) -> Result<T, StorageError> {
        self.noting(Err(StorageError::Unsupported))
    }
}

fn row_key(kind: Kind, key: &impl Serialize) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![kind as u8];
    serde_json::to_writer(&mut bytes, key).map_err(|_| StorageError::Damaged)?;
    Ok(bytes)
}
