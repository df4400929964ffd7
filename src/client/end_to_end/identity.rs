//! The device that this client is: its keys, made at first need, and its certificate.

use super::home::EndToEndOptions;
use super::problem::Problem;
use crate::crypto::device_certificate::MAX_SECONDS;
use crate::crypto::secret_key::{DeviceSecret, UserSecret};
use crate::mls::device::{Device, OwnKeyPackage};
use crate::mls::{State, StateError, Step};
use crate::policy::upkeep::{is_last_resort_due, key_packages_to_put};
use crate::protocol::Timestamp;
use crate::protocol::device::DeviceId;

/// Certificates are valid from a day before they are made, for clocks that differ.
const CLOCK_SECONDS: u64 = 86_400;

/// A device, or the key that one will have as soon as the server has said what its user is called.
pub enum Identity {
    /// The device.
    Known(Device),
    /// The key.
    Unnamed(DeviceSecret),
}

impl Identity {
    /// The stored device, else a new key.
    pub fn load(state: &mut State) -> Result<Self, Problem> {
        let stored = state.step(Device::load)?;
        Ok(stored.map_or_else(|| Identity::Unnamed(DeviceSecret::fresh()), Identity::Known))
    }

    /// The device's id.
    pub fn id(&self) -> DeviceId {
        match self {
            Identity::Known(device) => device.id(),
            Identity::Unnamed(secret) => secret.public().id(),
        }
    }

    /// The server calls the user `name`. Makes the device, if there is none yet. Returns whether it was made.
    pub fn name(
        &mut self,
        state: &mut State,
        options: &EndToEndOptions,
        name: &str,
        now: Timestamp,
    ) -> Result<bool, Problem> {
        if let Some(given) = options.name.as_ref().filter(|given| *given != name) {
            return Err(Problem::identity(format!(
                "the server calls this user {name}, and --user is {given}; in end-to-end rooms both must be the same"
            )));
        }
        match self {
            Identity::Known(device) if device.certificate.user == name => {
                match device.certificate.check_time(now) {
                    Ok(()) => Ok(false),
                    Err(error) => Err(Problem::identity(format!("{error}: {}", device.id()))),
                }
            }
            Identity::Known(device) => Err(Problem::identity(format!(
                "the server calls this user {name}, and the keys in {} are those of {}; name another folder by \
                 --e2e-home, or another user by --user",
                options.folder.display(),
                device.certificate.user
            ))),
            Identity::Unnamed(secret) => {
                let device = state.step(|step| make(step, secret, name, now))?;
                *self = Identity::Known(device);
                Ok(true)
            }
        }
    }

    /// The device, which has a certificate once the server has named its user.
    pub fn device(&self) -> Result<&Device, Problem> {
        match self {
            Identity::Known(device) => Ok(device),
            Identity::Unnamed(_) => {
                Err(Problem::identity("this device has no certificate yet; connect once"))
            }
        }
    }
}

/// Makes a user's key and certifies the device with it.
pub fn make(
    step: &Step<'_>,
    secret: &DeviceSecret,
    name: &str,
    now: Timestamp,
) -> Result<Device, StateError> {
    if Device::user_seed(step)?.is_none() {
        Device::store_user_seed(step, UserSecret::fresh().seed())?;
    }
    let certificate = certify(step, secret, name, now)?;
    Device::store(step, secret, &certificate)
}

/// Certifies a device with the user's key that is stored here.
pub fn certify(
    step: &Step<'_>,
    secret: &DeviceSecret,
    name: &str,
    now: Timestamp,
) -> Result<Vec<u8>, StateError> {
    let seed = Device::user_seed(step)?.ok_or(StateError::Damaged("the user's key is missing"))?;
    let user = UserSecret::from_seed(seed);
    let seconds = u64::try_from(now.micros().div_euclid(1_000_000)).unwrap_or(0);
    let not_before = seconds.saturating_sub(CLOCK_SECONDS);
    let period = (not_before, not_before + MAX_SECONDS - CLOCK_SECONDS);
    user.certify(name, secret.public(), period)
        .ok_or(StateError::Damaged("no certificate can be made for this user name"))
}

/// The key packages that the server is to get, if it has `left`.
pub fn packages(
    step: &Step<'_>,
    device: &Device,
    left: u64,
    now: Timestamp,
) -> Result<Vec<OwnKeyPackage>, StateError> {
    Device::forget_expired(step, now)?;
    let count = key_packages_to_put(usize::try_from(left).unwrap_or(usize::MAX));
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(device.make_key_package(step, false, now)?);
    }
    if is_last_resort_due(Device::last_resort_made(step)?, now) {
        made.push(device.make_key_package(step, true, now)?);
    }
    Ok(made)
}
