//! The lowest rows of the window: a status, the prompt and the line being typed. Everything else is
//! printed above them, once, and is then the terminal's.
//!
//! Nothing is written here: [`View::take_output`] gives the bytes to write. They move the cursor only
//! within the rows that the view painted, so nothing above can change.
//!
//! When a window becomes narrower, many terminals break the painted rows anew and others cut them off.
//! The column of the cursor tells which, so the view asks for it before it erases the rows.

use std::time::{Duration, Instant};

use super::keys::ASK_POSITION;
use super::layout::Rows;
use crate::client::display::{columns, cut};

/// Of so many rows of the window, one is left to what is above the line being typed, however long that is.
const ROWS_PER_ROW_ABOVE: usize = 4;
/// How long the terminal may take to say where its cursor is.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);

/// The lowest rows.
pub struct View {
    /// The window's size.
    columns: usize,
    lines: usize,
    painted: Option<Painted>,
    /// Text to print above, each line with its end.
    above: String,
    output: String,
    /// Until when an answer of the terminal is awaited, after the window became narrower.
    asked_until: Option<Instant>,
    /// Whether the terminal cuts rows off instead of breaking them anew.
    cuts_off: bool,
    /// Whether the status is dimmed.
    colours: bool,
}

/// The status lines, the prompt and the line being typed.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// Lines above the prompt.
    pub status: &'a [String],
    /// Before the line being typed.
    pub prompt: &'a str,
    /// The line being typed.
    pub text: &'a str,
    /// The cursor, as an index into the text.
    pub cursor: usize,
}

struct Painted {
    /// The width of each row.
    widths: Vec<usize>,
    cursor: (usize, usize),
}

impl Painted {
    /// The rows above the cursor, if the terminal breaks rows anew at this width.
    fn rows_above_cursor(&self, columns: usize) -> usize {
        let (row, column) = self.cursor;
        let above: usize =
            self.widths[..row].iter().map(|width| width.div_ceil(columns).max(1)).sum();
        above + column / columns
    }

    fn fits(&self, columns: usize) -> bool {
        self.widths.iter().all(|width| *width <= columns)
    }
}

impl View {
    /// A view that has painted nothing.
    pub fn new(columns: usize, lines: usize, colours: bool) -> Self {
        View {
            columns: columns.max(2),
            lines,
            painted: None,
            above: String::new(),
            output: String::new(),
            asked_until: None,
            cuts_off: false,
            colours,
        }
    }

    /// The columns of the window.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Prints lines above with the next [`Self::paint`].
    pub fn print_above(&mut self, text: &str) {
        self.above.push_str(text);
        self.above.push('\n');
    }

    /// Paints the rows anew, and what is to be printed above them.
    pub fn paint(&mut self, content: Content<'_>) {
        if self.asked_until.is_some() {
            return;
        }
        self.erase(None);
        self.output.push_str(&self.above);
        self.above.clear();
        let (rows, styled, cursor) = self.rows(content);
        let widths: Vec<usize> = rows.iter().map(|row| columns(row)).collect();
        self.output.push_str(&styled.join("\n"));
        let last = (rows.len() - 1, widths.last().copied().unwrap_or(0));
        if cursor != last {
            self.move_up(last.0 - cursor.0);
            self.output.push('\r');
            if cursor.1 > 0 {
                self.output.push_str(&format!("\x1b[{}C", cursor.1));
            }
        }
        self.painted = Some(Painted { widths, cursor });
    }

    /// The rows of a content as text and with colours, and the cursor. At most as many rows as the
    /// window has; those around the cursor are shown.
    fn rows(&self, content: Content<'_>) -> (Vec<String>, Vec<String>, (usize, usize)) {
        let status_rows = content.status.len().min(self.lines.saturating_sub(1) / 2);
        let mut rows: Vec<String> =
            content.status[..status_rows].iter().map(|line| cut(line, self.columns - 1)).collect();
        let mut styled: Vec<String> = rows.iter().map(|row| self.dimmed(row)).collect();
        let line = Rows::new(content.prompt, content.text, content.cursor, self.columns);
        // The last rows above stay in sight: they may say what is wrong with a long line.
        let free = self.lines - self.lines / ROWS_PER_ROW_ABOVE;
        let shown = free.saturating_sub(status_rows).max(1).min(line.rows.len());
        let first = (line.cursor.0 + 1).saturating_sub(shown).min(line.rows.len() - shown);
        let window = &line.rows[first..first + shown];
        rows.extend_from_slice(window);
        styled.extend_from_slice(window);
        (rows, styled, (status_rows + line.cursor.0 - first, line.cursor.1))
    }

