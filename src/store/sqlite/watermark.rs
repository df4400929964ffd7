//! The commit watermark: a small file beside the store that names the epoch of the start that wrote it,
//! and the newest commit.
//!
//! It is written after each commit and not synced, so after a power cut it may be behind the store,
//! but never ahead. If the store does not know the epoch, or lacks the message that the watermark
//! names, the store is older than the watermark.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::error::OpenError;
use super::folder::StoreFolder;
use crate::crypto::sealer::Sealer;
use crate::protocol::{Epoch, Seq, Timestamp};
use crate::store::room_log::Shortage;

const PREFIX: &[u8] = b"epoch";
/// The prefix before version 3, which named the inode of the store instead of an epoch.
const OLD_PREFIX: &[u8] = b"mark";

/// The open file, and the epoch of the start that writes it.
pub(super) struct Watermark {
    /// `None` if the disk was full when the file was created.
    file: Option<File>,
    epoch: Epoch,
}

/// The content of a watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewestCommit {
    pub writer: WatermarkWriter,
    /// The room number of the newest message; 0 before the first.
    pub room: i64,
    /// Its sequence number.
    pub seq: Seq,
    /// When it was appended; unknown before version 3.
    pub at: Option<Timestamp>,
}

/// What wrote a watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WatermarkWriter {
    Start(Epoch),
    /// A program before version 3, for the store with this inode.
    Inode(u64),
}

impl Watermark {
    /// Starts the watermark of a start. The start must be in the store already. On a full disk (or at
    /// another limit on what may be written) there is
    /// no watermark until the next start.
    pub fn open(folder: &StoreFolder, sealer: &Sealer, epoch: &Epoch) -> Result<Self, OpenError> {
        let path = folder.watermark_file();
        let io_error = |source| OpenError::io(&path, source);
        // Not overwritten in place: a full disk could leave a half of it.
        folder.remove(&path)?;
        let open = || {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            let watermark = Watermark { file: Some(file), epoch: epoch.clone() };
            watermark.write(sealer, 0, Seq(0), Timestamp::from_micros(0))?;
            watermark.file.iter().try_for_each(File::sync_all)?;
            Ok::<_, io::Error>(watermark)
        };
        match open() {
            Err(error) if Shortage::of(&error).is_some() => {
                folder.remove(&path)?;
                Ok(Watermark { file: None, epoch: epoch.clone() })
            }
            Err(error) => Err(io_error(error)),
            Ok(watermark) => {
                folder.sync()?;
                Ok(watermark)
            }
        }
    }

    /// Records the newest commit. Errors are ignored: a watermark that is behind notices fewer losses,
    /// but reports none that did not happen.
    pub fn update(&self, sealer: &Sealer, room: i64, seq: Seq, at: Timestamp) {
        let _ = self.write(sealer, room, seq, at);
    }

    // The length is the same for each update, so nothing of an earlier one is left behind.
    fn write(&self, sealer: &Sealer, room: i64, seq: Seq, at: Timestamp) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut plain = PREFIX.to_vec();
        plain.extend(room.to_be_bytes());
        plain.extend(seq.0.to_be_bytes());
        plain.extend(at.micros().to_be_bytes());
        plain.extend(self.epoch.as_str().as_bytes());
        file.write_all_at(&sealer.seal(plain), 0)
    }
}

/// Reads the watermark. Returns `None` if it is missing or can't be decrypted.
pub(super) fn read(folder: &StoreFolder, sealer: &Sealer) -> Option<NewestCommit> {
    let sealed = std::fs::read(folder.watermark_file()).ok()?;
    let plain = sealer.open(&sealed)?;
    let old = plain.strip_prefix(OLD_PREFIX);
    let (first, rest) = old.or_else(|| plain.strip_prefix(PREFIX))?.split_first_chunk()?;
    let (second, rest) = rest.split_first_chunk()?;
    let (third, rest) = rest.split_first_chunk()?;
    Some(match old {
        Some(_) => NewestCommit {
            writer: WatermarkWriter::Inode(u64::from_be_bytes(*first)),
            room: i64::from_be_bytes(*second),
            seq: Seq(u64::from_be_bytes(*third)),
            at: None,
        },
        None => NewestCommit {
            writer: WatermarkWriter::Start(Epoch::parse(std::str::from_utf8(rest).ok()?)?),
            room: i64::from_be_bytes(*first),
            seq: Seq(u64::from_be_bytes(*second)),
            at: Some(Timestamp::from_micros(i64::from_be_bytes(*third))),
        },
    })
}
