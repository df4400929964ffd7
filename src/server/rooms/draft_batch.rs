//! The drafts that are collected for one commit.
//!
//! The messages of a sender keep their order also when the store fails: what a sender sent before it was told that an
//! earlier message was not stored, or perhaps not, is refused as well. Otherwise it would be stored first, and the earlier
//! one, sent again, would come behind it.

use super::pending_drafts::PendingDraft;
use crate::store::Draft;

/// What a draft counts in the queue besides its text, in bytes.
const DRAFT_OVERHEAD_BYTES: usize = 256;
/// The largest commit, in messages and in bytes.
const MAX_COMMIT_MESSAGES: usize = 1024;
const MAX_COMMIT_BYTES: usize = 1024 * 1024;

/// How many appends of a draft's sender had failed when the draft was queued.
pub(super) type FailedAppends = u32;

/// The drafts of one commit, and for each of them what its answer and its delivery need.
#[derive(Default)]
pub(super) struct DraftBatch {
    pub drafts: Vec<Draft>,
    pub origins: Vec<PendingDraft>,
    bytes: usize,
    /// Drafts that would come before an earlier message of their sender, which was not stored.
    pub overtaking: Vec<PendingDraft>,
}

impl DraftBatch {
    /// Adds a draft, or puts it aside if it would overtake.
    pub fn push(&mut self, draft: Draft, origin: PendingDraft, failed: FailedAppends) {
        if origin.sender.failed_appends() != failed {
            return self.overtaking.push(origin);
        }
        self.bytes += size_of(&draft);
        self.origins.push(origin);
        self.drafts.push(draft);
    }

    /// Whether there is nothing to append or to answer.
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.overtaking.is_empty()
    }

    /// Whether the rest must wait for the next commit.
    pub fn is_full(&self) -> bool {
        self.drafts.len() >= MAX_COMMIT_MESSAGES || self.bytes >= MAX_COMMIT_BYTES
    }
}

/// What a draft occupies in the queue, in bytes.
pub(super) fn size_of(draft: &Draft) -> usize {
    draft.bytes() + DRAFT_OVERHEAD_BYTES
}
