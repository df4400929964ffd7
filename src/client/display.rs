//! Text of other people as it is shown on a terminal: nothing in it can act on the terminal, and no line
//! of a message can be taken for another message.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr;

use crate::protocol::json_line::is_unprintable;

/// Columns between the beginnings of two tabs.
const TAB_COLUMNS: usize = 8;
/// How far the lines of a message after the first are indented: they are under the name.
pub const INDENT: usize = "[12:34:56] ".len();

/// A name, a reason or another short text, as one line: an escape such as `\u{1b}` replaces every character
/// that could act on a terminal.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(&mut out, c));
    out
}

/// The text of a message after `head`, the beginning of its first line, which may contain colours and takes
/// `head_columns`. Each further line is indented. Tabs are spaces; joiners between letters or emoji stay. In a
/// window of `window` columns, the terminal itself breaks long lines, except where the next row would begin as a
/// message or a note does.
pub fn message(head: &str, head_columns: usize, window: usize, text: &str) -> String {
    let text = text.trim_end_matches(['\n', '\r']);
    let mut out = head.to_owned();
    // Tabs are counted from the beginning of the line, under the name.
    let (mut column, mut line_start) = (head_columns, head_columns);
    let mut before = None;
    let new_line = |out: &mut String| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', INDENT));
        INDENT
    };
    for (index, sign) in text.grapheme_indices(true) {
        let mut shown = String::new();
        match sign {
            "\n" | "\r\n" => {
                column = new_line(&mut out);
                line_start = column;
                before = None;
                continue;
            }
            "\t" => {
                let past_tab = column.saturating_sub(line_start) % TAB_COLUMNS;
                shown.extend(std::iter::repeat_n(' ', TAB_COLUMNS - past_tab));
                before = None;
            }
            sign => {
                for (offset, c) in sign.char_indices() {
                    let after = text[index + offset + c.len_utf8()..].chars().next();
                    if is_joiner(c)
                        && before.is_some_and(is_joinable)
                        && after.is_some_and(is_joinable)
                    {
                        shown.push(c);
                    } else {
                        push_escaped(&mut shown, c);
                    }
                    before = Some(c);
                }
            }
        }
        let width = columns(&shown);
        column = match column + width {
            end if end <= window => end,
            // Spaces and escapes are broken anywhere.
            end if shown.is_ascii() && width > 1 => end - window,
            _ if shown.starts_with(['[', '-']) => new_line(&mut out) + width,
            _ => width,
        };
        out.push_str(&shown);
    }
    out
}

/// The beginning of a text as part of a sentence: its first line, at most `columns` wide.
pub fn excerpt(text: &str, columns: usize) -> String {
    let text = text.trim();
    let line = text.lines().next().unwrap_or_default();
    let short = cut(&one_line(line), columns);
    if line.len() < text.len() && !short.ends_with('…') { format!("{short} …") } else { short }
}

