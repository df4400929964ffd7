//! Finds what is left of deleted values in the bytes of a file.
//!
//! SQLite moves rows between pages and leaves their old bytes in the unused part of a page until
//! something else is written there. Whole values or parts of them can be left. So a page is searched for
//! every [`WINDOW`] consecutive bytes of a deleted value. They are random, so nothing else has such bytes;
//! the nonce at the end of a sealed value is left out, because the nonces of two values may differ in one
//! byte. What is too short to be found is of no use: nothing can be decrypted without the whole cipher tag.

use std::collections::HashSet;
use std::ops::Range;

use crate::crypto::sealer::{NONCE_BYTES, SEAL_OVERHEAD_BYTES};

/// The shortest part of a value that is found, in bytes.
const WINDOW: usize = 12;
/// As long as the values have this many bytes in all, each is searched for as a whole; of later ones, only
/// the end: the cipher tag, and as many bytes before it that a part of it is found also where it is split
/// between two pages.
const MAX_WHOLE_BYTES: usize = 1 << 20;
const END_BYTES: usize = SEAL_OVERHEAD_BYTES - NONCE_BYTES + 16;
/// The bits of the filter that most windows of other bytes do not pass.
const FILTER_BITS: u32 = 22;

/// The values to search for.
#[derive(Default)]
pub(super) struct Traces {
    windows: HashSet<[u8; WINDOW]>,
    filter: Vec<u64>,
    whole_bytes: usize,
}

impl Traces {
    /// Adds a deleted sealed value.
    pub fn add_sealed(&mut self, sealed: &[u8]) {
        let random = &sealed[..sealed.len().saturating_sub(NONCE_BYTES)];
        self.whole_bytes = self.whole_bytes.saturating_add(random.len());
        let from = match self.whole_bytes <= MAX_WHOLE_BYTES {
            true => 0,
            false => random.len().saturating_sub(END_BYTES),
        };
        self.add_random(&random[from..]);
    }

    /// Adds a deleted value that consists of random bytes only, such as a tag.
    pub fn add_random(&mut self, value: &[u8]) {
        self.filter.resize(1 << (FILTER_BITS - 6), 0);
        for window in value.windows(WINDOW) {
            let window: [u8; WINDOW] = window.try_into().expect("its length");
            let (word, bit) = filter_place(&window);
            self.filter[word] |= bit;
            self.windows.insert(window);
        }
    }

    /// Whether there is nothing to search for.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Adds all values of another list.
    pub fn extend(&mut self, other: Traces) {
        self.filter.resize(self.filter.len().max(other.filter.len()), 0);
        self.filter.iter_mut().zip(other.filter).for_each(|(word, other)| *word |= other);
        self.windows.extend(other.windows);
        self.whole_bytes = self.whole_bytes.saturating_add(other.whole_bytes);
    }

    /// Where parts of the values are, in ascending order.
    pub fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        if self.is_empty() {
            return found;
        }
        for (start, window) in bytes.windows(WINDOW).enumerate() {
            let (word, bit) = filter_place(window);
            if self.filter[word] & bit == 0 || !self.windows.contains(window) {
                continue;
            }
            match found.last_mut().filter(|last| last.end >= start) {
                Some(last) => last.end = start + WINDOW,
                None => found.push(start..start + WINDOW),
            }
        }
        found
    }
}

/// The place of a window in the filter, by its first four bytes.
fn filter_place(window: &[u8]) -> (usize, u64) {
    let first = u32::from_le_bytes([window[0], window[1], window[2], window[3]]);
    let hash = first.wrapping_mul(0x9e37_79b1) >> (32 - FILTER_BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::random::fill_random;

    fn random(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        fill_random(&mut bytes);
        bytes
    }

    #[test]
    fn parts_of_a_value_are_found_and_nothing_else() {
        let (value, mut page) = (random(300), random(4096));
        let mut traces = Traces::default();
        assert!(traces.find(&page).is_empty());
        traces.add_random(&value);
        assert!(traces.find(&page).is_empty());
        assert!(traces.find(&[0; 4096]).is_empty());
        page[100..400].copy_from_slice(&value);
        page[1000..1040].copy_from_slice(&value[200..240]);
        page[4084..].copy_from_slice(&value[..12]);
        assert_eq!(traces.find(&page), [100..400, 1000..1040, 4084..4096]);
    }

    #[test]
    fn of_very_many_values_the_ends_are_found() {
        let mut traces = Traces::default();
        let values: Vec<_> = (0..2000).map(|_| random(1000)).collect();
        values.iter().for_each(|value| traces.add_sealed(value));
        assert_eq!(traces.find(&values[0]), vec![0..988_usize; 1]);
        assert_eq!(traces.find(&values[1999]), vec![956..988_usize; 1]);
    }

    #[test]
    fn values_that_were_sealed_one_after_the_other_are_not_mixed_up() {
        let sealer =
            crate::store::record::sealer(&crate::credentials::at_rest_key::AtRestKey::fresh());
        let sealed: Vec<_> = (0..5000).map(|_| sealer.seal(vec![7; 70])).collect();
        let mut traces = Traces::default();
        sealed[..2500].iter().for_each(|sealed| traces.add_sealed(sealed));
        assert!(sealed[2500..].iter().all(|other| traces.find(other).is_empty()));
    }
}
