//! Text of other people as it is shown on a terminal: nothing in it can act on the terminal, and no line
//! of a message can be taken for another message.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr;

use crate::conversation::client::event::is_unprintable;

/// Columns between the beginnings of two tabs.
const TAB_COLUMNS: usize = 8;
/// How far the lines of a message after the first are indented: they are under the name.
pub const INDENT: usize = "[12:34:56] ".len();
/// Joins letters or emoji into one sign; between other characters it is invisible.
const ZERO_WIDTH_JOINER: char = '\u{200d}';
/// Keeps two letters apart, as Persian needs it.
const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';

/// A name, a reason or another short text, as one line: an escape such as `\u{1b}` replaces every character
/// that could act on a terminal.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(&mut out, c));
    out
}

/// The text of a message after `head`, the beginning of its first line, which may contain colours and takes
/// `head_columns`. Each further line is indented by `indent` spaces. Tabs are spaces; joiners between letters or emoji stay.
pub fn message(head: &str, head_columns: usize, indent: usize, text: &str) -> String {
    let mut out = head.to_owned();
    let mut column = head_columns;
    let text = text.trim_end_matches(['\n', '\r']);
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            }
            '\t' => {
                let spaces = TAB_COLUMNS - column % TAB_COLUMNS;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            ZERO_WIDTH_JOINER | ZERO_WIDTH_NON_JOINER
                if before.is_some_and(is_joinable)
                    && chars.peek().copied().is_some_and(is_joinable) =>
            {
                out.push(c);
            }
            c => {
                let start = out.len();
                push_escaped(&mut out, c);
                column += columns(&out[start..]);
            }
        }
        before = Some(c);
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

/// The columns that a text takes. Each sign counts for itself: terminals have no ligatures.
pub fn columns(text: &str) -> usize {
    text.graphemes(true).map(UnicodeWidthStr::width).sum()
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
        message("Ana: ", 5, 2, text)
    }

    #[test]
    fn control_characters_become_escapes() {
        assert_eq!(shown("a\u{1b}[31mb\u{202e}"), "Ana: a\\u{1b}[31mb\\u{202e}");
        assert_eq!(one_line("a\nb\tc"), "a\\u{a}b\\u{9}c");
        assert_eq!(shown("año 🎉 日本"), "Ana: año 🎉 日本");
    }

    #[test]
    fn lines_are_indented_and_tabs_are_spaces() {
        assert_eq!(shown("one\ntwo\r\nthree\n"), "Ana: one\n  two\n  three");
        assert_eq!(shown("\n[12:34:56] Bob: forged"), "Ana: \n  [12:34:56] Bob: forged");
        assert_eq!(shown("\ta\tb\n\tc"), "Ana:    a       b\n        c");
        assert_eq!(shown("a\rb"), "Ana: a\\u{d}b");
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

    proptest! {
        #[test]
        fn no_shown_text_acts_on_a_terminal(text in any::<String>()) {
            prop_assert!(!one_line(&text).chars().any(is_unprintable));
            let acts = |c| is_unprintable(c) && !matches!(c, '\n' | '\u{200c}' | '\u{200d}');
            prop_assert!(!shown(&text).chars().any(acts));
            prop_assert!(shown(&text).lines().skip(1).all(|line| line.starts_with("  ")));
        }
    }
}
