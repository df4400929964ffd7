//! Pins: which key a user has, as far as this client knows, and what it does when it sees another one.
//!
//! A pin stops this client. It never decides whether a commit counts, because other members have other pins
//! (`commit_rules` decides that, alike for all).

use std::collections::BTreeMap;

use crate::protocol::Timestamp;
use crate::protocol::device::UserKey;

/// How much a client asks before it trusts a key (`--trust`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A user's first key is taken, and pinned.
    First,
    /// Only keys that the pin file names, or that a person compared.
    Pinned,
    /// Only keys that a person compared.
    Verified,
}

/// How a pin came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinOrigin {
    /// It was the first key that was seen.
    First,
    /// The pin file named it.
    File,
    /// A person compared the digits.
    Verified,
}

/// The key that a user is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The key.
    pub key: UserKey,
    /// When it was pinned, by this client's clock.
    pub since: Timestamp,
    /// How.
    pub origin: PinOrigin,
}

/// What to do about a key that a user shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The key is the pinned one.
    Known,
    /// The key is new, and is pinned from now on.
    Pin(PinOrigin),
    /// The client goes no further.
    Refuse(Refusal),
}

/// Why a key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another key is pinned.
    Changed(Pin),
    /// The pin file names another key for the user.
    NotAsInFile(UserKey),
    /// The pin file does not name the user, and nobody compared the key.
    NotInFile,
    /// Nobody compared the key.
    NotVerified,
}

/// Decides about `key`. `pin` is what is known of the user; `file` is what the pin file says of it.
pub fn decide(trust: Trust, pin: Option<&Pin>, file: Option<&UserKey>, key: &UserKey) -> Decision {
    if let Some(named) = file
        && named != key
    {
        return Decision::Refuse(Refusal::NotAsInFile(*named));
    }
    let is_verified = pin.is_some_and(|pin| pin.key == *key && pin.origin == PinOrigin::Verified);
    match pin {
        // The file names the new key: whoever wrote it has decided.
        Some(pin) if pin.key != *key && file.is_none() => Decision::Refuse(Refusal::Changed(*pin)),
        _ if trust == Trust::Verified && !is_verified => Decision::Refuse(Refusal::NotVerified),
        _ if trust == Trust::Pinned && file.is_none() && !is_verified => {
            Decision::Refuse(Refusal::NotInFile)
        }
        Some(pin) if pin.key == *key => Decision::Known,
        _ if file.is_some() => Decision::Pin(PinOrigin::File),
        _ => Decision::Pin(PinOrigin::First),
    }
}

/// The users and keys that a file names (`--pins`): a user name, space, and the key's 64 hexadecimal digits per line.
/// `#` begins a comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinFile {
    keys: BTreeMap<String, UserKey>,
}

/// A line of a pin file that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinFileError {
    /// Not a name and a key.
    #[error("line {0} is not a user name and a key of 64 hexadecimal digits, such as: ana 4f1c…")]
    Malformed(usize),
    /// The user was named before, with another key.
    #[error("line {0} names a user for whom an earlier line has another key")]
    TwoKeys(usize),
}

impl PinFile {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, PinFileError> {
        let mut file = PinFile::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let parsed = line.rsplit_once(char::is_whitespace).and_then(|(user, key)| {
                Some((user.trim_end(), UserKey::parse(&key.to_ascii_lowercase())?))
            });
            let (user, key) = parsed.ok_or(PinFileError::Malformed(index + 1))?;
            if file.keys.insert(user.to_owned(), key).is_some_and(|before| before != key) {
                return Err(PinFileError::TwoKeys(index + 1));
            }
        }
        Ok(file)
    }

    /// The key that the file names for a user.
    pub fn key_of(&self, user: &str) -> Option<&UserKey> {
        self.keys.get(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: UserKey = UserKey([1; 32]);
    const NEW: UserKey = UserKey([2; 32]);

    fn pin(key: UserKey, origin: PinOrigin) -> Pin {
        Pin { key, since: Timestamp::from_micros(0), origin }
    }

    /// Every combination: what is pinned, what the file says, and the decision about `NEW` for each [`Trust`].
    #[test]
    fn the_whole_table() {
        use Decision::{Known, Pin as Pins, Refuse};
        use Refusal::{NotInFile, NotVerified};
        let other = |origin| Refuse(Refusal::Changed(pin(OLD, origin)));
        let not_as = [Refuse(Refusal::NotAsInFile(OLD)); 3];
        let from_file = [Pins(PinOrigin::File), Pins(PinOrigin::File), Refuse(NotVerified)];
        let table = [
            (None, None, [Pins(PinOrigin::First), Refuse(NotInFile), Refuse(NotVerified)]),
            (None, Some(NEW), from_file),
            (None, Some(OLD), not_as),
            (
                Some(pin(NEW, PinOrigin::First)),
                None,
                [Known, Refuse(NotInFile), Refuse(NotVerified)],
            ),
            (
                Some(pin(NEW, PinOrigin::File)),
                None,
                [Known, Refuse(NotInFile), Refuse(NotVerified)],
            ),
            (Some(pin(NEW, PinOrigin::Verified)), None, [Known; 3]),
            (Some(pin(NEW, PinOrigin::First)), Some(NEW), [Known, Known, Refuse(NotVerified)]),
            (Some(pin(NEW, PinOrigin::Verified)), Some(NEW), [Known; 3]),
            (Some(pin(NEW, PinOrigin::Verified)), Some(OLD), not_as),
            (Some(pin(OLD, PinOrigin::First)), None, [other(PinOrigin::First); 3]),
            (Some(pin(OLD, PinOrigin::File)), None, [other(PinOrigin::File); 3]),
            (Some(pin(OLD, PinOrigin::Verified)), None, [other(PinOrigin::Verified); 3]),
            (Some(pin(OLD, PinOrigin::First)), Some(NEW), from_file),
            (Some(pin(OLD, PinOrigin::Verified)), Some(OLD), not_as),
        ];
        for (pin, file, decisions) in table {
            let trusts = [Trust::First, Trust::Pinned, Trust::Verified];
            for (trust, decision) in trusts.into_iter().zip(decisions) {
                let decided = decide(trust, pin.as_ref(), file.as_ref(), &NEW);
                assert_eq!(decided, decision, "{trust:?} {pin:?} {file:?}");
            }
        }
    }

    #[test]
    fn a_pin_file_names_users_and_keys() {
        let text = format!(
            "# the team\nana {OLD}\n\n  José Ñ. \t{}  # desk\nana {OLD}\n",
            NEW.to_string().to_uppercase()
        );
        let file = PinFile::parse(&text).unwrap();
        assert_eq!(file.key_of("ana"), Some(&OLD));
        assert_eq!(file.key_of("José Ñ."), Some(&NEW));
        assert_eq!(file.key_of("bob"), None);
        for bad in
            ["ana", "ana 4f1c", &format!("{OLD}"), &format!("ana{OLD}"), &format!("ana {OLD} x")]
        {
            assert_eq!(
                PinFile::parse(&format!("\n{bad}")),
                Err(PinFileError::Malformed(2)),
                "{bad}"
            );
        }
        let twice = format!("ana {OLD}\nana {NEW}");
        assert_eq!(PinFile::parse(&twice), Err(PinFileError::TwoKeys(2)));
    }
}
