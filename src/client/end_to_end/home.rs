//! Where a device's state is, and what a run wants of end-to-end rooms.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::problem::Problem;
use crate::policy::pins::{PinFile, Trust};
use crate::protocol::RoomName;

/// What a run wants of end-to-end rooms.
#[derive(Clone, Debug)]
pub struct EndToEndOptions {
    /// The folder of the device's state.
    pub folder: PathBuf,
    /// The 32 bytes that seal the state's values, if it has such a key.
    pub key: Option<zeroize::Zeroizing<[u8; 32]>>,
    /// How much is asked before a key is trusted.
    pub trust: Trust,
    /// Keys that a file names.
    pub pins: PinFile,
    /// The name of the server, as this client reaches it.
    pub host: String,
    /// The name was given, so no other one is taken from the server.
    pub name: Option<String>,
    /// The other users of rooms for direct messages.
    pub direct: BTreeMap<RoomName, String>,
}

/// The name of the credential (systemd.exec(5)) with the key that seals a state.
const CREDENTIAL: &str = "e2e.key";

/// The folder for the state of a user's device on a server: `given`, else
/// `$XDG_STATE_HOME/secure-chat/e2e/<user>@<host>`, by the XDG Base Directory Specification.
pub fn folder(
    given: Option<PathBuf>,
    user: &str,
    host: &str,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Result<PathBuf, Problem> {
    if let Some(given) = given {
        return Ok(given);
    }
    let state = match variable("XDG_STATE_HOME").filter(|folder| folder.is_absolute()) {
        Some(state) => state,
        None => variable("HOME").map(|home| home.join(".local/state")).ok_or_else(|| {
            Problem::identity("neither HOME nor XDG_STATE_HOME is set; name a folder by --e2e-home")
        })?,
    };
    let name: String = format!("{user}@{host}")
        .chars()
        .map(|c| if c == '/' || c.is_control() { '_' } else { c })
        .collect();
    Ok(state.join("secure-chat").join("e2e").join(name))
}

/// The key of systemd's credential `e2e.key`, if the service has one: 32 bytes.
pub fn credential(
    folder: Option<PathBuf>,
) -> Result<Option<zeroize::Zeroizing<[u8; 32]>>, Problem> {
    let Some(file) = folder.map(|folder| folder.join(CREDENTIAL)) else { return Ok(None) };
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Problem::identity(format!("{}: {error}", file.display()))),
    };
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(key) => Ok(Some(zeroize::Zeroizing::new(key))),
        Err(_) => Err(Problem::identity(format!(
            "{} has {} bytes; the key of a device's state has 32 (head -c 32 /dev/urandom)",
            file.display(),
            bytes.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &'static [(&'static str, &'static str)]) -> Result<PathBuf, Problem> {
        folder(None, "José Ñ.", "chat.example:8765", |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| PathBuf::from(value))
        })
    }

    #[test]
    fn each_user_and_server_has_a_folder() {
        let both = &[("HOME", "/home/j"), ("XDG_STATE_HOME", "/s")];
        let expected = PathBuf::from("/s/secure-chat/e2e/José Ñ.@chat.example:8765");
        assert_eq!(of(both), Ok(expected));
        let relative = &[("HOME", "/h"), ("XDG_STATE_HOME", "s")];
        assert!(of(relative).unwrap().starts_with("/h/.local/state/secure-chat/e2e"));
        assert!(of(&[]).unwrap_err().text.contains("--e2e-home"));
        let given = folder(Some("/x".into()), "a/b", "h", |_| None);
        assert_eq!(given, Ok(PathBuf::from("/x")));
    }

    #[test]
    fn the_key_of_a_state_has_32_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let read = || credential(Some(folder.path().to_owned()));
        assert_eq!(read(), Ok(None));
        std::fs::write(folder.path().join("e2e.key"), [7; 31]).unwrap();
        assert!(read().unwrap_err().text.contains("31 bytes"));
        std::fs::write(folder.path().join("e2e.key"), [7; 32]).unwrap();
        assert_eq!(*read().unwrap().unwrap(), [7; 32]);
    }
}
