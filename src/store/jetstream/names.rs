//! Names at the engine: subjects, streams, and message ids.
//!
//! A subject or an id at the engine is a keyed hash. The engine sees neither the names of rooms and users nor the ids
//! that clients choose, and no character of a client reaches a subject.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::crypto::sealer::{Sealer, Tag};
use crate::protocol::base32;
use crate::protocol::random::fill_random;
use crate::protocol::{MessageId, RoomName, UserName};

/// Rooms are distributed over this many slots. The number is part of the format.
pub(super) const SLOTS: u16 = 256;

/// What a subject is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubjectKind {
    /// The messages of a room.
    Messages,
    /// What was pruned and deleted in a room.
    Notes,
}

impl SubjectKind {
    fn word(self) -> char {
        match self {
            SubjectKind::Messages => 'm',
            SubjectKind::Notes => 'x',
        }
    }
}

/// The names of a cluster.
pub(super) struct Names {
    prefix: String,
    streams: u16,
    hashes: Sealer,
}

impl Names {
    /// `prefix` is made of letters, digits and `-`; `streams` is between 1 and [`SLOTS`]. The key never changes: all
    /// names depend on it.
    pub fn new(prefix: &str, streams: u16, key: &[u8; 32]) -> Self {
        let streams = streams.clamp(1, SLOTS);
        Names { prefix: prefix.to_owned(), streams, hashes: Sealer::new(key, "cluster names") }
    }

    /// How many streams there are.
    pub fn streams(&self) -> u16 {
        self.streams
    }

    /// Stands for the name of a room.
    pub fn tag(&self, room: &RoomName) -> Tag {
        self.hashes.tag(&[b"room", room.as_str().as_bytes()])
    }

    /// A tag in a stream that is of no room.
    pub fn anchor_tag(&self, stream: u16) -> Tag {
        let mut tag = Tag::default();
        tag[0] = self.slots(stream).next().unwrap_or(0) as u8;
        tag
    }

    /// The stream of a room, from 0.
    pub fn stream_of(&self, tag: &Tag) -> u16 {
        self.stream_of_slot(slot(tag))
    }

    /// The name of a stream: `<prefix>-log-<number>`.
    pub fn stream(&self, number: u16) -> String {
        format!("{}-log-{number}", self.prefix)
    }

    /// The slots of a stream.
    pub fn slots(&self, number: u16) -> impl Iterator<Item = u16> {
        (0..SLOTS).filter(move |slot| self.stream_of_slot(*slot) == number)
    }

    /// The subjects that a stream must have in its configuration, two for each of its slots.
    pub fn stream_subjects(&self, number: u16) -> Vec<String> {
        let kinds = [SubjectKind::Messages, SubjectKind::Notes];
        self.slots(number).flat_map(|slot| kinds.map(|kind| self.slot_filter(kind, slot))).collect()
    }

    /// Matches the subjects of one kind in a slot.
    pub fn slot_filter(&self, kind: SubjectKind, slot: u16) -> String {
        format!("{}.{}.{slot:02x}.*", self.prefix, kind.word())
    }

    /// Matches all subjects of one kind.
    pub fn filter(&self, kind: SubjectKind) -> String {
        format!("{}.{}.>", self.prefix, kind.word())
    }

    /// Matches all subjects of the cluster's streams.
    pub fn everything(&self) -> String {
        format!("{}.>", self.prefix)
    }

    /// The subject of a room: `<prefix>.<kind>.<slot>.<room>`.
    pub fn subject(&self, kind: SubjectKind, tag: &Tag) -> String {
        let room = base32::encode(tag);
        format!("{}.{}.{:02x}.{room}", self.prefix, kind.word(), slot(tag))
    }

    /// Which room a subject is of. `None` if it is not one that [`Self::subject`] makes.
    pub fn parse(&self, subject: &str) -> Option<(SubjectKind, Tag)> {
        let mut words = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?.split('.');
        let kind = match words.next()? {
            "m" => SubjectKind::Messages,
            "x" => SubjectKind::Notes,
            _ => return None,
        };
        let (_, room) = (words.next()?, words.next()?);
        let tag = base32::decode(room)?;
        (self.subject(kind, &tag) == subject).then_some((kind, tag))
    }

    /// The `Nats-Msg-Id` of a message: the same for the same id of the same user in the same room, and random without
    /// an id.
    pub fn message_id(&self, room: &RoomName, user: &UserName, id: Option<&MessageId>) -> String {
        let parts = |id: &MessageId| {
            let (room, user) = (room.as_str(), user.as_str());
            self.hashes.tag(&[b"id", room.as_bytes(), user.as_bytes(), id.as_str().as_bytes()])
        };
        BASE64_URL_SAFE_NO_PAD.encode(id.map_or_else(random_tag, parts))
    }

