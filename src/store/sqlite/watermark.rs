//! The commit watermark: a small file beside the store that names the newest commit and the store's
//! inode.
//!
//! It is written after each commit and not synced, so after a power cut it may be behind the store,
//! but never ahead. If the store lacks the message that the watermark names, its end was lost. If the
//! store has another inode, it is a copy of unknown age. In both cases its sequence numbers may have
//! been assigned to other messages since, so the store gets a new epoch.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::error::OpenError;
use super::folder::StoreFolder;
use crate::crypto::sealer::Sealer;
use crate::protocol::Seq;

const PREFIX: &[u8] = b"mark";

/// The open file, and the inode of the store that it belongs to.
pub(super) struct Watermark {
    file: File,
    inode: u64,
}

/// The content of a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewestCommit {
    /// The inode of the store.
    pub inode: u64,
    /// The room number of the newest message; 0 before the first.
    pub room: i64,
    /// Its sequence number.
    pub seq: Seq,
}

impl Watermark {
    /// Opens the watermark. If it is missing or belongs to another inode, a new one is started.
    pub fn open(folder: &StoreFolder, sealer: &Sealer) -> Result<Self, OpenError> {
        let inode = folder.store_inode()?;
        let path = folder.watermark_file();
        let io_error = |source| OpenError::io(&path, source);
        let current = read(folder, sealer).is_some_and(|newest| newest.inode == inode);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(!current)
            .mode(0o600)
            .open(&path)
            .map_err(io_error)?;
        let watermark = Watermark { file, inode };
        if !current {
            watermark.write(sealer, 0, Seq(0)).map_err(io_error)?;
            watermark.file.sync_all().map_err(io_error)?;
            folder.sync()?;
        }
        Ok(watermark)
    }

    /// Records the newest commit. Errors are ignored: a watermark that is behind notices fewer losses,
    /// but reports none that did not happen.
    pub fn update(&self, sealer: &Sealer, room: i64, seq: Seq) {
        let _ = self.write(sealer, room, seq);
    }

    fn write(&self, sealer: &Sealer, room: i64, seq: Seq) -> std::io::Result<()> {
        let mut plain = PREFIX.to_vec();
        plain.extend(self.inode.to_be_bytes());
        plain.extend(room.to_be_bytes());
        plain.extend(seq.0.to_be_bytes());
        self.file.write_all_at(&sealer.seal(plain), 0)
    }
}

/// Reads the watermark. Returns `None` if it is missing or can't be decrypted.
pub(super) fn read(folder: &StoreFolder, sealer: &Sealer) -> Option<NewestCommit> {
    let sealed = std::fs::read(folder.watermark_file()).ok()?;
    let plain = sealer.open(&sealed)?;
    let (inode, rest) = plain.strip_prefix(PREFIX)?.split_first_chunk()?;
    let (room, rest) = rest.split_first_chunk()?;
    Some(NewestCommit {
        inode: u64::from_be_bytes(*inode),
        room: i64::from_be_bytes(*room),
        seq: Seq(u64::from_be_bytes(rest.try_into().ok()?)),
    })
}
