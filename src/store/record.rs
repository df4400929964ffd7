//! The format of the sealed values in a store: a record per message, and a card per room.
//!
//! The plaintext of each begins with a version byte and a letter for its kind. A record carries its
//! room, sequence number and time inside the sealed part, so a record that was moved or swapped is
//! detected. The record of a message whose text was deleted is of a kind of its own.

use super::deletion::{Redaction, Stored};
use super::entry::Entry;
use crate::credentials::at_rest_key::AtRestKey;
use crate::crypto::sealer::Sealer;
use crate::protocol::decoder::Decoder;
use crate::protocol::device::DeviceId;
use crate::protocol::end_to_end::{EndToEnd, EntryKind};
use crate::protocol::{MessageId, RoomName, Seq, Timestamp, UserName};

const VERSION: u8 = 1;
const MESSAGE: u8 = b'm';
/// A message whose text was deleted. It has the form of a message with an empty text.
const REDACTED: u8 = b'd';
/// A commit of an end-to-end room.
const COMMIT: u8 = b'c';
const ROOM: u8 = b'r';

/// The sealer of a store under this key.
pub(super) fn sealer(key: &AtRestKey) -> Sealer {
    Sealer::new(key.bytes(), "room log")
}

/// A message as it is stored.
pub(super) struct Record {
    /// If the text was deleted, it is empty.
    pub entry: Entry,
    /// Whether the text was deleted.
    pub is_redacted: bool,
    /// The latest timestamp in the room up to this entry. It never decreases, even if the clock is
    /// turned back.
    pub latest: Timestamp,
}

impl Record {
    /// Decodes a sealed value. Returns `None` if it is not a record sealed under this key.
    pub fn open(sealer: &Sealer, sealed: &[u8]) -> Option<Self> {
        let plain = sealer.open(sealed)?;
        let [VERSION, form @ (MESSAGE | REDACTED | COMMIT)] = *plain.first_chunk()? else {
            return None;
        };
        let is_redacted = form == REDACTED;
        let mut input = Decoder(&plain[2..]);
        let verified = input.array::<1>()? == [1];
        let seq = Seq(u64::from_be_bytes(input.array()?));
        let at = Timestamp::from_micros(i64::from_be_bytes(input.array()?));
        let latest = Timestamp::from_micros(i64::from_be_bytes(input.array()?));
        let room = RoomName::parse(input.string()?)?;
        let user = UserName::clean(input.string()?);
        let id = match input.string()? {
            "" => None,
            id => Some(MessageId::parse(id)?),
        };
        let e2e = match room.is_end_to_end() {
            false => None,
            true => Some(EndToEnd {
                device: DeviceId(input.array()?),
                base: Seq(u64::from_be_bytes(input.array()?)),
                kind: if form == COMMIT { EntryKind::Commit } else { EntryKind::Message },
            }),
        };
        let text = std::str::from_utf8(input.0).ok()?.into();
        let entry = Entry { room, seq, at, user, verified, id, text, e2e };
        Some(Record { entry, is_redacted, latest })
    }

    /// Decodes the record of a known position. Returns `None` also if it belongs to another one.
    pub fn open_at(sealer: &Sealer, sealed: &[u8], room: &RoomName, seq: Seq) -> Option<Self> {
        let record = Self::open(sealer, sealed)?;
        (record.entry.room == *room && record.entry.seq == seq).then_some(record)
    }

    /// The same record without its text.
    pub fn redact(self) -> Self {
        Record { entry: Entry { text: "".into(), ..self.entry }, is_redacted: true, ..self }
    }

    /// Encodes and seals the record.
    pub fn seal(&self, sealer: &Sealer) -> Vec<u8> {
        match self.is_redacted {
            true => seal_as(REDACTED, sealer, &self.entry, self.latest),
            false => seal_record(sealer, &self.entry, self.latest),
        }
    }

    /// The message for a reader.
    pub fn into_stored(self) -> Stored {
        match self.is_redacted {
            true => Stored::Redacted(Redaction { seq: self.entry.seq, at: self.entry.at }),
            false => Stored::Message(self.entry),
        }
    }
}

/// Encodes and seals the record of an entry.
pub(super) fn seal_record(sealer: &Sealer, entry: &Entry, latest: Timestamp) -> Vec<u8> {
    seal_as(if entry.is_commit() { COMMIT } else { MESSAGE }, sealer, entry, latest)
}

fn seal_as(kind: u8, sealer: &Sealer, entry: &Entry, latest: Timestamp) -> Vec<u8> {
    let (room, user) = (entry.room.as_str(), entry.user.as_str());
    let id = entry.id.as_ref().map_or("", MessageId::as_str);
    let mut plain = Vec::with_capacity(96 + room.len() + user.len() + id.len() + entry.text.len());
    plain.extend([VERSION, kind, u8::from(entry.verified)]);
    plain.extend(entry.seq.0.to_be_bytes());
    plain.extend(entry.at.micros().to_be_bytes());
    plain.extend(latest.micros().to_be_bytes());
    for string in [room, user, id] {
        push_string(&mut plain, string);
    }
    if let Some(e2e) = &entry.e2e {
        plain.extend(e2e.device.0);
        plain.extend(e2e.base.0.to_be_bytes());
    }
    plain.extend(entry.text.as_bytes());
    sealer.seal(plain)
}

/// The stored data of a room besides its records.
pub(super) struct RoomCard {
    pub number: i64,
    pub name: RoomName,
    /// Messages up to this sequence number were pruned.
    pub pruned_to: Seq,
    /// In an end-to-end room, the newest commit; it stays when the commit is pruned. 0 if there was none.
    pub newest_commit: Seq,
}

