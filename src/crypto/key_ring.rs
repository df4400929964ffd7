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

/// Earlier keys that are kept, about 90 bytes each. Time bounds the ring: this number is only reached
/// by 218 rotations per second for the default grace of five minutes.
const MAX_EARLIER_KEYS: usize = 65_536;

/// Earlier keys that are tried on one token: as many as hash [`MAX_HASHED_BYTES`], within these bounds.
const MIN_KEYS_TRIED: usize = 16;
const MAX_KEYS_TRIED: usize = 128;
const MAX_HASHED_BYTES: usize = 256 * 1024;

/// Of these, the newest keys: a client with a wrong clock may process a rotation late.
const NEWEST_KEYS_TRIED: usize = 8;

/// Why a Fernet token can't be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecryptError {
    /// No key of the ring opens it, or it is not a Fernet token.
    UnknownKey,
    /// It was encrypted under a key whose grace has ended, or perhaps under an earlier key that was
    /// not tried: encrypted under the current key, the same text is accepted.
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
    fernet: Fernet,
    created_at: Instant,
    accepted_until: Instant,
}

/// The key that opened a client's last message, or the current key when the client entered the room.
#[derive(Clone, Copy, Debug)]
pub struct LastKey(u64);

/// The keys of one room.
pub struct KeyRing {
    current: RoomKey,
    /// Newest first.
    earlier: VecDeque<EarlierKey>,
    created_at: Instant,
    /// Rotations so far: the number of the current key.
    rotations: u64,
    /// When the grace of the keys ends that [`MAX_EARLIER_KEYS`] did not leave room for.
    dropped_until: Option<Instant>,
}

impl KeyRing {
    /// Creates a ring with one fresh key.
    pub fn new(now: Instant) -> Self {
        KeyRing {
            current: RoomKey::fresh(),
            earlier: VecDeque::new(),
            created_at: now,
            rotations: 0,
            dropped_until: None,
        }
    }

    /// When the current key was created.
    pub fn created_at(&self) -> Instant {
        self.created_at
    }

    /// The current key, for a client that enters the room now.
    pub fn last_key(&self) -> LastKey {
        LastKey(self.rotations)
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
        let created_at = std::mem::replace(&mut self.created_at, now);
        self.earlier.push_front(EarlierKey {
            fernet: replaced.fernet,
            created_at,
            accepted_until: now + grace,
        });
        self.rotations += 1;
        self.drop_old_keys(now);
    }

    /// Encrypts under the current key. Returns a Fernet token with the timestamp `now`.
    pub fn encrypt(&self, plain: &[u8], now: Timestamp) -> String {
        self.current.fernet.encrypt_at_time(plain, now.fernet_seconds())
    }

    /// Decrypts a Fernet token from a client. `now` decides whether a key is still within its grace,
    /// `wall` whether the timestamp of the token is too far ahead. `last_key` is the key of the
    /// client's last message.
    ///
    /// The number of keys that are tried is bounded, so that the cost of a forged token does not grow
    /// with the ring: the current key; those that follow `last_key`, because a client uses keys in
    /// their order; those that were current at about the time of the token; and the newest. If none
    /// opens it and others were not tried, the result is [`DecryptError::StaleKey`].
    pub fn decrypt(
        &self,
        token: &str,
        last_key: &mut LastKey,
        now: Instant,
        wall: Timestamp,
    ) -> Result<Vec<u8>, DecryptError> {
        self.decrypt_with(token, last_key, now, wall, fernet_token::open)
    }

    fn decrypt_with(
        &self,
        token: &str,
        last_key: &mut LastKey,
        now: Instant,
        wall: Timestamp,
        mut open: impl FnMut(&Fernet, &str) -> Option<(Vec<u8>, u64)>,
    ) -> Result<Vec<u8>, DecryptError> {
        let made_at = fernet_token::made_at(token).ok_or(DecryptError::UnknownKey)?;
        if let Some((plain, created_at)) = open(&self.current.fernet, token) {
            *last_key = self.last_key();
            return check_timestamp(plain, created_at, wall);
        }
        let candidates = self.candidates(token.len(), *last_key, made_at, now, wall);
        for index in &candidates {
            let earlier = &self.earlier[*index];
            if let Some((plain, created_at)) = open(&earlier.fernet, token) {
                *last_key = LastKey(self.rotations - 1 - *index as u64);
                if earlier.accepted_until <= now {
                    return Err(DecryptError::StaleKey);
                }
                return check_timestamp(plain, created_at, wall);
            }
        }
        let all_tried = candidates.len() == self.earlier.len();
        if all_tried && self.dropped_until.is_none_or(|until| until <= now) {
            Err(DecryptError::UnknownKey)
        } else {
            Err(DecryptError::StaleKey)
        }
    }

