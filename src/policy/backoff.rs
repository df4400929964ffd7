//! Growing pauses with full jitter between attempts to come back: after a restart of the server,
//! thousands of clients must not come back in step. Each pause is anywhere between nothing and a
//! ceiling, and the ceiling is as long as one has been away. Whoever has been away as long as the
//! others has the same ceiling as they, so a crowd spreads evenly over about that time; a ceiling
//! that doubles with each attempt gives the lucky ones short pauses, and they come in a heap.

use std::time::Duration;

/// Counts how long one has been away and says how long to wait before the next attempt.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    away: Duration,
}

impl Backoff {
    /// Ceilings as long as one has been away, but never below `first` nor above `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Backoff { first, most, away: Duration::ZERO }
    }

    /// The pause before the next attempt; `random` is anywhere in 0 … 1.
    pub fn pause(&mut self, random: f64) -> Duration {
        let ceiling = self.away.max(self.first).min(self.most);
        // A number outside 0 … 1 (or none at all) must not become a panic in `mul_f64`.
        let pause = ceiling.mul_f64(if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 });
        self.away = self.away.saturating_add(pause);
        pause
    }

    /// An attempt held: the next pause is short again.
    pub fn reset(&mut self) {
        self.away = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(10);

    #[test]
    fn ceilings_grow_up_to_the_most_and_start_again() {
        let mut backoff = Backoff::new(FIRST, MOST);
        let ceilings: Vec<_> = (0..9).map(|_| backoff.pause(1.0).as_millis()).collect();
        assert_eq!(ceilings, [100, 100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
        backoff.reset();
        assert_eq!(backoff.pause(1.0), FIRST);
        assert_eq!(backoff.pause(0.0), Duration::ZERO);
    }

    /// 2,000 clients lose a server that is away for a while: how they come back, by the rule alone.
    #[test]
    fn a_crowd_does_not_come_back_in_step() {
        let mut state = 1u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for away in [1_000, 5_000, 20_000] {
            let mut returns: Vec<u128> = (0..2_000)
                .map(|_| {
                    let mut backoff =
                        Backoff::new(Duration::from_millis(250), Duration::from_secs(20));
                    let mut at = Duration::ZERO;
                    while at < Duration::from_millis(away) {
                        at += backoff.pause(random());
                    }
                    at.as_millis()
                })
                .collect();
            returns.sort_unstable();
            let (first, last) = (returns[0], returns[returns.len() * 99 / 100]);
            assert!(last - u128::from(away) < 60_000, "99 % within a minute: {last}");
            let within =
                |from: u128| returns.iter().filter(|at| (from..from + 250).contains(at)).count();
            let peak = returns.iter().map(|from| within(*from)).max().unwrap() as f64;
            let mean = 2_000.0 * 250.0 / (last - first) as f64;
            assert!(peak <= 3.0 * mean, "away {away}: peak {peak}, mean {mean}");
        }
    }

    proptest! {
        #[test]
        fn a_pause_is_within_its_ceiling(randoms in prop::collection::vec(any::<f64>(), 0..100)) {
            let mut backoff = Backoff::new(FIRST, MOST);
            for random in randoms {
                prop_assert!(backoff.pause(random) <= MOST);
            }
        }
    }
}
