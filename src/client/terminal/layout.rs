//! How the line being typed is broken into the rows of a window.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use crate::client::display::{columns as columns_of, is_joiner};
use crate::protocol::json_line::is_unprintable;

/// Columns between the beginnings of two tabs.
const TAB_COLUMNS: usize = 8;

/// A prompt and the text after it, as rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The rows, none wider than the window.
    pub rows: Vec<String>,
    /// Row and column of the cursor.
    pub cursor: (usize, usize),
}

impl Rows {
    /// Breaks a text into rows. `cursor` is an index into the text. A line of text after the first is
    /// below the first, under its beginning.
    pub fn new(prompt: &str, text: &str, cursor: usize, window: usize) -> Rows {
        let columns = window.max(2);
        let indent = columns_of(prompt).min(columns / 2);
        let rows = vec![String::new()];
        let mut layout = Layout { columns, indent, column: 0, rows, cursor: None };
        prompt.graphemes(true).for_each(|sign| layout.push(sign, false));
        for (index, sign) in text.grapheme_indices(true) {
            layout.push(sign, cursor < index + sign.len());
        }
        if layout.column == layout.columns {
            layout.new_row(0);
        }
        layout.mark();
        Rows { rows: layout.rows, cursor: layout.cursor.unwrap_or_default() }
    }
}

struct Layout {
    columns: usize,
    /// The columns before a further line.
    indent: usize,
    /// The width of the last row.
    column: usize,
    rows: Vec<String>,
    cursor: Option<(usize, usize)>,
}

impl Layout {
    /// Appends a sign. The first one with `is_after_cursor` has the cursor.
    fn push(&mut self, sign: &str, is_after_cursor: bool) {
        let line_end = matches!(sign, "\n" | "\r\n");
        let (sign, width) = match sign {
            "\t" => {
                if self.column == self.columns {
                    self.new_row(0);
                }
                let past_tab = self.column.saturating_sub(self.indent) % TAB_COLUMNS;
                let width = (TAB_COLUMNS - past_tab).min(self.columns - self.column);
                (" ".repeat(width), width)
            }
            sign => {
                let sign: String =
                    sign.chars().filter(|c| !is_unprintable(*c) || is_joiner(*c)).collect();
                let width = sign.width();
                (sign, width)
            }
        };
        if self.column + width > self.columns {
            self.new_row(0);
        }
        if is_after_cursor {
            self.mark();
        }
        if line_end {
            self.new_row(self.indent);
        } else if width <= self.columns {
            self.column += width;
            self.rows.last_mut().into_iter().for_each(|row| row.push_str(&sign));
        }
    }

    fn new_row(&mut self, indent: usize) {
        self.rows.push(" ".repeat(indent));
        self.column = indent;
    }

    /// The cursor is here, unless it has a place. Behind a full row it is on the last column.
    fn mark(&mut self) {
        let here = (self.rows.len() - 1, self.column.min(self.columns - 1));
        self.cursor.get_or_insert(here);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(text: &str, cursor: usize, columns: usize) -> (Vec<String>, (usize, usize)) {
        let Rows { rows, cursor } = Rows::new("> ", text, cursor, columns);
        (rows, cursor)
    }

    #[test]
    fn text_is_broken_as_a_terminal_shows_it() {
        for (text, cursor, expected, place) in [
            ("", 0, &["> "][..], (0, 2)),
            ("1234567", 7, &["> 1234567"], (0, 9)),
            ("12345678", 8, &["> 12345678", ""], (1, 0)),
            ("12345678", 7, &["> 12345678", ""], (0, 9)),
            ("123456789", 9, &["> 12345678", "9"], (1, 1)),
            ("1234567日", 7, &["> 1234567", "日"], (1, 0)),
            ("123456日", 9, &["> 123456日", ""], (1, 0)),
            ("\tb", 1, &[">         ", "b"], (1, 0)),
            ("abcdef\tb", 7, &["> abcdef  ", "b"], (1, 0)),
            ("1234567\tb", 9, &["> 1234567 ", "b"], (1, 1)),
            ("a\nb", 1, &["> a", "  b"], (0, 3)),
            ("a\n\nb", 3, &["> a", "  ", "  b"], (2, 2)),
            ("a\u{1b}\u{202e}b", 6, &["> ab"], (0, 4)),
            ("👨\u{200d}👩\u{200d}👧x", 19, &["> 👨\u{200d}👩\u{200d}👧x"], (0, 5)),
        ] {
            let expected = expected.iter().map(|row| (*row).to_owned()).collect();
            assert_eq!(rows(text, cursor, 10), (expected, place), "{text:?}");
        }
    }

    #[test]
    fn a_long_prompt_is_broken_too() {
        let Rows { rows, cursor } = Rows::new("Server host: ", "a\nb", 3, 8);
        assert_eq!(rows, ["Server h", "ost: a", "    b"]);
        assert_eq!(cursor, (2, 5));
    }

    proptest! {
        #[test]
        fn no_row_is_wider_than_the_window(
            text in "[a-z日\t\n \u{e9}🎉\u{200d}]{0,60}", cursor in any::<prop::sample::Index>(), columns in 0usize..20,
        ) {
            let Rows { rows, cursor } = Rows::new("> ", &text, cursor.index(text.len() + 1), columns);
            let columns = columns.max(2);
            prop_assert!(rows.iter().all(|row| columns_of(row) <= columns), "{rows:?}");
            prop_assert!(cursor.0 < rows.len() && cursor.1 < columns, "{cursor:?} in {rows:?}");
        }
    }
}