    /// The indexes of the earlier keys to try on a token, the most likely first.
    fn candidates(
        &self,
        token_bytes: usize,
        last_key: LastKey,
        made_at: u64,
        now: Instant,
        wall: Timestamp,
    ) -> Vec<usize> {
        let len = self.earlier.len();
        let max = (MAX_HASHED_BYTES / token_bytes.max(1)).clamp(MIN_KEYS_TRIED, MAX_KEYS_TRIED);
        if len <= max {
            return (0..len).collect();
        }
        let half = (max - NEWEST_KEYS_TRIED) / 2;
        // A key's index is the number of rotations between its own and the last one.
        let last_index = self.rotations.saturating_sub(1).saturating_sub(last_key.0);
        let after_last = usize::try_from(last_index).map_or(len, |index| (index + 1).min(len));
        let following = after_last.saturating_sub(half)..after_last;

        let age = Duration::from_secs(wall.fernet_seconds().saturating_sub(made_at));
        // The timestamp is rounded down to a second.
        let newer = now.checked_sub(age).map_or(len, |made_at| {
            let made_before = made_at + Duration::from_secs(1);
            self.earlier.partition_point(|earlier| earlier.created_at > made_before)
        });
        // Most are older than the token's second: a client learns of a rotation late.
        let start = newer.saturating_sub(half / 4);
        let near = start..len.min(start + half);

        let newest = 0..NEWEST_KEYS_TRIED;
        let (skip_following, skip_both) = (following.clone(), near.clone());
        let is_new = move |index: &usize| !skip_following.contains(index);
        let near = near.filter(is_new.clone());
        let newest = newest.filter(move |index| is_new(index) && !skip_both.contains(index));
        following.rev().chain(near).chain(newest).collect()
    }

    fn drop_old_keys(&mut self, now: Instant) {
        let accepted = self.earlier.partition_point(|earlier| earlier.accepted_until > now);
        self.earlier.truncate(accepted + MAX_STALE_KEYS);
        if self.earlier.len() > MAX_EARLIER_KEYS {
            let newest_dropped = self.earlier[MAX_EARLIER_KEYS].accepted_until;
            self.dropped_until = self.dropped_until.max(Some(newest_dropped));
            self.earlier.truncate(MAX_EARLIER_KEYS);
        }
        if self.earlier.capacity() > 4 * self.earlier.len() {
            self.earlier.shrink_to(2 * self.earlier.len());
        }
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
            assert_eq!(
                ring.decrypt(token, &mut ring.last_key(), just_before_end, wall()),
                Ok(b"x".to_vec())
            );
            assert_eq!(
                ring.decrypt(token, &mut ring.last_key(), now + GRACE, wall()),
                Err(DecryptError::StaleKey)
            );
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
        let wall = Timestamp::from_micros(wall().micros() + 300_000_000);
        assert_eq!(
            ring.decrypt(&first, &mut ring.last_key(), start + GRACE, wall),
            Ok(b"x".to_vec())
        );
    }

    #[test]
    fn keys_are_bounded_and_a_token_under_a_dropped_key_is_stale_until_its_grace_ends() {
        let start = Instant::now();
        let mut ring = KeyRing::new(start);
        let first = ring.encrypt(b"x", wall());
        let garbage = KeyRing::new(start).encrypt(b"x", wall());
        for _ in 0..MAX_EARLIER_KEYS + 1 {
            ring.rotate(start, GRACE);
        }
        assert_eq!(ring.earlier.len(), MAX_EARLIER_KEYS);
        assert_eq!(
            ring.decrypt(&first, &mut ring.last_key(), start, wall()),
            Err(DecryptError::StaleKey)
        );
        ring.earlier.truncate(2);
        assert_eq!(
            ring.decrypt(&garbage, &mut ring.last_key(), start, wall()),
            Err(DecryptError::StaleKey)
        );
        assert_eq!(
            ring.decrypt(&garbage, &mut ring.last_key(), start + GRACE, wall()),
            Err(DecryptError::UnknownKey)
        );
        ring.rotate(start + GRACE, GRACE);
        assert!(ring.earlier.capacity() < 100, "memory is returned");
    }

    /// A ring of `rotations` keys, one per second, and a token under each.
    fn rotated(start: Instant, rotations: u64) -> (KeyRing, Vec<String>) {
        let mut ring = KeyRing::new(start);
        let mut tokens = vec![ring.encrypt(b"x", wall())];
        for second in 1..rotations {
            ring.rotate(start + Duration::from_secs(second), GRACE);
            let made = Timestamp::from_micros(wall().micros() + second as i64 * 1_000_000);
            tokens.push(ring.encrypt(b"x", made));
        }
        (ring, tokens)
    }

