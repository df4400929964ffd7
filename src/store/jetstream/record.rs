//! The sealed records in the cluster's streams.
//!
//! A record is a form byte, one byte that names its key, and the sealed fields. The subject is the associated data, so a
//! record that was moved to another room does not open. Its number and its time are the engine's.

use crate::crypto::sealer::Sealer;
use crate::protocol::decoder::Decoder;
use crate::protocol::device::DeviceId;
use crate::protocol::end_to_end::{EndToEnd, EntryKind};
use crate::protocol::{MessageId, RoomName, Seq, Timestamp, UserName};
use crate::store::deletion::{Redaction, Stored};
use crate::store::entry::{Draft, Entry};
use crate::store::record::push_string;

const FORM: u8 = 1;
const MESSAGE: u8 = b'm';
/// A message of another store: with flags, its own time, the latest time up to it, and its number there.
const IMPORTED: u8 = b'i';
/// A message and a commit of an end-to-end room: with the device and the base.
const SEALED: u8 = b'e';
const COMMIT: u8 = b'c';
const PRUNED: u8 = b'p';
const REDACTED: u8 = b'd';
const DELETED: u8 = b'r';
const ANCHOR: u8 = b'a';

/// The flags of an imported message. A record with other flags is of a newer program.
const VERIFIED: u8 = 1;
const IS_REDACTED: u8 = 2;

/// The most redactions in one note.
pub(super) const MAX_REDACTIONS: usize = 1000;

/// Opens records of two generations of the cluster's secret, and seals under the current one.
pub(super) struct RecordKeys {
    current: Sealer,
    previous: Option<Sealer>,
}

/// Which server sent a message, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Random per start of a server.
    pub incarnation: [u8; 8],
    /// Its number among the drafts that the server's log writer was given.
    pub draft: u64,
}

/// A message as it was published.
pub(super) struct MessageRecord {
    pub draft: Draft,
    pub origin: Origin,
    /// If it was imported.
    pub past: Option<Past>,
}

/// What an imported message was in the store that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Past {
    /// When it was appended there.
    pub at: Timestamp,
    /// The latest time of a message in the room up to this one; it never decreases.
    pub latest: Timestamp,
    /// Its number there.
    pub seq: Seq,
    /// Whether its text was deleted there.
    pub is_redacted: bool,
}

/// What happened to messages of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Every message up to and including this one was pruned, or will be.
    Pruned { to: Seq },
    /// An operator deleted the texts of these messages of the room. At most [`MAX_REDACTIONS`].
    Redacted { room: RoomName, redactions: Vec<Redaction> },
    /// An operator deleted every message of the room up to and including this one.
    Deleted { room: RoomName, to: Seq },
    /// Nothing. It keeps the beginning of the stream where it is.
    Anchor,
}

impl RecordKeys {
    pub fn new(current: &[u8; 32], previous: Option<&[u8; 32]>) -> Self {
        let sealer = |key| Sealer::new(key, "cluster records");
        RecordKeys { current: sealer(current), previous: previous.map(sealer) }
    }

    /// Seals a message for its subject.
    pub fn seal_message(&self, subject: &str, draft: &Draft, origin: Origin) -> Vec<u8> {
        let kind = match draft.e2e.map(|e2e| e2e.kind) {
            None => MESSAGE,
            Some(EntryKind::Message) => SEALED,
            Some(EntryKind::Commit) => COMMIT,
        };
        let mut plain = vec![kind, u8::from(draft.verified)];
        push_draft(&mut plain, draft, origin);
        self.seal(subject, plain)
    }

    /// Seals a message of another store for its subject.
    pub fn seal_imported(
        &self,
        subject: &str,
        draft: &Draft,
        origin: Origin,
        past: &Past,
    ) -> Vec<u8> {
        let verified = if draft.verified { VERIFIED } else { 0 };
        let redacted = if past.is_redacted { IS_REDACTED } else { 0 };
        let mut plain = vec![IMPORTED, verified | redacted];
        plain.extend(past.at.micros().to_be_bytes());
        plain.extend(past.latest.micros().to_be_bytes());
        plain.extend(past.seq.0.to_be_bytes());
        push_draft(&mut plain, draft, origin);
        self.seal(subject, plain)
    }

