//! Slows down guessing of access tokens: after a few wrong tokens from one client network, each
//! further wrong token doubles the time until the next wrong one is looked at.
//!
//! The same wrong token counts once, so a client that keeps sending a stale token costs the clients
//! that share its address nothing. A right access token is never throttled: it has 256 random bits,
//! which nobody guesses.

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
/// The last wrong access tokens that are remembered per client network.
const REMEMBERED_TOKENS: usize = 8;
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
    /// The start of the SHA-256 of the last wrong access tokens; zero is none.
    tokens: [u64; REMEMBERED_TOKENS],
}

impl AuthThrottle {
    /// Whether this wrong access token was already counted. `digest` is its SHA-256.
    pub fn has_counted(&self, network: ClientNetwork, digest: &[u8; 32], now: Duration) -> bool {
        self.records.get(&network).is_some_and(|record| {
            now.saturating_sub(record.last_failure) < RESET_AFTER
                && record.tokens.contains(&short(digest))
        })
    }

    /// The time until `network` may try another access token; `None` if it may try now.
    pub fn wait_time(&self, network: ClientNetwork, now: Duration) -> Option<Duration> {
        let until = self.records.get(&network)?.wait_until;
        (until > now).then(|| until - now)
    }

    /// Counts a wrong access token from `network`, if it is not one of the last. `digest` is its
    /// SHA-256.
    pub fn record_failure(&mut self, network: ClientNetwork, digest: &[u8; 32], now: Duration) {
        if self.has_counted(network, digest, now) {
            return;
        }
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
            tokens: [0; REMEMBERED_TOKENS],
        });
        if now.saturating_sub(record.last_failure) >= RESET_AFTER {
            record.failures = 0;
            record.tokens = [0; REMEMBERED_TOKENS];
        }
        record.tokens[record.failures as usize % REMEMBERED_TOKENS] = short(digest);
        record.failures = record.failures.saturating_add(1);
        record.last_failure = now;
        if let Some(over) = record.failures.checked_sub(FREE_FAILURES + 1) {
            let wait = MIN_WAIT.saturating_mul(1 << over.min(20)).min(MAX_WAIT);
            record.wait_until = now + wait;
        }
    }
}

/// The start of a digest. Never zero, which stands for none.
fn short(digest: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: u32) -> [u8; 32] {
        let mut digest = [7; 32];
        digest[..4].copy_from_slice(&number.to_be_bytes());
        digest
    }

    #[test]
    fn the_same_wrong_token_counts_once() {
        let mut throttle = AuthThrottle::default();
        let second = Duration::from_secs(1);
        for turn in 0..1_000 {
            throttle.record_failure(network(1), &token(turn % 4), second * turn);
            assert_eq!(throttle.wait_time(network(1), second * turn), None);
        }
        for number in 4..6 {
            throttle.record_failure(network(1), &token(number), second);
        }
        assert!(throttle.wait_time(network(1), second).is_some(), "six distinct ones");
        assert!(throttle.has_counted(network(1), &token(0), second));
        assert!(!throttle.has_counted(network(1), &token(9), second));
    }

    fn network(last: u8) -> ClientNetwork {
        ClientNetwork::V4([192, 0, 2, last])
    }

    #[test]
    fn the_wait_doubles_and_resets_after_a_pause() {
        let mut throttle = AuthThrottle::default();
        let second = Duration::from_secs(1);
        let mut now = second;
        let mut numbers = 0..;
        let mut fresh = || token(numbers.next().unwrap());
        for _ in 0..FREE_FAILURES {
            throttle.record_failure(network(1), &fresh(), now);
            assert_eq!(throttle.wait_time(network(1), now), None);
        }
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            throttle.record_failure(network(1), &fresh(), now);
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
        throttle.record_failure(network(1), &fresh(), now);
        assert_eq!(throttle.wait_time(network(1), now), None);
    }

    #[test]
    fn the_number_of_tracked_networks_is_bounded() {
        let mut throttle = AuthThrottle::default();
        for number in 0..20_000u32 {
            let [a, b, c, d] = number.to_be_bytes();
            throttle.record_failure(
                ClientNetwork::V4([a, b, c, d]),
                &token(0),
                Duration::from_secs(1),
            );
        }
        assert_eq!(throttle.records.len(), MAX_NETWORKS);
    }
}
