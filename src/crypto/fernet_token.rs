//! Fernet tokens as the specification has them (github.com/fernet/spec), made safe to use on
//! what strangers send.
//!
//! Two things the `fernet` crate leaves to its caller: it adds to a token's unauthenticated
//! timestamp before it checks the HMAC, so a timestamp near 2⁶⁴ overflows; and it judges the age
//! by the machine's clock. So the age is read first, the token is authenticated at its own time,
//! and whoever wants to judge the age does it afterwards.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fernet::Fernet;

/// How far ahead of us a token's clock may be, in seconds (the specification's allowance).
pub const CLOCK_SKEW_SECONDS: u64 = 60;

/// The moment a token says it was made, in seconds since 1970; nothing is authenticated yet.
pub fn made_at(token: &str) -> Option<u64> {
    // Version byte and timestamp are the first nine bytes: twelve characters.
    let head = URL_SAFE_NO_PAD.decode(token.get(..12)?).ok()?;
    let (version, rest) = head.split_first()?;
    let seconds: [u8; 8] = rest.try_into().ok()?;
    (*version == 0x80).then(|| u64::from_be_bytes(seconds))
}

/// Authenticates and decrypts whatever the token's age; gives the plaintext and when it was made.
pub fn open(key: &Fernet, token: &str) -> Option<(Vec<u8>, u64)> {
    let made = made_at(token)?;
    let plain = key.decrypt_at_time(token, None, made.min(u64::MAX - CLOCK_SKEW_SECONDS)).ok()?;
    Some((plain, made))
}

/// Whether a token made at `made` comes from a clock too far ahead of `now` (seconds).
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
    fn a_token_opens_whatever_its_age() {
        let key = key();
        for made in [0, 1, 1_790_000_000, u64::MAX - 61, u64::MAX - 1, u64::MAX] {
            let token = key.encrypt_at_time(b"hola", made);
            assert_eq!(open(&key, &token), Some((b"hola".to_vec(), made)));
        }
    }

    #[test]
    fn a_forged_timestamp_is_no_panic_and_no_message() {
        let token = key().encrypt_at_time(b"hola", u64::MAX);
        assert_eq!(open(&key(), &token), None);
    }

    proptest! {
        #[test]
        fn any_text_opens_to_nothing(text in "\\PC{0,200}") {
            prop_assert_eq!(open(&key(), &text), None);
        }
    }
}
