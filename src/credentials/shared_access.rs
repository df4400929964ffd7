//! The access list of a cluster: one sealed value that all nodes share, and that each node mirrors into its own
//! access file. So every local tool goes on to read and change the file.
//!
//! Beside the file lies what it was when it last was the same as the shared value (`access.shared`). A change of
//! the file is the difference to that, and is carried over to the shared value, which only changes if nobody
//! else changed it meanwhile. An access token that was revoked is remembered, so that a node that was away, or
//! an old copy of its file, does not bring it back.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::access_file::{AccessFile, AccessFileError};
use super::durable_file::{create_folder, create_new, sync_parent_folder};
use crate::crypto::secrets::{Sealers, Secrets};

/// The purpose of the key, for its derivation from the secret of the cluster.
const PURPOSE: &str = "secure-chat cluster access";
/// How often a change is tried while others change the value too.
const TRIES: usize = 8;
/// The longest value: NATS allows 1 MiB unless its operator sets less.
const MAX_VALUE_BYTES: usize = 900 * 1024;
/// Revoked access tokens that are remembered, the latest.
const MAX_REVOKED: usize = 4096;

/// A value that the nodes of a cluster share. Every call waits, but only for a bounded time.
pub(crate) trait SharedValue: Send + Sync {
    /// The value with its revision, if there is one.
    fn read(&self) -> Result<Option<(Bytes, u64)>, ValueError>;

    /// Replaces the value if its revision is still this one, or 0 if there was none. Returns the new revision;
    /// `None` if somebody else changed it.
    fn replace(&self, value: Bytes, revision: u64) -> Result<Option<u64>, ValueError>;
}

/// Why the shared value can't be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster's access list can't be reached: {0}")]
pub(crate) struct ValueError(pub String);

/// Why the access file and the shared value are not the same.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    /// The shared value can't be reached.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The access file can't be used.
    #[error(transparent)]
    File(#[from] AccessFileError),
    /// The file beside it can't be used.
    #[error("{path}: {source}")]
    Base {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The shared value was not made with this secret.
    #[error(
        "the cluster's access list does not open with the secret of this server; give all nodes the same cluster.key. If \
         something else wrote it, remove it (nats kv del PREFIX-state access): the nodes then share their own lists again"
    )]
    Foreign,
    /// The shared value has a form that this version does not know.
    #[error("the cluster's access list can't be read; give all nodes the same version: {0}")]
    Malformed(String),
    /// The list is too long to be shared.
    #[error(
        "the access list has {0} bytes, and more than {MAX_VALUE_BYTES} can't be shared; remove expired tokens and old bans"
    )]
    TooLong(usize),
    /// Others changed it all the time.
    #[error("other servers change the access list at the same time; try again")]
    Contended,
}

/// Keeps an access file and the shared value the same.
pub(crate) struct SharedAccess {
    sealers: Sealers,
    /// Whether the shared value was sealed with the current secret once. Not again and again, or two nodes with another
    /// current secret each would do so in turns.
    is_sealed_anew: AtomicBool,
}

/// The content of the shared value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    file: AccessFile,
    /// The hashes of access tokens that were revoked.
    #[serde(default)]
    revoked: Vec<String>,
}

/// The content of the file beside the access file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Base {
    revision: u64,
    file: AccessFile,
}

impl SharedAccess {
    /// For the cluster with these secrets.
    pub fn new(secrets: &Secrets) -> Self {
        SharedAccess { sealers: secrets.sealers(PURPOSE), is_sealed_anew: AtomicBool::new(false) }
    }

