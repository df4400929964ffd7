//! Fernet tokens by the specification (github.com/fernet/spec), safe to use on untrusted input.
//!
//! The `fernet` crate has two pitfalls: it adds to the unauthenticated timestamp before it checks the
//! HMAC, so a timestamp near 2⁶⁴ overflows; and it compares the age with the system clock. Therefore
//! [`open`] reads the timestamp first and authenticates the token as of that time, and the caller
//! checks the age afterwards.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fernet::Fernet;

/// How far the timestamp of a token may be ahead of the clock, in seconds (from the specification).
pub const CLOCK_SKEW_SECONDS: u64 = 60;

/// The timestamp of a token, in seconds since 1970. It is not authenticated.
pub fn made_at(token: &str) -> Option<u64> {
    // Version byte and timestamp: nine bytes, which are twelve characters of base64.
    let head = URL_SAFE_NO_PAD.decode(token.get(..12)?).ok()?;
    let (version, rest) = head.split_first()?;
    let seconds: [u8; 8] = rest.try_into().ok()?;
    (*version == 0x80).then(|| u64::from_be_bytes(seconds))
}

/// Authenticates and decrypts a token of any age. Returns the plaintext and the timestamp in seconds
/// since 1970.
pub fn open(key: &Fernet, token: &str) -> Option<(Vec<u8>, u64)> {
    let made = made_at(token)?;
    let plain = key.decrypt_at_time(token, None, made.min(u64::MAX - CLOCK_SKEW_SECONDS)).ok()?;
    Some((plain, made))
}

/// Whether the timestamp `made` is more than [`CLOCK_SKEW_SECONDS`] ahead of `now` (both in seconds).
pub fn is_ahead(made: u64, now: u64) -> bool {
    made > now.saturating_add(CLOCK_SKEW_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> Fernet {
        Fernet::new(&Fernet::generate_key()).unwrap()
    }

    #[test]
    fn a_token_of_any_age_opens() {
        let key = key();
        for made in [0, 1, 1_790_000_000, u64::MAX - 61, u64::MAX - 1, u64::MAX] {
            let token = key.encrypt_at_time(b"hola", made);
            assert_eq!(open(&key, &token), Some((b"hola".to_vec(), made)));
        }
    }

    #[test]
    fn a_forged_token_with_a_huge_timestamp_does_not_open_or_panic() {
        let token = key().encrypt_at_time(b"hola", u64::MAX);
        assert_eq!(open(&key(), &token), None);
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_open(text in "\\PC{0,200}") {
            prop_assert_eq!(open(&key(), &text), None);
        }
    }
}
