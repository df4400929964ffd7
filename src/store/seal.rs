//! Sealing of what is kept on disk: AES-256-GCM-SIV (RFC 8452) under a key derived from the
//! at-rest key, and keyed hashes (HMAC-SHA-256) where something must be found without being read.
//!
//! A record carries its room, place and moment inside the sealed part, so that one that was moved
//! or swapped does not pass for another. GCM-SIV, because a nonce that comes twice (a machine
//! restored with its memory) then tells only whether two records are equal.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::Entry;
use crate::credentials::at_rest_key::AtRestKey;
use crate::protocol::{MessageId, RoomName, Seq, Timestamp, UserName};

const NONCE: usize = 12;
const SEALED_EXTRA: usize = NONCE + 16;
const FORM: u8 = 1;

/// Seals, opens, and names without telling.
pub(super) struct Sealer {
    seal: LessSafeKey,
    /// As it is with the key taken in: a copy of that costs less than to begin anew, as the
    /// library of the seal does for each tag.
    tags: Hmac<Sha256>,
    check: [u8; 16],
    nonces: Nonces,
}

/// Nonces that do not come twice: a random place among all there are, and from there on the next
/// for each record. Asking for random numbers each time costs more than the sealing itself.
struct Nonces {
    start: [u8; NONCE],
    given: AtomicU64,
}

impl Nonces {
    fn new() -> Self {
        let mut start = [0; NONCE];
        // Of the kernel: the library's own source takes 30 ms to be seeded.
        getrandom::fill(&mut start).expect("the kernel's random numbers");
        Nonces { start, given: AtomicU64::new(0) }
    }

    fn next(&self) -> [u8; NONCE] {
        let mut nonce = self.start;
        let (_, place) = nonce.split_last_chunk_mut::<8>().expect("twelve bytes");
        let given = self.given.fetch_add(1, Ordering::Relaxed);
        *place = u64::from_be_bytes(*place).wrapping_add(given).to_be_bytes();
        nonce
    }
}

/// A record as it is kept.
pub(super) struct Record {
    pub entry: Entry,
    /// The latest moment in the room up to here; it never falls, even where the clock does.
    pub high: Timestamp,
}

/// What is kept of a room beside its records.
pub(super) struct RoomCard {
    pub number: i64,
    pub name: RoomName,
    /// ReadPositions up to this one were forgotten.
    pub forgotten: Seq,
}

/// A keyed hash that stands for something that must not be readable.
pub(super) type Tag = [u8; 16];

impl Sealer {
    pub fn new(key: &AtRestKey) -> Self {
        let root = keyed(key.bytes());
        let derive = |purpose: &str| -> [u8; 32] {
            root.clone().chain_update(purpose).finalize().into_bytes().into()
        };
        let unbound = UnboundKey::new(&AES_256_GCM_SIV, &derive("room log: seal, 1"));
        Sealer {
            seal: LessSafeKey::new(unbound.expect("32 bytes are a key")),
            tags: keyed(&derive("room log: tags, 1")),
            check: cut(&derive("room log: check, 1")),
            nonces: Nonces::new(),
        }
    }

    /// Tells keys apart without telling them.
    pub fn check(&self) -> &Tag {
        &self.check
    }

    pub fn room_tag(&self, room: &RoomName) -> Tag {
        self.tag(&[b"room", room.as_str().as_bytes()])
    }

    /// Stands for a sender's id. Ids that are made one after the other get tags that lie together,
    /// so that a batch of them touches few pages: six bytes are of what such ids share, which is
    /// the time for those that have it in front (UUID version 7), and else all but the end.
    pub fn id_tag(&self, room: &RoomName, user: &UserName, id: &MessageId) -> Tag {
        let (room, user, id) = (room.as_str(), user.as_str(), id.as_str());
        let mut tag = self.tag(&[b"id", room.as_bytes(), user.as_bytes(), id.as_bytes()]);
        let shared = time_of(id).unwrap_or_else(|| {
            let end = id.char_indices().nth_back(1).map_or(0, |(start, _)| start);
            let stem = &id.as_bytes()[..end];
            self.tag(&[b"stem", room.as_bytes(), user.as_bytes(), stem])
        });
        tag[..6].copy_from_slice(&shared[..6]);
        tag
    }