    /// Carries changes of the access file over to the shared value, and the other way. A server that has never
    /// shared the value takes it as it is; its own file is kept as `access.before-cluster`.
    pub fn sync(&self, path: &Path, value: &dyn SharedValue) -> Result<(), SyncError> {
        for _ in 0..TRIES {
            let ours = AccessFile::read(path)?;
            let base = read_base(path)?;
            let mut is_current = true;
            let shared = match value.read()? {
                Some((sealed, revision)) => {
                    let content;
                    (content, is_current) = self.open(&sealed)?;
                    Some((content, revision))
                }
                None => None,
            };
            is_current |= self.is_sealed_anew.load(Ordering::Relaxed);
            let mine = ours.clone().unwrap_or_default();
            let (merged, theirs, revision) = match (shared, &base) {
                (None, _) => (Content { file: mine.clone(), revoked: Vec::new() }, None, 0),
                (Some((theirs, revision)), None) => (theirs.clone(), Some(theirs), revision),
                (Some((theirs, revision)), Some(base)) => {
                    (merge(&base.file, &mine, &theirs), Some(theirs), revision)
                }
            };
            let revision = match theirs.as_ref() == Some(&merged) && is_current {
                true => revision,
                false => match value.replace(self.seal(&merged)?, revision)? {
                    Some(revision) => revision,
                    None => continue,
                },
            };
            if merged.file != mine {
                if base.is_none() && ours.is_some() {
                    write(&beside(path, "before-cluster"), &mine)?;
                }
                let new = merged.file.clone();
                let replace = |file: &mut AccessFile| {
                    let is_unchanged = *file == mine;
                    if is_unchanged {
                        *file = new;
                    }
                    is_unchanged
                };
                if !AccessFile::change(path, replace)? {
                    continue;
                }
            }
            self.is_sealed_anew.store(true, Ordering::Relaxed);
            let synced = Base { revision, file: merged.file };
            if base.as_ref() != Some(&synced) {
                write(&beside(path, "shared"), &synced)?;
            }
            return Ok(());
        }
        Err(SyncError::Contended)
    }

    fn seal(&self, content: &Content) -> Result<Bytes, SyncError> {
        let json =
            serde_json::to_vec(content).map_err(|error| SyncError::Malformed(error.to_string()))?;
        let sealed = self.sealers.seal(json);
        match sealed.len() > MAX_VALUE_BYTES {
            true => Err(SyncError::TooLong(sealed.len())),
            false => Ok(sealed.into()),
        }
    }

    /// The content, and whether it was sealed with the current secret.
    fn open(&self, sealed: &[u8]) -> Result<(Content, bool), SyncError> {
        if sealed.len() < crate::crypto::sealer::SEAL_OVERHEAD_BYTES {
            return Err(SyncError::Foreign);
        }
        let (json, is_current) = self.sealers.open(sealed).ok_or(SyncError::Foreign)?;
        // The error names a field and a position, and no value.
        let content = serde_json::from_slice(&json)
            .map_err(|error| SyncError::Malformed(format!("line {}", error.line())))?;
        Ok((content, is_current))
    }
}

/// The list of the others, with the difference between `base` and `ours` applied.
fn merge(base: &AccessFile, ours: &AccessFile, theirs: &Content) -> Content {
    let is_ours = |hash: &str| ours.tokens.iter().any(|token| token.hash == hash);
    let gone = base.tokens.iter().map(|token| &token.hash).filter(|hash| !is_ours(hash));
    let mut revoked = theirs.revoked.clone();
    for hash in gone {
        if !revoked.contains(hash) {
            revoked.push(hash.clone());
        }
    }
    let surplus = revoked.len().saturating_sub(MAX_REVOKED);
    revoked.drain(..surplus);
    let mut tokens = merged(&base.tokens, &ours.tokens, &theirs.file.tokens);
    tokens.retain(|token| !revoked.contains(&token.hash));
    let file = AccessFile {
        tokens,
        banned: merged(&base.banned, &ours.banned, &theirs.file.banned),
        muted: merged(&base.muted, &ours.muted, &theirs.file.muted),
    };
    Content { file, revoked }
}

fn merged<T: Clone + PartialEq>(base: &[T], ours: &[T], theirs: &[T]) -> Vec<T> {
    let removed = |entry: &T| base.contains(entry) && !ours.contains(entry);
    let mut merged: Vec<T> = theirs.iter().filter(|entry| !removed(entry)).cloned().collect();
    for added in ours.iter().filter(|entry| !base.contains(entry)) {
        if !merged.contains(added) {
            merged.push(added.clone());
        }
    }
    merged
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    path.with_extension(extension)
}