    fn stream_of_slot(&self, slot: u16) -> u16 {
        (u32::from(slot) * u32::from(self.streams) / u32::from(SLOTS)) as u16
    }
}

/// 22 random letters, for a message without an id of its own.
pub(super) fn random_message_id() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(random_tag())
}

fn random_tag() -> Tag {
    let mut tag = Tag::default();
    fill_random(&mut tag);
    tag
}

fn slot(tag: &Tag) -> u16 {
    u16::from(tag[0])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    proptest! {
        #[test]
        fn a_subject_is_parsed_back_and_belongs_to_one_stream(
            tag in any::<[u8; 16]>(), streams in 1..=SLOTS, key in any::<[u8; 32]>(),
        ) {
            let names = Names::new("chat", streams, &key);
            for kind in [SubjectKind::Messages, SubjectKind::Notes] {
                let subject = names.subject(kind, &tag);
                prop_assert_eq!(names.parse(&subject), Some((kind, tag)));
                prop_assert_eq!(names.parse(&subject[..subject.len() - 1]), None);
                let owners: Vec<u16> = (0..streams)
                    .filter(|number| {
                        let slot = subject.rsplit_once('.').unwrap().0;
                        names.stream_subjects(*number).contains(&format!("{slot}.*"))
                    })
                    .collect();
                prop_assert_eq!(owners, vec![names.stream_of(&tag)]);
            }
        }

        #[test]
        fn any_text_can_be_parsed(text in "\\PC{0,60}") {
            let names = Names::new("chat", 4, &[7; 32]);
            prop_assert_eq!(names.parse(&text), None);
            prop_assert_eq!(names.parse(&format!("chat.m.00.{text}")), None);
        }
    }

    #[test]
    fn every_slot_has_a_stream_and_streams_have_equal_shares() {
        for streams in [1, 2, 3, 4, 16, 256] {
            let names = Names::new("chat", streams, &[7; 32]);
            let counts: Vec<usize> =
                (0..streams).map(|number| names.slots(number).count()).collect();
            assert_eq!(counts.iter().sum::<usize>(), 256);
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
            assert_eq!(names.stream_subjects(0).len(), 2 * counts[0]);
        }
    }

    #[test]
    fn nothing_of_a_name_is_in_a_subject_or_an_id() {
        let names = Names::new("chat", 4, &[7; 32]);
        let subject = names.subject(SubjectKind::Messages, &names.tag(&room("plans")));
        assert!(
            !subject.contains("plans") && subject.len() == "chat.m.00.".len() + 26,
            "{subject}"
        );
        let other = Names::new("chat", 4, &[8; 32]);
        assert_ne!(other.tag(&room("plans")), names.tag(&room("plans")));
        let (alice, id) = (UserName::clean("Alice"), MessageId::parse("job-1").unwrap());
        let tag = names.message_id(&room("plans"), &alice, Some(&id));
        assert_eq!(tag.len(), 22);
        assert_eq!(names.message_id(&room("plans"), &alice, Some(&id)), tag);
        let others = [
            names.message_id(&room("other"), &alice, Some(&id)),
            names.message_id(&room("plans"), &UserName::clean("Bob"), Some(&id)),
            names.message_id(&room("plans"), &alice, MessageId::parse("job-2").as_ref()),
            names.message_id(&room("plans"), &alice, None),
            names.message_id(&room("plans"), &alice, None),
            tag,
        ];
        assert_eq!(HashSet::from(others).len(), 6);
    }

    // Calculated with Python's hmac and base64: what is at an engine must be found again.
    #[test]
    fn known_answers() {
        let key = std::array::from_fn(|index| index as u8);
        let names = Names::new("chat", 4, &key);
        let tag = names.tag(&RoomName::lobby());
        assert_eq!(
            names.subject(SubjectKind::Messages, &tag),
            "chat.m.57.k52u4ycgzpk4qum4xf4fc3xx6e"
        );
        assert_eq!((names.stream_of(&tag), names.stream(2)), (1, "chat-log-2".to_owned()));
        let id = MessageId::parse("job-1201").unwrap();
        let id = names.message_id(&RoomName::lobby(), &UserName::clean("Alice"), Some(&id));
        assert_eq!(id, "94DWaLeSnZSwmza9EsDZvA");
    }
}