    /// Binds an id to where its message is and what it says.
    pub fn proof(&self, id: &Tag, seq: Seq, at: Timestamp, text: &str) -> Tag {
        let (seq, at) = (seq.0.to_be_bytes(), at.micros().to_be_bytes());
        self.tag(&[b"proof", id, &seq, &at, text.as_bytes()])
    }

    pub fn seal_record(&self, entry: &Entry, high: Timestamp) -> Vec<u8> {
        let (room, user) = (entry.room.as_str(), entry.user.as_str());
        let id = entry.id.as_ref().map_or("", MessageId::as_str);
        let mut plain =
            Vec::with_capacity(64 + room.len() + user.len() + id.len() + entry.text.len());
        plain.extend([FORM, b'm', u8::from(entry.verified)]);
        plain.extend(entry.seq.0.to_be_bytes());
        plain.extend(entry.at.micros().to_be_bytes());
        plain.extend(high.micros().to_be_bytes());
        for part in [room, user, id] {
            put(&mut plain, part);
        }
        plain.extend(entry.text.as_bytes());
        self.seal(plain)
    }

    /// The record, if these bytes are one that was sealed under this key.
    pub fn open_record(&self, sealed: &[u8]) -> Option<Record> {
        let plain = self.open(sealed)?;
        let mut rest = Rest(plain.strip_prefix(&[FORM, b'm'])?);
        let verified = rest.bytes::<1>()? == [1];
        let seq = Seq(u64::from_be_bytes(rest.bytes()?));
        let at = Timestamp::from_micros(i64::from_be_bytes(rest.bytes()?));
        let high = Timestamp::from_micros(i64::from_be_bytes(rest.bytes()?));
        let room = RoomName::parse(rest.part()?)?;
        let user = UserName::clean(rest.part()?);
        let id = match rest.part()? {
            "" => None,
            id => Some(MessageId::parse(id)?),
        };
        let text = std::str::from_utf8(rest.0).ok()?.into();
        Some(Record { entry: Entry { room, seq, at, user, verified, id, text }, high })
    }

    pub fn seal_room(&self, card: &RoomCard) -> Vec<u8> {
        let mut plain = vec![FORM, b'r'];
        plain.extend(card.number.to_be_bytes());
        plain.extend(card.forgotten.0.to_be_bytes());
        put(&mut plain, card.name.as_str());
        self.seal(plain)
    }

    pub fn open_room(&self, sealed: &[u8]) -> Option<RoomCard> {
        let plain = self.open(sealed)?;
        let mut rest = Rest(plain.strip_prefix(&[FORM, b'r'])?);
        let number = i64::from_be_bytes(rest.bytes()?);
        let forgotten = Seq(u64::from_be_bytes(rest.bytes()?));
        Some(RoomCard { number, name: RoomName::parse(rest.part()?)?, forgotten })
    }

    /// Seals something small of the store's own.
    pub fn seal(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let nonce = self.nonces.next();
        bytes.reserve(SEALED_EXTRA);
        self.seal
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes)
            .expect("far below the longest that can be sealed");
        bytes.extend(nonce);
        bytes
    }

    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (sealed, nonce) = sealed.split_at_checked(sealed.len().checked_sub(NONCE)?)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = sealed.to_vec();
        let length = self.seal.open_in_place(nonce, Aad::empty(), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }

    // Each part with its length, or two different lists could be the same bytes.
    fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut hash = self.tags.clone();
        for part in parts {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        cut(&hash.finalize().into_bytes())
    }
}

/// The moment in front of an id that is a UUID of version 7; six bytes are milliseconds (RFC 9562,
/// section 5.7).
fn time_of(id: &str) -> Option<Tag> {
    let uuid = uuid::Uuid::try_parse(id).ok()?;
    (uuid.get_version_num() == 7).then(|| uuid.into_bytes())
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key may have any length")
}

fn cut(hash: &[u8]) -> Tag {
    *hash.first_chunk().expect("a hash is longer")
}

