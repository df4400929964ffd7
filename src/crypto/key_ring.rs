//! The keys of a room on the server: one current key, and earlier ones that still decrypt until
//! their grace ends.
//!
//! Order of calls: [`KeyRing::new`] when the room opens, [`KeyRing::rotate`] when a rotation is due
//! or requested, [`KeyRing::decrypt`] for each message from a client, [`KeyRing::encrypt`] for each
//! message to the members. Deliberately absent: persistence. When a room opens again it gets a new
//! key, and clients encrypt under that one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fernet::Fernet;

use super::fernet_token;
use crate::protocol::{KeyId, Timestamp};

/// Keys past their grace that are kept, to answer [`DecryptError::StaleKey`] instead of
/// [`DecryptError::UnknownKey`].
const MAX_STALE_KEYS: usize = 8;

/// Earlier keys that are kept. One rotation per second for the default grace of five minutes fits.
const MAX_EARLIER_KEYS: usize = 400;

/// Why a Fernet token can't be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecryptError {
    /// No key of the ring opens it, or it is not a Fernet token.
    UnknownKey,
    /// It was encrypted under a key whose grace has ended.
    StaleKey,
    /// It is authentic, but its timestamp is too far ahead of the server's clock.
    ClockAhead,
}

struct RoomKey {
    id: KeyId,
    /// The wire form: base64 of the 44 characters of the Fernet key.
    wire: zeroize::Zeroizing<String>,
    fernet: Fernet,
}

struct EarlierKey {
    key: RoomKey,
    accepted_until: Instant,
}

/// The keys of one room.
pub struct KeyRing {
    current: RoomKey,
    /// Newest first.
    earlier: VecDeque<EarlierKey>,
    created_at: Instant,
}

impl KeyRing {
    /// Creates a ring with one fresh key.
    pub fn new(now: Instant) -> Self {
        KeyRing { current: RoomKey::fresh(), earlier: VecDeque::new(), created_at: now }
    }

    /// When the current key was created.
    pub fn created_at(&self) -> Instant {
        self.created_at
    }

    /// The id of the current key.
    pub fn key_id(&self) -> &KeyId {
        &self.current.id
    }

    /// The current key in the form of an `encryption_key` frame. A secret.
    pub fn wire_key(&self) -> &str {
        &self.current.wire
    }

    /// Replaces the current key with a fresh one. The replaced key still decrypts for `grace`.
    pub fn rotate(&mut self, now: Instant, grace: Duration) {
        let replaced = std::mem::replace(&mut self.current, RoomKey::fresh());
        self.created_at = now;
        self.earlier.push_front(EarlierKey { key: replaced, accepted_until: now + grace });
        self.drop_old_keys(now);
    }

    /// Encrypts under the current key. Returns a Fernet token with the timestamp `now`.
    pub fn encrypt(&self, plain: &[u8], now: Timestamp) -> String {
        self.current.fernet.encrypt_at_time(plain, now.fernet_seconds())
    }

    /// Decrypts a Fernet token from a client. `now` decides whether a key is still within its grace,
    /// `wall` whether the timestamp of the token is too far ahead.
    pub fn decrypt(
        &self,
        token: &str,
        now: Instant,
        wall: Timestamp,
    ) -> Result<Vec<u8>, DecryptError> {
        if let Some((plain, created_at)) = fernet_token::open(&self.current.fernet, token) {
            return check_timestamp(plain, created_at, wall);
        }
        for earlier in &self.earlier {
            if let Some((plain, created_at)) = fernet_token::open(&earlier.key.fernet, token) {
                if earlier.accepted_until <= now {
                    return Err(DecryptError::StaleKey);
                }
                return check_timestamp(plain, created_at, wall);
            }
        }
        Err(DecryptError::UnknownKey)
    }

    fn drop_old_keys(&mut self, now: Instant) {
        self.earlier.truncate(MAX_EARLIER_KEYS);
        let accepted =
            self.earlier.iter().take_while(|earlier| earlier.accepted_until > now).count();
        self.earlier.truncate(accepted + MAX_STALE_KEYS);
    }
}

fn check_timestamp(
    plain: Vec<u8>,
    created_at: u64,
    wall: Timestamp,
) -> Result<Vec<u8>, DecryptError> {
    if fernet_token::is_ahead(created_at, wall.fernet_seconds()) {
        Err(DecryptError::ClockAhead)
    } else {
        Ok(plain)
    }
}

impl RoomKey {
    fn fresh() -> Self {
        let text = zeroize::Zeroizing::new(Fernet::generate_key());
        let fernet = Fernet::new(&text).expect("a generated key is valid");
        let wire = zeroize::Zeroizing::new(STANDARD.encode(text.as_bytes()));
        RoomKey { id: KeyId::fresh(), wire, fernet }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(300);

    fn wall() -> Timestamp {
        Timestamp::from_micros(1_790_000_000_000_000)
    }

    #[test]
    fn a_replaced_key_decrypts_until_its_grace_ends() {
        let start = Instant::now();
        let mut ring = KeyRing::new(start);
        let mut tokens = Vec::new();
        for hour in 0..24u64 {
            let now = start + Duration::from_secs(3600 * hour);
            ring.rotate(now, GRACE);
            tokens.push(ring.encrypt(b"x", wall()));
            let just_before_end = now + GRACE - Duration::from_secs(1);
            ring.rotate(now, GRACE);
            let token = tokens.last().unwrap();
            assert_eq!(ring.decrypt(token, just_before_end, wall()), Ok(b"x".to_vec()));
            assert_eq!(ring.decrypt(token, now + GRACE, wall()), Err(DecryptError::StaleKey));
        }
    }

    #[test]
    fn one_rotation_per_second_drops_no_key_within_its_grace() {
        let start = Instant::now();
        let mut ring = KeyRing::new(start);
        let first = ring.encrypt(b"x", wall());
        for second in 1..GRACE.as_secs() {
            ring.rotate(start + Duration::from_secs(second), GRACE);
        }
        assert_eq!(ring.decrypt(&first, start + GRACE, wall()), Ok(b"x".to_vec()));
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let start = Instant::now();
        let mut ring = KeyRing::new(start);
        for _ in 0..2_000 {
            ring.rotate(start, GRACE);
        }
        assert!(ring.earlier.len() <= MAX_EARLIER_KEYS + MAX_STALE_KEYS);
    }

    #[test]
    fn unknown_keys_and_timestamps_ahead_are_different_errors() {
        let now = Instant::now();
        let ring = KeyRing::new(now);
        let other = KeyRing::new(now);
        assert_eq!(
            ring.decrypt(&other.encrypt(b"x", wall()), now, wall()),
            Err(DecryptError::UnknownKey)
        );
        let ahead = Timestamp::from_micros(wall().micros() + 61_000_000);
        assert_eq!(
            ring.decrypt(&ring.encrypt(b"x", ahead), now, wall()),
            Err(DecryptError::ClockAhead)
        );
        let behind = Timestamp::from_micros(0);
        assert_eq!(ring.decrypt(&ring.encrypt(b"x", behind), now, wall()), Ok(b"x".to_vec()));
    }
}
