//! Reads a store beside the server that uses it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::backup::{readable_store, reading};
use super::backup_error::BackupError;
use super::error::OpenError;
use super::folder::StoreFolder;
use super::integrity::key_fits;
use super::reader::DiskReader;
use super::schema;
use crate::credentials::at_rest_key::AtRestKey;
use crate::protocol::Epoch;
use crate::store::record;
use crate::store::room_log::RoomLogReader;

/// Opens a store on disk to read it, also while a server uses it. Its epochs are not known.
pub fn read_disk(folder: &Path, key: &AtRestKey) -> Result<Arc<dyn RoomLogReader>, BackupError> {
    let store = readable_store(folder)?;
    let db = schema::open_reader(&store).map_err(|error| OpenError::sqlite(&store, error))?;
    let sealer = record::sealer(key);
    if !key_fits(&db, &sealer).map_err(|error| reading(&store, error))? {
        return Err(StoreFolder::read_only(folder).wrong_key(key).into());
    }
    let version = schema::schema_version(&db).map_err(|error| reading(&store, error))?;
    if version != schema::SCHEMA_VERSION {
        let reason = "an older program wrote it".to_owned();
        return Err(BackupError::NotReadable { store, reason });
    }
    let (folder, rooms) = (Arc::new(StoreFolder::read_only(folder)), Arc::new(AtomicU64::new(0)));
    Ok(Arc::new(DiskReader::new(folder, Arc::new(sealer), Epoch::fresh(), rooms)))
}
