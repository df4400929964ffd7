//! Base32 (RFC 4648, section 6) in lower case and without padding: for names made of hashes, because it is
//! one case and one word in every place that names go to.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The base32 of `bytes`: eight characters per five bytes.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(char::from(ALPHABET[(bits >> count) as usize & 31]));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        text.push(char::from(ALPHABET[(bits << (5 - count)) as usize & 31]));
    }
    text
}

/// The bytes of a text that [`encode`] made. Any other text gives `None`.
pub fn decode<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let mut next = bytes.iter_mut();
    let (mut bits, mut count) = (0_u32, 0);
    for character in text.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == character)?;
        bits = (bits << 5) | value as u32;
        count += 5;
        if count >= 8 {
            count -= 8;
            *next.next()? = (bits >> count) as u8;
            bits &= (1 << count) - 1;
        }
    }
    (next.next().is_none() && encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_the_base32_of_the_rfc() {
        // RFC 4648, section 10.
        for (plain, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
        }
        assert_eq!(decode(&encode(b"foobar")), Some(*b"foobar"));
    }

    proptest! {
        #[test]
        fn only_what_was_encoded_is_decoded(bytes in any::<[u8; 10]>(), text in "[a-z2-7]{0,20}|.{0,20}") {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
            if let Some(decoded) = decode::<10>(&text) {
                prop_assert_eq!(encode(&decoded), text);
            }
        }
    }
}
