//! The cursor file: how far the lines of each room are out. It is written after them: first beside the
//! file, then renamed into its place, so that it is always whole.
//!
//! While a run uses the file, it holds a lock on it (flock(2)), and a second run is refused. The lock is
//! on the file, not on its name, so each new file is locked before it gets the name.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::exec::ids::new_mark;
use super::exit_code::{ExitCode, Refusal, print_error};
use crate::conversation::client::read_positions::ReadPositions;
use crate::protocol::frame::Position;

/// Largest cursor file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Symbolic links that are followed (ELOOP, path_resolution(7)).
const MAX_LINKS: usize = 40;
/// How often the file is opened again because another run replaced it meanwhile.
const MAX_ATTEMPTS: usize = 100;

/// A cursor file, locked until this is dropped.
pub struct CursorFile {
    /// The file itself, not a symbolic link to it.
    file: PathBuf,
    /// The mark of the bot that uses the file.
    bot: Option<String>,
    /// Holds the lock.
    locked: File,
    /// Whether this run made the file, and has written nothing to it.
    is_new: bool,
    opened: ReadPositions,
    written: Option<ReadPositions>,
}

/// The JSON in the file.
#[derive(Default, Serialize, Deserialize)]
struct Content {
    rooms: BTreeMap<String, Position>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bot: Option<String>,
}

/// Opens the cursor file, where one is named.
pub fn open(file: Option<&Path>) -> Result<(Option<CursorFile>, ReadPositions), Refusal> {
    let Some(file) = file else { return Ok((None, ReadPositions::default())) };
    let cursor = CursorFile::open(file).map_err(|text| (ExitCode::NoFile, text))?;
    let positions = cursor.opened.clone();
    Ok((Some(cursor), positions))
}

impl CursorFile {
    /// Opens, locks and reads the file. A file that is empty, or does not exist yet, holds no
    /// positions.
    pub fn open(file: &Path) -> Result<Self, String> {
        let wrong = |why: String| format!("{}: {why}", file.display());
        let unusable = |error: io::Error| wrong(format!("can't be used as a cursor file: {error}"));
        let target = follow_links(file).map_err(unusable)?;
        let (mut locked, is_new) = lock(&target).map_err(unusable)?.ok_or_else(|| {
            wrong("in use by another chat-client; give each its own cursor file".into())
        })?;
        let metadata = locked.metadata().map_err(unusable)?;
        if !metadata.is_file() {
            return Err(wrong("is not a regular file".into()));
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(wrong("too large for a cursor file; remove it to start anew".into()));
        }
        let mut text = Vec::new();
        locked.read_to_end(&mut text).map_err(unusable)?;
        // Some file systems leave a file of zero bytes behind after a crash of the machine.
        let is_blank = text.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace());
        let content = match text.is_empty() {
            true => Content::default(),
            false if is_blank => {
                return Err(wrong(
                    "holds blanks and no position, as a crash of the machine can leave it; \
                     remove it, and name where to start by --since"
                        .into(),
                ));
            }
            false => serde_json::from_slice(&text).map_err(|_| {
                wrong("is no cursor file of this program; remove it to start anew".into())
            })?,
        };
        let opened = ReadPositions::new(content.rooms);
        Ok(CursorFile { file: target, bot: content.bot, locked, is_new, opened, written: None })
    }

    /// The mark by which a bot that uses this file knows its own replies in a later run. A file that
    /// has none gets a new one with the next [`Self::save`].
    pub fn bot_mark(&mut self) -> String {
        self.bot.get_or_insert_with(new_mark).clone()
    }

    /// The positions that the file held when it was opened.
    pub fn opened(&self) -> &ReadPositions {
        &self.opened
    }

    /// Whether the file holds these positions.
    pub fn is_saved(&self, positions: &ReadPositions) -> bool {
        self.written.as_ref() == Some(positions)
    }

    /// Writes the positions. They are on the disk afterwards.
    pub fn save(&mut self, positions: &ReadPositions) -> Result<(), String> {
        self.write(positions)
            .map_err(|error| format!("{}: can't be written: {error}", self.file.display()))?;
        self.written = Some(positions.clone());
        Ok(())
    }

    fn write(&mut self, positions: &ReadPositions) -> io::Result<()> {
        let content = Content { rooms: positions.all().clone(), bot: self.bot.clone() };
        let text = serde_json::to_string(&content)?;
        let mut new_name = self.file.clone().into_os_string();
        new_name.push(".new");
        let mut new_file = File::create(&new_name)?;
        let written = self
            .locked
            .metadata()
            .and_then(|old| new_file.set_permissions(old.permissions()))
            .and_then(|()| writeln!(new_file, "{text}"))
            .and_then(|()| new_file.sync_data())
            .and_then(|()| try_lock(&new_file).map(drop))
            .and_then(|()| std::fs::rename(&new_name, &self.file));
        if written.is_err() {
            let _ = std::fs::remove_file(&new_name);
        }
        written?;
        self.locked = new_file;
        self.is_new = false;
        Ok(())
    }
}

