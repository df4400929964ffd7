//! The terms of an end-to-end room: which room it is, and who administers it. Every commit of the room's
//! group covers them, as the extension [`EXTENSION`] of the group context (RFC 9420, section 8.1).
//!
//! ```text
//! form 1 (u8) · length (u8), room · length (u8), host · generation (u32)
//! · number (u16), admins (32 bytes each) · number (u16), removed (10 bytes each)
//! ```
//!
//! Numbers are big-endian. Both lists are sorted and have no repetition, so equal terms have equal bytes.

use std::collections::BTreeSet;

use super::RoomName;
use super::decoder::Decoder;
use super::device::{DeviceId, UserKey};

/// The type of the extension, of the range for private use (RFC 9420, section 17.3).
pub const EXTENSION: u16 = 0xF3C1;

/// The form of the encoding.
const FORM: u8 = 1;

/// Removed devices that the terms can name. When there are more, the room must be reset.
pub const MAX_REMOVED: usize = 2048;

/// Admins that the terms can name.
pub const MAX_ADMINS: usize = 256;

/// What the members of an end-to-end room have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomTerms {
    /// The room that the group belongs to.
    pub room: RoomName,
    /// The name of the server that the room is on, as the creator of the room reached it: 1 to 255 bytes.
    pub host: String,
    /// 1 for the first group of the room; each reset adds one.
    pub generation: u32,
    /// The keys of the users who may add and remove other users. Empty for direct messages.
    pub admins: BTreeSet<UserKey>,
    /// Devices that were removed, and can't come back by themselves.
    pub removed: BTreeSet<DeviceId>,
}

impl RoomTerms {
    /// The encoded terms; `None` if they are outside their bounds.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let fits = (1..=255).contains(&self.host.len())
            && self.generation > 0
            && self.admins.len() <= MAX_ADMINS
            && self.removed.len() <= MAX_REMOVED;
        if !fits {
            return None;
        }
        let mut bytes = vec![FORM];
        for text in [self.room.as_str(), &self.host] {
            bytes.push(u8::try_from(text.len()).ok()?);
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.generation.to_be_bytes());
        bytes.extend(u16::try_from(self.admins.len()).ok()?.to_be_bytes());
        self.admins.iter().for_each(|key| bytes.extend(key.0));
        bytes.extend(u16::try_from(self.removed.len()).ok()?.to_be_bytes());
        self.removed.iter().for_each(|device| bytes.extend(device.0));
        Some(bytes)
    }

    /// The terms in `bytes`, if [`Self::encode`] makes exactly these bytes of them.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Decoder(bytes);
        if input.array()? != [FORM] {
            return None;
        }
        let room = RoomName::parse(short_text(&mut input)?)?;
        let host = short_text(&mut input)?.to_owned();
        let generation = u32::from_be_bytes(input.array()?);
        let admins = list(&mut input)?.into_iter().map(UserKey).collect();
        let removed = list(&mut input)?.into_iter().map(DeviceId).collect();
        let terms = RoomTerms { room, host, generation, admins, removed };
        // Unsorted lists, repetitions and bytes after the end make other bytes.
        (terms.encode()? == bytes).then_some(terms)
    }
}

fn short_text<'a>(input: &mut Decoder<'a>) -> Option<&'a str> {
    let [length] = input.array()?;
    std::str::from_utf8(input.take(length.into())?).ok()
}

fn list<const BYTES: usize>(input: &mut Decoder<'_>) -> Option<Vec<[u8; BYTES]>> {
    let count = u16::from_be_bytes(input.array()?);
    (0..count).map(|_| input.array()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms() -> RoomTerms {
        RoomTerms {
            room: RoomName::lobby(),
            host: "chat.example".into(),
            generation: 1,
            admins: [UserKey([1; 32]), UserKey([2; 32])].into(),
            removed: [DeviceId([3; 10]), DeviceId([4; 10])].into(),
        }
    }

    #[test]
    fn terms_outside_their_bounds_have_no_bytes() {
        for change in [
            (|terms| terms.host.clear()) as fn(&mut RoomTerms),
            |terms| terms.host = "h".repeat(256),
            |terms| terms.generation = 0,
            |terms| {
                terms.admins = (0..=255)
                    .map(|n| UserKey([n; 32]))
                    .chain([
                        UserKey([0; 32]),
                        UserKey({
                            let mut key = [1; 32];
                            key[0] = 0;
                            key
                        }),
                    ])
                    .collect()
            },
            |terms| {
                terms.removed = (0..=MAX_REMOVED as u64)
                    .map(|n| {
                        let mut id = [0; 10];
                        id[..8].copy_from_slice(&n.to_be_bytes());
                        DeviceId(id)
                    })
                    .collect()
            },
        ] {
            let mut changed = terms();
            change(&mut changed);
            assert_eq!(changed.encode(), None);
        }
    }

    #[test]
    fn other_bytes_are_no_terms() {
        let bytes = terms().encode().unwrap();
        assert_eq!(RoomTerms::decode(&bytes), Some(terms()));
        assert_eq!(RoomTerms::decode(&[&bytes[..], b"x"].concat()), None);
        for end in 0..bytes.len() {
            assert_eq!(RoomTerms::decode(&bytes[..end]), None, "cut at {end}");
        }
        // The two admins change places.
        let mut turned = bytes.clone();
        let admins = bytes.len() - 2 - 20 - 64;
        turned[admins..admins + 32].fill(2);
        turned[admins + 32..admins + 64].fill(1);
        assert_eq!(RoomTerms::decode(&turned), None);
        // One admin twice.
        turned[admins..admins + 64].fill(1);
        assert_eq!(RoomTerms::decode(&turned), None);
    }

    proptest! {
        #[test]
        fn what_decodes_has_one_form(mut bytes in Just(terms().encode().unwrap()), at in any::<prop::sample::Index>(), to: u8) {
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Some(terms) = RoomTerms::decode(&bytes) {
                prop_assert_eq!(terms.encode().unwrap(), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in any::<Vec<u8>>()) {
            RoomTerms::decode(&bytes);
        }
    }
}
