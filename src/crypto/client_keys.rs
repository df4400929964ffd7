//! The room keys a client was given: encrypts under the newest, reads with the earlier ones too,
//! so that nothing around a rotation is unreadable.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fernet::Fernet;
use zeroize::Zeroizing;

use super::fernet_token;
use crate::protocol::Timestamp;

/// How many keys of a room are kept: a rotation a second must not make the last minute's
/// messages unreadable, and memory stays small.
const KEPT_PER_ROOM: usize = 128;

/// The keys of every room. A basic server knows no rooms: its key is filed under "".
#[derive(Default)]
pub struct ClientKeys {
    rooms: BTreeMap<String, VecDeque<Key>>,
}

struct Key {
    id: Option<String>,
    text: Zeroizing<String>,
    fernet: Fernet,
}

impl ClientKeys {
    /// Takes a key as it came over the wire: base64 of the 44 characters, or those characters.
    /// Returns false where it is neither.
    pub fn insert(&mut self, room: &str, id: Option<&str>, wire: &str) -> bool {
        let Some(text) = unwrap_key(wire) else { return false };
        let Some(fernet) = Fernet::new(&text) else { return false };
        let kept = self.rooms.entry(room.to_owned()).or_default();
        kept.retain(|key| *key.text != *text);
        kept.push_front(Key { id: id.map(str::to_owned), text, fernet });
        kept.truncate(KEPT_PER_ROOM);
        true
    }

    /// Whether a message for the room could be encrypted.
    pub fn has(&self, room: &str) -> bool {
        self.rooms.contains_key(room)
    }

    /// A Fernet token under the room's newest key, as if made at `now`.
    pub fn encrypt(&self, room: &str, text: &str, now: Timestamp) -> Option<String> {
        let key = self.rooms.get(room)?.front()?;
        Some(key.fernet.encrypt_at_time(text.as_bytes(), now.fernet_seconds()))
    }

    /// The text of a token, by the key it names, else by whichever fits.
    pub fn decrypt(&self, room: &str, id: Option<&str>, token: &str) -> Option<String> {
        let kept = self.rooms.get(room)?;
        let named = kept.iter().filter(|key| id.is_some() && key.id.as_deref() == id);
        let others = kept.iter().filter(|key| id.is_none() || key.id.as_deref() != id);
        named
            .chain(others)
            .find_map(|key| fernet_token::open(&key.fernet, token))
            .and_then(|(bytes, _)| String::from_utf8(bytes).ok())
    }
}

fn unwrap_key(wire: &str) -> Option<Zeroizing<String>> {
    if wire.len() == 44 {
        return Some(Zeroizing::new(wire.to_owned()));
    }
    let bytes = Zeroizing::new(STANDARD.decode(wire).ok()?);
    Some(Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(key: &str) -> String {
        STANDARD.encode(key)
    }

    #[test]
    fn both_wrappings_of_a_key_are_read() {
        let key = Fernet::generate_key();
        let mut keys = ClientKeys::default();
        assert!(keys.insert("a", None, &wire(&key)));
        assert!(keys.insert("b", None, &key));
        let token = keys.encrypt("a", "hola", Timestamp::from_micros(0)).unwrap();
        assert_eq!(keys.decrypt("b", None, &token).as_deref(), Some("hola"));
        for bad in ["", "x", &"x".repeat(44), &wire("short"), "!!!!"] {
            assert!(!keys.insert("c", None, bad), "{bad}");
        }
        assert!(!keys.has("c"));
    }

    #[test]
    fn earlier_keys_still_read_and_the_newest_writes() {
        let (old, new) = (Fernet::generate_key(), Fernet::generate_key());
        let mut keys = ClientKeys::default();
        keys.insert("r", Some("k1"), &old);
        let early = keys.encrypt("r", "early", Timestamp::from_micros(0)).unwrap();
        keys.insert("r", Some("k2"), &new);
        let late = keys.encrypt("r", "late", Timestamp::from_micros(0)).unwrap();
        assert!(Fernet::new(&new).unwrap().decrypt(&late).is_ok());
        for id in [None, Some("k1"), Some("k9")] {
            assert_eq!(keys.decrypt("r", id, &early).as_deref(), Some("early"), "{id:?}");
        }
    }

    #[test]
    fn a_token_from_any_time_is_read() {
        let key = Fernet::generate_key();
        let mut keys = ClientKeys::default();
        keys.insert("r", None, &key);
        for moment in [0, 1_790_000_000, u64::MAX - 61, u64::MAX - 1, u64::MAX] {
            let token = Fernet::new(&key).unwrap().encrypt_at_time(b"x", moment);
            assert_eq!(keys.decrypt("r", None, &token).as_deref(), Some("x"), "{moment}");
        }
        for forged in ["", "gAAAAA", "gP________8", "gP__________________________", "é é é é é é é"]
        {
            assert_eq!(keys.decrypt("r", None, forged), None, "{forged}");
        }
    }

    proptest! {
        #[test]
        fn no_token_makes_it_panic(token in "\\PC{0,200}|gA[A-Za-z0-9_=-]{0,200}") {
            let mut keys = ClientKeys::default();
            keys.insert("r", None, &Fernet::generate_key());
            prop_assert_eq!(keys.decrypt("r", None, &token), None);
        }
    }
}
