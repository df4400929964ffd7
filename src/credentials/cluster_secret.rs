//! The secret of a cluster, which every one of its servers has. It comes from a systemd credential, else from a
//! file of mode 0600. It is never generated: a server with a secret of its own is in no cluster.
//!
//! The file contains 32 random bytes as base64 in one line, as that of the at-rest key.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::at_rest_key::AtRestKey;
use super::private_file::{mode_for_others, open_regular};

/// The name of the systemd credential, and of the file in the state folder.
pub const SECRET_FILE: &str = "cluster.key";
/// The name of the systemd credential with the second secret.
pub const ACCEPTED_SECRET_FILE: &str = "cluster.accepted.key";
/// The name of the systemd credential with the credentials for the engine.
pub const CREDENTIALS_FILE: &str = "cluster.creds";
/// A file with credentials is smaller than this.
const MAX_CREDENTIALS_BYTES: u64 = 64 * 1024;

/// The secret of a cluster, 32 bytes. It is wiped from memory when dropped, and `{:?}` does not show it.
pub struct ClusterSecret(Zeroizing<[u8; 32]>);

/// Why a secret or credentials can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error(
        "{0}: the cluster secret is missing. Copy the file from another node of the cluster; for the first node, make \
         it (openssl rand -base64 32 >{0} && chmod 600 {0}). A secret that systemd passes as a credential is visible to \
         the service only"
    )]
    Missing(PathBuf),
    /// Other users can read the file.
    #[error("{path}: other users can read it (mode {mode:04o}); run: chmod 600 {path}")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file contains no secret.
    #[error(
        "{0}: not a cluster secret; it must be 32 bytes as base64 in one line (openssl rand -base64 32)"
    )]
    Malformed(PathBuf),
    /// The file contains no credentials.
    #[error(
        "{0}: not credentials for NATS; it must be a credentials file of nsc, the seed of a user's nkey, or \
         user:password in one line"
    )]
    NoCredentials(PathBuf),
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl ClusterSecret {
    /// Finds the secret: the file that the configuration names, else the systemd credential, else the file at
    /// `path`. `credentials` is the folder of systemd's credentials (`$CREDENTIALS_DIRECTORY`).
    pub fn find(
        path: &Path,
        is_named: bool,
        credentials: Option<&Path>,
    ) -> Result<Self, SecretError> {
        if !is_named
            && let Some(path) = credentials.map(|folder| folder.join(SECRET_FILE))
            && let Some(text) = read(&path, false)?
        {
            return Self::parse(&text, &path);
        }
        // systemd's own files can be read by their owner alone, but a credential may be named, too.
        let is_credential = credentials.is_some_and(|folder| path.starts_with(folder));
        let text = read(path, !is_credential)?.ok_or_else(|| SecretError::Missing(path.into()))?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, SecretError> {
        let key = AtRestKey::parse(text).ok_or_else(|| SecretError::Malformed(path.into()))?;
        Ok(ClusterSecret(Zeroizing::new(*key.bytes())))
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 32 bytes.
    pub fn into_bytes(self) -> Zeroizing<[u8; 32]> {
        self.0
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(hidden)")
    }
}

/// The second secret, which is accepted while the secret is changed: from the named file, else from the systemd
/// credential. `None` if there is neither.
pub fn accepted_secret(
    named: Option<&Path>,
    credentials: Option<&Path>,
) -> Result<Option<ClusterSecret>, SecretError> {
    let found = named_or_credential(named, credentials, ACCEPTED_SECRET_FILE)?;
    found.map(|(path, text)| ClusterSecret::parse(&text, &path)).transpose()
}

/// Reads the text of a file with credentials for the engine: the named one, else the systemd credential. `None`
/// if there is neither.
pub fn engine_credentials(
    named: Option<&Path>,
    credentials: Option<&Path>,
) -> Result<Option<(PathBuf, Zeroizing<String>)>, SecretError> {
    named_or_credential(named, credentials, CREDENTIALS_FILE)
}

fn named_or_credential(
    named: Option<&Path>,
    credentials: Option<&Path>,
    name: &str,
) -> Result<Option<(PathBuf, Zeroizing<String>)>, SecretError> {
    if let Some(path) = named {
        let is_credential = credentials.is_some_and(|folder| path.starts_with(folder));
        let text = read(path, !is_credential)?.ok_or_else(|| SecretError::Io {
            path: path.into(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        return Ok(Some((path.into(), text)));
    }
    let Some(path) = credentials.map(|folder| folder.join(name)) else {
        return Ok(None);
    };
    Ok(read(&path, false)?.map(|text| (path, text)))
}

/// The text of a file; `None` if there is no such file.
fn read(path: &Path, must_be_private: bool) -> Result<Option<Zeroizing<String>>, SecretError> {
    let failed = |source| SecretError::Io { path: path.into(), source };
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    if must_be_private && let Some(mode) = mode_for_others(&file).map_err(failed)? {
        return Err(SecretError::Readable { path: path.into(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_CREDENTIALS_BYTES).read_to_string(&mut text).map_err(|source| {
        match source.kind() {
            io::ErrorKind::InvalidData => SecretError::Malformed(path.into()),
            _ => failed(source),
        }
    })?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TEXT: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";

    #[test]
    fn the_secret_is_found_in_its_file_or_credential_and_never_made() {
        let home = tempfile::tempdir().unwrap();
        let (path, folder) = (home.path().join("cluster.key"), home.path().join("credentials"));
        let find = |is_named| ClusterSecret::find(&path, is_named, Some(&folder));
        let error = find(false).unwrap_err();
        assert!(matches!(error, SecretError::Missing(_)), "{error}");
        assert!(!path.exists());
        std::fs::write(&path, TEXT).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = find(false).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let secret = find(false).unwrap();
        assert_eq!(secret.bytes(), &[65; 32]);
        assert!(!format!("{secret:?}").contains("65"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(SECRET_FILE), "nonsense").unwrap();
        let error = find(false).unwrap_err();
        assert!(matches!(error, SecretError::Malformed(_)), "the credential comes first: {error}");
        assert!(find(true).is_ok(), "a named file comes before the credential");
    }
}
