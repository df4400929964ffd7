//! The at-rest key, which encrypts the history. It comes from a systemd credential, else from a
//! file of mode 0600 beside the history, else it is generated into that file at the first start.
//!
//! The file contains 32 random bytes as base64 in one line, as `openssl rand -base64 32` prints.
//! Without the key, the history can't be read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::{Zeroize, Zeroizing};

use super::durable_file::{create_folder, create_new, give_files_to_owner, sync_parent_folder};
use super::private_file::{mode_for_others, open_regular};
use crate::protocol::random::fill_random;

/// The name of the systemd credential, and of the key file in the history folder.
pub const KEY_FILE: &str = "history.key";
/// The name of the store in the history folder.
pub const STORE_FILE: &str = "history.sqlite3";

/// An at-rest key of 32 bytes. It is wiped from memory when dropped, and `{:?}` does not show it.
pub struct AtRestKey {
    bytes: Zeroizing<[u8; 32]>,
    file: Option<PathBuf>,
}

/// Why the at-rest key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Other users can read the key file.
    #[error(
        "{path}: other users can read the at-rest key (mode {mode:04o}); \
         run: chmod 600 {path}"
    )]
    Readable {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file contains no key.
    #[error(
        "{0}: not an at-rest key; it must be 32 bytes as base64 in one line (openssl rand -base64 32)"
    )]
    Malformed(PathBuf),
    /// There is a history, but no key file.
    #[error(
        "{key}: the at-rest key is missing, and the history {history} can't be read without it; \
         put the key back, or move {history} away to begin a new history"
    )]
    Lost {
        /// Where the key should be.
        key: PathBuf,
        /// The history that it encrypts.
        history: PathBuf,
    },
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl AtRestKey {
    /// Finds the key of the history in `folder`, or generates one if there is neither a key nor a
    /// history. `credentials` is the folder of systemd's credentials (`$CREDENTIALS_DIRECTORY`).
    pub fn find(folder: &Path, credentials: Option<&Path>) -> Result<Self, KeyFileError> {
        if let Some(key) = Self::find_existing(folder, credentials)? {
            return Ok(key);
        }
        let path = folder.join(KEY_FILE);
        let history = folder.join(STORE_FILE);
        if history.metadata().is_ok_and(|found| found.len() > 0) {
            return Err(KeyFileError::Lost { key: path, history });
        }
        create_folder(folder).map_err(|source| KeyFileError::Io { path: folder.into(), source })?;
        Self::fresh().save(&path, false)?;
        Self::open(&path)?.ok_or(KeyFileError::Malformed(path))
    }

    /// Finds the key as [`Self::find`] does, but generates none.
    pub fn find_existing(
        folder: &Path,
        credentials: Option<&Path>,
    ) -> Result<Option<Self>, KeyFileError> {
        if let Some(path) = credentials.map(|folder| folder.join(KEY_FILE)) {
            match open_regular(&path) {
                Ok(file) => return Self::read(file, &path, None).map(Some),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(KeyFileError::Io { path, source }),
            }
        }
        Self::open(&folder.join(KEY_FILE))
    }

    /// Reads a key from the text of a key file.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text.trim())
    }

    /// The text of a key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut line = Zeroizing::new(STANDARD.encode(self.bytes.as_ref()));
        line.push('\n');
        line
    }

    /// Generates a key, in memory only.
    pub fn fresh() -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        fill_random(bytes.as_mut());
        AtRestKey { bytes, file: None }
    }

    /// Reads a key from a file that the server does not manage, so that a rekey leaves the file
    /// alone. It may be a pipe.
    pub fn open_external(path: &Path) -> Result<Self, KeyFileError> {
        let missing =
            || KeyFileError::Io { path: path.into(), source: io::ErrorKind::NotFound.into() };
        let mut key = Self::open_with(path, |path| File::open(path))?.ok_or_else(missing)?;
        key.file = None;
        Ok(key)
    }

    /// Reads a key from a file; `None` if there is no file.
    pub fn open(path: &Path) -> Result<Option<Self>, KeyFileError> {
        Self::open_with(path, open_regular)
    }

    fn open_with(
        path: &Path,
        open: impl FnOnce(&Path) -> io::Result<File>,
    ) -> Result<Option<Self>, KeyFileError> {
        let error = |source| KeyFileError::Io { path: path.into(), source };
        let file = match open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error(source)),
        };
        if let Some(mode) = mode_for_others(&file).map_err(error)? {
            return Err(KeyFileError::Readable { path: path.into(), mode });
        }
        Self::read(file, path, Some(path.into())).map(Some)
    }

    /// Writes the key atomically and durably to a file of mode 0600, which gets the owner of its
    /// folder. Without `replace`, an existing file is left as it is.
    pub fn save(&self, path: &Path, replace: bool) -> Result<(), KeyFileError> {
        let part = path.with_extension(format!("part-{}", std::process::id()));
        let written = self.write_part(&part);
        if let Err(source) = written {
            let _ = std::fs::remove_file(&part);
            return Err(KeyFileError::Io { path: part, source });
        }
        let saved =
            if replace { std::fs::rename(&part, path) } else { std::fs::hard_link(&part, path) };
        let _ = std::fs::remove_file(&part);
        match saved {
            Err(error) if !replace && error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(KeyFileError::Io { path: path.into(), source }),
            Ok(()) => sync_parent_folder(path)
                .map_err(|source| KeyFileError::Io { path: path.into(), source }),
        }
    }

    /// The file that the key was read from; `None` for a systemd credential, an external file, or a
    /// generated key.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    fn read(file: File, path: &Path, managed: Option<PathBuf>) -> Result<Self, KeyFileError> {
        let mut text = Zeroizing::new(String::new());
        // A key has 44 characters; a larger file is reported as malformed.
        file.take(256).read_to_string(&mut text).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => KeyFileError::Malformed(path.into()),
            _ => KeyFileError::Io { path: path.into(), source },
        })?;
        let mut key = parse(text.trim()).ok_or_else(|| KeyFileError::Malformed(path.into()))?;
        key.file = managed;
        Ok(key)
    }

    fn write_part(&self, part: &Path) -> io::Result<()> {
        let _ = std::fs::remove_file(part);
        let mut file = create_new(part)?;
        file.write_all(self.to_text().as_bytes())?;
        file.sync_all()
    }
}

