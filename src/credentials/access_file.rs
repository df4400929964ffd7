//! The access file: who was given an access token, and who is banned. JSON, mode 0600, replaced
//! whole; it holds hashes only.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::policy::access::{self, Grant, GrantedRooms};
use crate::policy::rights::Role;
use crate::protocol::{RoomName, Timestamp, UserName};

/// The file's name in the state folder.
pub const ACCESS_FILE: &str = "access.json";
/// What every access token begins with, so that people and scanners know one when they see it.
const TOKEN_PREFIX: &str = "sct_";
/// Largest file that is read.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessFile {
    /// One for each access token.
    #[serde(default)]
    pub tokens: Vec<TokenRecord>,
    /// Users that are shut out.
    #[serde(default)]
    pub banned: Vec<String>,
}

/// A grant as it is written, here and in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Whom it proves.
    pub user: String,
    /// Rooms, or `*`; none: the lobby.
    #[serde(default)]
    pub rooms: Vec<String>,
    /// `reader`, `writer`, `member` or `admin`.
    #[serde(default = "member")]
    pub role: String,
    /// SHA-256 of the access token, 64 hexadecimal digits.
    pub hash: String,
    /// When it ends (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

fn member() -> String {
    Role::Member.word().into()
}

/// Why the access file does not serve.
#[derive(Debug, thiserror::Error)]
pub enum AccessFileError {
    /// Others may read or write it.
    #[error("{path}: others can read or write who has access (mode {mode:04o}); chmod 600 {path}")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It does not say what it should.
    #[error("{path}: {reason}; restore it, or begin anew with: chat-server token add")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system said no.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// An access token, to be shown once.
pub struct GeneratedToken {
    /// The secret.
    pub token: Zeroizing<String>,
    /// What is kept of it.
    pub hash: String,
}

impl GeneratedToken {
    /// 256 random bits.
    pub fn make() -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        // The kernel's generator fails only before it is seeded, which waits instead (getrandom(2)).
        getrandom::fill(bytes.as_mut()).expect("the kernel's random numbers");
        let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_ref()));
        let hash = hex(&access::digest(&token));
        GeneratedToken { token: Zeroizing::new(token), hash }
    }
}

impl TokenRecord {
    /// Names it for operators.
    pub fn id(&self) -> &str {
        self.hash.get(..8).unwrap_or(&self.hash)
    }

    /// What it means; or what is wrong with it, and in which field.
    pub fn grant(&self) -> Result<Grant, String> {
        let digest = from_hex(&self.hash)
            .ok_or("hash must be 64 hexadecimal digits (the SHA-256 of an access token)")?;
        let user = UserName::clean(&self.user);
        if user.as_str() != self.user {
            return Err(format!("user must be a clean name, as in \"{user}\""));
        }
        let role = Role::parse(&self.role)
            .ok_or("role must be \"reader\", \"writer\", \"member\" or \"admin\"")?;
        let rooms = match self.rooms.as_slice() {
            [] => GrantedRooms::Named(vec![RoomName::lobby()]),
            rooms if rooms.iter().any(|room| room == "*") => GrantedRooms::All,
            rooms => {
                let rooms = rooms.iter().map(|room| RoomName::parse(room));
                GrantedRooms::Named(rooms.collect::<Option<_>>().ok_or(RoomName::RULE)?)
            }
        };
        let expires = match &self.expires {
            None => None,
            Some(text) => Some(
                Timestamp::parse(text)
                    .ok_or("expires must be a moment in UTC, as in \"2027-01-31T00:00:00.000Z\"")?,
            ),
        };
        Ok(Grant { id: self.id().to_owned(), user, rooms, role, expires, digest })
    }
}

