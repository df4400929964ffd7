//! The places of a page where no message stands.

use std::collections::VecDeque;

use super::event::{HeldGap, HeldRedaction, PageItem};
use crate::protocol::Seq;

/// The gaps and redactions of a page, each with the message before or at its place.
pub(super) fn in_order<'a>(
    gaps: Vec<HeldGap>,
    redactions: impl Iterator<Item = HeldRedaction>,
) -> VecDeque<(Seq, PageItem<'a>)> {
    let redactions = redactions.map(|held| (held.seq, PageItem::Redacted(held)));
    let gaps = gaps.into_iter().map(|gap| (gap.after, PageItem::Gap(gap)));
    let mut holes: Vec<_> = redactions.chain(gaps).collect();
    // A gap after a redacted message stays behind it.
    holes.sort_by_key(|(at, _)| *at);
    holes.into()
}
