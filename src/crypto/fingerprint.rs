//! Digits that people compare over another way: of two users' keys, and of the state of a room.
//!
//! They are digits, because those are the same in every language.

use sha2::{Digest as _, Sha512};

use crate::protocol::device::UserKey;

/// The digits of two users: each user has half of them.
pub const USER_DIGITS: usize = 60;
/// The digits of a room.
pub const ROOM_DIGITS: usize = 40;

/// Digits between two spaces.
const GROUP: usize = 5;

/// Hashes per user's half. They make it slow to search a key whose digits look like another's: 30 digits are some
/// 100 bits, and these are 12 more.
const ITERATIONS: usize = 5200;

/// The 60 digits by which two users verify each other: 12 groups, and the same for both.
pub fn of_users(one: (&str, &UserKey), other: (&str, &UserKey)) -> String {
    let mut halves = [of_user(one.0, one.1), of_user(other.0, other.1)];
    halves.sort();
    grouped(&halves.concat())
}

/// The 40 digits of a room's state: 8 groups. Members who see different ones have been shown different rooms.
/// `authenticator` is the epoch authenticator (RFC 9420, section 8.7).
pub fn of_room(authenticator: &[u8]) -> String {
    let mut hash = Sha512::new();
    hash.update(b"secure-chat room check 1");
    hash.update(authenticator);
    grouped(&digits(&hash.finalize().into(), ROOM_DIGITS))
}

/// The digits in a text that a person typed, if there are as many as `count`: spaces and `-` are left out.
pub fn parse(text: &str, count: usize) -> Option<String> {
    let mut kept = String::new();
    for character in text.chars() {
        match character {
            '0'..='9' => kept.push(character),
            '-' => {}
            _ if character.is_whitespace() => {}
            _ => return None,
        }
    }
    (kept.len() == count).then(|| grouped(&kept))
}

fn of_user(name: &str, key: &UserKey) -> String {
    let mut hash: [u8; 64] = Sha512::new()
        .chain_update(b"secure-chat user 1")
        .chain_update(key.0)
        .chain_update(name)
        .finalize()
        .into();
    for _ in 1..ITERATIONS {
        hash = Sha512::new().chain_update(hash).chain_update(key.0).finalize().into();
    }
    digits(&hash, USER_DIGITS / 2)
}

/// Five bytes for each five digits, as Signal does; the remainder favours no digit by more than 10⁻⁷.
fn digits(hash: &[u8; 64], count: usize) -> String {
    let groups = hash.chunks_exact(5).take(count / GROUP);
    groups
        .map(|bytes| {
            let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            format!("{:05}", number % 100_000)
        })
        .collect()
}

fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() / GROUP * (GROUP + 1));
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place % GROUP == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserKey = UserKey([1; 32]);
    const BOB: UserKey = UserKey([2; 32]);

    #[test]
    fn two_users_see_the_same_digits() {
        let digits = of_users(("ana", &ANA), ("bob", &BOB));
        assert_eq!(of_users(("bob", &BOB), ("ana", &ANA)), digits);
        assert_eq!(digits.split(' ').map(str::len).collect::<Vec<_>>(), [5; 12]);
        assert!(digits.chars().all(|c| c == ' ' || c.is_ascii_digit()), "{digits}");
        // Written down once, because users compare with another version of the program.
        assert_eq!(digits, KNOWN);
    }

    /// From this Python program:
    /// ```text
    /// from hashlib import sha512
    /// def half(name, key):
    ///     h = sha512(b"secure-chat user 1" + key + name).digest()
    ///     for _ in range(5199): h = sha512(h + key).digest()
    ///     return "".join("%05d" % (int.from_bytes(h[i:i+5], "big") % 100000) for i in range(0, 30, 5))
    /// d = "".join(sorted([half(b"ana", b"\1" * 32), half(b"bob", b"\2" * 32)]))
    /// print(" ".join(d[i:i+5] for i in range(0, 60, 5)))
    /// ```
    const KNOWN: &str = "11238 98163 64326 05212 60186 83813 30575 67407 29779 95442 33403 57205";

    #[test]
    fn another_name_or_key_has_other_digits() {
        let digits = of_users(("ana", &ANA), ("bob", &BOB));
        assert_ne!(of_users(("ana", &BOB), ("bob", &ANA)), digits);
        assert_ne!(of_users(("ana", &ANA), ("bot", &BOB)), digits);
    }

    #[test]
    fn a_room_has_forty_digits() {
        let digits = of_room(&[7; 32]);
        assert_eq!(digits.split(' ').map(str::len).collect::<Vec<_>>(), [5; 8]);
        assert_ne!(of_room(&[8; 32]), digits);
    }

    #[test]
    fn typed_digits_are_taken_with_any_spacing() {
        let digits = of_room(&[7; 32]);
        assert_eq!(parse(&digits.replace(' ', ""), ROOM_DIGITS), Some(digits.clone()));
        assert_eq!(
            parse(&format!("  {}\n", digits.replace(' ', "-")), ROOM_DIGITS),
            Some(digits.clone())
        );
        assert_eq!(parse(&digits, USER_DIGITS), None);
        assert_eq!(
            parse(&digits.replace('0', "O"), ROOM_DIGITS).filter(|_| digits.contains('0')),
            None
        );
        assert_eq!(parse("٣".repeat(40).as_str(), ROOM_DIGITS), None);
    }
}
