//! Growing pauses with full jitter between attempts to come back: after a restart of the server,
//! thousands of clients must not come back in step. Each pause is anywhere between zero and a
//! ceiling that doubles (the scheme that spreads best for the same load is "full jitter").

use std::time::Duration;

/// Counts attempts and says how long to wait before the next.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Ceilings of `first`, 2 × `first`, 4 × `first` … but never above `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Backoff { first, most, failures: 0 }
    }

    /// The pause before the next attempt; `random` is anywhere in 0 … 1.
    pub fn pause(&mut self, random: f64) -> Duration {
        let ceiling = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        // A number outside 0 … 1 (or none at all) must not become a panic in `mul_f64`.
        ceiling.mul_f64(if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 })
    }

    /// An attempt held: the next pause is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(10);

    #[test]
    fn ceilings_double_up_to_the_most_and_start_again() {
        let mut backoff = Backoff::new(FIRST, MOST);
        let ceilings: Vec<_> = (0..9).map(|_| backoff.pause(1.0).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.pause(1.0), FIRST);
        assert_eq!(backoff.pause(0.0), Duration::ZERO);
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
