//! The access file: the records of all access tokens, and the bans and mutes. JSON of mode 0600 that
//! is replaced atomically. It contains only hashes of the access tokens.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ban_record::BanEntry;
use super::durable_file::{create_folder, create_new, open_or_create, sync_parent_folder};
use super::private_file::{mode_for_others, open_regular};
use crate::policy::access::{self, Grant, GrantedRooms};
use crate::policy::rights::Role;
use crate::protocol::hex::hex;
use crate::protocol::mask::ACCESS_TOKEN_PREFIX;
use crate::protocol::random::fill_random;
use crate::protocol::{RoomName, Timestamp, UserName};

/// The name of the file in the state folder.
pub const ACCESS_FILE: &str = "access.json";
/// Largest access file.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// How long a change waits for the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it tries.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessFile {
    /// One record per access token.
    #[serde(default)]
    pub tokens: Vec<TokenRecord>,
    /// The banned users, addresses and networks.
    #[serde(default)]
    pub banned: Vec<BanEntry>,
    /// The muted users. Without any, the file is one that earlier versions read, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub muted: Vec<BanEntry>,
}

/// A grant as the access file and `[[auth.users]]` of the configuration store it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// The user that the access token proves.
    pub user: String,
    /// The rooms it covers; `*` is every room, and an empty list is the lobby.
    #[serde(default)]
    pub rooms: Vec<String>,
    /// `reader`, `writer`, `member` or `admin`.
    #[serde(default = "default_role")]
    pub role: String,
    /// SHA-256 of the access token, 64 hexadecimal digits.
    pub hash: String,
    /// When it expires (RFC 3339 in UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// When it was made (RFC 3339 in UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

fn default_role() -> String {
    Role::Member.word().into()
}

/// Why the access file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessFileError {
    /// Other users can read or write it.
    #[error(
        "{path}: other users can read or write the access file (mode {mode:04o}); run: chmod 600 {path}"
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Its content is not valid.
    #[error(
        "{path}: {reason}; correct or restore it, or delete it and make new access tokens with: chat-server token add"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The part that is not valid.
        reason: String,
    },
    /// Another process holds its lock.
    #[error("another command is changing {path}; nothing was changed: try again")]
    Busy {
        /// The file.
        path: PathBuf,
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

/// A new access token.
pub struct GeneratedToken {
    /// The access token itself, which is shown once and not stored.
    pub token: Zeroizing<String>,
    /// Its SHA-256 in hexadecimal, which is stored.
    pub hash: String,
}

impl GeneratedToken {
    /// Generates an access token of 256 random bits.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        fill_random(bytes.as_mut());
        let token = format!("{ACCESS_TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_ref()));
        let hash = hex(&access::digest(&token));
        GeneratedToken { token: Zeroizing::new(token), hash }
    }
}

impl TokenRecord {
    /// Identifies the access token for operators.
    pub fn id(&self) -> &str {
        self.hash.get(..8).unwrap_or(&self.hash)
    }

    /// The grant; or the error, which names the field.
    pub fn grant(&self) -> Result<Grant, String> {
        let digest = from_hex(&self.hash)
            .ok_or("hash must be 64 hexadecimal digits (the SHA-256 of an access token)")?;
        let user = UserName::parse(&self.user).map_err(|error| format!("user: {error}"))?;
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
                    .ok_or("expires must be a time in UTC, as in \"2027-01-31T00:00:00.000Z\"")?,
            ),
        };
        Ok(Grant { id: self.id().to_owned(), user, rooms, role, expires, digest })
    }
}

impl AccessFile {
    /// Reads the file; `None` if there is none. A file that other users can read or write is
    /// refused, because others may have changed it.
    pub fn read(path: &Path) -> Result<Option<Self>, AccessFileError> {
        let error = |source| AccessFileError::Io { path: path.into(), source };
        let malformed = |reason: String| AccessFileError::Malformed { path: path.into(), reason };
        let file = match open_regular(path) {
            Ok(file) => file,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                return match path.symlink_metadata() {
                    Ok(_) => Err(error(dangling_link())),
                    Err(_) => Ok(None),
                };
            }
            Err(source) => return Err(error(source)),
        };
        if let Some(mode) = mode_for_others(&file).map_err(error)? {
            return Err(AccessFileError::Readable { path: path.into(), mode });
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(error)?;
        Self::parse(&text).map(Some).map_err(malformed)
    }

    /// Reads the content of a file; the error says what is not valid.
    pub fn parse(text: &str) -> Result<Self, String> {
        // serde would also read the struct from an array.
        if !text.trim_start().starts_with('{') {
            return Err("not a JSON object".into());
        }
        let content: AccessFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for record in &content.tokens {
            record.grant().map_err(|reason| format!("{}: {reason}", record.id()))?;
        }
        for (index, entry) in content.banned.iter().enumerate() {
            entry.ban().map_err(|reason| format!("banned[{index}]: {reason}"))?;
        }
        for (index, entry) in content.muted.iter().enumerate() {
            entry.mute().map_err(|reason| format!("muted[{index}]: {reason}"))?;
        }
        Ok(content)
    }