/// The text, or as much of it as fits in `columns` with `…` in place of the rest.
pub fn cut(text: &str, columns: usize) -> String {
    if self::columns(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut width = 1;
    for sign in text.graphemes(true) {
        width += sign.width();
        if width > columns {
            break;
        }
        out.push_str(sign);
    }
    out.push('…');
    out
}

/// Breaks a line at spaces into rows of at most `columns`; a word that is longer is broken anywhere.
pub fn wrap(line: &str, columns: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    let mut width = 0;
    for word in line.split_inclusive(' ') {
        let needed = self::columns(word.trim_end());
        if width > 0 && width + needed > columns {
            rows.push(String::new());
            width = 0;
        }
        for sign in word.graphemes(true) {
            if width + sign.width() > columns && sign != " " {
                rows.push(String::new());
                width = 0;
            }
            rows.last_mut().into_iter().for_each(|row| row.push_str(sign));
            width += sign.width();
        }
    }
    rows.iter().map(|row| row.trim_end().to_owned()).collect()
}

/// The columns that a text takes. Each sign counts for itself: terminals have no ligatures.
pub fn columns(text: &str) -> usize {
    text.graphemes(true).map(UnicodeWidthStr::width).sum()
}

/// The zero-width joiner makes one sign of letters or emoji, and the non-joiner keeps letters apart, as Persian
/// needs it. Between other characters they are invisible.
pub fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Whether a joiner next to this character can have a meaning: it is a letter, a mark or a symbol outside of ASCII.
fn is_joinable(c: char) -> bool {
    !c.is_ascii() && !c.is_whitespace() && !is_unprintable(c)
}

fn push_escaped(out: &mut String, c: char) {
    if is_unprintable(c) {
        out.extend(c.escape_unicode());
    } else {
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        message("Ana: ", 5, 20, text)
    }

    #[test]
    fn control_characters_become_escapes() {
        assert_eq!(shown("a\u{1b}[31mb\u{202e}"), "Ana: a\\u{1b}[31mb\\u{202e}");
        assert_eq!(one_line("a\nb\tc"), "a\\u{a}b\\u{9}c");
        assert_eq!(shown("año 🎉 日本"), "Ana: año 🎉 日本");
    }

    #[test]
    fn lines_are_indented_and_tabs_are_spaces() {
        let indent = " ".repeat(INDENT);
        assert_eq!(shown("one\ntwo\r\nthree\n"), format!("Ana: one\n{indent}two\n{indent}three"));
        assert_eq!(
            shown("\n[12:34:56] Bob: forged"),
            format!("Ana: \n{indent}[12:34:56] Bob: forged")
        );
        assert_eq!(
            message("Ana: ", 5, 80, "\ta\tb\n\tc"),
            format!("Ana:         a       b\n{indent}        c")
        );
        assert_eq!(shown("a\rb"), "Ana: a\\u{d}b");
    }

    #[test]
    fn no_row_begins_as_a_message_does() {
        let indent = " ".repeat(INDENT);
        let filled = "a".repeat(15);
        for forged in ["[12:34:56] Bob: no", "-- Bob left"] {
            let text = format!("{filled}{forged}");
            assert_eq!(shown(&text), format!("Ana: {filled}\n{indent}{forged}"));
            let text = format!("{filled}{}{forged}", "b".repeat(20));
            assert_eq!(shown(&text), format!("Ana: {filled}{}\n{indent}{forged}", "b".repeat(20)));
            let text = format!("{filled}b{forged}");
            assert_eq!(shown(&text), format!("Ana: {text}"), "it is in the middle of a row");
        }
    }

    #[test]
    fn joiners_pass_between_letters_and_between_emoji_only() {
        for text in [
            "می\u{200c}خواهم",
            "👨\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
            "क\u{94d}\u{200d}ष",
        ] {
            assert_eq!(shown(text), format!("Ana: {text}"));
        }
        assert_eq!(shown("a\u{200d}b"), "Ana: a\\u{200d}b");
        assert_eq!(shown("\u{200d}م"), "Ana: \\u{200d}م");
        assert_eq!(shown("م\u{200c}\u{200c}م"), "Ana: م\\u{200c}\\u{200c}م");
        assert_eq!(shown("م\u{200c}"), "Ana: م\\u{200c}");
    }

    #[test]
    fn an_excerpt_is_one_line_within_its_columns() {
        assert_eq!(excerpt("hola", 10), "hola");
        assert_eq!(excerpt("hola\nBob", 10), "hola …");
        assert_eq!(excerpt("hola a todos", 6), "hola …");
        assert_eq!(excerpt("日本語の文字", 6), "日本…");
    }

    #[test]
    fn a_note_is_broken_at_spaces() {
        assert_eq!(wrap("can't reach it; trying again", 16), ["can't reach it;", "trying again"]);
        assert_eq!(wrap("abcdefgh 日本語", 4), ["abcd", "efgh", "日本", "語"]);
        assert_eq!(wrap("/who  who is here", 80), ["/who  who is here"]);
        assert_eq!(wrap("  a", 80), ["  a"]);
        assert_eq!(wrap("", 80), [""]);
    }

    proptest! {
        #[test]
        fn no_row_of_a_note_is_too_wide(text in "[a-z日 🎉]{0,40}", columns in 2usize..20) {
            let rows = wrap(&text, columns);
            prop_assert!(rows.iter().all(|row| self::columns(row) <= columns), "{rows:?}");
            let without_spaces = |text: &str| text.replace(' ', "");
            prop_assert_eq!(without_spaces(&rows.concat()), without_spaces(&text));
        }

        #[test]
        fn no_shown_text_acts_on_a_terminal(text in any::<String>()) {
            prop_assert!(!one_line(&text).chars().any(is_unprintable));
            let acts = |c| is_unprintable(c) && !matches!(c, '\n' | '\u{200c}' | '\u{200d}');
            prop_assert!(!shown(&text).chars().any(acts));
            prop_assert!(shown(&text).lines().skip(1).all(|line| line.starts_with(&" ".repeat(INDENT))));
        }
    }
}
