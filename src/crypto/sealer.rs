//! Encryption at rest: authenticated encryption with AES-256-GCM-SIV (RFC 8452), and keyed hashes
//! (HMAC-SHA-256, cut to 16 bytes) of values that must be searchable but not readable.
//!
//! GCM-SIV, because a nonce may repeat when a virtual machine is restored from a snapshot. With this
//! cipher a repeated nonce reveals only whether two plaintexts are equal.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::random::fill_random;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The bytes of the nonce, at the end of a sealed value.
pub const NONCE_BYTES: usize = 12;
const CIPHER_TAG_BYTES: usize = 16;

/// The bytes that sealing adds to a plaintext: cipher tag and nonce.
pub const SEAL_OVERHEAD_BYTES: usize = CIPHER_TAG_BYTES + NONCE_BYTES;

/// A keyed hash, stored instead of a value that must not be readable.
pub type Tag = [u8; 16];

/// Encrypts, decrypts and hashes under keys derived from one 32-byte key.
pub struct Sealer {
    cipher: LessSafeKey,
    /// HMAC state with the key already absorbed. A clone costs less than starting over for each tag.
    tags: Hmac<Sha256>,
    key_check: Tag,
    nonces: Nonces,
}

impl Sealer {
    /// Derives the keys for one purpose from `key`. Another purpose gives independent keys.
    pub fn new(key: &[u8; 32], purpose: &str) -> Self {
        let root = hmac_with(key);
        let derive = |label: &str| -> [u8; 32] {
            let label = format!("{purpose}: {label}, 1");
            root.clone().chain_update(label).finalize().into_bytes().into()
        };
        let cipher = UnboundKey::new(&AES_256_GCM_SIV, &derive("seal"));
        Sealer {
            cipher: LessSafeKey::new(cipher.expect("AES-256 takes 32 bytes")),
            tags: hmac_with(&derive("tags")),
            key_check: truncate(&derive("check")),
            nonces: Nonces::new(),
        }
    }

    /// Identifies the key without revealing it.
    pub fn key_check(&self) -> &Tag {
        &self.key_check
    }

    /// Encrypts `bytes` with a fresh nonce. The result is ciphertext, cipher tag, nonce.
    pub fn seal(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.seal_for(b"", bytes)
    }

    /// The same, and the result opens only for the same `context` (the associated data).
    pub fn seal_for(&self, context: &[u8], mut bytes: Vec<u8>) -> Vec<u8> {
        let nonce = self.nonces.next();
        bytes.reserve(SEAL_OVERHEAD_BYTES);
        let context = Aad::from(context);
        self.cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), context, &mut bytes)
            .expect("a value is far below the cipher's limit of 2^36 bytes");
        bytes.extend(nonce);
        bytes
    }

    /// Decrypts a sealed value. Returns `None` if it was changed or sealed under another key.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.open_for(b"", sealed)
    }

    /// Decrypts a value that was sealed for this `context`.
    pub fn open_for(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (sealed, nonce) = sealed.split_at_checked(sealed.len().checked_sub(NONCE_BYTES)?)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = sealed.to_vec();
        let length = self.cipher.open_in_place(nonce, Aad::from(context), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }

    /// The keyed hash of a list of values. Each value is hashed with its length, so two different
    /// lists never hash the same bytes.
    pub fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut hash = self.tags.clone();
        for part in parts {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        truncate(&hash.finalize().into_bytes())
    }
}

/// Nonces that do not repeat: a random starting point, and from there a counter. Asking the kernel
/// for random bytes per value costs more than the encryption itself.
struct Nonces {
    start: [u8; NONCE_BYTES],
    issued: AtomicU64,
}

impl Nonces {
    fn new() -> Self {
        let mut start = [0; NONCE_BYTES];
        // From the kernel: the generator of aws-lc takes 30 ms to be seeded.
        fill_random(&mut start);
        Nonces { start, issued: AtomicU64::new(0) }
    }

    fn next(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = self.start;
        let (_, counter) = nonce.split_last_chunk_mut::<8>().expect("a nonce has 12 bytes");
        let issued = self.issued.fetch_add(1, Ordering::Relaxed);
        *counter = u64::from_be_bytes(*counter).wrapping_add(issued).to_be_bytes();
        nonce
    }
}

fn hmac_with(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn truncate(hash: &[u8]) -> Tag {
    *hash.first_chunk().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fresh() -> Sealer {
        let mut key = [0; 32];
        fill_random(&mut key);
        Sealer::new(&key, "test")
    }

    proptest! {
        #[test]
        fn a_sealed_value_opens_only_under_its_own_key(plain in any::<Vec<u8>>()) {
            let sealer = fresh();
            let sealed = sealer.seal(plain.clone());
            prop_assert_eq!(sealed.len(), plain.len() + SEAL_OVERHEAD_BYTES);
            prop_assert_eq!(sealer.open(&sealed), Some(plain.clone()));
            prop_assert_eq!(sealer.open_for(b"there", &sealed), None);
            let sealed = sealer.seal_for(b"here", plain.clone());
            prop_assert_eq!(sealer.open_for(b"there", &sealed), None);
            prop_assert_eq!(sealer.open(&sealed), None);
            prop_assert_eq!(sealer.open_for(b"here", &sealed), Some(plain));
            prop_assert_eq!(fresh().open(&sealed), None);
        }

        #[test]
        fn arbitrary_bytes_do_not_open(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(fresh().open(&bytes), None);
        }
    }

    #[test]
    fn nonces_do_not_repeat() {
        let nonces = Nonces { start: [0xff; NONCE_BYTES], issued: AtomicU64::new(0) };
        assert_eq!(nonces.next(), [0xff; NONCE_BYTES]);
        assert_eq!(nonces.next(), [&[0xff; 4][..], &[0; 8]].concat()[..]);
        assert_ne!(Nonces::new().next()[..8], Nonces::new().next()[..8]);
        let sealer = fresh();
        assert_ne!(sealer.seal(b"x".to_vec()), sealer.seal(b"x".to_vec()));
    }

    #[test]
    fn tags_differ_for_lists_whose_values_join_to_the_same_bytes() {
        let sealer = fresh();
        assert_ne!(sealer.tag(&[b"ab", b"c"]), sealer.tag(&[b"a", b"bc"]));
        assert_eq!(sealer.tag(&[b"ab"]), sealer.tag(&[b"ab"]));
    }

    #[test]
    fn each_purpose_has_keys_of_its_own() {
        let (one, other) = (Sealer::new(&[7; 32], "one"), Sealer::new(&[7; 32], "other"));
        assert_ne!(one.key_check(), other.key_check());
        assert_ne!(one.tag(&[b"x"]), other.tag(&[b"x"]));
        assert_eq!(other.open(&one.seal(b"x".to_vec())), None);
    }
}
