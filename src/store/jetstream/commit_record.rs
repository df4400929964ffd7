//! The sealed records of what commits of end-to-end rooms bring along, in subjects of their own.
//!
//! The last record of a room also tells which message is its newest commit. It is stored in one batch with the commit,
//! and again, by the janitor, before its age would remove it.

use super::record::RecordKeys;
use crate::protocol::decoder::Decoder;
use crate::protocol::device::DeviceId;
use crate::protocol::end_to_end::{CommitParts, Welcome};
use crate::protocol::{RoomName, Seq, UserName};
use crate::store::record::push_string;

const PARTS: u8 = b'w';
const TREE: u8 = b't';

/// What a commit brought along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommitRecord {
    /// The room.
    pub room: RoomName,
    /// The commit; `None` if it is the message right before this record.
    pub commit: Option<Seq>,
    /// The commit before that one.
    pub base: Seq,
    /// For the devices that it adds.
    pub welcomes: Vec<Welcome>,
    /// The MLS GroupInfo after it.
    pub info: Box<str>,
    /// The SHA-256 of the ratchet tree after it.
    pub tree_hash: [u8; 32],
}

impl CommitRecord {
    /// The number of the commit, if this record has that number.
    pub fn commit(&self, stored_at: u64) -> Seq {
        self.commit.unwrap_or(Seq(stored_at.saturating_sub(1)))
    }

    /// As it came from the sender, without the tree.
    pub fn into_parts(self) -> CommitParts {
        CommitParts {
            welcomes: self.welcomes,
            info: self.info,
            tree_hash: self.tree_hash,
            tree: None,
            lacks_upload: false,
            over_limit: None,
        }
    }
}

impl RecordKeys {
    /// Seals what a commit brought along for its subject.
    pub fn seal_commit(&self, subject: &str, record: &CommitRecord) -> Vec<u8> {
        let mut plain = vec![PARTS];
        // No message has the number 0.
        plain.extend(record.commit.unwrap_or(Seq(0)).0.to_be_bytes());
        plain.extend(record.base.0.to_be_bytes());
        plain.extend(record.tree_hash);
        push_string(&mut plain, record.room.as_str());
        push_text(&mut plain, &record.info);
        for Welcome { to, content } in &record.welcomes {
            plain.extend((to.len() as u32).to_be_bytes());
            for (user, device) in to {
                push_string(&mut plain, user.as_str());
                plain.extend(device.0);
            }
            push_text(&mut plain, content);
        }
        self.seal(subject, plain)
    }

    /// Opens what [`Self::seal_commit`] sealed.
    pub fn open_commit(&self, subject: &str, sealed: &[u8]) -> Option<CommitRecord> {
        let plain = self.open(subject, sealed)?;
        let mut input = Decoder(plain.strip_prefix(&[PARTS])?);
        let commit = Some(Seq(u64::from_be_bytes(input.array()?))).filter(|commit| commit.0 > 0);
        let base = Seq(u64::from_be_bytes(input.array()?));
        let tree_hash = input.array()?;
        let room = RoomName::parse(input.string()?)?;
        let info = text(&mut input)?.into();
        let mut welcomes = Vec::new();
        while !input.0.is_empty() {
            let mut to = Vec::new();
            for _ in 0..u32::from_be_bytes(input.array()?) {
                to.push((UserName::clean(input.string()?), DeviceId(input.array()?)));
            }
            welcomes.push(Welcome { to, content: text(&mut input)?.into() });
        }
        Some(CommitRecord { room, commit, base, welcomes, info, tree_hash })
    }

    /// Seals a ratchet tree for its subject.
    pub fn seal_tree(&self, subject: &str, hash: &[u8; 32], tree: &[u8]) -> Vec<u8> {
        self.seal(subject, [&[TREE][..], hash, tree].concat())
    }

    /// Opens a ratchet tree; `None` if it is not the one with this SHA-256.
    pub fn open_tree(&self, subject: &str, sealed: &[u8], wanted: &[u8; 32]) -> Option<Box<[u8]>> {
        let plain = self.open(subject, sealed)?;
        Some(plain.strip_prefix(&[TREE])?.strip_prefix(wanted)?.into())
    }
}

fn push_text(plain: &mut Vec<u8>, text: &str) {
    plain.extend((text.len() as u32).to_be_bytes());
    plain.extend(text.as_bytes());
}

fn text<'a>(input: &mut Decoder<'a>) -> Option<&'a str> {
    let length = u32::from_be_bytes(input.array()?) as usize;
    std::str::from_utf8(input.take(length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_opens_as_it_was_sealed_and_only_for_its_subject(
            commit in proptest::option::of(1..u64::MAX), base in any::<u64>(), info in "[a-z]{0,80}",
            hash in any::<[u8; 32]>(), welcomes in proptest::collection::vec(("[a-z]{0,9}", 0..4_u8), 0..4),
        ) {
            let keys = RecordKeys::new(&[1; 32], None);
            let welcomes = welcomes.into_iter().map(|(content, count)| Welcome {
                to: (0..count).map(|number| (UserName::clean("bob"), DeviceId([number; 10]))).collect(),
                content: content.into(),
            });
            let record = CommitRecord {
                room: RoomName::parse("+ops").unwrap(), commit: commit.map(Seq), base: Seq(base),
                welcomes: welcomes.collect(), info: info.into(), tree_hash: hash,
            };
            let sealed = keys.seal_commit("s", &record);
            prop_assert_eq!(keys.open_commit("s", &sealed), Some(record));
            prop_assert_eq!(keys.open_commit("other", &sealed), None);
            prop_assert!(keys.open_message("s", &sealed).is_none());
            prop_assert!(keys.open_tree("s", &sealed, &hash).is_none());
            let tree = keys.seal_tree("s", &hash, b"tree");
            prop_assert_eq!(keys.open_tree("s", &tree, &hash), Some(b"tree"[..].into()));
            prop_assert!(keys.open_tree("s", &tree, &[0; 32]).is_none() || hash == [0; 32]);
            prop_assert_eq!(keys.open_commit("s", &tree), None);
        }

        #[test]
        fn any_bytes_are_damaged_and_not_a_panic(bytes in any::<Vec<u8>>()) {
            let keys = RecordKeys::new(&[1; 32], None);
            let sealed = keys.seal("s", [&[PARTS][..], &bytes].concat());
            let _ = keys.open_commit("s", &sealed);
            prop_assert!(keys.open_commit("s", &bytes).is_none());
        }
    }
}
