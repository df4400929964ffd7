//! Small secrets in the age format, version 1 (age-encryption.org/v1), so that `age -d` opens them too.
//!
//! A passphrase (stanza `scrypt`) or a public key (stanza `X25519`, `age1…`) seals a secret of at most
//! 64 KiB, which is one chunk of the format, in the format's ASCII form; `age_stream` seals longer files. Opening takes a
//! passphrase. A secret that was sealed to a public key is opened by `age -d` itself, so its identity is
//! never on the server. Audited libraries provide all primitives; this file only arranges bytes.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::protocol::random::fill_random;

const VERSION_LINE: &str = "age-encryption.org/v1";
const ARMOR_BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const ARMOR_END: &str = "-----END AGE ENCRYPTED FILE-----";
const ARMOR_COLUMNS: usize = 64;
/// The work factor of scrypt: 2^17 blocks of 1 KiB are 128 MiB of memory.
const WORK_FACTOR: u8 = 17;
/// A file that asks for more is refused: 2^20 blocks are 1 GiB of memory.
const MAX_WORK_FACTOR: u8 = 20;
/// One chunk of the format.
const MAX_SECRET_BYTES: usize = 64 * 1024;
/// The nonce of the first chunk that is also the last one.
const ONLY_CHUNK: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(super) const SALT_BYTES: usize = 16;
const FILE_KEY_BYTES: usize = 16;

pub(super) type Key = Zeroizing<[u8; 32]>;
/// A public key of X25519.
type X25519Key = [u8; 32];

/// How a secret is sealed, and so who can open it.
pub enum Recipient {
    /// The passphrase opens it.
    Passphrase(Zeroizing<String>),
    /// The identity of this public key opens it. [`Recipient::parse_public_key`] has checked the key.
    PublicKey(X25519Key),
}

/// Why a sealed secret does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgeError {
    /// The text does not have the form that [`seal`] writes, or asks for too much work.
    #[error("it is damaged, or not in the age format")]
    Malformed,
    /// It was sealed to a public key.
    #[error("it was sealed to a public key, so age -d must open it")]
    NotPassphrase,
    /// The passphrase is another one.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
}

impl Recipient {
    /// Reads a public key in the form `age1…`. Returns `None` if it is not one.
    pub fn parse_public_key(text: &str) -> Option<Self> {
        let public_key = bech32_data(text.trim(), "age")?.try_into().ok()?;
        agree_with(&public_key)?;
        Some(Recipient::PublicKey(public_key))
    }
}

/// Seals a secret of at most 64 KiB.
pub fn seal(secret: &[u8], recipient: &Recipient) -> String {
    seal_with(secret, recipient, WORK_FACTOR)
}

fn seal_with(secret: &[u8], recipient: &Recipient, work_factor: u8) -> String {
    assert!(secret.len() <= MAX_SECRET_BYTES, "more than one chunk");
    let (mut file, key) = begin_with(recipient, work_factor);
    file.extend(encrypt(&key, ONLY_CHUNK, secret));
    armor(&file)
}

/// The beginning of a file up to the first chunk, and the key of the chunks.
pub(super) fn begin(recipient: &Recipient) -> (Vec<u8>, Key) {
    begin_with(recipient, WORK_FACTOR)
}

pub(super) fn begin_with(recipient: &Recipient, work_factor: u8) -> (Vec<u8>, Key) {
    let mut file_key = Zeroizing::new([0; FILE_KEY_BYTES]);
    fill_random(file_key.as_mut());
    let (arguments, wrap_key) = match recipient {
        Recipient::Passphrase(passphrase) => {
            let salt: [u8; SALT_BYTES] = random();
            let key = passphrase_key(passphrase, &salt, work_factor).expect("valid parameters");
            (format!("scrypt {} {work_factor}", STANDARD_NO_PAD.encode(salt)), key)
        }
        Recipient::PublicKey(public_key) => {
            let (share, key) = agree_with(public_key).expect("checked when it was parsed");
            (format!("X25519 {}", STANDARD_NO_PAD.encode(share)), key)
        }
    };
    let body = STANDARD_NO_PAD.encode(encrypt(&wrap_key, [0; 12], file_key.as_ref()));
    let header = format!("{VERSION_LINE}\n-> {arguments}\n{body}\n---");
    let mac =
        STANDARD_NO_PAD.encode(header_mac(file_key.as_ref(), &header).finalize().into_bytes());
    let nonce: [u8; SALT_BYTES] = random();
    let mut file = format!("{header} {mac}\n").into_bytes();
    file.extend(nonce);
    (file, expand(file_key.as_ref(), &nonce, b"payload"))
}

