//! The chain of hashes over the entries of an end-to-end room, by which members notice that the server showed them
//! different ones.
//!
//! A commit starts the chain anew, from the epoch authenticator (RFC 9420, section 8.7). Each entry after it is added.
//! A member puts the chain of what it has read into each of its messages.

use sha2::{Digest as _, Sha256};

use crate::protocol::device::DeviceId;
use crate::protocol::{MessageId, Seq};

/// The state of the chain after an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordChain([u8; 32]);

/// An entry as the server tells it. The chain covers all of it, so members notice if the server tells them different things.
#[derive(Clone, Copy, Debug)]
pub struct ChainEntry<'a> {
    /// Its id.
    pub id: Option<&'a MessageId>,
    /// The user who sent it; empty if the server does not say.
    pub user: &'a str,
    /// The device that sent it.
    pub device: Option<DeviceId>,
    /// Whether it is a commit.
    pub is_commit: bool,
    /// Its content.
    pub content: &'a [u8],
}

/// What a message says of the chain: the first 16 bytes.
pub type ChainTag = [u8; 16];

impl RecordChain {
    /// The chain after the commit at `seq`.
    pub fn after_commit(authenticator: &[u8], seq: Seq) -> Self {
        let hash = Sha256::new()
            .chain_update(b"secure-chat chain 1")
            .chain_update((authenticator.len() as u64).to_be_bytes())
            .chain_update(authenticator)
            .chain_update(seq.0.to_be_bytes());
        RecordChain(hash.finalize().into())
    }

    /// The chain after one more entry.
    #[must_use]
    pub fn add(&self, seq: Seq, entry: &ChainEntry<'_>) -> Self {
        let id = entry.id.map_or("", MessageId::as_str);
        let device = entry.device.map_or([0; 10], |device| device.0);
        let content: [u8; 32] = Sha256::digest(entry.content).into();
        let mut hash = Sha256::new().chain_update(self.0).chain_update(seq.0.to_be_bytes());
        for text in [id, entry.user] {
            hash = hash.chain_update((text.len() as u64).to_be_bytes()).chain_update(text);
        }
        let hash = hash
            .chain_update(device)
            .chain_update([u8::from(entry.is_commit)])
            .chain_update(content);
        RecordChain(hash.finalize().into())
    }

    /// What a message says of the chain.
    pub fn tag(&self) -> ChainTag {
        *self.0.first_chunk().expect("SHA-256 gives 32 bytes")
    }

    /// The state, to be stored.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// A stored state.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        RecordChain(bytes)
    }
}

impl std::fmt::Debug for RecordChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecordChain(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<MessageId> {
        MessageId::parse(text)
    }

    #[test]
    fn every_difference_changes_the_chain() {
        let start = RecordChain::after_commit(b"authenticator", Seq(7));
        let (a, ac) = (id("a"), id("ac"));
        let device = Some(DeviceId([7; 10]));
        let entry = ChainEntry {
            id: a.as_ref(),
            user: "ana",
            device,
            is_commit: false,
            content: b"content",
        };
        let added = start.add(Seq(8), &entry);
        let altered = [
            ChainEntry { id: ac.as_ref(), content: b"ontent", ..entry },
            ChainEntry { id: None, ..entry },
            ChainEntry { content: b"other", ..entry },
            ChainEntry { user: "bob", ..entry },
            ChainEntry { device: Some(DeviceId([8; 10])), ..entry },
            ChainEntry { is_commit: true, ..entry },
        ];
        let mut others = vec![
            start,
            RecordChain::after_commit(b"authenticator", Seq(8)),
            RecordChain::after_commit(b"other", Seq(7)),
            start.add(Seq(9), &entry),
            added.add(Seq(8), &entry),
            // The same entries in the other order.
            start.add(Seq(9), &altered[0]).add(Seq(8), &entry),
        ];
        others.extend(altered.iter().map(|entry| start.add(Seq(8), entry)));
        for other in others {
            assert_ne!(other.tag(), added.tag());
        }
        assert_eq!(RecordChain::from_bytes(added.to_bytes()).tag(), added.tag());
    }
}
