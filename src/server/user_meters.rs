//! How often each user does something that a user may do only a few times in a minute.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::policy::rate::{Meter, Quota};
use crate::protocol::UserName;

/// Commits per user and minute. Every member of an end-to-end room has to process every commit, even a void one.
pub const COMMITS: u64 = 6;
/// Users whose key packages a user may take in a minute: each is given out once.
pub const KEYS: u64 = 60;
const PER: Duration = Duration::from_secs(60);
/// Users that are metered one by one. Beyond, those that have sent none lately are forgotten; if there are none,
/// further users share one meter.
const MAX_USERS: usize = 10_000;

/// The meters of all users. Times are durations since any fixed start of a monotonic clock.
#[derive(Debug)]
pub struct UserMeters {
    quota: Quota,
    meters: Mutex<Meters>,
}

#[derive(Debug, Default)]
struct Meters {
    users: HashMap<UserName, Meter>,
    shared: Meter,
}

impl UserMeters {
    /// Meters that allow each user so much in a minute.
    pub fn new(per_minute: u64) -> Self {
        UserMeters { quota: Quota::new(per_minute, PER), meters: Mutex::default() }
    }

    /// Takes `units` if the user may have them; otherwise gives the time to wait.
    pub fn take(&self, user: &UserName, units: u64, now: Duration) -> Result<(), Duration> {
        let Meters { users, shared } = &mut *self.meters.lock();
        if users.len() >= MAX_USERS && !users.contains_key(user) {
            users.retain(|_, meter| meter.is_in_use(now));
            if users.len() >= MAX_USERS {
                return shared.take(self.quota, units, now);
            }
        }
        users.entry(user.clone()).or_default().take(self.quota, units, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_may_send_six_commits_a_minute_and_the_number_of_users_is_bounded() {
        let meters = UserMeters::new(COMMITS);
        let now = Duration::from_secs(100);
        let user = |number: usize| UserName::clean(&format!("user{number}"));
        for _ in 0..COMMITS {
            assert_eq!(meters.take(&user(0), 1, now), Ok(()));
        }
        assert_eq!(meters.take(&user(0), 1, now), Err(Duration::from_secs(10)));
        assert_eq!(meters.take(&user(0), 1, now + Duration::from_secs(10)), Ok(()));
        for number in 1..MAX_USERS + COMMITS as usize - 1 {
            assert_eq!(meters.take(&user(number), 1, now), Ok(()), "{number}");
        }
        assert!(meters.take(&user(MAX_USERS + 100), 1, now).is_ok());
        assert!(meters.take(&user(MAX_USERS + 101), 1, now).is_err(), "they share one meter");
        assert!(meters.take(&user(MAX_USERS + 101), 1, now + PER).is_ok());
        assert_eq!(meters.meters.lock().users.len(), 2, "those without commits are forgotten");
    }
}