/// Opens a secret that was sealed with a passphrase.
pub fn open(sealed: &str, passphrase: &str) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let file = dearmor(sealed).ok_or(AgeError::Malformed)?;
    let (key, chunk) = open_begin(&file, passphrase)?;
    decrypt(&key, ONLY_CHUNK, chunk).ok_or(AgeError::Malformed)
}

/// Opens the beginning of a file. Returns the key of the chunks, and what follows.
pub(super) fn open_begin<'a>(
    file: &'a [u8],
    passphrase: &str,
) -> Result<(Key, &'a [u8]), AgeError> {
    let parsed = Parsed::read(file).ok_or(AgeError::Malformed)?;
    let (salt, work_factor) = match parsed.arguments.split(' ').collect::<Vec<_>>()[..] {
        ["X25519", _] => return Err(AgeError::NotPassphrase),
        ["scrypt", salt, work_factor] => (salt, work_factor),
        _ => return Err(AgeError::Malformed),
    };
    let salt: [u8; SALT_BYTES] =
        decode(salt).and_then(|salt| salt.try_into().ok()).ok_or(AgeError::Malformed)?;
    let work_factor =
        work_factor.parse().ok().filter(|factor| (1..=MAX_WORK_FACTOR).contains(factor));
    let wrap_key = work_factor
        .and_then(|factor| passphrase_key(passphrase, &salt, factor))
        .ok_or(AgeError::Malformed)?;
    let body = decode(parsed.body).ok_or(AgeError::Malformed)?;
    let file_key = decrypt(&wrap_key, [0; 12], &body)
        .filter(|key| key.len() == FILE_KEY_BYTES)
        .ok_or(AgeError::WrongPassphrase)?;
    let mac = decode(parsed.mac).ok_or(AgeError::Malformed)?;
    header_mac(&file_key, parsed.header).verify_slice(&mac).map_err(|_| AgeError::Malformed)?;
    let (nonce, chunks) = parsed.payload.split_at_checked(SALT_BYTES).ok_or(AgeError::Malformed)?;
    Ok((expand(&file_key, nonce, b"payload"), chunks))
}

/// The parts of a file with one stanza.
struct Parsed<'a> {
    /// From the version line up to `---`, which the MAC covers.
    header: &'a str,
    arguments: &'a str,
    body: &'a str,
    mac: &'a str,
    payload: &'a [u8],
}

impl<'a> Parsed<'a> {
    fn read(file: &'a [u8]) -> Option<Self> {
        let mark = b"\n--- ";
        let at = file.windows(mark.len()).position(|bytes| bytes == mark)?;
        let header = std::str::from_utf8(&file[..at + mark.len() - 1]).ok()?;
        let rest = &file[at + mark.len()..];
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let mac = std::str::from_utf8(&rest[..end]).ok()?;
        let mut lines = header.lines();
        let version = lines.next()?;
        let arguments = lines.next()?.strip_prefix("-> ")?;
        let body = lines.next()?;
        (version == VERSION_LINE && lines.next() == Some("---") && lines.next().is_none())
            .then_some(Parsed { header, arguments, body, mac, payload: &rest[end + 1..] })
    }
}

fn passphrase_key(passphrase: &str, salt: &[u8; SALT_BYTES], work_factor: u8) -> Option<Key> {
    let parameters = scrypt::Params::new(work_factor, 8, 1, 32).ok()?;
    let salt = [b"age-encryption.org/v1/scrypt", &salt[..]].concat();
    let mut key = Key::default();
    scrypt::scrypt(passphrase.as_bytes(), &salt, &parameters, key.as_mut()).ok()?;
    Some(key)
}

