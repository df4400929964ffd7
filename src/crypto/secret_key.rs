//! The secret halves of Ed25519 keys (RFC 8032): a user's, which certifies devices, and a device's, which signs.

use std::fmt;
use std::marker::PhantomData;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use crate::protocol::device::{DeviceKey, UserKey};
use crate::protocol::random::fill_random;

/// A secret key whose public half is a `P`.
pub struct SecretKey<P> {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
    public: PhantomData<P>,
}

/// The secret half of a user's key.
pub type UserSecret = SecretKey<UserKey>;
/// The secret half of a device's key.
pub type DeviceSecret = SecretKey<DeviceKey>;

impl<P: From<[u8; 32]>> SecretKey<P> {
    /// A new key.
    pub fn fresh() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        fill_random(&mut *seed);
        Self::from_seed(seed)
    }

    /// The key with this seed, which is the private key of RFC 8032.
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).expect("a seed has 32 bytes");
        SecretKey { seed, pair, public: PhantomData }
    }

    /// The seed, to be stored.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half.
    pub fn public(&self) -> P {
        let key: Result<[u8; 32], _> = self.pair.public_key().as_ref().try_into();
        P::from(key.expect("an Ed25519 key has 32 bytes"))
    }

    /// The signature of these bytes.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(bytes).as_ref().to_vec()
    }
}

/// Shows the public half alone.
impl<P: From<[u8; 32]> + fmt::Debug> fmt::Debug for SecretKey<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretKey").field(&self.public()).finish()
    }
}
