//! The line being typed: what each key does to it (the emacs keys of readline(3)), earlier lines, and
//! completion. A line may have several lines of text, when it was pasted or with Alt-Enter.

use std::collections::BTreeSet;

use rustyline::line_buffer::{ChangeListener, DeleteListener, Direction, LineBuffer, WordAction};
use rustyline::{At, Movement, Word};

use super::keys::Key;

/// Longest line.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Lines that the up arrow can bring back.
const MAX_HISTORY_LINES: usize = 500;
/// Changes that can be undone.
const MAX_UNDO: usize = 100;
/// The commands, for completion.
const COMMANDS: [&str; 7] = ["/help", "/who", "/join ", "/leave ", "/history ", "/quit", "exit"];

/// The effect of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The line or the cursor may have changed.
    Edited,
    /// A line was entered; the next one is empty.
    Entered(String),
    /// More than one word completes what is typed.
    Candidates(Vec<String>),
    /// The line can't become longer.
    TooLong,
    /// The user wants to quit.
    Quit,
    /// The user wants to go back to the shell for a while.
    Suspend,
    /// The user wants an empty screen.
    Clear,
    /// The key has no meaning for a line.
    Other(Key),
}

/// The line being typed.
pub struct Line {
    buffer: LineBuffer,
    changes: Changes,
    history: Vec<String>,
    /// The earlier line that is shown, and the line that was being typed before.
    recalled: Option<(usize, String)>,
    /// A search in the earlier lines: what is searched for, and the line before the search.
    search: Option<(String, String)>,
    /// States before changes, oldest first.
    undo: Vec<(String, usize)>,
    /// Whether the last key inserted a character.
    typing: bool,
}

/// Records what is deleted, for Ctrl-Y.
#[derive(Default)]
struct Changes {
    killed: String,
    killing: bool,
}

impl Line {
    /// An empty line.
    pub fn new() -> Self {
        Line {
            buffer: LineBuffer::with_capacity(MAX_LINE_BYTES),
            changes: Changes::default(),
            history: Vec::new(),
            recalled: None,
            search: None,
            undo: Vec::new(),
            typing: false,
        }
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        self.buffer.as_str()
    }

    /// The cursor, as an index into the text.
    pub fn cursor(&self) -> usize {
        self.buffer.pos()
    }

    /// The text that is searched for, during a search.
    pub fn searched(&self) -> Option<&str> {
        self.search.as_ref().map(|(wanted, _)| wanted.as_str())
    }

    /// Shows a line that was entered again, unless another one is being typed.
    pub fn put_back(&mut self, line: &str) -> bool {
        let is_free = self.text().is_empty();
        if is_free {
            self.show(line.to_owned());
        }
        is_free
    }

    /// Forgets the earlier lines.
    pub fn clear_history(&mut self) {
        self.history.clear();
    }

    /// Takes a key. `names` are completed besides the commands. A line is entered only if `may_enter`.
    pub fn press(&mut self, key: Key, names: &BTreeSet<String>, may_enter: bool) -> Outcome {
        let key = match self.press_in_search(key) {
            Some(key) => key,
            None => return Outcome::Edited,
        };
        let typing = matches!(key, Key::Char(_));
        let before = (self.text().to_owned(), self.cursor());
        let ran_on = typing && self.typing;
        self.typing = typing;
        let is_undo = key == Key::Ctrl('_');
        let outcome = self.edit(key, names, may_enter);
        if self.text() != before.0 && !ran_on && !is_undo {
            if self.undo.len() == MAX_UNDO {
                self.undo.remove(0);
            }
            self.undo.push(before);
        }
        outcome
    }

