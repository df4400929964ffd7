//! Writes every room of a store into a file.

use std::io::Write;

use super::error::TransferError;
use super::form::LineWriter;
use super::sealed_file::SealedWriter;
use crate::crypto::age_file::Recipient;
use crate::protocol::{RoomName, Seq, Timestamp};
use crate::store::deletion::Stored;
use crate::store::room_log::{GapReason, Page, PageItem, PageRange, RoomLogReader};

const PAGE_ENTRIES: usize = 500;
const PAGE_BYTES: usize = 1 << 20;

/// What an export wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Rooms.
    pub rooms: u64,
    /// Messages, with those whose text was deleted.
    pub messages: u64,
    /// Gaps of messages that can't be read.
    pub damaged: u64,
    /// End-to-end rooms, which are left out: what their members need to go on is not in the messages.
    pub end_to_end: u64,
}

/// Writes every room that `reader` knows to `target`, sealed if there is a recipient. Of each room it writes what the
/// room has when its turn comes. `name` is that of the file, for errors; `server` names the program and its version.
pub fn export<W: Write>(
    reader: &dyn RoomLogReader,
    (name, target): (&str, W),
    recipient: Option<&Recipient>,
    (now, server): (Timestamp, &str),
) -> Result<(Exported, W), TransferError> {
    let failed = |source| TransferError::Io { file: name.into(), source };
    let file = SealedWriter::new(target, recipient).map_err(failed)?;
    let mut lines = LineWriter::new(file, now, server).map_err(failed)?;
    let (mut damaged, mut end_to_end) = (0, 0);
    for (room, _) in reader.rooms().map_err(TransferError::Rooms)? {
        if room.is_end_to_end() {
            end_to_end += 1;
            continue;
        }
        let mut is_begun = false;
        let mut pages = Pages::new(reader, &room);
        while let Some(page) = pages.next()? {
            for item in items(page, &mut damaged) {
                if !is_begun {
                    lines.room(&room).map_err(failed)?;
                    is_begun = true;
                }
                lines.message(&item).map_err(failed)?;
            }
        }
    }
    let (target, rooms, messages) = lines.finish().map_err(failed)?;
    Ok((Exported { rooms, messages, damaged, end_to_end }, target))
}

/// The messages of a page in their order. Counts the gaps of damaged messages.
pub(super) fn items(page: Page, damaged: &mut u64) -> Vec<Stored> {
    let mut stored = Vec::with_capacity(page.entries.len() + page.redactions.len());
    for item in page.items() {
        match item {
            PageItem::Message(entry) => stored.push(Stored::Message(entry.clone())),
            PageItem::Redacted(redaction) => stored.push(Stored::Redacted(redaction)),
            PageItem::Gap(gap) => *damaged += u64::from(gap.reason == GapReason::Damaged),
        }
    }
    stored
}

/// The pages of a room, from its beginning to its end.
pub(super) struct Pages<'a> {
    reader: &'a dyn RoomLogReader,
    room: &'a RoomName,
    after: Seq,
    has_more: bool,
}

impl<'a> Pages<'a> {
    pub fn new(reader: &'a dyn RoomLogReader, room: &'a RoomName) -> Self {
        Pages { reader, room, after: Seq(0), has_more: true }
    }

    pub fn next(&mut self) -> Result<Option<Page>, TransferError> {
        if !self.has_more {
            return Ok(None);
        }
        let range = PageRange::After(self.after);
        let page = self.reader.page(self.room, range, PAGE_ENTRIES, PAGE_BYTES);
        let page =
            page.map_err(|source| TransferError::Store { room: self.room.clone(), source })?;
        (self.after, self.has_more) = (page.reached, page.more);
        Ok(Some(page))
    }
}
