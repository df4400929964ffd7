//! Slows down guessing of access tokens: after a few wrong tokens from one client network, each
//! further wrong token doubles the time until the next attempt.

use std::collections::HashMap;
use std::time::Duration;

use super::client_network::ClientNetwork;

/// Wrong access tokens without a wait, because people mistype.
const FREE_FAILURES: u32 = 5;
/// The first wait.
const MIN_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// The counter resets after this time without a wrong token.
const RESET_AFTER: Duration = Duration::from_secs(900);
/// Client networks that are tracked; above this, the one whose wait ends first is dropped.
const MAX_NETWORKS: usize = 10_000;

/// Counts recent wrong access tokens per client network. Times are durations since any fixed start
/// of a monotonic clock.
#[derive(Debug, Default)]
pub struct AuthThrottle {
    records: HashMap<ClientNetwork, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    failures: u32,
    /// When the next attempt is allowed.
    wait_until: Duration,
    last_failure: Duration,
}

impl AuthThrottle {
    /// The time until `network` may try again; `None` if it may try now.
    pub fn wait_time(&self, network: ClientNetwork, now: Duration) -> Option<Duration> {
        let until = self.records.get(&network)?.wait_until;
        (until > now).then(|| until - now)
    }

    /// Counts a wrong access token from `network`.
    pub fn record_failure(&mut self, network: ClientNetwork, now: Duration) {
        if self.records.len() >= MAX_NETWORKS && !self.records.contains_key(&network) {
            self.records.retain(|_, record| now.saturating_sub(record.last_failure) < RESET_AFTER);
            let soonest = self
                .records
                .iter()
                .min_by_key(|(_, record)| (record.wait_until, record.last_failure));
            if let Some(soonest) =
                soonest.map(|(network, _)| *network).filter(|_| self.records.len() >= MAX_NETWORKS)
            {
                self.records.remove(&soonest);
            }
        }
        let record = self.records.entry(network).or_insert(Record {
            failures: 0,
            wait_until: now,
            last_failure: now,
        });
        if now.saturating_sub(record.last_failure) >= RESET_AFTER {
            record.failures = 0;
        }
        record.failures = record.failures.saturating_add(1);
        record.last_failure = now;
        if let Some(over) = record.failures.checked_sub(FREE_FAILURES + 1) {
            let wait = MIN_WAIT.saturating_mul(1 << over.min(20)).min(MAX_WAIT);
            record.wait_until = now + wait;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(last: u8) -> ClientNetwork {
        ClientNetwork::V4([192, 0, 2, last])
    }

    #[test]
    fn the_wait_doubles_and_resets_after_a_pause() {
        let mut throttle = AuthThrottle::default();
        let second = Duration::from_secs(1);
        let mut now = second;
        for _ in 0..FREE_FAILURES {
            throttle.record_failure(network(1), now);
            assert_eq!(throttle.wait_time(network(1), now), None);
        }
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            throttle.record_failure(network(1), now);
            assert_eq!(throttle.wait_time(network(1), now), Some(second * wait));
            assert_eq!(
                throttle.wait_time(network(2), now),
                None,
                "other networks are not affected"
            );
            now += second * wait;
            assert_eq!(throttle.wait_time(network(1), now), None);
        }
        now += RESET_AFTER;
        throttle.record_failure(network(1), now);
        assert_eq!(throttle.wait_time(network(1), now), None);
    }

    #[test]
    fn the_number_of_tracked_networks_is_bounded() {
        let mut throttle = AuthThrottle::default();
        for number in 0..20_000u32 {
            let [a, b, c, d] = number.to_be_bytes();
            throttle.record_failure(ClientNetwork::V4([a, b, c, d]), Duration::from_secs(1));
        }
        assert_eq!(throttle.records.len(), MAX_NETWORKS);
    }
}
