//! When a device of an end-to-end room does what nobody asks it for: key packages, its own updates, and what it
//! reminds an admin of. Also how often it tries a commit that others keep overtaking.

use std::time::Duration;

use crate::protocol::Timestamp;
use crate::protocol::device::DeviceId;

/// Key packages that a device keeps at the server.
pub const KEY_PACKAGES: usize = 10;
/// With fewer left, it puts new ones.
const FEW_KEY_PACKAGES: usize = 3;
/// How long a key package is valid.
pub const KEY_PACKAGE_LIFETIME: Duration = Duration::from_hours(28 * 24);
/// The last-resort key package is renewed after this.
const LAST_RESORT_AGE: Duration = Duration::from_hours(7 * 24);

/// A device renews its keys in a room after this, and up to [`UPDATE_JITTER`] later.
const UPDATE_AGE: Duration = Duration::from_hours(7 * 24);
/// Spreads the updates of devices that came in together.
const UPDATE_JITTER: Duration = Duration::from_hours(24);
/// A device renews its keys after this many own messages in one epoch.
const UPDATE_MESSAGES: u64 = 10_000;

/// A device that has not renewed its keys for this long is shown to admins.
const SILENT_AGE: Duration = Duration::from_hours(90 * 24);

/// How often a commit is tried while others come first.
pub const COMMIT_TRIES: u32 = 8;
/// The pause before another try is random between zero and this, times the number of tries.
const COMMIT_PAUSE: Duration = Duration::from_millis(250);

/// How many key packages to put, if the server has `left`.
pub fn key_packages_to_put(left: usize) -> usize {
    if left < FEW_KEY_PACKAGES { KEY_PACKAGES - left } else { 0 }
}

/// Whether the last-resort key package is to be renewed. A clock that went back renews it, too.
pub fn is_last_resort_due(made: Option<Timestamp>, now: Timestamp) -> bool {
    made.is_none_or(|made| made > now || now.since(made) >= LAST_RESORT_AGE)
}

/// Whether a device is to renew its keys in a room. `renewed` is when it last did so in this room, by its own clock;
/// none if others added it and it has not yet. `own_messages` counts its messages since the last commit.
pub fn is_update_due(
    renewed: Option<Timestamp>,
    own_messages: u64,
    device: &DeviceId,
    now: Timestamp,
) -> bool {
    let Some(renewed) = renewed else { return true };
    own_messages >= UPDATE_MESSAGES || now.since(renewed) >= UPDATE_AGE + jitter(device, renewed)
}

/// Whether a device that last renewed its keys at `renewed` is shown to admins.
pub fn is_silent(renewed: Timestamp, now: Timestamp) -> bool {
    now.since(renewed) >= SILENT_AGE
}

/// The pause before try `tries + 1` of a commit; `random` is any number.
pub fn commit_pause(tries: u32, random: u64) -> Duration {
    let longest = COMMIT_PAUSE * tries.min(COMMIT_TRIES);
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random % micros.max(1))
}

/// The same for one device and one renewal, so that a process that asks again gets the same answer.
fn jitter(device: &DeviceId, renewed: Timestamp) -> Duration {
    let seed = device.0.iter().fold(renewed.micros() as u64, |seed, byte| {
        (seed ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    });
    Duration::from_secs(seed % UPDATE_JITTER.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3_600_000_000;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_micros(hours * HOUR)
    }

    #[test]
    fn a_device_keeps_key_packages_at_the_server() {
        assert_eq!([0, 1, 2, 3, 10, 99].map(key_packages_to_put), [10, 9, 8, 0, 0, 0]);
        assert!(is_last_resort_due(None, at(0)));
        assert!(!is_last_resort_due(Some(at(0)), at(167)));
        assert!(is_last_resort_due(Some(at(0)), at(168)));
        assert!(is_last_resort_due(Some(at(2)), at(1)));
    }

    #[test]
    fn a_device_that_others_added_renews_its_keys_at_once() {
        let device = DeviceId([1; 10]);
        assert!(is_update_due(None, 0, &device, at(0)));
        assert!(!is_update_due(Some(at(0)), 9_999, &device, at(1)));
        assert!(is_update_due(Some(at(0)), 10_000, &device, at(1)));
        assert!(!is_silent(at(0), at(90 * 24 - 1)));
        assert!(is_silent(at(0), at(90 * 24)));
    }

    proptest! {
        #[test]
        fn updates_are_spread_over_the_eighth_day(device: [u8; 10], renewed in 0_i64..1_000_000) {
            let device = DeviceId(device);
            let due = |hours| is_update_due(Some(at(renewed)), 0, &device, at(renewed + hours));
            prop_assert!(!due(7 * 24 - 1));
            prop_assert!(due(8 * 24));
        }

        #[test]
        fn pauses_are_bounded(tries: u32, random: u64) {
            prop_assert!(commit_pause(tries, random) < COMMIT_PAUSE * COMMIT_TRIES);
        }
    }

    #[test]
    fn devices_do_not_update_together() {
        let early = (0..=255_u8)
            .filter(|byte| is_update_due(Some(at(0)), 0, &DeviceId([*byte; 10]), at(7 * 24 + 12)))
            .count();
        assert!((80..176).contains(&early), "{early} of 256 in the first half of the day");
    }
}