impl Drop for CursorFile {
    fn drop(&mut self) {
        if self.is_new {
            // A run that read nothing leaves nothing.
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

/// The file that a symbolic link leads to, which need not exist.
fn follow_links(file: &Path) -> io::Result<PathBuf> {
    let mut file = file.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&file) {
            Ok(target) => file = file.parent().unwrap_or(Path::new("")).join(target),
            // Not a symbolic link.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(file),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(file),
            Err(error) => return Err(error),
        }
    }
    Err(Errno::LOOP.into())
}

/// Opens the file, makes it where there is none, and locks it. Returns whether it was made; `None`
/// where another process holds the lock.
fn lock(file: &Path) -> io::Result<Option<(File, bool)>> {
    for _ in 0..MAX_ATTEMPTS {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let (opened, is_new) = match options.open(file) {
            Ok(opened) => (opened, false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                match options.create_new(true).open(file) {
                    Ok(opened) => (opened, true),
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        if !try_lock(&opened)? {
            return Ok(None);
        }
        // The other run may have replaced the file before it ended.
        let is_same = |named: std::fs::Metadata| {
            opened.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (named.dev(), named.ino()))
        };
        if std::fs::metadata(file).is_ok_and(is_same) {
            return Ok(Some((opened, is_new)));
        }
    }
    Ok(None)
}

/// Locks the file, unless another process holds the lock. A file system without locks is used
/// without.
fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        return match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(Errno::INTR) => continue,
            Err(error @ (Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) => {
                print_error(&format!(
                    "warning: the cursor file can't be locked ({}); no other chat-client may use it",
                    io::Error::from(error)
                ));
                Ok(true)
            }
            Err(error) => Err(error.into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Epoch, Seq};

    fn positions(seq: u64) -> ReadPositions {
        let mut positions = ReadPositions::default();
        positions.set("ops", Position { epoch: Epoch::parse("e").unwrap(), seq: Seq(seq) });
        positions
    }

    fn error(file: &Path) -> String {
        CursorFile::open(file).err().expect("an error")
    }

    #[test]
    fn positions_survive_saving_and_opening() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cursor");
        let mut cursor = CursorFile::open(&file).unwrap();
        assert_eq!(cursor.opened(), &ReadPositions::default());
        cursor.save(&positions(41)).unwrap();
        drop(cursor);
        assert_eq!(CursorFile::open(&file).unwrap().opened(), &positions(41));
        for (text, words) in [("half", "remove it"), (" \n", "no position"), ("\0\0", "crash")] {
            std::fs::write(&file, text).unwrap();
            assert!(error(&file).contains(words), "{}", error(&file));
        }
    }

    #[test]
    fn an_empty_file_holds_no_positions_and_a_run_that_read_nothing_leaves_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cursor");
        drop(CursorFile::open(&file).unwrap());
        assert!(!file.exists());
        std::fs::write(&file, "").unwrap();
        assert_eq!(CursorFile::open(&file).unwrap().opened(), &ReadPositions::default());
        assert!(file.exists(), "a file that was there stays");
    }

    #[test]
    fn the_target_of_a_symbolic_link_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (link, next, target) =
            (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
        std::os::unix::fs::symlink(&next, &link).unwrap();
        std::os::unix::fs::symlink("c", &next).unwrap();
        CursorFile::open(&link).unwrap().save(&positions(1)).unwrap();
        assert!(link.is_symlink() && next.is_symlink() && !target.is_symlink());
        assert_eq!(CursorFile::open(&target).unwrap().opened(), &positions(1));
        std::fs::remove_file(&next).unwrap();
        std::os::unix::fs::symlink(&link, &next).unwrap();
        assert!(error(&link).contains("symbolic links"), "{}", error(&link));
    }

    #[test]
    fn a_second_user_of_the_file_is_refused_at_any_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cursor");
        let mut first = CursorFile::open(&file).unwrap();
        assert!(error(&file).contains("in use by another"), "{}", error(&file));
        for seq in 1..4 {
            first.save(&positions(seq)).unwrap();
            assert!(error(&file).contains("in use by another"), "{}", error(&file));
        }
        drop(first);
        CursorFile::open(&file).unwrap();
    }

    #[test]
    fn only_a_regular_file_is_used() {
        let folder = tempfile::tempdir().unwrap();
        assert!(error(folder.path()).contains("can't be used"), "{}", error(folder.path()));
        assert!(error(Path::new("/dev/null")).contains("regular"));
    }
}
