//! The at-rest key of a backup: where it is found, and how it is put into a backup and taken out.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::args::{BackupArgs, RestoreArgs};
use crate::credentials::at_rest_key::{AtRestKey, KEY_FILE};
use crate::credentials::private_file::mode_for_others;
use crate::crypto::age_file::{self, Recipient};
use crate::server::error::ServerError;
use crate::store::Backup;
use crate::sys::credentials::credentials_folder;

/// Longest passphrase file.
const MAX_PASSPHRASE_BYTES: u64 = 4096;

/// A key that opens a backup, and whether the server must find it beside the history.
pub struct FoundKey {
    pub key: AtRestKey,
    pub write: bool,
}

/// The key of the history in `folder`: from `key_file` if it is named, else where the server finds it.
pub fn of_history(folder: &Path, key_file: Option<&Path>) -> Result<AtRestKey, ServerError> {
    if let Some(file) = key_file {
        return Ok(AtRestKey::open_external(file)?);
    }
    AtRestKey::find_existing(folder, credentials_folder().as_deref())?.ok_or_else(|| {
        ServerError::Usage(format!(
            "{}: there is no at-rest key; name its file with --key-file (a systemd credential is visible \
             only to the service)",
            folder.join(KEY_FILE).display()
        ))
    })
}

/// The key as it goes into a backup, if the arguments ask for it.
pub fn sealed(arguments: &BackupArgs, key: &AtRestKey) -> Result<Option<String>, ServerError> {
    let recipient =
        recipient(arguments.passphrase_file.as_deref(), arguments.recipient.as_deref())?;
    Ok(recipient.map(|recipient| age_file::seal(key.to_text().as_bytes(), &recipient)))
}

/// To whom something is sealed, if the arguments say so.
pub fn recipient(
    passphrase_file: Option<&Path>,
    public_key: Option<&str>,
) -> Result<Option<Recipient>, ServerError> {
    Ok(Some(match (passphrase_file, public_key) {
        (Some(file), _) => Recipient::Passphrase(read_passphrase(file)?),
        (None, Some(text)) => Recipient::parse_public_key(text).ok_or_else(|| {
            let text = "--recipient must be a public key of age: age1 and 58 more characters \
                        (age-keygen prints it)";
            ServerError::Usage(text.into())
        })?,
        (None, None) => return Ok(None),
    }))
}

/// The key that opens a backup: the named file, the key in the backup, or the key that is there.
pub fn of_backup(
    arguments: &RestoreArgs,
    backup: &Backup,
    folder: &Path,
) -> Result<FoundKey, ServerError> {
    if let Some(file) = &arguments.key_file {
        return Ok(FoundKey { key: AtRestKey::open_external(file)?, write: true });
    }
    let sealed = backup.sealed_key()?;
    let name = arguments.file.display();
    if let Some(file) = &arguments.passphrase_file {
        let sealed = sealed.ok_or_else(|| {
            ServerError::Usage(format!(
                "{name}: the backup does not hold the at-rest key; name the key's file with --key-file"
            ))
        })?;
        let failed = |source| ServerError::SealedKey { file: name.to_string(), source };
        let text = age_file::open(&sealed, &read_passphrase(file)?).map_err(failed)?;
        let text = std::str::from_utf8(&text).ok();
        let key = text.and_then(AtRestKey::parse);
        let key = key.ok_or_else(|| failed(age_file::AgeError::Malformed))?;
        return Ok(FoundKey { key, write: true });
    }
    match AtRestKey::find_existing(folder, credentials_folder().as_deref())? {
        Some(key) => Ok(FoundKey { write: key.file().is_some(), key }),
        None => Err(ServerError::Usage(match sealed {
            None => format!(
                "{name}: the backup does not hold the at-rest key, and there is none in {}; name the \
                 key's file with --key-file",
                folder.display()
            ),
            Some(_) => format!(
                "{name}: the at-rest key in the backup is encrypted; name a file with its passphrase with \
                 --passphrase-file, or the key's file with --key-file"
            ),
        })),
    }
}

/// Reads a passphrase from the first line of a file that no other user can read, or from a pipe.
pub fn read_passphrase(path: &Path) -> Result<Zeroizing<String>, ServerError> {
    let refuse =
        |reason: String| ServerError::Passphrase { path: path.display().to_string(), reason };
    let io_error = |error: io::Error| refuse(error.to_string());
    let file = File::open(path).map_err(io_error)?;
    let found = file.metadata().map_err(io_error)?;
    if found.is_file()
        && let Some(mode) = mode_for_others(&file).map_err(io_error)?
    {
        return Err(refuse(format!(
            "other users can read the passphrase (mode {mode:04o}); run: chmod 600 {}",
            path.display()
        )));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_PASSPHRASE_BYTES + 1).read_to_string(&mut text).map_err(io_error)?;
    if text.len() as u64 > MAX_PASSPHRASE_BYTES {
        return Err(refuse(format!(
            "larger than {MAX_PASSPHRASE_BYTES} bytes, the limit for a passphrase file"
        )));
    }
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(refuse("the passphrase file is empty".into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_passphrase_is_read_whole_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passphrase");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            read_passphrase(&file).map(|text| text.to_string()).map_err(|error| error.to_string())
        };
        let longest = "x".repeat(4096);
        assert_eq!(read("one\ntwo\n"), Ok("one".into()));
        assert_eq!(read(&longest), Ok(longest.clone()));
        assert!(read(&format!("{longest}x")).unwrap_err().contains("4096"));
        assert!(read("\n").unwrap_err().contains("empty"));
    }
}