    fn edit(&mut self, key: Key, names: &BTreeSet<String>, may_enter: bool) -> Outcome {
        let (line, changes) = (&mut self.buffer, &mut self.changes);
        let kills_before = std::mem::take(&mut changes.killing);
        match key {
            Key::Char(c) => return self.insert(c.encode_utf8(&mut [0; 4])),
            Key::Paste(text) => return self.insert(&text),
            Key::LineBreak => return self.insert("\n"),
            Key::Enter if may_enter => return self.enter(),
            Key::Tab => return self.complete(names),
            Key::Left | Key::Ctrl('b') => drop(line.move_backward(1)),
            Key::Right | Key::Ctrl('f') => drop(line.move_forward(1)),
            Key::WordLeft | Key::Alt('b') => drop(line.move_to_prev_word(Word::Emacs, 1)),
            Key::WordRight | Key::Alt('f') => {
                line.move_to_next_word(At::AfterEnd, Word::Emacs, 1);
            }
            Key::Home | Key::Ctrl('a') => drop(line.move_home()),
            Key::End | Key::Ctrl('e') => drop(line.move_end()),
            Key::Up | Key::Ctrl('p') => self.go_up(),
            Key::Down | Key::Ctrl('n') => self.go_down(),
            Key::Backspace => drop(line.backspace(1, changes)),
            Key::Ctrl('d') if line.is_empty() => return Outcome::Quit,
            Key::Delete | Key::Ctrl('d') => drop(line.delete(1, changes)),
            Key::Ctrl('u') => self.kill(&Movement::BeginningOfLine, kills_before),
            Key::Ctrl('k') => self.kill(&Movement::EndOfLine, kills_before),
            Key::Ctrl('w') => self.kill(&Movement::BackwardWord(1, Word::Big), kills_before),
            Key::Alt('\u{8}') => self.kill(&Movement::BackwardWord(1, Word::Emacs), kills_before),
            Key::Alt('d') => {
                self.kill(&Movement::ForwardWord(1, At::AfterEnd, Word::Emacs), kills_before);
            }
            Key::Ctrl('y') => {
                let killed = self.changes.killed.clone();
                return self.insert(&killed);
            }
            Key::Ctrl('t') => drop(line.transpose_chars(changes)),
            Key::Alt('t') => drop(line.transpose_words(1, changes)),
            Key::Alt('u') => drop(line.edit_word(WordAction::Uppercase, changes)),
            Key::Alt('l') => drop(line.edit_word(WordAction::Lowercase, changes)),
            Key::Alt('c') => drop(line.edit_word(WordAction::Capitalize, changes)),
            Key::Ctrl('_') => {
                if let Some((text, cursor)) = self.undo.pop() {
                    self.replace(&text, cursor);
                }
            }
            Key::Ctrl('r') => self.search = Some((String::new(), self.text().to_owned())),
            Key::Ctrl('c' | '\\') => return Outcome::Quit,
            Key::Ctrl('z') => return Outcome::Suspend,
            Key::Ctrl('l') => return Outcome::Clear,
            Key::Enter | Key::NotUtf8 | Key::PasteCut | Key::Column(_) => {
                return Outcome::Other(key);
            }
            _ => {}
        }
        Outcome::Edited
    }

    fn insert(&mut self, text: &str) -> Outcome {
        let (line, changes) = (&mut self.buffer, &mut self.changes);
        match text.is_empty() || line.yank(text, 1, changes).is_some() {
            true => Outcome::Edited,
            false => Outcome::TooLong,
        }
    }

    fn enter(&mut self) -> Outcome {
        let text = self.text().to_owned();
        self.replace("", 0);
        self.undo.clear();
        self.recalled = None;
        if !text.trim().is_empty() && self.history.last() != Some(&text) {
            if self.history.len() == MAX_HISTORY_LINES {
                self.history.remove(0);
            }
            self.history.push(text.clone());
        }
        Outcome::Entered(text)
    }

    /// Deletes for Ctrl-Y. Deletions in a row are put back together.
    fn kill(&mut self, range: &Movement, goes_on: bool) {
        let (line, changes) = (&mut self.buffer, &mut self.changes);
        if !goes_on {
            changes.killed.clear();
        }
        changes.killing = true;
        line.kill(range, changes);
    }

    fn replace(&mut self, text: &str, cursor: usize) {
        let listener = &mut Changes::default();
        self.buffer.update(text, cursor, listener);
    }

    /// Moves to the line of text above; in the first one, shows the earlier line.
    fn go_up(&mut self) {
        if !self.move_up() {
            self.recall_earlier();
        }
    }

    /// Moves to the line of text below; in the last one, shows the later line.
    fn go_down(&mut self) {
        if !self.move_down() {
            self.recall_later();
        }
    }

    /// Moves to the line of text above. `false` in the first one.
    fn move_up(&mut self) -> bool {
        let (text, cursor) = (self.text(), self.cursor());
        let Some(end) = text[..cursor].rfind('\n') else { return false };
        let start = text[..end].rfind('\n').map_or(0, |at| at + 1);
        let column = text[end + 1..cursor].chars().count();
        self.move_to_column(start, end, column);
        true
    }

