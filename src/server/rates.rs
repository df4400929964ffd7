//! How much the server did in the last minutes: totals at regular times, and the differences between
//! them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::counters::Counters;

/// The longest span.
pub const MAX_SPAN: Duration = Duration::from_secs(15 * 60);
/// The shortest time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// The totals of the last minutes.
#[derive(Debug)]
pub struct Rates {
    samples: Mutex<Samples>,
    started: Instant,
}

/// Totals since the start, at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sample {
    /// Since the start, by the monotonic clock.
    at: Duration,
    messages: u64,
    deliveries: u64,
    refused: Vec<(&'static str, u64)>,
}

/// What was done in a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Increase {
    /// How long the span is: longer than asked for by a few seconds, and shorter soon after the start.
    pub span: Duration,
    /// Messages that were stored.
    pub messages: u64,
    /// Message frames that were put into send queues.
    pub deliveries: u64,
    /// Refusals by error code, those that increased.
    pub refused: Vec<(&'static str, u64)>,
}

/// The samples of at least [`MAX_SPAN`], the oldest first. The first one is that of the start.
#[derive(Debug)]
struct Samples(VecDeque<Sample>);

impl Default for Rates {
    fn default() -> Self {
        let samples = Samples(VecDeque::from([Sample::default()]));
        Rates { samples: Mutex::new(samples), started: Instant::now() }
    }
}

impl Rates {
    /// Takes a sample if one is due. To be called every second or so.
    pub fn sample(&self, counters: &Counters) {
        let now = self.started.elapsed();
        let mut samples = self.samples.lock();
        if samples.is_due(now) {
            samples.push(Sample::of(counters, now));
        }
    }

    /// What was done in the last `span`.
    pub fn increase(&self, counters: &Counters, span: Duration) -> Increase {
        let now = Sample::of(counters, self.started.elapsed());
        self.samples.lock().increase(&now, span)
    }
}

impl Sample {
    fn of(counters: &Counters, at: Duration) -> Self {
        Sample {
            at,
            messages: counters.messages.get(),
            deliveries: counters.deliveries.get(),
            refused: counters.refusals.counts().filter(|(_, count)| *count > 0).collect(),
        }
    }

    fn refused(&self, code: &str) -> u64 {
        self.refused.iter().find(|(known, _)| *known == code).map_or(0, |(_, count)| *count)
    }
}

impl Samples {
    fn is_due(&self, now: Duration) -> bool {
        self.0.back().is_none_or(|newest| now >= newest.at + SAMPLE_INTERVAL)
    }

    fn push(&mut self, sample: Sample) {
        // The newest that is old enough for the longest span is kept.
        while self.0.get(1).is_some_and(|second| second.at + MAX_SPAN <= sample.at) {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    fn increase(&self, now: &Sample, span: Duration) -> Increase {
        let is_old_enough = |sample: &&Sample| sample.at + span <= now.at;
        let then = self.0.iter().rev().find(is_old_enough).or(self.0.front());
        let Some(then) = then else { return Increase::default() };
        let increased = now.refused.iter().filter_map(|(code, count)| {
            let increase = count.saturating_sub(then.refused(code));
            (increase > 0).then_some((*code, increase))
        });
        Increase {
            span: now.at.saturating_sub(then.at),
            messages: now.messages.saturating_sub(then.messages),
            deliveries: now.deliveries.saturating_sub(then.deliveries),
            refused: increased.collect(),
        }
    }
}

impl Increase {
    /// Refusals of every kind.
    pub fn all_refused(&self) -> u64 {
        self.refused.iter().map(|(_, count)| count).sum()
    }

    /// A number in this span as one per second.
    pub fn per_second(&self, number: u64) -> f64 {
        // In the first moments, a rate would be an exaggeration.
        let seconds = self.span.as_secs_f64().max(1.0);
        (number as f64 / seconds * 1000.0).round() / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn sample(seconds: u64, messages: u64) -> Sample {
        let refused = if messages > 0 { vec![("bad_token", messages / 2)] } else { Vec::new() };
        Sample { at: Duration::from_secs(seconds), messages, deliveries: messages * 3, refused }
    }

    fn samples() -> Samples {
        Samples(VecDeque::from([Sample::default()]))
    }

    #[test]
    fn soon_after_the_start_the_span_is_the_time_since_then() {
        let increase = samples().increase(&sample(8, 80), MINUTE);
        let refused = vec![("bad_token", 40)];
        let span = Duration::from_secs(8);
        assert_eq!(increase, Increase { span, messages: 80, deliveries: 240, refused });
        assert_eq!(increase.per_second(increase.messages), 10.0);
        let at_once = samples().increase(&sample(0, 5), MINUTE);
        assert_eq!(at_once.per_second(at_once.messages), 5.0, "never infinite");
    }

    #[test]
    fn a_span_begins_at_the_newest_sample_that_is_old_enough() {
        let mut samples = samples();
        for step in 1..1_000u64 {
            let now = Duration::from_secs(step * 5);
            assert!(samples.is_due(now) && !samples.is_due(now - Duration::from_secs(1)));
            // Ten per second in the last minute, one before.
            let messages = step * 5 + 9 * (step * 5).saturating_sub(4_935);
            samples.push(sample(step * 5, messages));
            assert!(samples.0.len() <= 182);
        }
        let now = sample(4_997, 4_997 + 9 * 62);
        let minute = samples.increase(&now, MINUTE);
        assert_eq!((minute.span.as_secs(), minute.messages), (62, 620));
        let long = samples.increase(&now, MAX_SPAN);
        assert_eq!((long.span.as_secs(), long.messages), (902, 902 + 9 * 62));
    }

    #[test]
    fn after_a_pause_the_span_says_how_long_it_is() {
        let mut samples = samples();
        samples.push(sample(5, 100));
        // The process was suspended for an hour.
        samples.push(sample(3_600, 100));
        let increase = samples.increase(&sample(3_603, 130), MINUTE);
        assert_eq!((increase.span.as_secs(), increase.messages), (3_598, 30));
    }
}
