//! Device certificates: a user's key says that a device is the user's, and until when.
//!
//! ```text
//! form 1 (u8) · length (u8), user name · user key (32) · device key (32)
//! · not before, not after (u64 each, seconds since 1970) · signature (64)
//! ```
//!
//! Numbers are big-endian. The signature is Ed25519 (RFC 8032) under the user's key, over [`LABEL`] and everything
//! before it. The certificate is the content of the basic credential in the device's leaf (RFC 9420, section 5.3).

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use super::secret_key::UserSecret;
use crate::protocol::decoder::Decoder;
use crate::protocol::device::{DeviceId, DeviceKey, UserKey};
use crate::protocol::{Timestamp, UserName};

/// What is signed begins with this, so that no other signature of the key is a certificate.
const LABEL: &[u8] = b"secure-chat device 1";

/// The form of the encoding.
const FORM: u8 = 1;

const SIGNATURE_BYTES: usize = 64;

/// How long a certificate may be valid, in seconds: two years, and a day for clocks that differ.
pub const MAX_SECONDS: u64 = (2 * 366 + 1) * 86_400;

/// A certificate whose signature is the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCertificate {
    /// The name of the user.
    pub user: String,
    /// The key of the user.
    pub user_key: UserKey,
    /// The key of the device.
    pub device_key: DeviceKey,
    /// Valid from then on, in seconds since 1970.
    pub not_before: u64,
    /// Valid until then, in seconds since 1970.
    pub not_after: u64,
}

/// The reason why a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are not a certificate.
    #[error("the device certificate is malformed")]
    Malformed,
    /// The signature does not belong to the user's key and these bytes.
    #[error("the device certificate is not signed by the user's key")]
    BadSignature,
    /// The certificate names another device than the one that shows it.
    #[error("the device certificate belongs to another device")]
    OtherDevice,
    /// The certificate is not valid at the time in question.
    #[error("the device certificate is not valid yet")]
    NotYetValid,
    /// The certificate is no longer valid at the time in question.
    #[error("the device certificate has expired")]
    Expired,
}

impl DeviceCertificate {
    /// The id of the device.
    pub fn device(&self) -> DeviceId {
        self.device_key.id()
    }

    /// Reads a certificate that the device with `device_key` shows, and verifies the signature. The caller checks the
    /// time ([`Self::check_time`]).
    pub fn verify(bytes: &[u8], device_key: &DeviceKey) -> Result<Self, CertificateError> {
        let (signed, signature) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(CertificateError::Malformed)?;
        let certificate = Self::parse(signed).ok_or(CertificateError::Malformed)?;
        UnparsedPublicKey::new(&ED25519, certificate.user_key.0)
            .verify(&[LABEL, signed].concat(), signature)
            .map_err(|_| CertificateError::BadSignature)?;
        match certificate.device_key == *device_key {
            true => Ok(certificate),
            false => Err(CertificateError::OtherDevice),
        }
    }

    /// Whether the certificate is valid at a time.
    pub fn check_time(&self, at: Timestamp) -> Result<(), CertificateError> {
        let seconds = at.micros().div_euclid(1_000_000);
        match u64::try_from(seconds) {
            Ok(seconds) if seconds > self.not_after => Err(CertificateError::Expired),
            Ok(seconds) if seconds >= self.not_before => Ok(()),
            _ => Err(CertificateError::NotYetValid),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut input = Decoder(bytes);
        let [form, length] = input.array()?;
        let user = input.take(length.into())?;
        let certificate = DeviceCertificate {
            user: std::str::from_utf8(user).ok()?.to_owned(),
            user_key: UserKey(input.array()?),
            device_key: DeviceKey(input.array()?),
            not_before: u64::from_be_bytes(input.array()?),
            not_after: u64::from_be_bytes(input.array()?),
        };
        (form == FORM && input.0.is_empty() && certificate.is_sound()).then_some(certificate)
    }

    /// Whether the name can be one and the times are in order.
    fn is_sound(&self) -> bool {
        let name = &self.user;
        let length = self.not_after.checked_sub(self.not_before);
        (1..=UserName::MAX_CHARS).contains(&name.chars().count())
            && !name.chars().any(char::is_control)
            && name.trim() == name
            && length.is_some_and(|seconds| seconds <= MAX_SECONDS)
    }

    fn signed_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![FORM, u8::try_from(self.user.len()).ok()?];
        bytes.extend(self.user.as_bytes());
        bytes.extend(self.user_key.0);
        bytes.extend(self.device_key.0);
        bytes.extend(self.not_before.to_be_bytes());
        bytes.extend(self.not_after.to_be_bytes());
        self.is_sound().then_some(bytes)
    }
}

