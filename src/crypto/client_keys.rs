//! The room keys that a client received. The client encrypts under the newest key of a room and
//! decrypts with the earlier ones too, so messages around a rotation stay readable.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fernet::Fernet;
use zeroize::Zeroizing;

use super::fernet_token;
use crate::protocol::Timestamp;

/// Keys kept per room. With one rotation per second, the messages of the last two minutes stay
/// readable, and memory stays small.
const MAX_KEYS_PER_ROOM: usize = 128;

/// The keys of every room. A server that speaks only the basic protocol has no rooms: its key is
/// stored under the empty name.
#[derive(Default)]
pub struct ClientKeys {
    /// Newest key first.
    rooms: BTreeMap<String, VecDeque<Key>>,
}

struct Key {
    id: Option<String>,
    text: Zeroizing<String>,
    fernet: Fernet,
}

impl ClientKeys {
    /// Adds a key in its wire form: the 44 characters of a Fernet key, or base64 of them. Returns
    /// false if it is neither.
    pub fn insert(&mut self, room: &str, id: Option<&str>, wire: &str) -> bool {
        let Some(text) = unwrap_key(wire) else { return false };
        let Some(fernet) = Fernet::new(&text) else { return false };
        let keys = self.rooms.entry(room.to_owned()).or_default();
        keys.retain(|key| *key.text != *text);
        keys.push_front(Key { id: id.map(str::to_owned), text, fernet });
        keys.truncate(MAX_KEYS_PER_ROOM);
        true
    }

    /// Encrypts `text` under the room's newest key, with `now` as the timestamp of the Fernet token.
    /// Returns `None` if there is no key for the room.
    pub fn encrypt(&self, room: &str, text: &str, now: Timestamp) -> Option<String> {
        let key = self.rooms.get(room)?.front()?;
        Some(key.fernet.encrypt_at_time(text.as_bytes(), now.fernet_seconds()))
    }

    /// Decrypts a Fernet token. The key named by `id` is tried first, then the others. Returns `None`
    /// if no key opens the token, or if the plaintext is not UTF-8.
    pub fn decrypt(&self, room: &str, id: Option<&str>, token: &str) -> Option<String> {
        let keys = self.rooms.get(room)?;
        let named = keys.iter().filter(|key| id.is_some() && key.id.as_deref() == id);
        let others = keys.iter().filter(|key| id.is_none() || key.id.as_deref() != id);
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
    fn both_wire_forms_of_a_key_are_accepted() {
        let key = Fernet::generate_key();
        let mut keys = ClientKeys::default();
        assert!(keys.insert("a", None, &wire(&key)));
        assert!(keys.insert("b", None, &key));
        let token = keys.encrypt("a", "hola", Timestamp::from_micros(0)).unwrap();
        assert_eq!(keys.decrypt("b", None, &token).as_deref(), Some("hola"));
        for bad in ["", "x", &"x".repeat(44), &wire("short"), "!!!!"] {
            assert!(!keys.insert("c", None, bad), "{bad}");
        }
        assert!(keys.encrypt("c", "x", Timestamp::from_micros(0)).is_none());
    }

    #[test]
    fn encryption_uses_the_newest_key_and_decryption_any() {
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
    fn a_token_with_any_timestamp_is_decrypted() {
        let key = Fernet::generate_key();
        let mut keys = ClientKeys::default();
        keys.insert("r", None, &key);
        for seconds in [0, 1_790_000_000, u64::MAX - 61, u64::MAX - 1, u64::MAX] {
            let token = Fernet::new(&key).unwrap().encrypt_at_time(b"x", seconds);
            assert_eq!(keys.decrypt("r", None, &token).as_deref(), Some("x"), "{seconds}");
        }
        for forged in ["", "gAAAAA", "gP________8", "gP__________________________", "é é é é é é é"]
        {
            assert_eq!(keys.decrypt("r", None, forged), None, "{forged}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_tokens_do_not_panic(token in "\\PC{0,200}|gA[A-Za-z0-9_=-]{0,200}") {
            let mut keys = ClientKeys::default();
            keys.insert("r", None, &Fernet::generate_key());
            prop_assert_eq!(keys.decrypt("r", None, &token), None);
        }
    }
}
