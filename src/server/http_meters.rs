//! The rate meters of HTTP requests. A request is no session, so its meters belong to its access token,
//! or in open mode to its client network.

use std::collections::HashMap;
use std::time::Duration;

use crate::policy::client_network::ClientNetwork;
use crate::policy::rate::{Meter, Quota};

/// Senders that are metered one by one. Beyond, those that have used nothing lately are forgotten; if
/// there are none, further senders share one pair of meters.
const MAX_SENDERS: usize = 10_000;

/// The sender of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The id of the access token.
    Token(String),
    /// The network, in open mode.
    Network(ClientNetwork),
}

/// What one sender has used.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    requests: Meter,
    bytes: Meter,
}

/// The meters of all senders. Times are durations since any fixed start of a monotonic clock.
#[derive(Debug, Default)]
pub struct HttpMeters {
    senders: HashMap<Sender, Used>,
    shared: Used,
}

impl HttpMeters {
    /// Takes one request if the quota allows it; otherwise gives the time to wait.
    pub fn take_request(
        &mut self,
        sender: &Sender,
        quota: Quota,
        now: Duration,
    ) -> Result<(), Duration> {
        self.used(sender, now).requests.take(quota, 1, now)
    }

    /// Counts bytes of a body or an answer, and gives the time to wait if they exceed the quota.
    pub fn spend_bytes(
        &mut self,
        sender: &Sender,
        quota: Quota,
        bytes: u64,
        now: Duration,
    ) -> Option<Duration> {
        self.used(sender, now).bytes.spend(quota, bytes, now)
    }

    fn used(&mut self, sender: &Sender, now: Duration) -> &mut Used {
        if self.senders.len() >= MAX_SENDERS && !self.senders.contains_key(sender) {
            self.senders
                .retain(|_, used| used.requests.is_in_use(now) || used.bytes.is_in_use(now));
            if self.senders.len() >= MAX_SENDERS {
                return &mut self.shared;
            }
        }
        self.senders.entry(sender.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u32) -> Sender {
        Sender::Network(ClientNetwork::V4(number.to_be_bytes()))
    }

    #[test]
    fn each_sender_has_its_own_quota_and_the_number_of_senders_is_bounded() {
        let quota = Quota::new(2, Duration::from_secs(1));
        let mut meters = HttpMeters::default();
        let now = Duration::from_secs(100);
        for number in 0..MAX_SENDERS as u32 {
            assert!(meters.take_request(&network(number), quota, now).is_ok());
        }
        assert!(meters.take_request(&network(7), quota, now).is_ok());
        assert_eq!(meters.take_request(&network(7), quota, now), Err(Duration::from_millis(500)));
        // All are in use, so further senders share a quota.
        let further = MAX_SENDERS as u32;
        assert!(meters.take_request(&network(further), quota, now).is_ok());
        assert!(meters.take_request(&network(further + 1), quota, now).is_ok());
        assert!(meters.take_request(&network(further + 2), quota, now).is_err());
        // Later, those that used nothing are forgotten.
        let later = now + Duration::from_secs(2);
        assert!(meters.take_request(&network(further), quota, later).is_ok());
        assert_eq!(meters.senders.len(), 1);
    }
}
