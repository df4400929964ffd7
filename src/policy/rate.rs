//! A rate meter in eight bytes: the generic cell rate algorithm (ITU-T I.371, GCRA).
//!
//! The quota is not stored in the meter, so a reload changes it without touching the meters. Times
//! are durations since any fixed start of a monotonic clock.

use std::time::Duration;

/// A number of units per period; all units of a period may come at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    nanos_per_unit: f64,
    burst_nanos: u64,
}

impl Quota {
    /// `units` per `per`; zero units count as one.
    pub fn new(units: u64, per: Duration) -> Self {
        let burst_nanos = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        Quota { nanos_per_unit: burst_nanos as f64 / units.max(1) as f64, burst_nanos }
    }

    fn cost(self, units: u64) -> u64 {
        (self.nanos_per_unit * units as f64) as u64
    }
}

/// How much of a quota one sender has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    /// When the meter will be empty again, in nanoseconds of the clock.
    free_at: u64,
}

impl Meter {
    /// Takes `units` if the quota allows them; otherwise takes nothing and gives the time to wait.
    pub fn take(&mut self, quota: Quota, units: u64, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let after = self.free_at.max(now).saturating_add(quota.cost(units));
        // A cost above the whole burst passes when the meter is empty, or it would never pass.
        let limit = now.saturating_add(quota.burst_nanos.max(quota.cost(units)));
        if after > limit {
            return Err(Duration::from_nanos(after - limit));
        }
        self.free_at = after;
        Ok(())
    }

    /// Takes `units` even if that exceeds the quota, and gives the time to pause until the sender
    /// is within the quota again.
    pub fn spend(&mut self, quota: Quota, units: u64, now: Duration) -> Option<Duration> {
        let now = nanos(now);
        self.free_at = self.free_at.max(now).saturating_add(quota.cost(units));
        let over = self.free_at.saturating_sub(now.saturating_add(quota.burst_nanos));
        (over > 0).then(|| Duration::from_nanos(over))
    }

    /// Whether a part of the quota is used at `now`.
    pub fn is_in_use(&self, now: Duration) -> bool {
        self.free_at > nanos(now)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_applies() {
        let quota = Quota::new(10, Duration::from_secs(2));
        let mut meter = Meter::default();
        let start = Duration::from_secs(1000);
        for _ in 0..10 {
            assert_eq!(meter.take(quota, 1, start), Ok(()));
        }
        assert_eq!(meter.take(quota, 1, start), Err(Duration::from_millis(200)));
        assert_eq!(meter.take(quota, 1, start + Duration::from_millis(200)), Ok(()));
        assert_eq!(meter.take(quota, 10, start + Duration::from_secs(3)), Ok(()));
    }

    #[test]
    fn spending_above_the_quota_gives_the_pause() {
        let quota = Quota::new(100, Duration::from_secs(1));
        let mut meter = Meter::default();
        let now = Duration::from_secs(5);
        assert_eq!(meter.spend(quota, 100, now), None);
        assert_eq!(meter.spend(quota, 50, now), Some(Duration::from_millis(500)));
    }

    proptest! {
        #[test]
        fn never_passes_more_than_burst_plus_rate(
            steps in proptest::collection::vec((0u64..500, 1u64..5), 1..200)
        ) {
            let quota = Quota::new(10, Duration::from_secs(2));
            let mut meter = Meter::default();
            let (mut now, mut passed) = (Duration::ZERO, 0);
            for (pause_ms, units) in steps {
                now += Duration::from_millis(pause_ms);
                if meter.take(quota, units, now).is_ok() {
                    passed += units;
                }
                let max = 10.0 + now.as_secs_f64() * 5.0 + 0.001;
                prop_assert!(passed as f64 <= max, "{passed} > {max}");
            }
        }
    }
}
