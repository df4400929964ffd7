//! The device itself: its keys, its certificate, the key packages by which others add it, and its user's pins.

use openmls::prelude::{
    Capabilities, CredentialType, CredentialWithKey, Extension, ExtensionType, Extensions,
    KeyPackage, KeyPackageRef, Lifetime, ProtocolVersion, UnknownExtension,
};
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::storage::StorageProvider as _;
use rusqlite::OptionalExtension as _;
use tls_codec::{Deserialize as _, Serialize as _};
use zeroize::Zeroizing;

use super::crypto::{Crypto, SUITE};
use super::decode::key_package;
use super::facts::{self, NO_END};
use super::state::{StateError, Step};
use crate::crypto::device_certificate::DeviceCertificate;
use crate::crypto::secret_key::DeviceSecret;
use crate::policy::pins::{Pin, PinOrigin};
use crate::policy::upkeep::KEY_PACKAGE_LIFETIME;
use crate::protocol::device::{DeviceId, UserKey};
use crate::protocol::room_terms;
use crate::protocol::{RoomName, Seq, Timestamp};

/// The type of the extension of a key package that says how long it is valid, of the range for private use.
///
/// The lifetime that MLS has for this is in the leaf, and every reader of a commit checks it by its own clock: one that
/// is weeks behind, or has a wrong clock, would find void what others accepted. So the leaf's lifetime has no end, and
/// whoever adds a device checks the extension.
pub const VALIDITY: u16 = 0xF3C2;

/// A key package is valid from an hour before it is made, for clocks that differ.
const CLOCK_SECONDS: u64 = 3600;

/// A device's keys and certificate.
#[derive(Debug)]
pub struct Device {
    /// The private key.
    pub secret: DeviceSecret,
    /// The certificate by the user's key.
    pub certificate: DeviceCertificate,
    certificate_bytes: Vec<u8>,
}

/// A key package of this device, for the server to hand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKeyPackage {
    /// The key package, a message of MLS.
    pub content: Vec<u8>,
    /// It may be handed out again when no other is left.
    pub is_last_resort: bool,
}

impl Device {
    /// Stores a new device: its key, and a certificate for it.
    pub fn store(
        step: &Step<'_>,
        secret: &DeviceSecret,
        certificate: &[u8],
    ) -> Result<Self, StateError> {
        step.put_own("device seed", secret.seed())?;
        step.put_own("certificate", certificate)?;
        Device::load(step)?.ok_or(StateError::Damaged("the device is missing"))
    }

    /// The stored device, if there is one.
    pub fn load(step: &Step<'_>) -> Result<Option<Self>, StateError> {
        let Some(seed) = step.own("device seed")?.map(Zeroizing::new) else { return Ok(None) };
        let damaged = StateError::Damaged("the device's key does not fit its certificate");
        let seed: Option<&[u8; 32]> = seed.as_slice().try_into().ok();
        let certificate_bytes = step.own("certificate")?;
        let (Some(seed), Some(certificate_bytes)) = (seed, certificate_bytes) else {
            return Err(damaged);
        };
        let secret = DeviceSecret::from_seed(Zeroizing::new(*seed));
        match DeviceCertificate::verify(&certificate_bytes, &secret.public()) {
            Ok(certificate) => Ok(Some(Device { secret, certificate, certificate_bytes })),
            Err(_) => Err(damaged),
        }
    }

    /// The device's id.
    pub fn id(&self) -> DeviceId {
        self.certificate.device()
    }

    /// The certificate as others get it.
    pub fn certificate_bytes(&self) -> &[u8] {
        &self.certificate_bytes
    }

    /// Stores the user's key, on a device that may certify others. Its seed has 32 bytes.
    pub fn store_user_seed(step: &Step<'_>, seed: &[u8; 32]) -> Result<(), StateError> {
        step.put_own("user seed", seed)
    }

    /// The seed of the user's key, if this device has it.
    pub fn user_seed(step: &Step<'_>) -> Result<Option<Zeroizing<[u8; 32]>>, StateError> {
        let Some(seed) = step.own("user seed")?.map(Zeroizing::new) else { return Ok(None) };
        let seed = seed.as_slice().try_into();
        seed.map(|seed| Some(Zeroizing::new(seed)))
            .map_err(|_| StateError::Damaged("the user's key has a wrong length"))
    }