    /// Changes the file atomically and durably, under a lock, so that concurrent changes are not
    /// lost; waits at most 5 seconds for it. Creates the file, its lock and its folder if they do not exist; they get the owner of
    /// the folder they are in, so that the server can use what root wrote. If the file is a symbolic link, its target
    /// is changed.
    pub fn change<T>(
        path: &Path,
        change: impl FnOnce(&mut AccessFile) -> T,
    ) -> Result<T, AccessFileError> {
        // Every error names the file or folder that it is about.
        let error_of = |path: &Path| {
            let path = path.to_owned();
            move |source| AccessFileError::Io { path, source }
        };
        let target = link_target(path).map_err(error_of(path))?;
        let path = target.as_deref().unwrap_or(path);
        let folder = path.parent().unwrap_or(Path::new("."));
        create_folder(folder).map_err(error_of(folder))?;
        let lock_file = path.with_extension("lock");
        let lock = open_or_create(&lock_file).map_err(error_of(&lock_file))?;
        lock_within(&lock, LOCK_TIMEOUT)
            .map_err(error_of(&lock_file))?
            .ok_or_else(|| AccessFileError::Busy { path: path.into() })?;
        let mut content = AccessFile::read(path)?.unwrap_or_default();
        let outcome = change(&mut content);
        let part = path.with_extension("part");
        let _ = std::fs::remove_file(&part);
        let written = (|| {
            let mut file = create_new(&part)?;
            let mut text = serde_json::to_string_pretty(&content)?;
            text.push('\n');
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })();
        written.map_err(error_of(&part))?;
        let renamed = std::fs::rename(&part, path).and_then(|()| sync_parent_folder(path));
        renamed.map_err(error_of(path))?;
        Ok(outcome)
    }
}

/// The file that a symbolic link leads to; `None` if `path` is no link.
fn link_target(path: &Path) -> io::Result<Option<PathBuf>> {
    match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(dangling_link()),
            target => target.map(Some),
        },
        _ => Ok(None),
    }
}

fn dangling_link() -> io::Error {
    let text = "a symbolic link that leads to no file; put the file back, or remove the link";
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Locks the file for this process alone; `None` if another one holds the lock all the time.
fn lock_within(file: &File, timeout: Duration) -> io::Result<Option<()>> {
    let deadline = Instant::now() + timeout;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(())),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL_INTERVAL),
        }
    }
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

    fn record(user: &str) -> (GeneratedToken, TokenRecord) {
        let generated = GeneratedToken::generate();
        let record = TokenRecord {
            user: user.into(),
            rooms: vec!["ops".into()],
            role: "member".into(),
            hash: generated.hash.clone(),
            expires: None,
            created: None,
        };
        (generated, record)
    }

    #[test]
    fn an_added_token_is_accepted_and_the_file_contains_only_its_hash() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state/access.json");
        assert_eq!(AccessFile::read(&path).unwrap(), None);
        let (generated, ana) = record("ana");
        AccessFile::change(&path, |file| file.tokens.push(ana)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains(generated.token.as_str()) && text.contains(&generated.hash),
            "{text}"
        );
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let read = AccessFile::read(&path).unwrap().unwrap();
        assert_eq!(read.tokens[0].grant().unwrap().digest, access::digest(&generated.token));
    }

    #[test]
    fn a_file_that_others_can_access_or_that_is_malformed_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("access.json");
        AccessFile::change(&path, |_| ()).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = AccessFile::read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for text in [
            "",
            "{",
            "[]",
            r#"{"tokens":[{"user":"a","hash":"short"}]}"#,
            r#"{"x":1}"#,
            r#"{"banned":[7]}"#,
            r#"{"muted":[{}]}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let error = AccessFile::read(&path).unwrap_err();
            assert!(matches!(error, AccessFileError::Malformed { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn a_change_waits_for_the_lock_only_for_a_time() {
        let home = tempfile::tempdir().unwrap();
        let open = || File::create(home.path().join("access.lock")).unwrap();
        let (held, other) = (open(), open());
        held.lock().unwrap();
        assert_eq!(lock_within(&other, Duration::from_millis(50)).unwrap(), None);
        drop(held);
        assert_eq!(lock_within(&other, Duration::ZERO).unwrap(), Some(()));
    }

    #[test]
    fn a_change_writes_the_target_of_a_symbolic_link_and_a_dangling_link_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let (path, target) = (home.path().join("access.json"), home.path().join("shared.json"));
        std::os::unix::fs::symlink("shared.json", &path).unwrap();
        for error in
            [AccessFile::read(&path).unwrap_err(), AccessFile::change(&path, |_| ()).unwrap_err()]
        {
            assert!(error.to_string().contains("symbolic link"), "{error}");
        }
        AccessFile::change(&target, |_| ()).unwrap();
        AccessFile::change(&path, |file| file.banned.push(BanEntry::Name("eve".into()))).unwrap();
        assert!(path.symlink_metadata().unwrap().is_symlink());
        assert_eq!(
            AccessFile::read(&target).unwrap().unwrap().banned,
            [BanEntry::Name("eve".into())]
        );
    }

    #[test]
    fn every_field_of_a_record_is_validated() {
        let (_, good) = record("ana");
        assert!(good.grant().is_ok());
        let error_of = |change: fn(&mut TokenRecord)| {
            let mut changed = good.clone();
            change(&mut changed);
            changed.grant().unwrap_err()
        };
        assert!(error_of(|record| record.user = " ana".into()).contains("user"));
        assert!(error_of(|record| record.role = "king".into()).contains("role"));
        assert!(error_of(|record| record.rooms = vec!["Bad Room".into()]).contains("room"));
        assert!(error_of(|record| record.hash = "12".into()).contains("hash"));
        assert!(error_of(|record| record.expires = Some("tomorrow".into())).contains("expires"));
    }
}
