//! The keys with the most activity in a stream, in bounded memory: the Space-Saving algorithm of
//! Metwally, Agrawal and El Abbadi (2005).
//!
//! A fixed number of keys is tracked. A new key takes the place of the tracked key with the least
//! weight, and inherits that weight. So a key with more than the total weight divided by the number of
//! tracked keys is always tracked, however many other keys there are. The inherited weight decides only
//! which key goes next: the counts of a key begin with its arrival, so they are lower bounds, and no
//! key is blamed for the activity of another.

use std::collections::HashMap;
use std::hash::Hash;

/// Keys that are tracked, at most.
const MAX_KEYS: usize = 128;
/// Bytes that weigh as much as one event.
const BYTES_PER_EVENT: u64 = 256;
/// Deliveries that weigh as much as one event.
const DELIVERIES_PER_EVENT: u64 = 16;

/// What a user, a room or a client network did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were accepted.
    pub messages: u64,
    /// Frames of every kind that were received.
    pub frames: u64,
    /// Bytes that were received; for a room, bytes of text.
    pub bytes: u64,
    /// Message frames that were put into send queues.
    pub deliveries: u64,
    /// Messages and other frames that were refused.
    pub refused: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// Connections that were refused, or did not register because they were refused.
    pub connections_refused: u64,
}

impl Counts {
    /// Adds other counts.
    pub fn add(&mut self, other: &Counts) {
        self.messages += other.messages;
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.deliveries += other.deliveries;
        self.refused += other.refused;
        self.connections += other.connections;
        self.connections_refused += other.connections_refused;
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            messages: self.messages.saturating_sub(earlier.messages),
            frames: self.frames.saturating_sub(earlier.frames),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            deliveries: self.deliveries.saturating_sub(earlier.deliveries),
            refused: self.refused.saturating_sub(earlier.refused),
            connections: self.connections.saturating_sub(earlier.connections),
            connections_refused: self
                .connections_refused
                .saturating_sub(earlier.connections_refused),
        }
    }

    /// One number that says how much all of it is, so that a key with many messages, one with many
    /// bytes and one with many refusals are all found.
    pub fn weight(&self) -> u64 {
        let events = self.messages
            + self.frames
            + self.refused
            + self.connections
            + self.connections_refused;
        events + self.bytes / BYTES_PER_EVENT + self.deliveries / DELIVERIES_PER_EVENT
    }
}

/// The tracked keys of one stream.
#[derive(Debug)]
pub struct HeavyHitters<K> {
    tracked: HashMap<K, Tracked>,
    /// Whether a key had to go, so that counts may be too low.
    is_lossy: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tracked {
    counts: Counts,
    /// The weight of the key that was replaced.
    inherited: u64,
}

impl Tracked {
    fn weight(&self) -> u64 {
        self.inherited + self.counts.weight()
    }
}

impl<K> Default for HeavyHitters<K> {
    fn default() -> Self {
        HeavyHitters { tracked: HashMap::new(), is_lossy: false }
    }
}

impl<K: Clone + Eq + Hash> HeavyHitters<K> {
    /// Adds to the counts of a key.
    pub fn record(&mut self, key: &K, counts: &Counts) {
        if let Some(tracked) = self.tracked.get_mut(key) {
            return tracked.counts.add(counts);
        }
        let inherited = match self.tracked.len() {
            MAX_KEYS.. => self.remove_least(),
            _ => 0,
        };
        self.tracked.insert(key.clone(), Tracked { counts: *counts, inherited });
    }

    /// Removes the key with the least weight, and returns that weight.
    fn remove_least(&mut self) -> u64 {
        self.is_lossy = true;
        let least = self.tracked.iter().min_by_key(|(_, tracked)| tracked.weight());
        let Some((key, weight)) = least.map(|(key, tracked)| (key.clone(), tracked.weight()))
        else {
            return 0;
        };
        self.tracked.remove(&key);
        weight
    }

    /// The tracked keys and their counts, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Counts)> {
        self.tracked.iter().map(|(key, tracked)| (key, &tracked.counts))
    }

    /// Whether there were more keys than are tracked, so that counts may be too low.
    pub fn is_lossy(&self) -> bool {
        self.is_lossy
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(frames: u64) -> Counts {
        Counts { frames, ..Counts::default() }
    }

    #[test]
    fn a_heavy_key_is_found_among_any_number_of_others() {
        let mut hitters = HeavyHitters::default();
        for number in 0..100_000u64 {
            // Every other event is of a key that comes only once.
            hitters.record(&number, &frames(1));
            if number % 50 == 0 {
                hitters.record(&u64::MAX, &frames(1));
            }
        }
        assert_eq!(hitters.tracked.len(), MAX_KEYS);
        assert!(hitters.is_lossy());
        let heaviest = hitters.iter().max_by_key(|(_, counts)| counts.weight()).unwrap();
        // It was replaced only until its weight was above the mean.
        assert_eq!(heaviest.0, &u64::MAX);
        assert!((1_000..=2_000).contains(&heaviest.1.frames), "{heaviest:?}");
        let others = hitters.iter().filter(|(key, _)| **key != u64::MAX);
        assert_eq!(others.map(|(_, counts)| counts.frames).max(), Some(1), "nobody is blamed");
    }

    #[test]
    fn many_bytes_weigh_as_much_as_many_frames() {
        let mut hitters = HeavyHitters::default();
        hitters.record(&0, &Counts { frames: 1, bytes: 1 << 20, ..Counts::default() });
        for number in 1..1_000 {
            hitters.record(&number, &frames(30));
        }
        assert!(hitters.iter().any(|(key, counts)| *key == 0 && counts.bytes == 1 << 20));
    }

    proptest! {
        #[test]
        fn counts_are_lower_bounds_and_exact_while_all_keys_fit(
            events in proptest::collection::vec((0u64..400, 0u64..50), 0..2_000),
            modulus in 1u64..400,
        ) {
            let mut hitters = HeavyHitters::default();
            let mut truth: HashMap<u64, u64> = HashMap::new();
            for (key, count) in events {
                let key = key % modulus;
                hitters.record(&key, &frames(count));
                *truth.entry(key).or_default() += count;
            }
            prop_assert_eq!(hitters.is_lossy(), truth.len() > MAX_KEYS);
            let total: u64 = truth.values().sum();
            for (key, counts) in hitters.iter() {
                prop_assert!(counts.frames <= truth[key]);
                prop_assert!(hitters.is_lossy() || counts.frames == truth[key]);
            }
            for (key, count) in truth {
                let heavy = count > total / MAX_KEYS as u64;
                prop_assert!(!heavy || hitters.iter().any(|(tracked, _)| *tracked == key));
            }
        }
    }
}
