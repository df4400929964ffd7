//! Pauses between reconnect attempts, growing and with full jitter, so that thousands of clients do
//! not reconnect at the same moment after a restart of the server.
//!
//! Each pause is random between zero and a ceiling, and the ceiling is the time since the
//! connection was lost. So all clients of a lost server have the same ceiling and reconnect evenly
//! over about that time. With a ceiling that doubles per attempt, clients with short random pauses
//! would bunch up.

use std::time::Duration;

/// Tracks how long a client has been disconnected and gives the pause before the next attempt.
#[derive(Clone, Debug)]
pub struct Backoff {
    min_ceiling: Duration,
    max_ceiling: Duration,
    disconnected: Duration,
}

impl Backoff {
    /// With ceilings from `min_ceiling` to `max_ceiling`.
    pub fn new(min_ceiling: Duration, max_ceiling: Duration) -> Self {
        Backoff { min_ceiling, max_ceiling, disconnected: Duration::ZERO }
    }

    /// The pause before the next attempt; `random` is uniform in 0 … 1.
    pub fn pause(&mut self, random: f64) -> Duration {
        let ceiling = self.disconnected.max(self.min_ceiling).min(self.max_ceiling);
        let pause = share(ceiling, random);
        self.disconnected = self.disconnected.saturating_add(pause);
        pause
    }

    /// The pause before the next attempt where the server asks for one of at least `requested`: between
    /// that and twice that, so that its clients do not come back together.
    pub fn pause_of_at_least(&mut self, requested: Duration, random: f64) -> Duration {
        let pause = requested + share(requested, random);
        self.disconnected = self.disconnected.saturating_add(pause);
        pause
    }

    /// The client was connected for a while: the next pause is short.
    pub fn reset(&mut self) {
        self.disconnected = Duration::ZERO;
    }
}

/// A random part of a duration.
fn share(of: Duration, random: f64) -> Duration {
    // `mul_f64` panics on a negative or non-finite number.
    of.mul_f64(if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn ceilings_grow_to_the_maximum_and_reset() {
        let mut backoff = Backoff::new(MIN, MAX);
        let ceilings: Vec<_> = (0..9).map(|_| backoff.pause(1.0).as_millis()).collect();
        assert_eq!(ceilings, [100, 100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
        backoff.reset();
        assert_eq!(backoff.pause(1.0), MIN);
        assert_eq!(backoff.pause(0.0), Duration::ZERO);
    }

    /// Simulates 2,000 clients that lose the same server for a while.
    #[test]
    fn many_clients_reconnect_spread_over_time() {
        let mut state = 1u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for outage_ms in [1_000, 5_000, 20_000] {
            let mut returns: Vec<u128> = (0..2_000)
                .map(|_| {
                    let mut backoff =
                        Backoff::new(Duration::from_millis(250), Duration::from_secs(20));
                    let mut at = Duration::ZERO;
                    while at < Duration::from_millis(outage_ms) {
                        at += backoff.pause(random());
                    }
                    at.as_millis()
                })
                .collect();
            returns.sort_unstable();
            let (first, last) = (returns[0], returns[returns.len() * 99 / 100]);
            assert!(last - u128::from(outage_ms) < 60_000, "99 % within a minute: {last}");
            let within =
                |from: u128| returns.iter().filter(|at| (from..from + 250).contains(at)).count();
            let peak = returns.iter().map(|from| within(*from)).max().unwrap() as f64;
            let mean = 2_000.0 * 250.0 / (last - first) as f64;
            assert!(peak <= 3.0 * mean, "outage {outage_ms} ms: peak {peak}, mean {mean}");
        }
    }

    proptest! {
        #[test]
        fn a_requested_pause_is_kept_and_spread(random in 0.0..=1.0, seconds in 0u64..60) {
            let (mut backoff, requested) = (Backoff::new(MIN, MAX), Duration::from_secs(seconds));
            let pause = backoff.pause_of_at_least(requested, random);
            prop_assert!(pause >= requested && pause <= 2 * requested, "{pause:?}");
            prop_assert_eq!(backoff.pause(1.0), pause.clamp(MIN, MAX));
        }

        #[test]
        fn a_pause_is_never_above_the_maximum(randoms in prop::collection::vec(any::<f64>(), 0..100)) {
            let mut backoff = Backoff::new(MIN, MAX);
            for random in randoms {
                prop_assert!(backoff.pause(random) <= MAX);
            }
        }
    }
}