    #[test]
    fn the_cost_of_a_forged_token_does_not_grow_with_the_ring() {
        let start = Instant::now();
        for rotations in [1, 10, 17, 129, 300, 5_000] {
            let (ring, _) = rotated(start, rotations);
            let now = start + Duration::from_secs(rotations);
            let wall = Timestamp::from_micros(wall().micros() + rotations as i64 * 1_000_000);
            let moments = [0, 1, wall.fernet_seconds() - 150, wall.fernet_seconds(), u64::MAX];
            let texts = [(10, MAX_KEYS_TRIED), (36_000, MIN_KEYS_TRIED)];
            for (made_at, (bytes, max_tried)) in
                moments.into_iter().flat_map(|made_at| texts.map(|text| (made_at, text)))
            {
                let forged = Fernet::new(&Fernet::generate_key()).unwrap();
                let forged = forged.encrypt_at_time(&vec![b'x'; bytes], made_at);
                let mut tried = 0;
                let outcome = ring.decrypt_with(
                    &forged,
                    &mut LastKey(rotations / 2),
                    now,
                    wall,
                    |key, token| {
                        tried += 1;
                        fernet_token::open(key, token)
                    },
                );
                assert!(tried <= 1 + max_tried, "{tried} of {rotations}, made at {made_at}");
                let is_whole = ring.earlier.len() < tried;
                let expected =
                    if is_whole { DecryptError::UnknownKey } else { DecryptError::StaleKey };
                assert_eq!(outcome, Err(expected), "{rotations} keys, made at {made_at}");
            }
        }
    }

    #[test]
    fn a_token_opens_by_its_own_time_however_many_rotations_ago() {
        let start = Instant::now();
        let (ring, tokens) = rotated(start, 300);
        for seconds in [299, 300] {
            let now = start + Duration::from_secs(seconds);
            let wall = Timestamp::from_micros(wall().micros() + seconds as i64 * 1_000_000);
            for (number, token) in tokens.iter().enumerate() {
                assert_eq!(
                    ring.decrypt(token, &mut ring.last_key(), now, wall),
                    Ok(b"x".to_vec()),
                    "key {number}"
                );
            }
        }
    }

    #[test]
    fn a_token_with_a_wrong_time_opens_under_a_new_key_and_is_never_unknown() {
        let start = Instant::now();
        let (mut ring, _) = rotated(start, 300);
        let now = start + Duration::from_secs(300);
        let hours_behind = Timestamp::from_micros(wall().micros() - 7_200_000_000);
        let tokens = [Timestamp::from_micros(0), hours_behind].map(|made| ring.encrypt(b"x", made));
        for rotations in 0..200 {
            for token in &tokens {
                let expected = match rotations {
                    0..=NEWEST_KEYS_TRIED => Ok(b"x".to_vec()),
                    _ => Err(DecryptError::StaleKey),
                };
                assert_eq!(
                    ring.decrypt(token, &mut ring.last_key(), now, wall()),
                    expected,
                    "{rotations}"
                );
            }
            ring.rotate(now, GRACE);
        }
    }

    #[test]
    fn a_client_with_a_wrong_clock_far_behind_the_rotations_uses_keys_in_their_order() {
        let start = Instant::now();
        let mut ring = KeyRing::new(start);
        let hours_behind = Timestamp::from_micros(wall().micros() - 7_200_000_000);
        let mut last_key = ring.last_key();
        let mut tokens = Vec::new();
        for rotations in 0..2_000 {
            if rotations % 40 == 0 {
                tokens.push(ring.encrypt(b"x", hours_behind));
            }
            ring.rotate(start, GRACE);
        }
        for token in &tokens {
            assert_eq!(ring.decrypt(token, &mut last_key, start, wall()), Ok(b"x".to_vec()));
        }
    }

    #[test]
    fn unknown_keys_and_timestamps_ahead_are_different_errors() {
        let now = Instant::now();
        let ring = KeyRing::new(now);
        let other = KeyRing::new(now);
        assert_eq!(
            ring.decrypt(&other.encrypt(b"x", wall()), &mut ring.last_key(), now, wall()),
            Err(DecryptError::UnknownKey)
        );
        let ahead = Timestamp::from_micros(wall().micros() + 61_000_000);
        assert_eq!(
            ring.decrypt(&ring.encrypt(b"x", ahead), &mut ring.last_key(), now, wall()),
            Err(DecryptError::ClockAhead)
        );
        let behind = Timestamp::from_micros(0);
        assert_eq!(
            ring.decrypt(&ring.encrypt(b"x", behind), &mut ring.last_key(), now, wall()),
            Ok(b"x".to_vec())
        );
    }
}
