//! The secret of a cluster, and a second one that is accepted while the secret is being changed.

use zeroize::Zeroizing;

use super::sealer::Sealer;

/// 32 random bytes.
pub type Secret = Zeroizing<[u8; 32]>;

/// What a node seals with, and what it opens besides.
#[derive(Clone)]
pub struct Secrets {
    current: Secret,
    accepted: Option<Secret>,
}

/// The keys for one purpose, derived from [`Secrets`].
pub(crate) struct Sealers {
    current: Sealer,
    accepted: Option<Sealer>,
}

impl Secrets {
    /// Seals with `current`, and opens with both.
    pub fn new(current: Secret, accepted: Option<Secret>) -> Self {
        Secrets { current, accepted }
    }

    /// The secret that seals.
    pub fn current(&self) -> &[u8; 32] {
        &self.current
    }

    /// The second secret.
    pub fn accepted(&self) -> Option<&[u8; 32]> {
        self.accepted.as_deref()
    }

    /// The keys for a purpose.
    pub(crate) fn sealers(&self, purpose: &str) -> Sealers {
        let sealer = |secret: &Secret| Sealer::new(secret, purpose);
        Sealers { current: sealer(&self.current), accepted: self.accepted.as_ref().map(sealer) }
    }
}

#[cfg(test)]
impl From<[u8; 32]> for Secrets {
    fn from(secret: [u8; 32]) -> Self {
        Secrets::new(Zeroizing::new(secret), None)
    }
}

impl Sealers {
    /// Seals with the current secret.
    pub fn seal(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.current.seal(bytes)
    }

    /// Opens what was sealed with one of the secrets. Returns whether that was the current one, too.
    pub fn open(&self, sealed: &[u8]) -> Option<(Vec<u8>, bool)> {
        let with_accepted = || Some((self.accepted.as_ref()?.open(sealed)?, false));
        self.current.open(sealed).map(|plain| (plain, true)).or_else(with_accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_secret_seals_and_both_open() {
        let one = |secret| Secrets::from([secret; 32]).sealers("test");
        let both = Secrets::new(Zeroizing::new([2; 32]), Some(Zeroizing::new([1; 32])));
        let both = both.sealers("test");
        assert_eq!(both.open(&one(1).seal(b"a".to_vec())), Some((b"a".to_vec(), false)));
        assert_eq!(both.open(&one(2).seal(b"b".to_vec())), Some((b"b".to_vec(), true)));
        assert_eq!(both.open(&one(3).seal(b"c".to_vec())), None);
        assert_eq!(one(1).open(&both.seal(b"d".to_vec())), None);
        assert_eq!(one(2).open(&both.seal(b"d".to_vec())), Some((b"d".to_vec(), true)));
    }
}
