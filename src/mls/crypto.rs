//! The cryptography that openmls asks for, over aws-lc-rs, for one suite:
//! `MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519`. Any other is refused.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeAeadType, HpkeCiphertext,
    HpkeConfig, HpkeKdfType, HpkeKemType, HpkeKeyPair, KemOutput, SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use tls_codec::SecretVLBytes;

use super::hpke;
use crate::crypto::secret_key::DeviceSecret;
use crate::protocol::random::fill_random;

/// The suite of every room.
pub const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// More than 255 times the length of a hash can't be derived (RFC 5869).
const MAX_EXPANDED_BYTES: usize = 255 * 32;

/// The cryptography of [`SUITE`], with random bytes from the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crypto;

/// Never happens: the kernel's generator does not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RandomError {}

impl OpenMlsRand for Crypto {
    type Error = RandomError;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], RandomError> {
        let mut bytes = [0; N];
        fill_random(&mut bytes);
        Ok(bytes)
    }

    fn random_vec(&self, length: usize) -> Result<Vec<u8>, RandomError> {
        let mut bytes = vec![0; length];
        fill_random(&mut bytes);
        Ok(bytes)
    }
}

fn sha256_only(hash: HashType) -> Result<(), CryptoError> {
    match hash {
        HashType::Sha2_256 => Ok(()),
        HashType::Sha2_384 | HashType::Sha2_512 => Err(CryptoError::UnsupportedHashAlgorithm),
    }
}

fn aes_128_only(aead: AeadType) -> Result<(), CryptoError> {
    match aead {
        AeadType::Aes128Gcm => Ok(()),
        AeadType::Aes256Gcm | AeadType::ChaCha20Poly1305 => {
            Err(CryptoError::UnsupportedAeadAlgorithm)
        }
    }
}

fn ed25519_only(scheme: SignatureScheme) -> Result<(), CryptoError> {
    match scheme {
        SignatureScheme::ED25519 => Ok(()),
        _ => Err(CryptoError::UnsupportedSignatureScheme),
    }
}

fn own_hpke_only(config: &HpkeConfig) -> Result<(), CryptoError> {
    let HpkeConfig(kem, kdf, aead) = config;
    match (kem, kdf, aead) {
        (HpkeKemType::DhKem25519, HpkeKdfType::HkdfSha256, HpkeAeadType::AesGcm128) => Ok(()),
        _ => Err(CryptoError::UnsupportedCiphersuite),
    }
}

impl OpenMlsCrypto for Crypto {
    fn supports(&self, suite: Ciphersuite) -> Result<(), CryptoError> {
        match suite {
            SUITE => Ok(()),
            _ => Err(CryptoError::UnsupportedCiphersuite),
        }
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        vec![SUITE]
    }

    fn hkdf_extract(
        &self,
        hash: HashType,
        salt: &[u8],
        material: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        sha256_only(hash)?;
        Ok(hpke::extract(salt, material).to_vec().into())
    }

    fn hmac(
        &self,
        hash: HashType,
        key: &[u8],
        message: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        sha256_only(hash)?;
        Ok(hpke::hmac(key, message).to_vec().into())
    }

    fn hkdf_expand(
        &self,
        hash: HashType,
        pseudorandom: &[u8],
        info: &[u8],
        length: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        sha256_only(hash)?;
        if length > MAX_EXPANDED_BYTES {
            return Err(CryptoError::HkdfOutputLengthInvalid);
        }
        let mut out = vec![0; length];
        hpke::expand(pseudorandom, info, &mut out)
            .map_err(|_| CryptoError::HkdfOutputLengthInvalid)?;
        Ok(out.into())
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        sha256_only(hash)?;
        Ok(Sha256::digest(data).to_vec())
    }

    fn aead_encrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        aes_128_only(aead)?;
        let sealed =
            hpke::seal(key, nonce, aad, data).map_err(|_| CryptoError::CryptoLibraryError)?;
        #[cfg(test)]
        sealed_with::note(key, &sealed);
        Ok(sealed)
    }

    fn aead_decrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        sealed: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        aes_128_only(aead)?;
        hpke::open(key, nonce, aad, sealed).map_err(|_| CryptoError::AeadDecryptionError)
    }

    fn signature_key_gen(
        &self,
        scheme: SignatureScheme,
    ) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        ed25519_only(scheme)?;
        let key = DeviceSecret::fresh();
        Ok((key.seed().to_vec(), key.public().0.to_vec()))
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        ed25519_only(scheme)?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(data, signature)
            .map_err(|_| CryptoError::InvalidSignature)
    }

    fn sign(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        ed25519_only(scheme)?;
        let key =
            Ed25519KeyPair::from_seed_unchecked(key).map_err(|_| CryptoError::SigningError)?;
        Ok(key.sign(data).as_ref().to_vec())
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        receiver: &[u8],
        info: &[u8],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        own_hpke_only(&config)?;
        let (encapsulated, context) =
            hpke::setup_sender(receiver, info).map_err(|_| CryptoError::SenderSetupError)?;
        let sealed = context.seal(aad, plain).map_err(|_| CryptoError::HpkeEncryptionError)?;
        Ok(HpkeCiphertext { kem_output: encapsulated.to_vec().into(), ciphertext: sealed.into() })
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        private: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        own_hpke_only(&config)?;
        hpke::setup_receiver(input.kem_output.as_slice(), private, info)
            .map_err(|_| CryptoError::ReceiverSetupError)?
            .open(aad, input.ciphertext.as_slice())
            .map_err(|_| CryptoError::HpkeDecryptionError)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        receiver: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        own_hpke_only(&config)?;
        let (encapsulated, context) =
            hpke::setup_sender(receiver, info).map_err(|_| CryptoError::SenderSetupError)?;
        let secret = context
            .export(exporter_context, exporter_length)
            .map_err(|_| CryptoError::ExporterError)?;
        Ok((encapsulated.to_vec(), secret.into()))
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        encapsulated: &[u8],
        private: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        own_hpke_only(&config)?;
        let secret = hpke::setup_receiver(encapsulated, private, info)
            .map_err(|_| CryptoError::ReceiverSetupError)?
            .export(exporter_context, exporter_length)
            .map_err(|_| CryptoError::ExporterError)?;
        Ok(secret.into())
    }

    fn derive_hpke_keypair(
        &self,
        config: HpkeConfig,
        material: &[u8],
    ) -> Result<HpkeKeyPair, CryptoError> {
        own_hpke_only(&config)?;
        let (private, public) =
            hpke::derive_key_pair(material).map_err(|_| CryptoError::InvalidLength)?;
        Ok(HpkeKeyPair { private: private.to_vec().into(), public: public.to_vec() })
    }
}

impl Signer for DeviceSecret {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(DeviceSecret::sign(self, payload))
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// Which key sealed what, for the test that no key is used for two messages.
#[cfg(test)]
pub(super) mod sealed_with {
    use std::cell::RefCell;

    thread_local! {
        static NOTED: RefCell<Vec<(Vec<u8>, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
    }

    pub fn note(key: &[u8], sealed: &[u8]) {
        NOTED.with_borrow_mut(|noted| noted.push((key.to_vec(), sealed.to_vec())));
    }

    /// The key of a message, whose content ends with what was sealed.
    pub fn key_of(content: &[u8]) -> Option<Vec<u8>> {
        NOTED.with_borrow(|noted| {
            let found = noted.iter().rev().find(|(_, sealed)| content.ends_with(sealed));
            found.map(|(key, _)| key.clone())
        })
    }
}
