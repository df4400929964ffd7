//! Guessing has a price: after a few wrong access tokens from one neighbourhood, the next must wait,
//! twice as long each time.

use std::collections::HashMap;
use std::time::Duration;

use super::client_network::ClientNetwork;

/// Wrong access tokens that cost nothing: a person mistypes.
const FREE: u32 = 5;
/// The first wait, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// After so long without a wrong one, all is forgiven.
const FORGIVEN: Duration = Duration::from_secs(900);
/// Neighbourhoods remembered at most; then the one that may come back soonest is forgotten.
const REMEMBERED: usize = 10_000;

/// Who guessed wrong lately. Time is since any fixed start of a monotonic clock.
#[derive(Debug, Default)]
pub struct AuthThrottle {
    records: HashMap<ClientNetwork, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    wrong: u32,
    until: Duration,
    last: Duration,
}

impl AuthThrottle {
    /// How long somebody from there still has to wait.
    pub fn wait(&self, from: ClientNetwork, now: Duration) -> Option<Duration> {
        let until = self.records.get(&from)?.until;
        (until > now).then(|| until - now)
    }

    /// A wrong one came from there.
    pub fn wrong(&mut self, from: ClientNetwork, now: Duration) {
        if self.records.len() >= REMEMBERED && !self.records.contains_key(&from) {
            self.records.retain(|_, record| now.saturating_sub(record.last) < FORGIVEN);
            let soonest = self.records.iter().min_by_key(|(_, record)| (record.until, record.last));
            if let Some(soonest) =
                soonest.map(|(from, _)| *from).filter(|_| self.records.len() >= REMEMBERED)
            {
                self.records.remove(&soonest);
            }
        }
        let record = self.records.entry(from).or_insert(Record { wrong: 0, until: now, last: now });
        if now.saturating_sub(record.last) >= FORGIVEN {
            record.wrong = 0;
        }
        record.wrong = record.wrong.saturating_add(1);
        record.last = now;
        if let Some(over) = record.wrong.checked_sub(FREE + 1) {
            let wait = FIRST.saturating_mul(1 << over.min(20)).min(LONGEST);
            record.until = now + wait;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> ClientNetwork {
        ClientNetwork::V4([192, 0, 2, last])
    }

    #[test]
    fn the_wait_doubles_and_is_forgiven() {
        let mut throttle = AuthThrottle::default();
        let second = Duration::from_secs(1);
        let mut now = second;
        for _ in 0..FREE {
            throttle.wrong(from(1), now);
            assert_eq!(throttle.wait(from(1), now), None);
        }
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            throttle.wrong(from(1), now);
            assert_eq!(throttle.wait(from(1), now), Some(second * wait));
            assert_eq!(throttle.wait(from(2), now), None, "only there");
            now += second * wait;
            assert_eq!(throttle.wait(from(1), now), None);
        }
        now += FORGIVEN;
        throttle.wrong(from(1), now);
        assert_eq!(throttle.wait(from(1), now), None);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut throttle = AuthThrottle::default();
        for number in 0..20_000u32 {
            let [a, b, c, d] = number.to_be_bytes();
            throttle.wrong(ClientNetwork::V4([a, b, c, d]), Duration::from_secs(1));
        }
        assert_eq!(throttle.records.len(), REMEMBERED);
    }
}
