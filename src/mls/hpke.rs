//! Hybrid public-key encryption (RFC 9180) in the one form that rooms use: base mode, with
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-128-GCM, one message per key.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::protocol::random::fill_random;

/// "KEM" and the number of the KEM.
const KEM: &[u8] = b"KEM\x00\x20";
/// "HPKE" and the numbers of KEM, KDF and AEAD.
const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x01";
const KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

/// What has a fixed length here: keys, hashes and shared secrets.
pub type Secret = Zeroizing<[u8; 32]>;

/// A key is not one, the result of X25519 is zero, or a message does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpkeError;

/// The keys of one message.
pub struct Context {
    pub(super) key: Zeroizing<[u8; KEY_BYTES]>,
    pub(super) nonce: [u8; NONCE_BYTES],
    pub(super) exporter: Secret,
}

/// The sender's side: the encapsulated key, and the keys of the message.
pub fn setup_sender(receiver: &[u8], info: &[u8]) -> Result<([u8; 32], Context), HpkeError> {
    let mut ephemeral = Zeroizing::new([0; 32]);
    // From the kernel: the generator of aws-lc takes 60 ms to be seeded, in each process.
    fill_random(&mut *ephemeral);
    setup_sender_with(&ephemeral, receiver, info)
}

/// The same with a given ephemeral key, for the vectors of the RFC.
pub(super) fn setup_sender_with(
    ephemeral: &[u8; 32],
    receiver: &[u8],
    info: &[u8],
) -> Result<([u8; 32], Context), HpkeError> {
    let encapsulated = public_key(ephemeral)?;
    let shared = encapsulate(ephemeral, receiver, &encapsulated, receiver)?;
    Ok((encapsulated, Context::new(&shared, info)?))
}

/// The receiver's side.
pub fn setup_receiver(
    encapsulated: &[u8],
    private: &[u8],
    info: &[u8],
) -> Result<Context, HpkeError> {
    let shared = encapsulate(private, encapsulated, encapsulated, &public_key(private)?)?;
    Context::new(&shared, info)
}

/// A key pair that follows from key material: the private and the public key (RFC 9180, section 7.1.3).
pub fn derive_key_pair(material: &[u8]) -> Result<(Secret, [u8; 32]), HpkeError> {
    let pseudorandom = labeled_extract(KEM, b"", b"dkp_prk", material);
    let mut private = Secret::default();
    labeled_expand(KEM, &pseudorandom, b"sk", b"", &mut *private)?;
    let public = public_key(&*private)?;
    Ok((private, public))
}

fn public_key(private: &[u8]) -> Result<[u8; 32], HpkeError> {
    let private =
        agreement::PrivateKey::from_private_key(&X25519, private).map_err(|_| HpkeError)?;
    let public = private.compute_public_key().map_err(|_| HpkeError)?;
    public.as_ref().try_into().map_err(|_| HpkeError)
}

/// The shared secret (RFC 9180, section 4.1). A result of zero, which a public key of low order gives, is refused.
pub(super) fn encapsulate(
    private: &[u8],
    public: &[u8],
    encapsulated: &[u8],
    receiver: &[u8],
) -> Result<Secret, HpkeError> {
    let private =
        agreement::PrivateKey::from_private_key(&X25519, private).map_err(|_| HpkeError)?;
    let public = UnparsedPublicKey::new(&X25519, public);
    let agreed = agreement::agree(&private, public, HpkeError, |agreed| {
        match agreed.iter().any(|byte| *byte != 0) {
            true => Ok(labeled_extract(KEM, b"", b"eae_prk", agreed)),
            false => Err(HpkeError),
        }
    })?;
    let mut shared = Secret::default();
    let context = [encapsulated, receiver].concat();
    labeled_expand(KEM, &agreed, b"shared_secret", &context, &mut *shared)?;
    Ok(shared)
}