/// The content of the file when it was last equal to the shared list; `None` if it never was, or if that file is damaged.
fn read_base(path: &Path) -> Result<Option<Base>, SyncError> {
    let path = beside(path, "shared");
    match std::fs::read(&path) {
        Ok(json) => Ok(serde_json::from_slice(&json).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SyncError::Base { path, source }),
    }
}

/// Writes a file atomically and durably.
fn write(path: &Path, content: &impl Serialize) -> Result<(), SyncError> {
    let error = |source| SyncError::Base { path: path.into(), source };
    let part = path.with_extension("shared-part");
    let _ = std::fs::remove_file(&part);
    (|| {
        create_folder(path.parent().unwrap_or(Path::new(".")))?;
        let mut file = create_new(&part)?;
        file.write_all(&serde_json::to_vec(content)?)?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        sync_parent_folder(path)
    })()
    .map_err(error)
}

/// A value that can't be reached.
#[cfg(test)]
pub(crate) struct Away;

#[cfg(test)]
impl SharedValue for Away {
    fn read(&self) -> Result<Option<(Bytes, u64)>, ValueError> {
        Err(ValueError("no connection".into()))
    }

    fn replace(&self, _: Bytes, _: u64) -> Result<Option<u64>, ValueError> {
        Err(ValueError("no connection".into()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::credentials::access_file::TokenRecord;
    use crate::credentials::ban_record::BanEntry;

    /// A value in memory, and what somebody else does just before the next change.
    #[derive(Default)]
    struct Memory {
        value: Mutex<Option<(Bytes, u64)>>,
        rival: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    }

    impl SharedValue for Memory {
        fn read(&self) -> Result<Option<(Bytes, u64)>, ValueError> {
            Ok(self.value.lock().clone())
        }

        fn replace(&self, value: Bytes, revision: u64) -> Result<Option<u64>, ValueError> {
            let rival = self.rival.lock().take();
            rival.into_iter().for_each(|act| act());
            let mut current = self.value.lock();
            if current.as_ref().map_or(0, |(_, revision)| *revision) != revision {
                return Ok(None);
            }
            *current = Some((value, revision + 1));
            Ok(Some(revision + 1))
        }
    }

    struct Node {
        home: tempfile::TempDir,
        shared: SharedAccess,
    }

    fn node() -> Node {
        Node { home: tempfile::tempdir().unwrap(), shared: SharedAccess::new(&[7; 32].into()) }
    }

    fn token(name: &str) -> TokenRecord {
        let hash =
            format!("{:0>64}", name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
        let (user, role) = (name.to_owned(), "member".to_owned());
        TokenRecord { user, rooms: vec![], role, hash, expires: None, created: None }
    }

    impl Node {
        /// In a folder that does not exist yet.
        fn path(&self) -> PathBuf {
            self.home.path().join("state/access.json")
        }

        fn sync(&self, value: &Memory) {
            self.shared.sync(&self.path(), value).unwrap();
        }

        fn add(&self, name: &str) {
            AccessFile::change(&self.path(), |file| file.tokens.push(token(name))).unwrap();
        }

        fn revoke(&self, name: &str) {
            AccessFile::change(&self.path(), |file| file.tokens.retain(|token| token.user != name))
                .unwrap();
        }

        fn ban(&self, name: &str) {
            AccessFile::change(&self.path(), |file| file.banned.push(BanEntry::Name(name.into())))
                .unwrap();
        }

        fn unban(&self) {
            AccessFile::change(&self.path(), |file| file.banned.clear()).unwrap();
        }

        /// The users with tokens, and the number of bans.
        fn has(&self) -> (String, usize) {
            let file = AccessFile::read(&self.path()).unwrap().unwrap_or_default();
            let mut users: Vec<_> = file.tokens.into_iter().map(|token| token.user).collect();
            users.sort();
            (users.join(" "), file.banned.len())
        }
    }

    fn has(users: &str, bans: usize) -> (String, usize) {
        (users.to_owned(), bans)
    }

    #[test]
    fn changes_of_every_node_reach_every_node() {
        let (value, a, b) = (Memory::default(), node(), node());
        a.sync(&value);
        a.add("ana");
        a.sync(&value);
        b.sync(&value);
        assert_eq!(b.has(), has("ana", 0));
        b.add("bob");
        a.ban("eve");
        b.sync(&value);
        a.sync(&value);
        b.sync(&value);
        assert_eq!((a.has(), b.has()), (has("ana bob", 1), has("ana bob", 1)));
        a.revoke("ana");
        b.unban();
        for node in [&b, &a, &b] {
            node.sync(&value);
        }
        assert_eq!((a.has(), b.has()), (has("bob", 0), has("bob", 0)));
        let (sealed, revision) = value.read().unwrap().unwrap();
        assert!(!sealed.windows(3).any(|part| part == b"bob"), "it is readable");
        a.sync(&value);
        assert_eq!(value.read().unwrap().unwrap().1, revision, "nothing changed");
    }

    #[test]
    fn two_changes_at_the_same_moment_are_both_kept() {
        let (value, a, b) = (Arc::new(Memory::default()), node(), Arc::new(node()));
        a.add("ana");
        a.sync(&value);
        b.sync(&value);
        a.add("carl");
        b.add("bob");
        b.revoke("ana");
        let (rival, its) = (b.clone(), value.clone());
        *value.rival.lock() = Some(Box::new(move || rival.sync(&its)));
        a.sync(&value);
        b.sync(&value);
        assert_eq!((a.has(), b.has()), (has("bob carl", 0), has("bob carl", 0)));
    }

    #[test]
    fn a_revoked_token_does_not_come_back_from_an_old_file() {
        let (value, a, b) = (Memory::default(), node(), node());
        a.add("ana");
        a.add("bob");
        a.sync(&value);
        b.sync(&value);
        b.revoke("ana");
        b.sync(&value);
        a.sync(&value);
        // An old copy of the file is put back, and so is what lies beside it.
        a.add("ana");
        a.sync(&value);
        assert_eq!(a.has(), has("bob", 0));
        let c = node();
        c.add("ana");
        c.add("zoe");
        c.sync(&value);
        assert_eq!(c.has(), has("bob", 0), "a new node takes the shared list");
        let kept = std::fs::read_to_string(c.path().with_extension("before-cluster")).unwrap();
        assert!(kept.contains("zoe"));
    }

    #[test]
    fn a_changed_secret_seals_the_value_anew_once_per_start() {
        let with = |current: u8, accepted: u8| {
            let secret = |byte| zeroize::Zeroizing::new([byte; 32]);
            SharedAccess::new(&Secrets::new(secret(current), Some(secret(accepted))))
        };
        let (value, mut a, mut b) = (Memory::default(), node(), node());
        a.add("ana");
        a.sync(&value);
        a.shared = with(8, 7);
        b.shared = with(7, 8);
        for _ in 0..5 {
            a.sync(&value);
            b.sync(&value);
        }
        let revision = value.value.lock().as_ref().map(|(_, revision)| *revision);
        assert_eq!((b.has(), revision), (has("ana", 0), Some(3)), "one more for each start");
        b.shared = with(8, 7);
        b.sync(&value);
        b.shared = SharedAccess::new(&[8; 32].into());
        b.sync(&value);
    }

    #[test]
    fn another_secret_and_an_unreachable_value_are_told_and_change_nothing() {
        let (value, a, mut b) = (Memory::default(), node(), node());
        a.add("ana");
        a.sync(&value);
        b.shared = SharedAccess::new(&[8; 32].into());
        b.add("bob");
        let error = b.shared.sync(&b.path(), &value).unwrap_err();
        assert!(matches!(error, SyncError::Foreign), "{error}");
        let error = a.shared.sync(&a.path(), &Away).unwrap_err();
        assert!(matches!(error, SyncError::Value(_)), "{error}");
        assert_eq!((a.has(), b.has()), (has("ana", 0), has("bob", 0)));
        let long = "x".repeat(MAX_VALUE_BYTES);
        a.ban(&long);
        let error = a.shared.sync(&a.path(), &value).unwrap_err();
        assert!(matches!(error, SyncError::TooLong(_)), "{error}");
    }
}