/// Gives every file in the folder of a history to the owner of the folder, after a command of root
/// has written there: the server could not use a file of root.
pub fn give_history_to_owner(folder: &Path) -> Result<(), KeyFileError> {
    give_files_to_owner(folder).map_err(|(path, source)| KeyFileError::Io { path, source })
}

impl fmt::Debug for AtRestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtRestKey").field("file", &self.file).finish_non_exhaustive()
    }
}

const OPTIONAL_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, OPTIONAL_PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, OPTIONAL_PADDING);

fn parse(text: &str) -> Option<AtRestKey> {
    let mut decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()?;
    let bytes = <[u8; 32]>::try_from(decoded.as_slice()).ok().map(Zeroizing::new);
    decoded.zeroize();
    Some(AtRestKey { bytes: bytes?, file: None })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_generated_once_and_found_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("history");
        let made = AtRestKey::find(&folder, None).unwrap();
        let found = AtRestKey::find(&folder, None).unwrap();
        assert_eq!(made.bytes(), found.bytes());
        let mode = found.file().unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(folder.read_dir().unwrap().count(), 1, "no temporary file remains");
    }

    #[test]
    fn a_systemd_credential_takes_precedence() {
        let home = tempfile::tempdir().unwrap();
        let credentials = home.path().join("credentials");
        std::fs::create_dir(&credentials).unwrap();
        std::fs::write(credentials.join(KEY_FILE), URL_SAFE.encode([251; 32])).unwrap();
        let key = AtRestKey::find(home.path(), Some(&credentials)).unwrap();
        assert_eq!(key.bytes(), &[251; 32]);
        assert!(!home.path().join(KEY_FILE).exists());
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused_by_name() {
        let home = tempfile::tempdir().unwrap();
        AtRestKey::find(home.path(), None).unwrap();
        let path = home.path().join(KEY_FILE);
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = AtRestKey::find(home.path(), None).unwrap_err().to_string();
            assert!(error.contains("history.key") && error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn no_key_is_generated_beside_an_existing_history() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(STORE_FILE), "something").unwrap();
        let error = AtRestKey::find(home.path(), None).unwrap_err();
        assert!(matches!(error, KeyFileError::Lost { .. }), "{error}");
        assert!(!home.path().join(KEY_FILE).exists());
    }

    #[test]
    fn a_malformed_key_is_refused_and_keys_are_never_shown() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(KEY_FILE);
        for text in ["", "short", "aGVsbG8=", &"A".repeat(300), "\u{fffd}"] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let error = AtRestKey::find(home.path(), None).unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed(_)), "{error}");
        }
        let shown = format!("{:?}", AtRestKey { bytes: Zeroizing::new([65; 32]), file: None });
        assert!(!shown.contains("65"), "{shown}");
    }
}