/// The public half of a new key pair, and the key that it and `public_key` agree on. Returns `None` for
/// a point of small order, which is no valid public key.
fn agree_with(public_key: &X25519Key) -> Option<(X25519Key, Key)> {
    let mut secret = Zeroizing::new([0; 32]);
    fill_random(secret.as_mut());
    let own = PrivateKey::from_private_key(&X25519, secret.as_ref()).expect("32 bytes");
    let share = own.compute_public_key().expect("a key pair has a public half");
    let share: X25519Key = share.as_ref().try_into().expect("32 bytes");
    let salt = [share, *public_key].concat();
    let other = UnparsedPublicKey::new(&X25519, public_key);
    let derive = |shared: &[u8]| Ok(expand(shared, &salt, b"age-encryption.org/v1/X25519"));
    let key = agree(&own, other, (), derive).ok()?;
    Some((share, key))
}

/// HKDF-SHA-256.
fn expand(secret: &[u8], salt: &[u8], info: &[u8]) -> Key {
    let mut key = Key::default();
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], HKDF_SHA256)
        .and_then(|expanded| expanded.fill(key.as_mut()))
        .expect("32 bytes are within the limit of HKDF");
    key
}

fn header_mac(file_key: &[u8], header: &str) -> Hmac<Sha256> {
    let key = expand(file_key, &[], b"header");
    let mac = Hmac::<Sha256>::new_from_slice(key.as_ref()).expect("HMAC takes a key of any length");
    mac.chain_update(header)
}

fn cipher(key: &Key) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref());
    LessSafeKey::new(key.expect("ChaCha20 takes 32 bytes"))
}

/// A key never encrypts two values under one nonce.
pub(super) fn encrypt(key: &Key, nonce: [u8; 12], plain: &[u8]) -> Vec<u8> {
    let mut bytes = plain.to_vec();
    cipher(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes)
        .expect("a value is far below the limit of the cipher");
    bytes
}