    fn dimmed(&self, text: &str) -> String {
        if self.colours { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Erases the painted rows; the cursor is then where the first one was. `rows_above`: above the
    /// cursor, where that is not what was painted.
    fn erase(&mut self, rows_above: Option<usize>) {
        let Some(painted) = self.painted.take() else { return };
        match rows_above {
            // Row by row: if the first one is at the top of the window, tmux keeps what is erased at once among the
            // rows that scrolled away, one copy per key.
            None => {
                self.output.push_str("\r\x1b[K");
                self.output.push_str(&"\x1b[A\x1b[K".repeat(painted.cursor.0));
            }
            Some(rows) => {
                self.move_up(rows);
                self.output.push('\r');
            }
        }
        self.output.push_str("\x1b[J");
    }

    fn move_up(&mut self, rows: usize) {
        if rows > 0 {
            self.output.push_str(&format!("\x1b[{rows}A"));
        }
    }

    /// Erases everything, and prints what waits.
    pub fn end(&mut self) {
        self.asked_until = None;
        self.erase(None);
        self.output.push_str(&std::mem::take(&mut self.above));
    }

    /// Forgets what was painted, after another program has used the terminal.
    pub fn forget(&mut self) {
        self.painted = None;
        self.asked_until = None;
        self.output.push('\r');
    }

    /// Empties the window.
    pub fn clear(&mut self) {
        self.painted = None;
        self.asked_until = None;
        self.output.push_str("\x1b[H\x1b[J");
    }

    /// The window has another size.
    pub fn resize(&mut self, columns: usize, lines: usize, now: Instant) {
        let columns = columns.max(2);
        let narrower = columns < self.columns;
        (self.columns, self.lines) = (columns, lines);
        let broken = self.painted.as_ref().is_some_and(|painted| !painted.fits(columns));
        if broken && (narrower || self.asked_until.is_some()) {
            self.asked_until = Some(now + ANSWER_TIMEOUT);
            self.output.push_str(ASK_POSITION);
        }
    }

    /// When to call [`Self::answer`] without an answer.
    pub fn asked_until(&self) -> Option<Instant> {
        self.asked_until
    }

    /// The terminal said in which column its cursor is; `None`: it does not say.
    pub fn answer(&mut self, column: Option<usize>) {
        if self.asked_until.take().is_none() {
            return;
        }
        let Some(painted) = &self.painted else { return };
        let last = self.columns - 1;
        let (was, broken_anew) = (painted.cursor.1, painted.cursor.1 % self.columns);
        // A cursor that was within the new width does not tell; then the last answer that did counts.
        if was > last && broken_anew != last {
            self.cuts_off = column >= Some(last);
        }
        let above =
            if self.cuts_off { painted.cursor.0 } else { painted.rows_above_cursor(self.columns) };
        self.erase(Some(above));
    }

    /// The bytes to write to the terminal.
    pub fn take_output(&mut self) -> String {
        std::mem::take(&mut self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Content<'_> {
        Content { status: &[], prompt: "> ", text, cursor: text.len() }
    }

    fn painted(view: &mut View, content: Content<'_>) -> String {
        view.paint(content);
        view.take_output()
    }

    #[test]
    fn text_is_printed_above_the_line_being_typed() {
        let mut view = View::new(20, 10, false);
        assert_eq!(painted(&mut view, content("ho")), "> ho");
        view.print_above("one\n  two");
        assert_eq!(painted(&mut view, content("hola")), "\r\x1b[K\x1b[Jone\n  two\n> hola");
        let cursor = Content { cursor: 1, ..content("hola") };
        assert_eq!(painted(&mut view, cursor), "\r\x1b[K\x1b[J> hola\r\x1b[3C");
        view.end();
        assert_eq!(view.take_output(), "\r\x1b[K\x1b[J");
    }

    #[test]
    fn a_status_is_above_the_prompt_and_is_erased_with_it() {
        let mut view = View::new(8, 10, true);
        let status = ["-- waiting".to_owned()];
        let output = painted(&mut view, Content { status: &status, ..content("hola!!!") });
        assert_eq!(output, "\x1b[2m-- wai…\x1b[0m\n> hola!!\n!");
        let erased = "\r\x1b[K\x1b[A\x1b[K\x1b[A\x1b[K\x1b[J";
        assert_eq!(painted(&mut view, content("")), format!("{erased}> "));
    }

    #[test]
    fn a_line_higher_than_the_window_is_shown_around_the_cursor() {
        let mut view = View::new(20, 3, false);
        assert_eq!(painted(&mut view, content("a\nb\nc\nd")), "  b\n  c\n  d");
        let start = Content { cursor: 0, ..content("a\nb\nc\nd") };
        let erased = "\r\x1b[K\x1b[A\x1b[K\x1b[A\x1b[K\x1b[J";
        assert_eq!(painted(&mut view, start), format!("{erased}> a\n  b\n  c\x1b[2A\r\x1b[2C"));
    }

    #[test]
    fn a_long_line_leaves_some_rows_to_what_is_above() {
        let mut view = View::new(20, 12, false);
        let text = "x\n".repeat(100);
        assert_eq!(painted(&mut view, content(&text)).matches('\n').count(), 8);
    }

    #[test]
    fn a_narrower_window_is_erased_as_its_terminal_shows_it() {
        let now = Instant::now();
        // Twelve columns in a window of nine: broken anew, the cursor is in column 3, else in the last.
        for (answer, expected) in
            [(Some(3), "\x1b[1A\r\x1b[J"), (Some(8), "\r\x1b[J"), (None, "\x1b[1A\r\x1b[J")]
        {
            let mut view = View::new(20, 10, false);
            painted(&mut view, content("1234567890"));
            view.resize(9, 10, now);
            assert_eq!(view.take_output(), ASK_POSITION);
            assert_eq!(view.asked_until(), Some(now + ANSWER_TIMEOUT));
            assert_eq!(painted(&mut view, content("1234567890")), "", "before the answer");
            view.answer(answer);
            assert_eq!(
                painted(&mut view, content("1234567890")),
                format!("{expected}> 1234567\n890")
            );
        }
    }

    #[test]
    fn a_window_in_which_everything_fits_needs_no_answer() {
        let mut view = View::new(20, 10, false);
        painted(&mut view, content("hola"));
        view.resize(9, 10, Instant::now());
        assert_eq!(view.take_output(), "");
        view.resize(40, 10, Instant::now());
        assert_eq!((view.take_output().as_str(), view.asked_until()), ("", None));
    }
}