    /// Opens a message. `None` if it is damaged, of another subject, or sealed under another key.
    pub fn open_message(&self, subject: &str, sealed: &[u8]) -> Option<MessageRecord> {
        let plain = self.open(subject, sealed)?;
        let (kind, fields) = plain.split_first()?;
        let mut input = Decoder(fields);
        let [flags] = input.array()?;
        let past = match *kind {
            MESSAGE | SEALED | COMMIT => None,
            IMPORTED if flags & !(VERIFIED | IS_REDACTED) == 0 => Some(Past {
                at: Timestamp::from_micros(i64::from_be_bytes(input.array()?)),
                latest: Timestamp::from_micros(i64::from_be_bytes(input.array()?)),
                seq: Seq(u64::from_be_bytes(input.array()?)),
                is_redacted: flags & IS_REDACTED != 0,
            }),
            _ => return None,
        };
        let verified = flags & VERIFIED != 0;
        let incarnation = input.array()?;
        let origin = Origin { incarnation, draft: u64::from_be_bytes(input.array()?) };
        let room = RoomName::parse(input.string()?)?;
        let user = UserName::clean(input.string()?);
        let id = match input.string()? {
            "" => None,
            id => Some(MessageId::parse(id)?),
        };
        let e2e = match *kind {
            SEALED | COMMIT => Some(EndToEnd {
                device: DeviceId(input.array()?),
                base: Seq(u64::from_be_bytes(input.array()?)),
                kind: if *kind == COMMIT { EntryKind::Commit } else { EntryKind::Message },
            }),
            _ => None,
        };
        if e2e.is_some() != room.is_end_to_end() {
            return None;
        }
        let text = std::str::from_utf8(input.0).ok()?.into();
        Some(MessageRecord {
            draft: Draft { room, user, verified, id, text, e2e, commit: None },
            origin,
            past,
        })
    }

    /// Seals a note for its subject.
    pub fn seal_note(&self, subject: &str, note: &Note) -> Vec<u8> {
        let plain = match note {
            Note::Anchor => vec![ANCHOR],
            Note::Pruned { to } => [&[PRUNED][..], &to.0.to_be_bytes()].concat(),
            Note::Deleted { room, to } => {
                let mut plain = vec![DELETED];
                push_string(&mut plain, room.as_str());
                plain.extend(to.0.to_be_bytes());
                plain
            }
            Note::Redacted { room, redactions } => {
                let mut plain = vec![REDACTED];
                push_string(&mut plain, room.as_str());
                for redaction in redactions {
                    plain.extend(redaction.seq.0.to_be_bytes());
                    plain.extend(redaction.at.micros().to_be_bytes());
                }
                plain
            }
        };
        self.seal(subject, plain)
    }

    /// Opens a note, as [`Self::open_message`].
    pub fn open_note(&self, subject: &str, sealed: &[u8]) -> Option<Note> {
        let plain = self.open(subject, sealed)?;
        let (kind, fields) = plain.split_first()?;
        let mut input = Decoder(fields);
        match *kind {
            ANCHOR => Some(Note::Anchor),
            PRUNED => Some(Note::Pruned { to: Seq(u64::from_be_bytes(input.array()?)) }),
            DELETED => {
                let room = RoomName::parse(input.string()?)?;
                Some(Note::Deleted { room, to: Seq(u64::from_be_bytes(input.array()?)) })
            }
            REDACTED => {
                let room = RoomName::parse(input.string()?)?;
                let mut redactions = Vec::with_capacity(fields.len() / 16);
                while !input.0.is_empty() {
                    let seq = Seq(u64::from_be_bytes(input.array()?));
                    let at = Timestamp::from_micros(i64::from_be_bytes(input.array()?));
                    redactions.push(Redaction { seq, at });
                }
                Some(Note::Redacted { room, redactions })
            }
            _ => None,
        }
    }

    pub(super) fn seal(&self, subject: &str, plain: Vec<u8>) -> Vec<u8> {
        let mut record = vec![FORM, self.current.key_check()[0]];
        record.extend(self.current.seal_for(subject.as_bytes(), plain));
        record
    }

    pub(super) fn open(&self, subject: &str, record: &[u8]) -> Option<Vec<u8>> {
        let (&[form, key], sealed) = record.split_first_chunk()?;
        if form != FORM {
            return None;
        }
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .filter(|sealer| sealer.key_check()[0] == key)
            .find_map(|sealer| sealer.open_for(subject.as_bytes(), sealed))
    }
}

impl MessageRecord {
    /// The time that readers are shown: of an imported message its own, otherwise the engine's.
    pub fn at(&self, micros: i64) -> Timestamp {
        self.past.as_ref().map_or(Timestamp::from_micros(micros), |past| past.at)
    }

