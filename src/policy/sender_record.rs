//! What one device has said in an end-to-end room, by the numbers in its messages: which are missing, which come
//! again, and which contradict each other.

use std::collections::{BTreeMap, VecDeque};

use crate::protocol::decoder::Decoder;

/// Messages of a device after which a hole is evidence. Until then, the missing message may still come: two processes
/// of one device can overtake each other on the way to the server.
pub const PATIENCE: u64 = 256;

/// Numbers whose content is remembered.
const REMEMBERED: usize = 512;

/// Holes that are remembered at a time. Each was told as missing when it was found; one that is forgotten is no evidence
/// later.
const MAX_HOLES: usize = 256;

/// The form of the stored bytes.
const FORM: u8 = 1;

/// A short hash of a message's id and text.
pub type ContentTag = [u8; 16];

/// What is known of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderRecord {
    /// The highest number, 0 before the first.
    highest: u64,
    /// The first number of which this member knows anything; 1 or 0 if it knows all.
    begin: u64,
    /// The last numbers and contents, in the order of their coming.
    recent: VecDeque<(u64, ContentTag)>,
    /// Missing numbers, from each to the one before the second, with the highest number when they were found.
    holes: BTreeMap<u64, Hole>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    end: u64,
    found_at: u64,
}

/// The verdict on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be shown. These numbers before it are missing for now: the first and the last.
    New {
        /// The hole that this message opens.
        missing: Option<(u64, u64)>,
    },
    /// The same message again, under the same number: not to be shown.
    Repeated,
    /// A number that was used for another message.
    Contradiction,
    /// So old that it is not known any more whether it was shown.
    TooOld,
}

impl SenderRecord {
    /// A record that begins after `highest`: of a device that spoke before this member read it. Some of the messages
    /// before may still come, because they were overtaken.
    pub fn starting_after(highest: u64) -> Self {
        SenderRecord { highest, begin: highest.saturating_add(1), ..SenderRecord::default() }
    }

    /// The highest number.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Takes in a message.
    pub fn note(&mut self, number: u64, content: ContentTag) -> Verdict {
        if let Some((_, known)) = self.recent.iter().find(|(known, _)| *known == number) {
            return match *known == content {
                true => Verdict::Repeated,
                false => Verdict::Contradiction,
            };
        }
        let may_be_late = number < self.begin && self.begin - number <= PATIENCE;
        if number <= self.highest && !may_be_late && !self.fill(number) {
            return Verdict::TooOld;
        }
        let missing =
            (number > self.highest.saturating_add(1)).then(|| (self.highest + 1, number - 1));
        self.highest = self.highest.max(number);
        if let Some((first, last)) = missing
            && self.holes.len() < MAX_HOLES
        {
            self.holes.insert(first, Hole { end: last + 1, found_at: number });
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((number, content));
        Verdict::New { missing }
    }

    /// The device says that it did not send this number after all.
    pub fn note_dropped(&mut self, number: u64) {
        self.fill(number);
    }

    /// Puts the first numbers of a new hole down to at most `deleted` entries whose content was deleted. Returns how many.
    pub fn excuse(&mut self, (first, last): (u64, u64), deleted: u64) -> u64 {
        let excused = deleted.min((last - first).saturating_add(1));
        if excused > 0
            && let Some(hole) = self.holes.remove(&first)
            && first + excused < hole.end
        {
            self.holes.insert(first + excused, hole);
        }
        excused
    }

    /// The first hole that has been open for [`PATIENCE`] messages: its first and its last number. It is told once.
    pub fn overdue(&mut self) -> Option<(u64, u64)> {
        let highest = self.highest;
        let is_overdue = |hole: &Hole| highest - hole.found_at >= PATIENCE;
        let (first, hole) = self.holes.iter().find(|(_, hole)| is_overdue(hole))?;
        let (first, last) = (*first, hole.end - 1);
        self.holes.remove(&first);
        Some((first, last))
    }

    /// The record as bytes, to be stored.
    ///
    /// ```text
    /// form 1 (u8) · highest, begin (u64 each) · number (u16), contents (number u64, tag 16 bytes each)
    /// · number (u16), holes (first, end, found at: u64 each)
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        bytes.extend(self.highest.to_be_bytes());
        bytes.extend(self.begin.to_be_bytes());
        bytes.extend((self.recent.len() as u16).to_be_bytes());
        for (number, tag) in &self.recent {
            bytes.extend(number.to_be_bytes());
            bytes.extend(tag);
        }
        bytes.extend((self.holes.len() as u16).to_be_bytes());
        for (first, hole) in &self.holes {
            for number in [*first, hole.end, hole.found_at] {
                bytes.extend(number.to_be_bytes());
            }
        }
        bytes
    }

