//! What readers of a room log get: pages, their gaps, and where a reader continues.

use super::deletion::Redaction;
use super::entry::Entry;
use crate::protocol::{Epoch, Seq};

/// Where the log of a room begins and ends.
///
/// Sequence numbers only grow, but not every number belongs to a message. So nobody but the store can tell
/// from numbers whether messages are missing: it says so in `forgotten` and in [`Page::gaps`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The epoch of the running start; all rooms share it.
    pub epoch: Epoch,
    /// The newest message; 0 before the first.
    pub last: Seq,
    /// Every message up to and including this one was pruned, and none above it; 0 if none was.
    pub forgotten: Seq,
}

/// How a reader continues in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// The reader is served every entry after this one.
    pub from: Seq,
    /// What the reader must be told first, because its position is not in this record.
    pub gap: Option<Gap>,
}

impl Resumption {
    /// How a reader at `seq` continues. `known` says whether its epoch is that of a start which is
    /// in the store, and whether no later start appended a message at or below `seq`; `current`
    /// whether it is the epoch of the running start.
    pub(super) fn of(seq: Seq, head: &Head, known: bool, current: bool) -> Self {
        if seq == Seq(0) {
            // Nothing is before it, so it is the same position in every record.
            return Resumption { from: seq, gap: None };
        }
        let (from, next, reason) = if current && seq > head.last {
            (head.last, head.last.next(), GapReason::Future)
        } else if !known || seq > head.last {
            (head.forgotten, head.forgotten.next(), GapReason::Epoch)
        } else {
            return Resumption { from: seq, gap: None };
        };
        Resumption { from, gap: Some(Gap { after: seq, next, reason }) }
    }
}

/// A hole in what a reader gets: every message above `after` and below `next` is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last message before the hole.
    pub after: Seq,
    /// The first message after it is not below this number.
    pub next: Seq,
    /// Why the messages are missing.
    pub reason: GapReason,
}

/// Why a reader does not get messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// They were pruned.
    Expired,
    /// They can't be read, or the store knows that they are missing although they were not pruned.
    Damaged,
    /// The reader's position is in another record: this one was restored, or lost its end.
    Epoch,
    /// The reader's position is above the newest message.
    Future,
}

impl GapReason {
    /// The word in a `gap` frame.
    pub fn word(self) -> &'static str {
        match self {
            GapReason::Expired => "expired",
            GapReason::Damaged => "damaged",
            GapReason::Epoch => "epoch",
            GapReason::Future => "future",
        }
    }
}

/// Which part of a room's log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRange {
    /// The first entries after this position.
    After(Seq),
    /// The last entries before this position.
    Before(Seq),
    /// The newest entries.
    Newest,
}

/// A part of a room's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In ascending order, whatever the range.
    pub entries: Vec<Entry>,
    /// The messages of this page whose texts were deleted, in ascending order.
    pub redactions: Vec<Redaction>,
    /// Whether the range has more entries.
    pub more: bool,
    /// Where the next page continues: `After(reached)` or `Before(reached)`. Up to here, every
    /// message is in `entries`, in `redactions` or in `gaps`.
    pub reached: Seq,
    /// The holes in this page, in ascending order.
    pub gaps: Vec<Gap>,
    /// The head of the room at the time of reading.
    pub head: Head,
}

/// A part of a [`Page`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageItem<'a> {
    /// A message.
    Message(&'a Entry),
    /// A message whose text was deleted.
    Redacted(Redaction),
    /// Messages that are missing.
    Gap(Gap),
}

impl Page {
    /// The messages, redactions and gaps in their order.
    pub fn items(&self) -> Vec<PageItem<'_>> {
        let mut items: Vec<(Seq, PageItem<'_>)> = Vec::new();
        items.extend(self.entries.iter().map(|entry| (entry.seq, PageItem::Message(entry))));
        items.extend(self.redactions.iter().map(|gone| (gone.seq, PageItem::Redacted(*gone))));
        items.extend(self.gaps.iter().map(|gap| (gap.after.next(), PageItem::Gap(*gap))));
        items.sort_by_key(|(seq, _)| *seq);
        items.into_iter().map(|(_, item)| item).collect()
    }
}
