//! The output of a run: messages to standard output, and read positions to the cursor file.
//!
//! The cursor says how far the lines *are out*, never how far messages were received. A room of which
//! something was received and not printed, because as many messages as asked for were printed already,
//! stays at its last printed line.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::cursor_file::CursorFile;
use super::failure::Failure;
use super::output::Printer;
use crate::conversation::client::event::{HeldGap, HeldRedaction, Message};
use crate::conversation::client::read_positions::ReadPositions;
use crate::protocol::Seq;
use crate::protocol::frame::Position;

/// Prints messages, at most `count` of them.
pub struct Sink {
    printer: Option<Printer>,
    cursor: Option<CursorFile>,
    count: Option<u64>,
    printed: u64,
    /// The last line that was printed, by room.
    last_printed: BTreeMap<String, Position>,
    /// Where printing stopped, in the rooms of which something was not printed.
    stopped: BTreeMap<String, Position>,
}

impl Sink {
    /// Prints nothing where `printer` is `None`, but counts all the same.
    pub fn new(
        mut printer: Option<Printer>,
        cursor: Option<CursorFile>,
        count: Option<u64>,
    ) -> Self {
        if let (Some(printer), Some(_)) = (&mut printer, &cursor) {
            printer.end_unfinished_line();
        }
        let last_printed = match &cursor {
            Some(cursor) => cursor.opened().all().clone(),
            None => BTreeMap::new(),
        };
        Sink { printer, cursor, count, printed: 0, last_printed, stopped: BTreeMap::new() }
    }

    /// Messages printed so far.
    pub fn printed(&self) -> u64 {
        self.printed
    }

    /// Whether there is a bound on the number of messages.
    pub fn has_count(&self) -> bool {
        self.count.is_some()
    }

    /// Whether as many messages as asked for are printed.
    pub fn is_complete(&self) -> bool {
        self.count.is_some_and(|count| self.printed >= count)
    }

    /// Whether anything is printed at all.
    pub fn prints(&self) -> bool {
        self.printer.is_some()
    }

    /// Whether the buffer should be flushed before more is printed.
    pub fn is_full(&self) -> bool {
        self.printer.as_ref().is_some_and(Printer::is_full)
    }

    /// Whether nothing more can be printed: the reader of the pipe has gone, or writing failed.
    pub fn is_closed(&self) -> bool {
        self.printer.as_ref().is_some_and(Printer::is_closed)
    }

    /// Gives up what is not written out; nothing more is printed.
    pub fn abandon(&mut self) {
        if let Some(printer) = &mut self.printer {
            printer.abandon();
        }
    }

    /// Why standard output failed. A closed pipe is no failure.
    pub fn failure(&self) -> Option<Failure> {
        let error = self.printer.as_ref()?.error()?;
        Some(Failure::Output { reason: error.to_string() })
    }

    /// Prints a message, unless as many as asked for are printed. `positions` are those after the
    /// message was received. Returns whether it counted.
    pub fn message(&mut self, message: &Message<'_>, positions: &ReadPositions) -> bool {
        let position = self.position_of(message, positions);
        if self.is_complete() {
            self.stop(&message.room, position);
            return false;
        }
        self.printed += 1;
        if let Some(printer) = &mut self.printer {
            printer.message(message);
        }
        if let Some(position) = position {
            self.last_printed.insert(message.room.to_string(), position);
        }
        true
    }

    /// Leaves a message out that is behind the last one asked for.
    pub fn leave_out(&mut self, message: &Message<'_>, positions: &ReadPositions) {
        let position = self.position_of(message, positions);
        self.stop(&message.room, position);
    }