    /// What names the device in MLS: its certificate, and its key.
    pub(super) fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: openmls::prelude::Credential::new(
                CredentialType::Basic,
                self.certificate_bytes.clone(),
            ),
            signature_key: self.secret.public().0.to_vec().into(),
        }
    }

    /// The same keys under another device's certificate, as only a forger shows them.
    #[cfg(feature = "faults")]
    pub(super) fn under(&self, certificate: &[u8]) -> Device {
        Device {
            secret: DeviceSecret::from_seed(Zeroizing::new(*self.secret.seed())),
            certificate: self.certificate.clone(),
            certificate_bytes: certificate.to_vec(),
        }
    }

    /// Makes a key package.
    pub fn make_key_package(
        &self,
        step: &Step<'_>,
        is_last_resort: bool,
        now: Timestamp,
    ) -> Result<OwnKeyPackage, StateError> {
        let failed = |_| StateError::Mls("no key package could be made");
        let now = seconds(now);
        let not_after = now.saturating_add(KEY_PACKAGE_LIFETIME.as_secs());
        let validity =
            [now.saturating_sub(CLOCK_SECONDS), not_after].map(u64::to_be_bytes).concat();
        let extensions =
            Extensions::single(Extension::Unknown(VALIDITY, UnknownExtension(validity)))
                .map_err(|_| StateError::Mls("no extension could be made"))?;
        let builder = KeyPackage::builder()
            .key_package_lifetime(Lifetime::init(NO_END.0, NO_END.1))
            .leaf_node_capabilities(capabilities())
            .key_package_extensions(extensions);
        let builder = if is_last_resort { builder.mark_as_last_resort() } else { builder };
        let bundle = builder
            .build(SUITE, step.provider(), &self.secret, self.credential())
            .map_err(|_| StateError::Mls("no key package could be made"))?;
        let package = bundle.key_package();
        let reference = package.hash_ref(&Crypto).map_err(failed)?;
        let reference = reference
            .tls_serialize_detached()
            .map_err(|_| StateError::Mls("a reference could not be encoded"))?;
        step.sql()
            .prepare_cached(
                "INSERT INTO key_packages (reference, made, not_after, last_resort) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((reference, now as i64, not_after as i64, is_last_resort))?;
        let content = package
            .tls_serialize_detached()
            .map_err(|_| StateError::Mls("a key package could not be encoded"))?;
        Ok(OwnKeyPackage { content, is_last_resort })
    }

    /// When the newest last-resort key package was made.
    pub fn last_resort_made(step: &Step<'_>) -> Result<Option<Timestamp>, StateError> {
        let made: Option<i64> = step.sql().query_row(
            "SELECT max(made) FROM key_packages WHERE last_resort",
            [],
            |row| row.get(0),
        )?;
        Ok(made.map(|seconds| Timestamp::from_micros(seconds.saturating_mul(1_000_000))))
    }

    /// Deletes the secrets of key packages that nobody may use any more.
    pub fn forget_expired(step: &Step<'_>, now: Timestamp) -> Result<usize, StateError> {
        let latest = seconds(now).saturating_sub(CLOCK_SECONDS);
        let mut statement =
            step.sql().prepare_cached("SELECT reference FROM key_packages WHERE not_after < ?1")?;
        let expired: Vec<Vec<u8>> =
            statement.query_map([latest as i64], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for bytes in &expired {
            let reference = KeyPackageRef::tls_deserialize_exact(bytes)
                .map_err(|_| StateError::Damaged("a reference of a key package"))?;
            step.provider().storage().delete_key_package(&reference)?;
            step.sql()
                .prepare_cached("DELETE FROM key_packages WHERE reference = ?1")?
                .execute([bytes])?;
        }
        Ok(expired.len())
    }
}

/// The reason why another device's key package is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyPackageError {
    /// The bytes are not a key package, or it is not signed by the device it names.
    #[error("the key package is malformed or not signed by its device")]
    Invalid,
    /// It has no certificate by a user.
    #[error("the key package has no valid certificate")]
    Certificate,
    /// It is not valid at this time.
    #[error("the key package has expired, or is not valid yet")]
    Expired,
}

/// A device that can be added to a room, with what was checked about it.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// The device, by its certificate.
    pub certificate: DeviceCertificate,
    pub(super) package: KeyPackage,
}

impl Newcomer {
    /// The device as the rules for commits see it.
    pub fn leaf(&self) -> crate::policy::commit_rules::Leaf {
        facts::leaf_of(&self.certificate)
    }

