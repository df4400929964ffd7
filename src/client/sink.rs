//! The output of a run: messages to standard output, and read positions to the cursor file.

use super::cursor_file::CursorFile;
use super::failure::Failure;
use super::output::Printer;
use crate::conversation::client::event::{Message, PageItem};
use crate::conversation::client::read_positions::ReadPositions;

/// Prints messages, at most `count` of them.
pub struct Sink {
    printer: Option<Printer>,
    cursor: Option<CursorFile>,
    count: Option<u64>,
    printed: u64,
}

impl Sink {
    /// Prints nothing where `printer` is `None`, but counts all the same.
    pub fn new(printer: Option<Printer>, cursor: Option<CursorFile>, count: Option<u64>) -> Self {
        Sink { printer, cursor, count, printed: 0 }
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

    /// Whether standard output is closed.
    pub fn is_closed(&self) -> bool {
        self.printer.as_ref().is_some_and(Printer::is_closed)
    }

    /// Prints a message, unless as many as asked for are printed. Returns whether it counted.
    pub fn message(&mut self, message: &Message<'_>) -> bool {
        if self.is_complete() {
            return false;
        }
        self.printed += 1;
        if let Some(printer) = &mut self.printer {
            printer.message(message);
        }
        true
    }

    /// Prints a page of the history, with its gaps between the messages.
    pub fn page(&mut self, page: &[PageItem<'_>]) {
        for item in page {
            match item {
                PageItem::Message(message) => drop(self.message(message)),
                PageItem::Gap(gap) => self.frame(&gap.frame),
            }
        }
    }

    /// Prints any other frame, unless as many messages as asked for are printed.
    pub fn frame(&mut self, frame: &str) {
        if let Some(printer) = &mut self.printer
            && self.count.is_none_or(|count| self.printed < count)
        {
            printer.frame(frame);
        }
    }

    /// Flushes the lines, then writes the read positions to the cursor file.
    pub fn flush(&mut self, positions: &ReadPositions) -> Result<(), Failure> {
        let Some(printer) = &mut self.printer else { return Ok(()) };
        printer.flush();
        if let Some(cursor) = self.cursor.as_mut().filter(|_| !printer.is_closed()) {
            cursor.save(positions).map_err(Failure::Cursor)?;
        }
        Ok(())
    }
}