    /// Prints a gap between the messages of a page, unless as many messages as asked for are printed.
    pub fn gap_in_page(&mut self, gap: &HeldGap, positions: &ReadPositions) {
        let epoch = positions.position(&gap.room).map(|known| known.epoch.clone());
        let at = |seq: Seq| epoch.clone().map(|epoch| Position { epoch, seq });
        if self.is_complete() {
            return self.stop(&gap.room, at(gap.after.next()));
        }
        self.frame(&gap.frame);
        if let Some(position) = at(Seq(gap.next.0.saturating_sub(1))) {
            self.last_printed.insert(gap.room.clone(), position);
        }
    }

    /// Prints a gap that is not part of a page, unless as many messages as asked for are printed.
    pub fn gap(&mut self, frame: &str, room: &str, positions: &ReadPositions) {
        if self.is_complete() {
            return self.stop(room, None);
        }
        self.frame(frame);
        if let Some(position) = positions.position(room) {
            self.last_printed.insert(room.to_owned(), position.clone());
        }
    }

    /// Prints a redaction, unless as many messages as asked for are printed. It stands in the place of its
    /// message, or it is about one that was printed.
    pub fn redacted(&mut self, redaction: &HeldRedaction, positions: &ReadPositions) {
        let HeldRedaction { frame, room, seq, timestamp } = redaction;
        let epoch = positions.position(room).map(|known| known.epoch.clone());
        let position = epoch.map(|epoch| Position { epoch, seq: *seq });
        let printed = self.last_printed.get(room);
        let is_next = printed.zip(position.as_ref()).is_none_or(|(last, at)| is_before(last, at));
        if self.is_complete() {
            return if is_next {
                self.stop(room, position)
            };
        }
        if let Some(printer) = &mut self.printer {
            printer.redacted(frame, *seq, timestamp);
        }
        if let Some(position) = position.filter(|_| is_next) {
            self.last_printed.insert(room.clone(), position);
        }
    }

    /// Prints any other frame, unless as many messages as asked for are printed.
    pub fn frame(&mut self, frame: &str) {
        if !self.is_complete()
            && let Some(printer) = &mut self.printer
        {
            printer.frame(frame);
        }
    }

    /// Writes the lines out, and then the read positions to the cursor file. May be dropped while it
    /// waits, and called again.
    pub async fn flush(&mut self, positions: &ReadPositions) -> Result<(), Failure> {
        if let Some(printer) = &mut self.printer {
            printer.flush().await;
        }
        self.save_cursor(positions)
    }

    fn save_cursor(&mut self, positions: &ReadPositions) -> Result<(), Failure> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let mut out = Cow::Borrowed(positions);
        for (room, position) in &self.stopped {
            // What is printed may not be handled yet.
            if positions.position(room).is_none_or(|known| is_before(position, known)) {
                out.to_mut().set(room, position.clone());
            }
        }
        if cursor.is_saved(&out) {
            return Ok(());
        }
        if let Some(printer) = &mut self.printer {
            printer.sync();
            if printer.is_closed() {
                return Ok(());
            }
        }
        cursor.save(&out).map_err(Failure::Cursor)
    }

    fn position_of(&self, message: &Message<'_>, positions: &ReadPositions) -> Option<Position> {
        let known = positions.position(&message.room)?;
        Some(Position { epoch: known.epoch.clone(), seq: Seq(message.seq?) })
    }

    /// Something at `position` was not printed, so the cursor of its room stays before it.
    fn stop(&mut self, room: &str, position: Option<Position>) {
        if self.cursor.is_none() || self.stopped.contains_key(room) {
            return;
        }
        let before = |position: Position| {
            let seq = Seq(position.seq.0.saturating_sub(1));
            Position { seq, ..position }
        };
        let stopped = self.last_printed.get(room).cloned().or(position.map(before));
        if let Some(stopped) = stopped {
            self.stopped.insert(room.to_owned(), stopped);
        }
    }
}

/// Whether a cursor must stay at `stopped` and not go on to `position`.
fn is_before(stopped: &Position, position: &Position) -> bool {
    stopped.epoch != position.epoch || stopped.seq < position.seq
}
