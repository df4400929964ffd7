//! The cursor file: how far each room was read. It is written after the lines are out: first beside
//! the file, then renamed into its place, so that it is always whole.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::exit_code::{ExitCode, Refusal};
use crate::conversation::client::read_positions::ReadPositions;
use crate::protocol::frame::Position;

/// Largest cursor file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A cursor file.
pub struct CursorFile {
    file: PathBuf,
    written: Option<ReadPositions>,
}

/// The JSON in the file.
#[derive(Serialize, Deserialize)]
struct Content {
    rooms: BTreeMap<String, Position>,
}

/// Opens the cursor file, where one is named.
pub fn open(file: Option<&Path>) -> Result<(Option<CursorFile>, ReadPositions), Refusal> {
    let Some(file) = file else { return Ok((None, ReadPositions::default())) };
    let (cursor, positions) = CursorFile::open(file).map_err(|text| (ExitCode::NoFile, text))?;
    Ok((Some(cursor), positions))
}

impl CursorFile {
    /// Reads the file. A file that does not exist yet holds no positions.
    pub fn open(file: &Path) -> Result<(Self, ReadPositions), String> {
        let wrong = |why: String| format!("{}: {why}; remove it to start anew", file.display());
        let positions = match std::fs::metadata(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => ReadPositions::default(),
            Err(error) => return Err(wrong(error.to_string())),
            Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
                return Err(wrong("too large for a cursor file".into()));
            }
            Ok(_) => {
                let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
                let content: Content = serde_json::from_slice(&text)
                    .map_err(|_| wrong("is no cursor file of this program".into()))?;
                ReadPositions::new(content.rooms)
            }
        };
        Ok((CursorFile { file: file.to_owned(), written: None }, positions))
    }

    /// Writes the positions, if they changed.
    pub fn save(&mut self, positions: &ReadPositions) -> Result<(), String> {
        if self.written.as_ref() == Some(positions) {
            return Ok(());
        }
        let content = Content { rooms: positions.all().clone() };
        let text = serde_json::to_string(&content).unwrap_or_default();
        let mut new_file = self.file.clone().into_os_string();
        new_file.push(".new");
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&new_file)?;
            writeln!(file, "{text}")?;
            std::fs::rename(&new_file, &self.file)
        };
        write().map_err(|error| format!("{}: can't be written: {error}", self.file.display()))?;
        self.written = Some(positions.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Epoch, Seq};

    #[test]
    fn positions_survive_saving_and_opening() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cursor");
        let (mut cursor, mut positions) = CursorFile::open(&file).unwrap();
        assert_eq!(positions, ReadPositions::default());
        positions.set("ops", Position { epoch: Epoch::fresh(), seq: Seq(41) });
        cursor.save(&positions).unwrap();
        assert_eq!(CursorFile::open(&file).unwrap().1, positions);
        std::fs::write(&file, "half").unwrap();
        assert!(CursorFile::open(&file).err().unwrap().contains("remove it"));
    }
}