impl RoomCard {
    /// Encodes and seals the card.
    pub fn seal(&self, sealer: &Sealer) -> Vec<u8> {
        let mut plain = vec![VERSION, ROOM];
        plain.extend(self.number.to_be_bytes());
        plain.extend(self.pruned_to.0.to_be_bytes());
        push_string(&mut plain, self.name.as_str());
        if self.name.is_end_to_end() {
            plain.extend(self.newest_commit.0.to_be_bytes());
        }
        sealer.seal(plain)
    }

    /// Decodes a sealed value. Returns `None` if it is not a card sealed under this key.
    pub fn open(sealer: &Sealer, sealed: &[u8]) -> Option<Self> {
        let plain = sealer.open(sealed)?;
        let mut input = Decoder(plain.strip_prefix(&[VERSION, ROOM])?);
        let number = i64::from_be_bytes(input.array()?);
        let pruned_to = Seq(u64::from_be_bytes(input.array()?));
        let name = RoomName::parse(input.string()?)?;
        let newest_commit = match name.is_end_to_end() {
            true => Seq(u64::from_be_bytes(input.array()?)),
            false => Seq(0),
        };
        Some(RoomCard { number, name, pruned_to, newest_commit })
    }
}

pub(super) fn push_string(plain: &mut Vec<u8>, string: &str) {
    // Names and ids have at most 256 bytes (64 characters of four), so the length fits two bytes.
    plain.extend((string.len() as u16).to_be_bytes());
    plain.extend(string.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::lookup_tag::{id_proof, id_tag, room_tag};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_opens_as_it_was_sealed_and_only_under_its_key(
            text in "\\PC{0,200}", user in "\\PC{0,20}", id in proptest::option::of("[a-z]{1,64}"),
            seq in any::<u64>(), at in any::<i64>(), verified in any::<bool>(),
            e2e in proptest::option::of((any::<[u8; 10]>(), any::<u64>(), any::<bool>())),
        ) {
            let room = if e2e.is_some() { "+ops" } else { "lobby" };
            let e2e = e2e.map(|(device, base, is_commit)| EndToEnd {
                device: DeviceId(device),
                base: Seq(base),
                kind: if is_commit { EntryKind::Commit } else { EntryKind::Message },
            });
            let sealer = sealer(&AtRestKey::fresh());
            let entry = Entry {
                room: RoomName::parse(room).unwrap(), seq: Seq(seq), at: Timestamp::from_micros(at),
                user: UserName::clean(&user), verified,
                id: id.and_then(|id| MessageId::parse(&id)), text: text.into(), e2e,
            };
            let latest = entry.at;
            let sealed = Record { entry: entry.clone(), is_redacted: false, latest }.seal(&sealer);
            let record = Record::open(&sealer, &sealed).unwrap();
            prop_assert_eq!(&record.entry, &entry);
            prop_assert!(!record.is_redacted);
            let redacted = Record::open(&sealer, &record.redact().seal(&sealer)).unwrap();
            let e2e = entry.e2e.map(|e2e| EndToEnd { kind: EntryKind::Message, ..e2e });
            prop_assert_eq!(&redacted.entry, &Entry { text: "".into(), e2e, ..entry.clone() });
            prop_assert!(redacted.is_redacted);
            let other = super::sealer(&AtRestKey::fresh());
            prop_assert!(Record::open(&other, &sealed).is_none());
            prop_assert!(RoomCard::open(&sealer, &sealed).is_none());
        }

        #[test]
        fn a_card_with_one_flipped_bit_does_not_open(bit in 0usize..600) {
            let sealer = sealer(&AtRestKey::fresh());
            let card = RoomCard { number: 1, name: RoomName::lobby(), pruned_to: Seq(0), newest_commit: Seq(0) };
            let mut sealed = card.seal(&sealer);
            let bit = bit % (sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(RoomCard::open(&sealer, &sealed).is_none());
        }
    }

    // The values were calculated with Python's hmac and cryptography from the format described in
    // this code: what is on a disk must still be found and opened.
    #[test]
    fn known_answers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let sealer = sealer(&AtRestKey::open_external(&file).unwrap());
        let (room, user) = (RoomName::lobby(), UserName::clean("Alice"));
        let id = id_tag(&sealer, &room, &user, None, &MessageId::parse("job-1201").unwrap());
        let at = Timestamp::from_micros(1_790_000_000_000_000);
        assert_eq!(sealer.key_check()[..], bytes("97d3b8037e1c48c3b8134ea7f44b23ea"));
        assert_eq!(room_tag(&sealer, &room)[..], bytes("a9950976c9e30793e51a521edfb33b5b"));
        assert_eq!(id[..], bytes("a3ac2cdd46225a898ce96e50a6d85bd2"));
        let proof = id_proof(&sealer, &id, Seq(7), at, "hello", None);
        assert_eq!(proof[..], bytes("642bc54da6895d0a2ae61a3ac403d1dd"));
        let sealed = "78ba10f47795cfc7accee4716c9eb0cd3489b803cb7b1a1563bd242cded398e85e102f1073\
                      d6d2aa23000000000000000000000000";
        let card = RoomCard::open(&sealer, &bytes(sealed)).unwrap();
        assert_eq!((card.number, card.name, card.pruned_to), (3, room, Seq(7)));
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|start| u8::from_str_radix(&hex[start..start + 2], 16).unwrap())
            .collect()
    }
}