    /// Checks another device's key package: its signatures, its certificate, and that it is valid now.
    pub fn read(content: &[u8], now: Timestamp) -> Result<Self, KeyPackageError> {
        let package = key_package(content).ok_or(KeyPackageError::Invalid)?;
        let package = package
            .validate(&Crypto, ProtocolVersion::Mls10)
            .map_err(|_| KeyPackageError::Invalid)?;
        let lifetime = package.life_time();
        if (lifetime.not_before(), lifetime.not_after()) != NO_END || package.ciphersuite() != SUITE
        {
            return Err(KeyPackageError::Invalid);
        }
        let certificate =
            facts::certificate(package.leaf_node()).ok_or(KeyPackageError::Certificate)?;
        certificate.check_time(now).map_err(|_| KeyPackageError::Certificate)?;
        let validity = package.extensions().unknown(VALIDITY).ok_or(KeyPackageError::Invalid)?;
        let (not_before, rest) = validity.0.split_first_chunk().ok_or(KeyPackageError::Invalid)?;
        let not_after = rest.try_into().map_err(|_| KeyPackageError::Invalid)?;
        let range = u64::from_be_bytes(*not_before)..=u64::from_be_bytes(not_after);
        let longest = KEY_PACKAGE_LIFETIME.as_secs() + CLOCK_SECONDS;
        match range.contains(&seconds(now)) && range.end() - range.start() <= longest {
            true => Ok(Newcomer { certificate, package }),
            false => Err(KeyPackageError::Expired),
        }
    }
}

/// What every leaf says that it understands.
pub(super) fn capabilities() -> Capabilities {
    Capabilities::builder()
        .versions(vec![ProtocolVersion::Mls10])
        .ciphersuites(vec![SUITE])
        .extensions(vec![
            ExtensionType::LastResort,
            ExtensionType::Unknown(room_terms::EXTENSION),
            ExtensionType::Unknown(VALIDITY),
        ])
        .proposals(Vec::new())
        .credentials(vec![CredentialType::Basic])
        .build()
}

/// The key that a user is pinned to.
pub fn pin(step: &Step<'_>, user: &str) -> Result<Option<Pin>, StateError> {
    let row: Option<([u8; 32], i64, String)> = step
        .sql()
        .prepare_cached("SELECT key, since, origin FROM pins WHERE user = ?1")?
        .query_row([user], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((key, since, origin)) = row else { return Ok(None) };
    let origin = match origin.as_str() {
        "first" => PinOrigin::First,
        "file" => PinOrigin::File,
        "verified" => PinOrigin::Verified,
        _ => return Err(StateError::Damaged("a pin")),
    };
    Ok(Some(Pin { key: UserKey(key), since: Timestamp::from_micros(since), origin }))
}

/// Pins a user to a key.
pub fn put_pin(step: &Step<'_>, user: &str, pin: &Pin) -> Result<(), StateError> {
    let origin = match pin.origin {
        PinOrigin::First => "first",
        PinOrigin::File => "file",
        PinOrigin::Verified => "verified",
    };
    step.sql()
        .prepare_cached(
            "INSERT OR REPLACE INTO pins (user, key, since, origin) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute((user, pin.key.0, pin.since.micros(), origin))?;
    Ok(())
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.micros().div_euclid(1_000_000)).unwrap_or(0)
}

/// The key that a user showed, and that was refused because of a pin.
pub fn seen_key(step: &Step<'_>, user: &str) -> Result<Option<UserKey>, StateError> {
    let Some(bytes) = step.own(&format!("seen key/{user}"))? else { return Ok(None) };
    let key = bytes.try_into().map_err(|_| StateError::Damaged("a key that was seen"))?;
    Ok(Some(UserKey(key)))
}

/// Notes the key that a user showed, and that was refused.
pub fn put_seen_key(step: &Step<'_>, user: &str, key: &UserKey) -> Result<(), StateError> {
    step.put_own(&format!("seen key/{user}"), &key.0)
}

/// The newest commit of a room that another device of this user had seen when it made this one.
pub fn known_base(step: &Step<'_>, room: &RoomName) -> Result<Option<Seq>, StateError> {
    let Some(bytes) = step.own(&format!("known base/{room}"))? else { return Ok(None) };
    let bytes = bytes.try_into().map_err(|_| StateError::Damaged("a place in a log"))?;
    Ok(Some(Seq(u64::from_be_bytes(bytes))))
}

/// Notes such a commit.
pub fn put_known_base(step: &Step<'_>, room: &RoomName, base: Seq) -> Result<(), StateError> {
    step.put_own(&format!("known base/{room}"), &base.0.to_be_bytes())
}

/// All pins.
pub fn pins(step: &Step<'_>) -> Result<Vec<(String, Pin)>, StateError> {
    let mut statement = step.sql().prepare_cached("SELECT user FROM pins ORDER BY user")?;
    let users: Vec<String> =
        statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for user in users {
        if let Some(pin) = pin(step, &user)? {
            found.push((user, pin));
        }
    }
    Ok(found)
}