    /// Moves to the line of text below. `false` in the last one.
    fn move_down(&mut self) -> bool {
        let (text, cursor) = (self.text(), self.cursor());
        let Some(start) = text[cursor..].find('\n').map(|at| cursor + at + 1) else { return false };
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let column =
            text[text[..cursor].rfind('\n').map_or(0, |at| at + 1)..cursor].chars().count();
        self.move_to_column(start, end, column);
        true
    }

    fn move_to_column(&mut self, start: usize, end: usize, column: usize) {
        let offset = self.text()[start..end].char_indices().nth(column).map(|(at, _)| at);
        let position = offset.map_or(end, |offset| start + offset);
        self.buffer.set_pos(position);
    }

    fn recall_earlier(&mut self) {
        let shown = self.recalled.as_ref().map_or(self.history.len(), |(index, _)| *index);
        let Some(index) = shown.checked_sub(1) else { return };
        let typed = self.recalled.take().map_or_else(|| self.text().to_owned(), |(_, typed)| typed);
        self.recalled = Some((index, typed));
        self.show(self.history[index].clone());
    }

    fn recall_later(&mut self) {
        let Some((shown, typed)) = self.recalled.take() else { return };
        match self.history.get(shown + 1) {
            None => self.show(typed),
            Some(text) => {
                let text = text.clone();
                self.recalled = Some((shown + 1, typed));
                self.show(text);
            }
        }
    }

    fn show(&mut self, text: String) {
        self.replace(&text, text.len());
    }

    /// Takes a key during a search. Returns a key that ends the search and has its usual effect.
    fn press_in_search(&mut self, key: Key) -> Option<Key> {
        let Some((mut wanted, before)) = self.search.take() else { return Some(key) };
        let mut below = self.history.len();
        match key {
            Key::Char(c) => wanted.push(c),
            Key::Backspace => drop(wanted.pop()),
            Key::Ctrl('r') => {
                below = self.history.iter().rposition(|line| line == self.text()).unwrap_or(below);
            }
            Key::Ctrl('g') => {
                self.show(before);
                return None;
            }
            key => return Some(key),
        }
        let fits = |line: &&String| !wanted.is_empty() && line.contains(&wanted);
        if let Some(found) = self.history[..below].iter().rfind(fits) {
            let cursor = found.find(&wanted).unwrap_or(0);
            let found = found.clone();
            self.replace(&found, cursor);
        }
        self.search = Some((wanted, before));
        None
    }

    fn complete(&mut self, names: &BTreeSet<String>) -> Outcome {
        let typed = &self.text()[..self.cursor()];
        let start = typed.rfind([' ', '\n']).map_or(0, |at| at + 1);
        let word = &typed[start..];
        let commands = COMMANDS.iter().filter(|_| start == 0).map(|command| (*command).to_owned());
        let found: Vec<String> = commands
            .chain(names.iter().cloned())
            .filter(|one| !word.is_empty() && one.starts_with(word))
            .collect();
        let Some(first) = found.first() else { return Outcome::Edited };
        let common = found.iter().skip(1).fold(first.as_str(), |common, one| {
            let same = common.chars().zip(one.chars()).take_while(|(a, b)| a == b);
            &common[..same.map(|(c, _)| c.len_utf8()).sum::<usize>()]
        });
        match common.len() > word.len() || found.len() == 1 {
            true => {
                let rest = common[word.len()..].to_owned();
                self.insert(&rest)
            }
            false => Outcome::Candidates(found),
        }
    }
}

impl DeleteListener for Changes {
    fn delete(&mut self, _: usize, text: &str, direction: Direction) {
        if self.killing {
            match direction {
                Direction::Forward => self.killed.push_str(text),
                Direction::Backward => self.killed.insert_str(0, text),
            }
        }
    }
}

impl ChangeListener for Changes {
    fn insert_char(&mut self, _: usize, _: char) {}

    fn insert_str(&mut self, _: usize, _: &str) {}

    fn replace(&mut self, _: usize, _: &str, _: &str) {}
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::keys::Decoder;
    use super::*;

    /// Types bytes, and returns the last outcome.
    fn type_into(line: &mut Line, bytes: &str) -> Outcome {
        let names = ["Ana", "Andrés", "Bob"].map(str::to_owned).into();
        let keys = Decoder::new().feed(bytes.as_bytes(), Instant::now());
        keys.into_iter().map(|key| line.press(key, &names, true)).last().unwrap_or(Outcome::Edited)
    }