impl UserSecret {
    /// Certifies a device of this user. `None` if `user` can't be a user name or the times are out of bounds.
    pub fn certify(
        &self,
        user: &str,
        device_key: DeviceKey,
        (not_before, not_after): (u64, u64),
    ) -> Option<Vec<u8>> {
        let user_key = self.public();
        let certificate = DeviceCertificate {
            user: user.to_owned(),
            user_key,
            device_key,
            not_before,
            not_after,
        };
        let mut bytes = certificate.signed_bytes()?;
        bytes.extend(self.sign(&[LABEL, &bytes].concat()));
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use proptest::prelude::*;

    const DEVICE: DeviceKey = DeviceKey([9; 32]);
    const VALID: (u64, u64) = (1_790_000_000, 1_790_000_000 + 86_400);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_certificate_is_verified_for_its_device_and_its_time() {
        let secret = UserSecret::fresh();
        let bytes = secret.certify("José Ñ.", DEVICE, VALID).unwrap();
        let certificate = DeviceCertificate::verify(&bytes, &DEVICE).unwrap();
        assert_eq!(certificate.user, "José Ñ.");
        assert_eq!(certificate.user_key, secret.public());
        assert_eq!(certificate.device(), DEVICE.id());
        let other = DeviceCertificate::verify(&bytes, &DeviceKey([8; 32]));
        assert_eq!(other, Err(CertificateError::OtherDevice));
        for (seconds, verdict) in [
            (-1, Err(CertificateError::NotYetValid)),
            (1_789_999_999, Err(CertificateError::NotYetValid)),
            (1_790_000_000, Ok(())),
            (1_790_086_400, Ok(())),
            (1_790_086_401, Err(CertificateError::Expired)),
        ] {
            assert_eq!(certificate.check_time(at(seconds)), verdict, "{seconds}");
        }
    }

    #[test]
    fn a_key_comes_back_from_its_seed() {
        let secret = UserSecret::fresh();
        let again = UserSecret::from_seed(Zeroizing::new(*secret.seed()));
        assert_eq!(again.public(), secret.public());
        assert_ne!(UserSecret::fresh().public(), secret.public());
    }

    #[test]
    fn no_certificate_is_made_for_what_is_no_name_or_no_period() {
        let secret = UserSecret::fresh();
        let certify = |user: &str, period| secret.certify(user, DEVICE, period);
        for bad in ["", " ana", "ana ", "a\nb", "a\u{7f}", &"x".repeat(33), &"x".repeat(300)] {
            assert_eq!(certify(bad, VALID), None, "{bad:?}");
        }
        for bad in [(5, 4), (0, MAX_SECONDS + 1), (0, u64::MAX)] {
            assert_eq!(certify("ana", bad), None, "{bad:?}");
        }
        assert!(certify(&"ñ".repeat(32), (0, MAX_SECONDS)).is_some());
    }

    proptest! {
        #[test]
        fn a_changed_certificate_is_refused(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut bytes = UserSecret::fresh().certify("ana", DEVICE, VALID).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(DeviceCertificate::verify(&bytes, &DEVICE).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in any::<Vec<u8>>()) {
            prop_assert!(DeviceCertificate::verify(&bytes, &DEVICE).is_err());
        }
    }
}
