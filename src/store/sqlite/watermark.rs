//! The mark: a note beside the record of what its newest commit was and which file it is in.
//!
//! It is written after each commit and not synced, so after a power cut it may be behind, never
//! ahead. A record that lacks what the mark names was cut; a record in another file is a copy, and
//! nobody can say how old. Either way its numbers may mean something else now.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::{OpenError, StoreFolder};
use crate::protocol::Seq;
use crate::store::seal::Sealer;

/// The open file, and which record it speaks of.
pub(super) struct Watermark {
    file: File,
    inode: u64,
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Newest {
    /// The file number of the record.
    pub inode: u64,
    /// The room that the newest message went to; 0 before the first.
    pub room: i64,
    /// Its place there.
    pub seq: Seq,
}

impl Watermark {
    /// Opens the mark, and begins one for this file where there is none that speaks of it.
    pub fn open(place: &StoreFolder, sealer: &Sealer) -> Result<Self, OpenError> {
        let inode = place.inode()?;
        let path = place.mark();
        let error = |source| OpenError::Io { path: path.clone(), source };
        let known = read(place, sealer).is_some_and(|newest| newest.inode == inode);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(!known)
            .mode(0o600)
            .open(&path)
            .map_err(error)?;
        let mark = Watermark { file, inode };
        if !known {
            mark.write(sealer, 0, Seq(0)).map_err(error)?;
            mark.file.sync_all().map_err(error)?;
            place.sync()?;
        }
        Ok(mark)
    }

    /// Notes what was just committed. A failure is no fault: a mark that is behind only sees less.
    pub fn note(&self, sealer: &Sealer, room: i64, seq: Seq) {
        let _ = self.write(sealer, room, seq);
    }

    fn write(&self, sealer: &Sealer, room: i64, seq: Seq) -> std::io::Result<()> {
        let mut plain = b"mark".to_vec();
        plain.extend(self.inode.to_be_bytes());
        plain.extend(room.to_be_bytes());
        plain.extend(seq.0.to_be_bytes());
        self.file.write_all_at(&sealer.seal(plain), 0)
    }
}

/// What the mark says, unless it is missing or can't be trusted.
pub(super) fn read(place: &StoreFolder, sealer: &Sealer) -> Option<Newest> {
    let sealed = std::fs::read(place.mark()).ok()?;
    let plain = sealer.open(&sealed)?;
    let (inode, rest) = plain.strip_prefix(b"mark")?.split_first_chunk()?;
    let (room, rest) = rest.split_first_chunk()?;
    Some(Newest {
        inode: u64::from_be_bytes(*inode),
        room: i64::from_be_bytes(*room),
        seq: Seq(u64::from_be_bytes(rest.try_into().ok()?)),
    })
}