    fn typed(bytes: &str) -> (String, usize) {
        let mut line = Line::new();
        type_into(&mut line, bytes);
        (line.text().to_owned(), line.cursor())
    }

    #[test]
    fn keys_edit_the_line() {
        for (bytes, expected, cursor) in [
            ("hola", "hola", 4),
            ("  hola ", "  hola ", 7),
            ("añ\u{7f}", "a", 1),
            ("👨\u{200d}👩\u{200d}👧\u{7f}x", "x", 1),
            ("abc\u{1}x\u{5}y", "xabcy", 5),
            ("one two\u{17}", "one ", 4),
            ("one two\u{1b}b\u{b}", "one ", 4),
            ("one two\u{15}x\u{19}", "xone two", 8),
            ("one two\u{17}\u{17}\u{19}", "one two", 7),
            ("abc\u{1b}[D\u{1b}[D\u{1b}[3~", "ac", 1),
            ("ab\u{14}", "ba", 2),
            ("\u{1b}[200~  a\n\tb\n\u{1b}[201~", "  a\n\tb\n", 7),
            ("a\u{1b}\rb", "a\nb", 3),
            ("one\u{17}\u{1f}", "one", 3),
            ("ab\u{1b}\rcd\u{1b}[Ax", "abx\ncd", 3),
        ] {
            assert_eq!(typed(bytes), (expected.to_owned(), cursor), "{}", bytes.escape_debug());
        }
    }

    #[test]
    fn a_line_is_entered_as_it_was_typed() {
        let mut line = Line::new();
        assert_eq!(type_into(&mut line, "  a b \r"), Outcome::Entered("  a b ".into()));
        assert_eq!((line.text(), line.cursor()), ("", 0));
        let names = BTreeSet::new();
        type_into(&mut line, "kept");
        assert_eq!(line.press(Key::Enter, &names, false), Outcome::Other(Key::Enter));
        assert_eq!(line.text(), "kept");
    }

    #[test]
    fn earlier_lines_are_recalled_and_found() {
        let mut line = Line::new();
        type_into(&mut line, "first\rsecond\r\r \rdraft");
        let mut see = |keys: &str| {
            type_into(&mut line, keys);
            line.text().to_owned()
        };
        for (keys, expected) in [
            ("\u{1b}[A", "second"),
            ("\u{1b}[A", "first"),
            ("\u{1b}[A", "first"),
            ("\u{e}", "second"),
            ("\u{e}", "draft"),
            ("\u{12}ir", "first"),
            ("\u{7}", "draft"),
            ("\u{12}s", "second"),
            ("\u{12}", "first"),
            ("\u{5}!", "first!"),
        ] {
            assert_eq!(see(keys), expected, "{}", keys.escape_debug());
        }
    }

    #[test]
    fn names_and_commands_are_completed() {
        let mut line = Line::new();
        for (keys, expected) in [("/wh\t", "/who"), ("/j\t", "/join "), ("hola B\t", "hola Bob")] {
            type_into(&mut line, &format!("\u{15}{keys}"));
            assert_eq!(line.text(), expected);
        }
        let found = Outcome::Candidates(vec!["Ana".into(), "Andrés".into()]);
        assert_eq!(type_into(&mut line, "\u{15}A\t\t"), found);
        assert_eq!(line.text(), "An");
        assert_eq!(type_into(&mut line, "\u{15}\tx\t"), Outcome::Edited);
    }

    #[test]
    fn ctrl_c_quits_always_and_ctrl_d_on_an_empty_line() {
        assert_eq!(type_into(&mut Line::new(), "a\u{3}"), Outcome::Quit);
        assert_eq!(type_into(&mut Line::new(), "\u{4}"), Outcome::Quit);
        assert_eq!(type_into(&mut Line::new(), "a\u{4}"), Outcome::Edited);
        assert_eq!(type_into(&mut Line::new(), "\u{1a}"), Outcome::Suspend);
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut line = Line::new();
        let full = "a".repeat(MAX_LINE_BYTES);
        let names = BTreeSet::new();
        assert_eq!(line.press(Key::Paste(full), &names, true), Outcome::Edited);
        assert_eq!(line.press(Key::Char('b'), &names, true), Outcome::TooLong);
    }
}