    /// The message for a reader, with the number and the time that the engine gave it.
    pub fn into_stored(self, seq: u64, micros: i64) -> Stored {
        let (seq, at) = (Seq(seq), self.at(micros));
        match self.past.is_some_and(|past| past.is_redacted) {
            true => Stored::Redacted(Redaction { seq, at }),
            false => Stored::Message(Entry::new(self.draft, seq, at)),
        }
    }
}

fn push_draft(plain: &mut Vec<u8>, draft: &Draft, origin: Origin) {
    let id = draft.id.as_ref().map_or("", MessageId::as_str);
    plain.reserve(64 + draft.text.len());
    plain.extend(origin.incarnation);
    plain.extend(origin.draft.to_be_bytes());
    for string in [draft.room.as_str(), draft.user.as_str(), id] {
        push_string(plain, string);
    }
    if let Some(e2e) = &draft.e2e {
        plain.extend(e2e.device.0);
        plain.extend(e2e.base.0.to_be_bytes());
    }
    plain.extend(draft.text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn draft(text: &str, id: Option<&str>, verified: bool) -> Draft {
        let id = id.and_then(MessageId::parse);
        let (room, user) = (RoomName::lobby(), UserName::clean("Alice"));
        Draft { room, user, verified, id, text: text.into(), e2e: None, commit: None }
    }

    proptest! {
        #[test]
        fn a_record_opens_under_both_generations_and_only_for_its_subject(
            text in "\\PC{0,200}", id in proptest::option::of("[a-z]{1,64}"), verified in any::<bool>(),
            incarnation in any::<[u8; 8]>(), number in any::<u64>(), bit in any::<usize>(),
            e2e in proptest::option::of((any::<[u8; 10]>(), any::<u64>(), any::<bool>())),
        ) {
            let (old, new, other) = ([1; 32], [2; 32], [3; 32]);
            let origin = Origin { incarnation, draft: number };
            let mut draft = draft(&text, id.as_deref(), verified);
            if let Some((device, base, is_commit)) = e2e {
                let kind = if is_commit { EntryKind::Commit } else { EntryKind::Message };
                draft.e2e = Some(EndToEnd { device: DeviceId(device), base: Seq(base), kind });
                draft.room = RoomName::parse("+ops").unwrap();
            }
            let sealed = RecordKeys::new(&old, None).seal_message("a.m.00.x", &draft, origin);
            for keys in [RecordKeys::new(&old, None), RecordKeys::new(&new, Some(&old))] {
                let record = keys.open_message("a.m.00.x", &sealed).unwrap();
                prop_assert!(record.draft == draft && record.origin == origin);
                prop_assert!(keys.open_message("a.m.00.y", &sealed).is_none());
                prop_assert!(keys.open_note("a.m.00.x", &sealed).is_none());
                let mut flipped = sealed.clone();
                let bit = bit % (flipped.len() * 8);
                flipped[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(keys.open_message("a.m.00.x", &flipped).is_none());
            }
            for keys in [RecordKeys::new(&new, None), RecordKeys::new(&new, Some(&other))] {
                prop_assert!(keys.open_message("a.m.00.x", &sealed).is_none());
            }
        }

        #[test]
        fn any_bytes_are_damaged_and_not_a_panic(bytes in any::<Vec<u8>>()) {
            let keys = RecordKeys::new(&[1; 32], None);
            prop_assert!(keys.open_message("s", &bytes).is_none());
            prop_assert!(keys.open_note("s", &bytes).is_none());
            // Also if somebody with the key made them.
            let sealed = keys.seal("s", bytes);
            let _ = (keys.open_message("s", &sealed), keys.open_note("s", &sealed));
        }

        #[test]
        fn a_note_opens_as_it_was_sealed(seqs in proptest::collection::vec(any::<u64>(), 0..20)) {
            let keys = RecordKeys::new(&[1; 32], None);
            let at = Timestamp::from_micros(1_790_000_000_000_000);
            let redactions = seqs.iter().map(|seq| Redaction { seq: Seq(*seq), at }).collect();
            let room = RoomName::lobby();
            let deleted = Note::Deleted { room: room.clone(), to: Seq(9) };
            let redacted = Note::Redacted { room, redactions };
            for note in [redacted, deleted, Note::Pruned { to: Seq(7) }, Note::Anchor] {
                let sealed = keys.seal_note("s", &note);
                prop_assert_eq!(keys.open_note("s", &sealed), Some(note));
            }
        }
    }
}
