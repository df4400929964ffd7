//! The cursor file: how far each room was read. Written whole, after the lines are out.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::conversation::client::read_positions::ReadPositions;
use crate::protocol::frame::Position;

/// Largest cursor file that is read.
const FILE_BYTES: u64 = 1024 * 1024;

/// A cursor file.
pub struct CursorFile {
    file: PathBuf,
    written: Option<ReadPositions>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    rooms: BTreeMap<String, Position>,
}

impl CursorFile {
    /// Reads the file; one that is not there yet is an empty one.
    pub fn open(file: &Path) -> Result<(Self, ReadPositions), String> {
        let wrong = |why: String| format!("{}: {why}; remove it to start anew", file.display());
        let places = match std::fs::metadata(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => ReadPositions::default(),
            Err(error) => return Err(wrong(error.to_string())),
            Ok(found) if found.len() > FILE_BYTES => {
                return Err(wrong("too large for a cursor".into()));
            }
            Ok(_) => {
                let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
                let kept: Kept = serde_json::from_slice(&text)
                    .map_err(|_| wrong("is no cursor this program wrote".into()))?;
                ReadPositions::new(kept.rooms)
            }
        };
        Ok((CursorFile { file: file.to_owned(), written: None }, places))
    }

    /// Writes where we are, if that changed: beside the file first, then in its place.
    pub fn save(&mut self, places: &ReadPositions) -> Result<(), String> {
        if self.written.as_ref() == Some(places) {
            return Ok(());
        }
        let kept = Kept { rooms: places.all().clone() };
        let text = serde_json::to_string(&kept).unwrap_or_default();
        let mut beside = self.file.clone().into_os_string();
        beside.push(".new");
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&beside)?;
            writeln!(file, "{text}")?;
            std::fs::rename(&beside, &self.file)
        };
        write().map_err(|error| format!("{}: can't be written: {error}", self.file.display()))?;
        self.written = Some(places.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Epoch, Seq};

    #[test]
    fn what_is_saved_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cursor");
        let (mut cursor, mut places) = CursorFile::open(&file).unwrap();
        assert_eq!(places, ReadPositions::default());
        places.set("ops", Position { epoch: Epoch::fresh(), seq: Seq(41) });
        cursor.save(&places).unwrap();
        assert_eq!(CursorFile::open(&file).unwrap().1, places);
        std::fs::write(&file, "half").unwrap();
        assert!(CursorFile::open(&file).err().unwrap().contains("remove it"));
    }
}