impl Context {
    /// The key schedule of base mode (RFC 9180, section 5.1).
    fn new(shared: &Secret, info: &[u8]) -> Result<Self, HpkeError> {
        let psk_id = labeled_extract(SUITE, b"", b"psk_id_hash", b"");
        let info = labeled_extract(SUITE, b"", b"info_hash", info);
        let schedule = [&[0], &psk_id[..], &info[..]].concat();
        let secret = labeled_extract(SUITE, &**shared, b"secret", b"");
        let mut context = Context {
            key: Zeroizing::default(),
            nonce: [0; NONCE_BYTES],
            exporter: Secret::default(),
        };
        labeled_expand(SUITE, &secret, b"key", &schedule, &mut *context.key)?;
        labeled_expand(SUITE, &secret, b"base_nonce", &schedule, &mut context.nonce)?;
        labeled_expand(SUITE, &secret, b"exp", &schedule, &mut *context.exporter)?;
        Ok(context)
    }

    /// Encrypts the one message. The tag is at its end.
    pub fn seal(self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, HpkeError> {
        seal(&*self.key, &self.nonce, aad, plain)
    }

    /// Decrypts the one message.
    pub fn open(self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, HpkeError> {
        open(&*self.key, &self.nonce, aad, sealed)
    }

    /// A secret for another purpose (RFC 9180, section 5.3).
    pub fn export(&self, context: &[u8], length: usize) -> Result<Vec<u8>, HpkeError> {
        let mut secret = vec![0; length];
        labeled_expand(SUITE, &self.exporter, b"sec", context, &mut secret)?;
        Ok(secret)
    }
}

/// AES-128-GCM.
pub fn seal(key: &[u8], nonce: &[u8], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, HpkeError> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).map_err(|_| HpkeError)?);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| HpkeError)?;
    let mut bytes = Vec::with_capacity(plain.len() + AES_128_GCM.tag_len());
    bytes.extend(plain);
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut bytes).map_err(|_| HpkeError)?;
    Ok(bytes)
}

/// AES-128-GCM.
pub fn open(key: &[u8], nonce: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, HpkeError> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).map_err(|_| HpkeError)?);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| HpkeError)?;
    let mut bytes = sealed.to_vec();
    let length = key.open_in_place(nonce, Aad::from(aad), &mut bytes).map_err(|_| HpkeError)?.len();
    bytes.truncate(length);
    Ok(bytes)
}

/// HKDF-Extract (RFC 5869).
pub fn extract(salt: &[u8], material: &[u8]) -> Secret {
    hmac(salt, material)
}

/// HMAC-SHA256.
pub fn hmac(key: &[u8], message: &[u8]) -> Secret {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    Zeroizing::new(tag.as_ref().try_into().expect("SHA-256 gives 32 bytes"))
}

/// HKDF-Expand (RFC 5869). Fails if more is wanted than there can be.
pub fn expand(pseudorandom: &[u8], info: &[u8], out: &mut [u8]) -> Result<(), HpkeError> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let pseudorandom = Prk::new_less_safe(HKDF_SHA256, pseudorandom);
    let info = [info];
    let expanded = pseudorandom.expand(&info, Length(out.len())).map_err(|_| HpkeError)?;
    expanded.fill(out).map_err(|_| HpkeError)
}

fn labeled_extract(suite: &[u8], salt: &[u8], label: &[u8], material: &[u8]) -> Secret {
    extract(salt, &Zeroizing::new([b"HPKE-v1", suite, label, material].concat()))
}

fn labeled_expand(
    suite: &[u8],
    pseudorandom: &Secret,
    label: &[u8],
    info: &[u8],
    out: &mut [u8],
) -> Result<(), HpkeError> {
    let length = u16::try_from(out.len()).map_err(|_| HpkeError)?.to_be_bytes();
    expand(&**pseudorandom, &[&length[..], b"HPKE-v1", suite, label, info].concat(), out)
}