impl AccessFile {
    /// Reads it; nothing where there is none. One that others can read or write is refused: it
    /// may not say what its owner said.
    pub fn read(path: &Path) -> Result<Option<Self>, AccessFileError> {
        let error = |source| AccessFileError::Io { path: path.into(), source };
        let malformed = |reason: String| AccessFileError::Malformed { path: path.into(), reason };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error(source)),
        };
        // Of the opened file, not of the name: nobody can swap it in between.
        let mode = file.metadata().map_err(error)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(AccessFileError::Readable { path: path.into(), mode });
        }
        let mut text = String::new();
        file.take(MOST_BYTES).read_to_string(&mut text).map_err(error)?;
        // serde reads a struct from an array too.
        if !text.trim_start().starts_with('{') {
            return Err(malformed("not a JSON object".into()));
        }
        let read: AccessFile =
            serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        for declared in &read.tokens {
            declared.grant().map_err(|reason| malformed(format!("{}: {reason}", declared.id())))?;
        }
        Ok(Some(read))
    }

    /// Changes it under a lock, so that two operators do not undo each other; the new one is synced
    /// before it takes the old one's place. Whoever owns the folder owns the file: the server must
    /// be able to read what root wrote.
    pub fn change<T>(
        path: &Path,
        change: impl FnOnce(&mut AccessFile) -> T,
    ) -> Result<T, AccessFileError> {
        let error = |source| AccessFileError::Io { path: path.into(), source };
        let folder = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(error)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.with_extension("lock"))
            .map_err(error)?;
        lock.lock().map_err(error)?;
        let mut now = AccessFile::read(path)?.unwrap_or_default();
        let outcome = change(&mut now);
        let part = path.with_extension("part");
        let _ = std::fs::remove_file(&part);
        let written = (|| {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
            let mut text = serde_json::to_string_pretty(&now)?;
            text.push('\n');
            file.write_all(text.as_bytes())?;
            let owner = std::fs::metadata(folder)?;
            if owner.uid() != file.metadata()?.uid() {
                std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
            }
            file.sync_all()?;
            std::fs::rename(&part, path)?;
            super::at_rest_key::sync_folder_of(path)
        })();
        written.map_err(error)?;
        Ok(outcome)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn declared(user: &str) -> (GeneratedToken, TokenRecord) {
        let fresh = GeneratedToken::make();
        let declared = TokenRecord {
            user: user.into(),
            rooms: vec!["ops".into()],
            role: "member".into(),
            hash: fresh.hash.clone(),
            expires: None,
            created: None,
        };
        (fresh, declared)
    }

    #[test]
    fn what_is_added_opens_and_the_file_holds_no_token() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state/access.json");
        assert_eq!(AccessFile::read(&path).unwrap(), None);
        let (fresh, ana) = declared("ana");
        AccessFile::change(&path, |file| file.tokens.push(ana)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(fresh.token.as_str()) && text.contains(&fresh.hash), "{text}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let read = AccessFile::read(&path).unwrap().unwrap();
        assert_eq!(read.tokens[0].grant().unwrap().digest, access::digest(&fresh.token));
    }

    #[test]
    fn a_file_that_others_can_touch_or_that_is_no_list_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("access.json");
        AccessFile::change(&path, |_| ()).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = AccessFile::read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "{", "[]", r#"{"tokens":[{"user":"a","hash":"short"}]}"#, r#"{"x":1}"#] {
            std::fs::write(&path, text).unwrap();
            let error = AccessFile::read(&path).unwrap_err();
            assert!(matches!(error, AccessFileError::Malformed { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_declared_is_checked() {
        let (_, good) = declared("ana");
        assert!(good.grant().is_ok());
        let with = |change: fn(&mut TokenRecord)| {
            let mut one = good.clone();
            change(&mut one);
            one.grant().unwrap_err()
        };
        assert!(with(|one| one.user = " ana".into()).contains("user"));
        assert!(with(|one| one.role = "king".into()).contains("role"));
        assert!(with(|one| one.rooms = vec!["Bad Room".into()]).contains("room"));
        assert!(with(|one| one.hash = "12".into()).contains("hash"));
        assert!(with(|one| one.expires = Some("tomorrow".into())).contains("expires"));
    }
}
