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
use crate::store::entry::Draft;

/// Rooms are distributed over this many slots. The number is part of the format.
pub(super) const SLOTS: u16 = 256;

/// The first word of the keys of deposits.
pub(super) const DEPOSITS_WORD: &str = "e2e";

/// What a subject is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubjectKind {
    /// The messages of a room.
    Messages,
    /// What was pruned and deleted in a room.
    Notes,
    /// What the commits of an end-to-end room brought along. The last message tells the newest commit.
    Commits,
    /// The ratchet trees of an end-to-end room.
    Trees,
}

impl SubjectKind {
    fn word(self) -> char {
        match self {
            SubjectKind::Messages => 'm',
            // A stream has the subjects of two words.
            SubjectKind::Notes | SubjectKind::Commits | SubjectKind::Trees => 'x',
        }
    }

    /// What stands before the room.
    fn mark(self) -> &'static str {
        match self {
            SubjectKind::Messages | SubjectKind::Notes => "",
            SubjectKind::Commits => "c-",
            SubjectKind::Trees => "t-",
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

    /// Matches all subjects of one kind, and those of the kinds with the same word.
    pub fn filter(&self, kind: SubjectKind) -> String {
        format!("{}.{}.>", self.prefix, kind.word())
    }

    /// Matches all subjects of the cluster's streams.
    pub fn everything(&self) -> String {
        format!("{}.>", self.prefix)
    }

    /// The subject of a room: `<prefix>.<word>.<slot>.<mark><room>`.
    pub fn subject(&self, kind: SubjectKind, tag: &Tag) -> String {
        let room = base32::encode(tag);
        format!("{}.{}.{:02x}.{}{room}", self.prefix, kind.word(), slot(tag), kind.mark())
    }

    /// Which room a subject is of. `None` if it is not one that [`Self::subject`] makes.
    pub fn parse(&self, subject: &str) -> Option<(SubjectKind, Tag)> {
        let mut words = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?.split('.');
        let (word, _, room) = (words.next()?, words.next()?, words.next()?);
        let kinds = [SubjectKind::Commits, SubjectKind::Trees];
        let marked = || {
            let found = |kind: SubjectKind| Some((kind, room.strip_prefix(kind.mark())?));
            kinds.into_iter().find_map(found).unwrap_or((SubjectKind::Notes, room))
        };
        let (kind, room) = match word {
            "m" => (SubjectKind::Messages, room),
            "x" => marked(),
            _ => return None,
        };
        let tag = base32::decode(room)?;
        (self.subject(kind, &tag) == subject).then_some((kind, tag))
    }

    /// The `Nats-Msg-Id` of a message: the same for the same id of the same user, or device, in the same room, and random
    /// without an id.
    pub fn message_id(&self, draft: &Draft) -> String {
        let parts = |id: &MessageId| {
            let [room, user, id] =
                [draft.room.as_str(), draft.user.as_str(), id.as_str()].map(str::as_bytes);
            // In an end-to-end room the id belongs to the device.
            match &draft.e2e {
                None => self.hashes.tag(&[b"id", room, user, id]),
                Some(e2e) => self.hashes.tag(&[b"id", room, user, id, &e2e.device.0]),
            }
        };
        BASE64_URL_SAFE_NO_PAD.encode(draft.id.as_ref().map_or_else(random_tag, parts))
    }

    /// The key under which the deposits of a user are kept.
    pub fn deposits_key(&self, user: &UserName) -> String {
        let tag = self.hashes.tag(&[b"user", user.as_str().as_bytes()]);
        format!("{DEPOSITS_WORD}.{}", base32::encode(&tag))
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
    use crate::protocol::Seq;
    use crate::protocol::device::DeviceId;
    use crate::protocol::end_to_end::{EndToEnd, EntryKind};
    use proptest::prelude::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    fn draft(room_name: &str, user: &UserName, id: Option<MessageId>) -> Draft {
        let (room, user, text) = (room(room_name), user.clone(), "hello".into());
        Draft { room, user, verified: false, id, text, e2e: None, commit: None }
    }

    proptest! {
        #[test]
        fn a_subject_is_parsed_back_and_belongs_to_one_stream(
            tag in any::<[u8; 16]>(), streams in 1..=SLOTS, key in any::<[u8; 32]>(),
        ) {
            let names = Names::new("chat", streams, &key);
            for kind in [SubjectKind::Messages, SubjectKind::Notes, SubjectKind::Commits, SubjectKind::Trees] {
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
        let of = |room_name, user, id: Option<&MessageId>| {
            names.message_id(&draft(room_name, user, id.cloned()))
        };
        let tag = of("plans", &alice, Some(&id));
        assert_eq!(tag.len(), 22);
        assert_eq!(of("plans", &alice, Some(&id)), tag);
        let device = |number| {
            let e2e =
                EndToEnd { device: DeviceId([number; 10]), base: Seq(1), kind: EntryKind::Message };
            names.message_id(&Draft { e2e: Some(e2e), ..draft("plans", &alice, Some(id.clone())) })
        };
        let others = [
            of("other", &alice, Some(&id)),
            of("plans", &UserName::clean("Bob"), Some(&id)),
            of("plans", &alice, MessageId::parse("job-2").as_ref()),
            of("plans", &alice, None),
            of("plans", &alice, None),
            device(1),
            device(2),
            tag,
        ];
        assert_eq!(HashSet::from(others).len(), 8);
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
        let id = names.message_id(&draft("lobby", &UserName::clean("Alice"), Some(id)));
        assert_eq!(id, "94DWaLeSnZSwmza9EsDZvA");
    }
}
