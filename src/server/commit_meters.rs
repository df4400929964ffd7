//! How many commits each user sends. Every member of an end-to-end room has to process every commit, even a void
//! one, so a user may send only a few.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::policy::rate::{Meter, Quota};
use crate::protocol::UserName;

/// Commits per user, in [`PER`].
const COMMITS: u64 = 6;
const PER: Duration = Duration::from_secs(60);
/// Users that are metered one by one. Beyond, those that have sent none lately are forgotten; if there are none,
/// further users share one meter.
const MAX_USERS: usize = 10_000;

/// The meters of all users. Times are durations since any fixed start of a monotonic clock.
#[derive(Debug, Default)]
pub struct CommitMeters {
    meters: Mutex<Meters>,
}

#[derive(Debug, Default)]
struct Meters {
    users: HashMap<UserName, Meter>,
    shared: Meter,
}

impl CommitMeters {
    /// Takes one commit if the user may send it; otherwise gives the time to wait.
    pub fn take(&self, user: &UserName, now: Duration) -> Result<(), Duration> {
        let Meters { users, shared } = &mut *self.meters.lock();
        if users.len() >= MAX_USERS && !users.contains_key(user) {
            users.retain(|_, meter| meter.is_in_use(now));
            if users.len() >= MAX_USERS {
                return shared.take(Quota::new(COMMITS, PER), 1, now);
            }
        }
        users.entry(user.clone()).or_default().take(Quota::new(COMMITS, PER), 1, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_may_send_six_commits_a_minute_and_the_number_of_users_is_bounded() {
        let meters = CommitMeters::default();
        let now = Duration::from_secs(100);
        let user = |number: usize| UserName::clean(&format!("user{number}"));
        for _ in 0..COMMITS {
            assert_eq!(meters.take(&user(0), now), Ok(()));
        }
        assert_eq!(meters.take(&user(0), now), Err(Duration::from_secs(10)));
        assert_eq!(meters.take(&user(0), now + Duration::from_secs(10)), Ok(()));
        for number in 1..MAX_USERS + COMMITS as usize - 1 {
            assert_eq!(meters.take(&user(number), now), Ok(()), "{number}");
        }
        assert!(meters.take(&user(MAX_USERS + 100), now).is_ok());
        assert!(meters.take(&user(MAX_USERS + 101), now).is_err(), "they share one meter");
        assert!(meters.take(&user(MAX_USERS + 101), now + PER).is_ok());
        assert_eq!(meters.meters.lock().users.len(), 2, "those without commits are forgotten");
    }
}