pub(super) fn decrypt(key: &Key, nonce: [u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = cipher(key).open_in_place(nonce, Aad::empty(), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

fn random<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    fill_random(&mut bytes);
    bytes
}

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}

fn armor(file: &[u8]) -> String {
    let encoded = STANDARD.encode(file);
    let mut text = format!("{ARMOR_BEGIN}\n");
    for line in encoded.as_bytes().chunks(ARMOR_COLUMNS) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + ARMOR_END + "\n"
}

fn dearmor(text: &str) -> Option<Vec<u8>> {
    let inner = text.trim().strip_prefix(ARMOR_BEGIN)?.strip_suffix(ARMOR_END)?;
    STANDARD.decode(inner.lines().collect::<String>()).ok()
}

/// The bytes of a Bech32 text (BIP 173, without its limit of length) whose human-readable part is
/// `prefix`.
fn bech32_data(text: &str, prefix: &str) -> Option<Vec<u8>> {
    const CHARSET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const CHECKSUM_WORDS: usize = 6;
    if text.chars().any(|c| c.is_ascii_uppercase()) && text.chars().any(|c| c.is_ascii_lowercase())
    {
        return None;
    }
    let text = text.to_ascii_lowercase();
    let data = text.strip_prefix(prefix)?.strip_prefix('1')?;
    let words: Vec<u8> =
        data.chars().map(|c| CHARSET.find(c).map(|at| at as u8)).collect::<Option<_>>()?;
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    let expanded = high.chain([0]).chain(low).chain(words.iter().copied());
    if bech32_checksum(expanded) != 1 {
        return None;
    }
    let words = &words[..words.len().checked_sub(CHECKSUM_WORDS)?];
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
    for word in words {
        held = held << 5 | u32::from(*word);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    (bits < 5 && held == 0).then_some(bytes)
}

fn bech32_checksum(words: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    words.fold(1, |checksum, word| {
        let top = checksum >> 25;
        let shifted = (checksum & 0x1ff_ffff) << 5 ^ u32::from(word);
        let set = GENERATOR.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1);
        set.fold(shifted, |checksum, (_, value)| checksum ^ value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn passphrase(text: &str) -> Recipient {
        Recipient::Passphrase(Zeroizing::new(text.into()))
    }

    #[test]
    fn a_secret_opens_with_its_passphrase_and_no_other() {
        let sealed = seal_with(b"the key", &passphrase("correct horse"), 4);
        assert_eq!(open(&sealed, "correct horse").unwrap()[..], *b"the key");
        assert_eq!(open(&sealed, "wrong horse"), Err(AgeError::WrongPassphrase));
    }

    // Sealed by age 1.1.1 with `age -p -a` and the passphrase "correct horse".
    #[test]
    fn what_age_sealed_opens() {
        assert_eq!(open(SEALED_BY_AGE, "correct horse").unwrap()[..], *b"sealed by age\n");
    }

    #[test]
    fn a_changed_character_is_noticed() {
        let sealed = seal_with(b"the key", &passphrase("correct horse"), 1);
        for at in ARMOR_BEGIN.len() + 1..sealed.len() - ARMOR_END.len() - 3 {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(open(&changed, "correct horse").is_err(), "{at}: {changed}");
        }
    }

    #[test]
    fn a_public_key_is_checked_and_its_secrets_need_age() {
        let text = "age1neq7kjr9nk7dvnx9wjz4fjjjenylzrj536tcrr5z3h8zmsmul32sureyhk";
        let recipient = Recipient::parse_public_key(text).unwrap();
        assert!(Recipient::parse_public_key(&text.replace("sureyhk", "sureyhq")).is_none());
        assert!(Recipient::parse_public_key("age1").is_none());
        assert!(Recipient::parse_public_key("ssh-ed25519 AAAA").is_none());
        let sealed = seal_with(b"the key", &recipient, 1);
        assert_eq!(open(&sealed, "x"), Err(AgeError::NotPassphrase));
    }

    #[test]
    fn what_was_sealed_to_a_public_key_opens_with_its_identity() {
        let text = "age1neq7kjr9nk7dvnx9wjz4fjjjenylzrj536tcrr5z3h8zmsmul32sureyhk";
        let identity = "AGE-SECRET-KEY-1EFP7ZMFA0S48VGAS5AAKCQ7GWHF4DYX6CQ6NXFH3DZSD9T6Q04HSEVLZ5Q";
        let sealed = seal(b"the key", &Recipient::parse_public_key(text).unwrap());
        let file = dearmor(&sealed).unwrap();
        let parsed = Parsed::read(&file).unwrap();
        let share = decode(parsed.arguments.strip_prefix("X25519 ").unwrap()).unwrap();
        let secret = bech32_data(identity, "age-secret-key-").unwrap();
        let secret = PrivateKey::from_private_key(&X25519, &secret).unwrap();
        let own = secret.compute_public_key().unwrap();
        assert_eq!(own.as_ref(), bech32_data(text, "age").unwrap());
        let salt = [&share, own.as_ref()].concat();
        let info = b"age-encryption.org/v1/X25519";
        let derive = |shared: &[u8]| Ok(expand(shared, &salt, info));
        let wrap_key = agree(&secret, UnparsedPublicKey::new(&X25519, &share), (), derive).unwrap();
        let file_key = decrypt(&wrap_key, [0; 12], &decode(parsed.body).unwrap()).unwrap();
        let (nonce, chunk) = parsed.payload.split_at(SALT_BYTES);
        let opened = decrypt(&expand(&file_key, nonce, b"payload"), ONLY_CHUNK, chunk);
        assert_eq!(opened.unwrap()[..], *b"the key");
    }

    #[test]
    fn too_much_work_is_refused() {
        let sealed = seal_with(b"the key", &passphrase("p"), 4);
        let file = dearmor(&sealed).unwrap();
        let at = file.windows(3).position(|bytes| bytes == b" 4\n").unwrap();
        let greedy = [&file[..at], b" 40\n", &file[at + 3..]].concat();
        assert_eq!(open(&armor(&greedy), "p"), Err(AgeError::Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_open(text in "\\PC{0,200}", bytes in any::<Vec<u8>>()) {
            prop_assert!(open(&text, "p").is_err());
            prop_assert!(open(&armor(&bytes), "p").is_err());
            prop_assert!(Recipient::parse_public_key(&text).is_none());
        }
    }

    const SEALED_BY_AGE: &str = "\
-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBaWUxzNVhkYU5WTFNrVlU2
cEd6bFZ3IDE4CkhuZjE4WEVZYnBGeDlZUUxsV1ZEYWpaYWdnY2RFSjZtNlkwNTZ5
VjhobFkKLS0tIGREOXJkWkpxVDc3bTRrTlcyQnF0Q0tHUG9lS0dmTDJ5WEtBMXVH
M2tQQXcKTNKV9xJF8uafUXDWLUca6WiS34ugCxybArv/2yEpzA2tjdlIrRSgJU7s
d7LpEQ==
-----END AGE ENCRYPTED FILE-----
";
}
