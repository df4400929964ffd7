//! A room's keys: one current, and earlier ones that still decrypt until their grace ends.
//!
//! Order of calls: [`KeyRing::new`] when the room opens, [`KeyRing::rotate`] when it is due or
//! asked for, [`KeyRing::seal`] for what goes out, [`KeyRing::open`] for what comes in. Deliberately
//! absent: writing keys down. A room that opens again has a new key, and clients encrypt anew.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fernet::Fernet;

use super::fernet_token;
use crate::protocol::{KeyId, Timestamp};

/// Keys past their grace that are remembered only to say "stale" instead of "forged".
const STALE_KEYS_KEPT: usize = 8;

/// Keys within their grace that are kept at most: a rotation each second for the default grace
/// of five minutes fits.
const EARLIER_KEYS_KEPT: usize = 400;

/// Why a token does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecryptError {
    /// Under no key of this ring, or no Fernet token at all.
    UnknownKey,
    /// Under a key whose grace has ended.
    StaleKey,
    /// Authentic, but made by a clock too far ahead.
    ClockAhead,
}

struct RoomKey {
    id: KeyId,
    /// The 44 characters, base64-encoded once more for the wire.
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
    /// A ring with one fresh key.
    pub fn new(now: Instant) -> Self {
        KeyRing { current: RoomKey::fresh(), earlier: VecDeque::new(), created_at: now }
    }

    /// When the current key came.
    pub fn created_at(&self) -> Instant {
        self.created_at
    }

    /// The current key's name.
    pub fn key_id(&self) -> &KeyId {
        &self.current.id
    }

    /// The current key as it stands in an `encryption_key` frame. A secret.
    pub fn wire_key(&self) -> &str {
        &self.current.wire
    }

    /// Makes a fresh key current; the one before is accepted for `grace`.
    pub fn rotate(&mut self, now: Instant, grace: Duration) {
        let before = std::mem::replace(&mut self.current, RoomKey::fresh());
        self.created_at = now;
        self.earlier.push_front(EarlierKey { key: before, accepted_until: now + grace });
        self.forget(now);
    }

    /// Ends the grace of every earlier key.
    pub fn end_grace(&mut self, now: Instant) {
        for earlier in &mut self.earlier {
            earlier.accepted_until = earlier.accepted_until.min(now);
        }
    }

    /// Encrypts under the current key.
    pub fn encrypt(&self, plain: &[u8], now: Timestamp) -> String {
        self.current.fernet.encrypt_at_time(plain, now.fernet_seconds())
    }

    /// Decrypts what a client sent.
    pub fn decrypt(
        &self,
        token: &str,
        now: Instant,
        wall: Timestamp,
    ) -> Result<Vec<u8>, DecryptError> {
        if let Some((plain, created_at)) = fernet_token::open(&self.current.fernet, token) {
            return judge(plain, created_at, wall);
        }
        for earlier in &self.earlier {
            if let Some((plain, created_at)) = fernet_token::open(&earlier.key.fernet, token) {
                if earlier.accepted_until <= now {
                    return Err(DecryptError::StaleKey);
                }
                return judge(plain, created_at, wall);
            }
        }
        Err(DecryptError::UnknownKey)
    }

    fn forget(&mut self, now: Instant) {
        self.earlier.truncate(EARLIER_KEYS_KEPT);
        let live = self.earlier.iter().take_while(|earlier| earlier.accepted_until > now).count();
        self.earlier.truncate(live + STALE_KEYS_KEPT);
    }
}

fn judge(plain: Vec<u8>, created_at: u64, wall: Timestamp) -> Result<Vec<u8>, DecryptError> {
    if fernet_token::is_ahead(created_at, wall.fernet_seconds()) {
        Err(DecryptError::ClockAhead)
    } else {
        Ok(plain)
    }
}

impl RoomKey {
    fn fresh() -> Self {
        let text = zeroize::Zeroizing::new(Fernet::generate_key());
        let fernet = Fernet::new(&text).expect("a generated key is a key");
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
    fn a_day_of_rotations_keeps_the_grace() {
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
    fn a_rotation_each_second_loses_nothing_within_the_grace() {
        let start = Instant::now();
        let mut ring = KeyRing::new(start);
        let first = ring.encrypt(b"x", wall());
        for second in 1..GRACE.as_secs() {
            ring.rotate(start + Duration::from_secs(second), GRACE);
        }
        assert_eq!(ring.decrypt(&first, start + GRACE, wall()), Ok(b"x".to_vec()));
    }

    #[test]
    fn the_ring_stays_bounded() {
        let start = Instant::now();
        let mut ring = KeyRing::new(start);
        for _ in 0..2_000 {
            ring.rotate(start, GRACE);
        }
        assert!(ring.earlier.len() <= EARLIER_KEYS_KEPT + STALE_KEYS_KEPT);
    }

    #[test]
    fn foreign_and_early_tokens_are_told_apart() {
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