    /// The record in `bytes`, if [`Self::encode`] makes such bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Decoder(bytes);
        if input.array()? != [FORM] {
            return None;
        }
        let highest = u64::from_be_bytes(input.array()?);
        let begin = u64::from_be_bytes(input.array()?);
        let count = usize::from(u16::from_be_bytes(input.array()?));
        let mut recent = VecDeque::with_capacity(count.min(REMEMBERED));
        for _ in 0..count {
            recent.push_back((u64::from_be_bytes(input.array()?), input.array()?));
        }
        let count = usize::from(u16::from_be_bytes(input.array()?));
        let mut holes = BTreeMap::new();
        for _ in 0..count {
            let first = u64::from_be_bytes(input.array()?);
            let end = u64::from_be_bytes(input.array()?);
            let found_at = u64::from_be_bytes(input.array()?);
            holes.insert(first, Hole { end, found_at });
        }
        let fits = recent.len() <= REMEMBERED && holes.len() <= MAX_HOLES && input.0.is_empty();
        let is_sound = holes.iter().all(|(first, hole)| {
            *first < hole.end && hole.end <= hole.found_at && hole.found_at <= highest
        });
        (fits && is_sound).then_some(SenderRecord { highest, begin, recent, holes })
    }

    /// Takes a number out of its hole. Returns whether it was in one.
    fn fill(&mut self, number: u64) -> bool {
        let Some((&first, &hole)) = self.holes.range(..=number).next_back() else { return false };
        if number >= hole.end {
            return false;
        }
        self.holes.remove(&first);
        // At the bound, the lower part is forgotten: it was told as missing when it was found.
        if first < number && self.holes.len() < MAX_HOLES {
            self.holes.insert(first, Hole { end: number, ..hole });
        }
        if number + 1 < hole.end && self.holes.len() < MAX_HOLES {
            self.holes.insert(number + 1, hole);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tag(number: u64) -> ContentTag {
        u128::from(number).to_be_bytes()
    }

    const NEW: Verdict = Verdict::New { missing: None };

    #[test]
    fn a_hole_is_told_once_and_becomes_evidence_if_it_stays() {
        let mut record = SenderRecord::default();
        assert_eq!(record.note(1, tag(1)), NEW);
        assert_eq!(record.note(4, tag(4)), Verdict::New { missing: Some((2, 3)) });
        assert_eq!(record.note(3, tag(3)), NEW);
        for number in 5..4 + PATIENCE {
            assert_eq!(record.note(number, tag(number)), NEW);
            assert_eq!(record.overdue(), None);
        }
        record.note(4 + PATIENCE, tag(0));
        assert_eq!(record.overdue(), Some((2, 2)));
        assert_eq!(record.overdue(), None);
    }

    #[test]
    fn a_number_that_was_dropped_is_not_missed() {
        let mut record = SenderRecord::default();
        record.note(1, tag(1));
        record.note(3, tag(3));
        record.note_dropped(2);
        record.note(3 + PATIENCE, tag(9));
        assert_eq!(record.overdue(), None);
        // A number that is not missing can't be dropped.
        record.note_dropped(1);
        record.note_dropped(u64::MAX);
        assert_eq!(record.note(1, tag(1)), Verdict::Repeated);
    }

    #[test]
    fn a_hole_is_put_down_to_deleted_entries_as_far_as_they_go() {
        let mut record = SenderRecord::default();
        record.note(4, tag(4));
        assert_eq!(record.excuse((1, 3), 2), 2);
        assert_eq!(record.note(1, tag(1)), Verdict::TooOld);
        record.note(4 + PATIENCE, tag(0));
        assert_eq!(record.overdue(), Some((3, 3)));
        assert_eq!(record.excuse((5, 3 + PATIENCE), u64::MAX), PATIENCE - 1);
        record.note(2000, tag(9));
        assert_eq!(record.overdue(), None);
    }

    #[test]
    fn a_number_has_one_message() {
        let mut record = SenderRecord::default();
        record.note(1, tag(1));
        assert_eq!(record.note(1, tag(1)), Verdict::Repeated);
        assert_eq!(record.note(1, tag(2)), Verdict::Contradiction);
    }

    #[test]
    fn a_member_who_comes_later_misses_nothing_from_before() {
        let mut record = SenderRecord::starting_after(410);
        assert_eq!(record.note(411, tag(411)), NEW);
        // An overtaken one may still come, once.
        assert_eq!(record.note(410, tag(410)), NEW);
        assert_eq!(record.note(410, tag(410)), Verdict::Repeated);
        assert_eq!(record.note(411 - PATIENCE, tag(3)), NEW);
        assert_eq!(record.note(410 - PATIENCE, tag(4)), Verdict::TooOld);
        assert_eq!(record.overdue(), None);
        assert_eq!(
            record.note(u64::MAX, tag(0)),
            Verdict::New { missing: Some((412, u64::MAX - 1)) }
        );
        assert_eq!(record.note(u64::MAX, tag(0)), Verdict::Repeated);
    }

    proptest! {
        #[test]
        fn each_message_is_shown_once(numbers in prop::collection::vec(1_u64..200, 1..400)) {
            let mut record = SenderRecord::default();
            let mut shown = std::collections::BTreeSet::new();
            let mut missing = std::collections::BTreeSet::new();
            for number in numbers {
                match record.note(number, tag(number)) {
                    Verdict::New { missing: hole } => {
                        prop_assert!(shown.insert(number));
                        missing.remove(&number);
                        if let Some((first, last)) = hole {
                            missing.extend(first..=last);
                        }
                    }
                    Verdict::Repeated => prop_assert!(shown.contains(&number)),
                    other => prop_assert!(false, "{:?}", other),
                }
                let highest = record.highest();
                let expected: std::collections::BTreeSet<u64> =
                    (1..highest).filter(|n| !shown.contains(n)).collect();
                prop_assert_eq!(&missing, &expected);
            }
        }

        #[test]
        fn the_record_is_bounded(numbers in prop::collection::vec(any::<u64>(), 1..2000)) {
            let mut record = SenderRecord::default();
            for number in numbers {
                record.note(number, tag(number));
                record.overdue();
                prop_assert!(record.recent.len() <= REMEMBERED);
                prop_assert!(record.holes.len() <= MAX_HOLES);
            }
        }
    }

    proptest! {
        #[test]
        fn a_stored_record_is_the_same(numbers in prop::collection::vec(1_u64..900, 0..700)) {
            let mut record = SenderRecord::starting_after(3);
            for number in numbers {
                record.note(number, tag(number));
            }
            prop_assert_eq!(SenderRecord::decode(&record.encode()), Some(record));
        }

        #[test]
        fn strange_bytes_are_no_record(bytes: Vec<u8>) {
            if let Some(mut record) = SenderRecord::decode(&bytes) {
                record.note(7, tag(7));
                record.overdue();
            }
        }
    }
}
