//! The chain of hashes over the entries of an end-to-end room, by which members notice that the server showed them
//! different ones.
//!
//! A commit starts the chain anew, from the epoch authenticator (RFC 9420, section 8.7). Each entry after it is added.
//! A member puts the chain of what it has read into each of its messages.

use sha2::{Digest as _, Sha256};

use crate::protocol::{MessageId, Seq};

/// The state of the chain after an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordChain([u8; 32]);

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

    /// The chain after one more entry. `content` is the entry's content as it was received.
    #[must_use]
    pub fn add(&self, seq: Seq, id: Option<&MessageId>, content: &[u8]) -> Self {
        let id = id.map_or("", MessageId::as_str);
        let content: [u8; 32] = Sha256::digest(content).into();
        let hash = Sha256::new()
            .chain_update(self.0)
            .chain_update(seq.0.to_be_bytes())
            .chain_update((id.len() as u64).to_be_bytes())
            .chain_update(id)
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
        let added = start.add(Seq(8), id("a").as_ref(), b"content");
        let others = [
            start,
            RecordChain::after_commit(b"authenticator", Seq(8)),
            RecordChain::after_commit(b"other", Seq(7)),
            start.add(Seq(9), id("a").as_ref(), b"content"),
            start.add(Seq(8), id("ac").as_ref(), b"ontent"),
            start.add(Seq(8), None, b"content"),
            start.add(Seq(8), id("a").as_ref(), b"other"),
            added.add(Seq(8), id("a").as_ref(), b"content"),
            // The same entries in the other order.
            start.add(Seq(9), None, b"x").add(Seq(8), id("a").as_ref(), b"content"),
        ];
        for other in others {
            assert_ne!(other.tag(), added.tag());
        }
        assert_eq!(RecordChain::from_bytes(added.to_bytes()).tag(), added.tag());
    }
}