fn put(plain: &mut Vec<u8>, part: &str) {
    // Names and ids are at most 256 bytes (64 characters of four), so two bytes hold any length.
    plain.extend((part.len() as u16).to_be_bytes());
    plain.extend(part.as_bytes());
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        self.take(LENGTH)?.try_into().ok()
    }

    fn part(&mut self) -> Option<&'a str> {
        let length = u16::from_be_bytes(self.bytes()?);
        std::str::from_utf8(self.take(length.into())?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens_as_it_was(
            text in "\\PC{0,200}", user in "\\PC{0,20}", id in proptest::option::of("[a-z]{1,64}"),
            seq in any::<u64>(), at in any::<i64>(), verified in any::<bool>(),
        ) {
            let sealer = Sealer::new(&AtRestKey::fresh());
            let entry = Entry {
                room: RoomName::lobby(), seq: Seq(seq), at: Timestamp::from_micros(at),
                user: UserName::clean(&user), verified,
                id: id.and_then(|id| MessageId::parse(&id)), text: text.into(),
            };
            let sealed = sealer.seal_record(&entry, entry.at);
            let record = sealer.open_record(&sealed).unwrap();
            prop_assert_eq!(&record.entry, &entry);
            prop_assert!(Sealer::new(&AtRestKey::fresh()).open_record(&sealed).is_none());
            prop_assert!(sealer.open_room(&sealed).is_none());
        }

        #[test]
        fn one_flipped_bit_opens_to_nothing(bit in 0usize..600) {
            let sealer = Sealer::new(&AtRestKey::fresh());
            let card = RoomCard { number: 1, name: RoomName::lobby(), forgotten: Seq(0) };
            let mut sealed = sealer.seal_room(&card);
            let bit = bit % (sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(sealer.open_room(&sealed).is_none());
        }
    }

    #[test]
    fn ids_made_in_a_row_lie_together_and_are_told_apart() {
        let sealer = Sealer::new(&AtRestKey::fresh());
        let tag = |id: &str| {
            let id = MessageId::parse(id).unwrap();
            sealer.id_tag(&RoomName::lobby(), &UserName::clean("Alice"), &id)
        };
        let uuid = |end| format!("019ab000-0000-7000-8000-0000000000{end}");
        for (one, other) in [("job-1201", "job-1202"), (&uuid("01")[..], &uuid("02")[..])] {
            assert_eq!(tag(one)[..6], tag(other)[..6]);
            assert_ne!(tag(one), tag(other));
            assert_eq!(tag(one), tag(one));
        }
        assert_ne!(tag("a")[6..], tag("ñ")[6..]);
        assert_ne!(tag("job-1201")[..6], tag("job-1301")[..6]);
    }

    #[test]
    fn no_nonce_comes_twice() {
        let nonces = Nonces { start: [0xff; NONCE], given: AtomicU64::new(0) };
        assert_eq!(nonces.next(), [0xff; NONCE]);
        assert_eq!(nonces.next(), [&[0xff; 4][..], &[0; 8]].concat()[..]);
        assert_ne!(Nonces::new().next()[..8], Nonces::new().next()[..8]);
        let sealer = Sealer::new(&AtRestKey::fresh());
        assert_ne!(sealer.seal(b"x".to_vec()), sealer.seal(b"x".to_vec()));
    }

    // Calculated by Python's hmac and cryptography from what the comments here say: what is on a
    // disk must be found and opened again.
    #[test]
    fn what_was_written_before_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let sealer = Sealer::new(&AtRestKey::open_external(&file).unwrap());
        let (room, user) = (RoomName::lobby(), UserName::clean("Alice"));
        let id = sealer.id_tag(&room, &user, &MessageId::parse("job-1201").unwrap());
        let at = Timestamp::from_micros(1_790_000_000_000_000);
        assert_eq!(sealer.check()[..], bytes("97d3b8037e1c48c3b8134ea7f44b23ea"));
        assert_eq!(sealer.room_tag(&room)[..], bytes("a9950976c9e30793e51a521edfb33b5b"));
        assert_eq!(id[..], bytes("a3ac2cdd46225a898ce96e50a6d85bd2"));
        let proof = sealer.proof(&id, Seq(7), at, "hello");
        assert_eq!(proof[..], bytes("642bc54da6895d0a2ae61a3ac403d1dd"));
        let sealed = "78ba10f47795cfc7accee4716c9eb0cd3489b803cb7b1a1563bd242cded398e85e102f1073\
                      d6d2aa23000000000000000000000000";
        let card = sealer.open_room(&bytes(sealed)).unwrap();
        assert_eq!((card.number, card.name, card.forgotten), (3, room, Seq(7)));
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn tags_tell_names_apart_where_they_run_together() {
        let sealer = Sealer::new(&AtRestKey::fresh());
        assert_ne!(sealer.tag(&[b"ab", b"c"]), sealer.tag(&[b"a", b"bc"]));
        assert_eq!(sealer.tag(&[b"ab"]), sealer.tag(&[b"ab"]));
    }
}
