//! From the bytes of a terminal to keys: UTF-8, the escape sequences of xterm and of the Linux console
//! (console_codes(4)), and bracketed paste.

use std::time::{Duration, Instant};

/// An Escape that nothing follows for so long is the key of that name.
const ESCAPE_TIMEOUT: Duration = Duration::from_millis(100);
/// Longest escape sequence.
const MAX_SEQUENCE_BYTES: usize = 32;
/// Longest paste. The rest of a longer one is dropped.
const MAX_PASTE_BYTES: usize = 64 * 1024;
const PASTE_END: &[u8] = b"\x1b[201~";

/// A key, or something else that a terminal sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those on the keys")]
pub enum Key {
    Char(char),
    Enter,
    /// Alt-Enter.
    LineBreak,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    WordLeft,
    WordRight,
    /// A control key, by its lower-case letter or sign.
    Ctrl(char),
    Alt(char),
    /// Pasted text; its line ends are line feeds.
    Paste(String),
    /// The paste before had more than this program takes.
    PasteCut,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// The column of the cursor, from 0: the answer to [`ASK_POSITION`].
    Column(usize),
}

/// Asks a terminal where its cursor is.
pub const ASK_POSITION: &str = "\x1b[6n";

/// Reads keys from bytes that come in pieces of any size.
pub struct Decoder {
    state: State,
    fed: Option<Instant>,
    keys: Vec<Key>,
}

enum State {
    /// Up to three bytes of an unfinished UTF-8 character.
    Text(Vec<u8>),
    Escape,
    /// After `ESC [`.
    Sequence(Vec<u8>),
    /// After `ESC O`.
    Function,
    /// After `ESC ]`, `ESC P`, `ESC _` and `ESC ^`: a report, which ends with BEL or `ESC \`.
    Report {
        escape: bool,
    },
    Paste(Vec<u8>),
}

impl Decoder {
    /// A decoder at the beginning of a key.
    pub fn new() -> Self {
        Decoder { state: State::Text(Vec::new()), fed: None, keys: Vec::new() }
    }

    /// Takes bytes that were read at `now`, and returns the keys that they complete.
    pub fn feed(&mut self, bytes: &[u8], now: Instant) -> Vec<Key> {
        let late = self.fed.is_some_and(|fed| now.saturating_duration_since(fed) >= ESCAPE_TIMEOUT);
        if late && matches!(self.state, State::Escape) {
            self.state = State::Text(Vec::new());
        }
        self.fed = Some(now);
        bytes.iter().for_each(|byte| self.byte(*byte));
        std::mem::take(&mut self.keys)
    }

    fn byte(&mut self, byte: u8) {
        let state = std::mem::replace(&mut self.state, State::Text(Vec::new()));
        self.state = match state {
            State::Text(pending) => self.text(pending, byte),
            State::Escape => self.escape(byte),
            State::Sequence(mut bytes) => {
                bytes.push(byte);
                match byte {
                    0x1b => State::Escape,
                    // A function key of the Linux console: one more letter follows.
                    b'[' if bytes.len() == 1 => State::Sequence(bytes),
                    b'@'..=b'~' => self.sequence(&bytes),
                    b' '..=b'?' if bytes.len() < MAX_SEQUENCE_BYTES => State::Sequence(bytes),
                    _ => State::Text(Vec::new()),
                }
            }
            State::Function => {
                self.keys.extend(cursor_key(byte, false));
                State::Text(Vec::new())
            }
            State::Report { escape } => match byte {
                0x07 => State::Text(Vec::new()),
                b'\\' if escape => State::Text(Vec::new()),
                byte => State::Report { escape: byte == 0x1b },
            },
            State::Paste(mut bytes) => {
                bytes.push(byte);
                if bytes.ends_with(PASTE_END) {
                    let length = bytes.len() - PASTE_END.len();
                    bytes.truncate(length.min(MAX_PASTE_BYTES));
                    self.paste(&bytes);
                    if length > MAX_PASTE_BYTES {
                        self.keys.push(Key::PasteCut);
                    }
                    State::Text(Vec::new())
                } else {
                    if bytes.len() > MAX_PASTE_BYTES + 1 + PASTE_END.len() {
                        // The end of a paste that is too long is found in what follows.
                        bytes.remove(MAX_PASTE_BYTES);
                    }
                    State::Paste(bytes)
                }
            }
        };
    }

    /// A byte outside of escape sequences, after the bytes of an unfinished character.
    fn text(&mut self, mut pending: Vec<u8>, byte: u8) -> State {
        if byte < 0x80 {
            if !pending.is_empty() {
                self.keys.push(Key::NotUtf8);
            }
            return self.ascii(byte);
        }
        pending.push(byte);
        match std::str::from_utf8(&pending) {
            Ok(text) => {
                // C1 controls are no keys.
                self.keys.extend(text.chars().filter(|c| !c.is_control()).map(Key::Char));
                State::Text(Vec::new())
            }
            Err(error) if error.error_len().is_none() => State::Text(pending),
            Err(_) => {
                self.keys.push(Key::NotUtf8);
                // The byte that ended an unfinished character may begin another.
                let begins = pending.len() > 1 && byte >= 0xc2;
                State::Text(if begins { vec![byte] } else { Vec::new() })
            }
        }
    }

    fn ascii(&mut self, byte: u8) -> State {
        self.keys.push(match byte {
            0x1b => return State::Escape,
            b'\r' | b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x08 | 0x7f => Key::Backspace,
            0x00..=0x1a => Key::Ctrl(char::from(byte + 0x60)),
            0x1c..=0x1f => Key::Ctrl(char::from(byte + 0x40)),
            byte => Key::Char(char::from(byte)),
        });
        State::Text(Vec::new())
    }

    fn escape(&mut self, byte: u8) -> State {
        match byte {
            0x1b => return State::Escape,
            b'[' => return State::Sequence(Vec::new()),
            b'O' => return State::Function,
            b']' | b'P' | b'_' | b'^' => return State::Report { escape: false },
            b'\r' | b'\n' => self.keys.push(Key::LineBreak),
            0x08 | 0x7f => self.keys.push(Key::Alt('\u{8}')),
            b' '..=b'~' => self.keys.push(Key::Alt(char::from(byte))),
            byte => return self.text(Vec::new(), byte),
        }
        State::Text(Vec::new())
    }

    /// A whole sequence, without `ESC [`.
    fn sequence(&mut self, bytes: &[u8]) -> State {
        let (last, parameters) = bytes.split_last().unwrap_or((&0, &[]));
        let parameters = std::str::from_utf8(parameters).unwrap_or_default();
        let mut numbers = parameters.split(';').map(|number| number.parse::<usize>().unwrap_or(0));
        let (first, second) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        // xterm adds 1 to a bit mask: 2 is Alt, 4 is Ctrl.
        let word = second.saturating_sub(1) & 6 != 0;
        self.keys.extend(match (last, first) {
            _ if bytes.starts_with(b"[") => None,
            (b'~', 200) => return State::Paste(Vec::new()),
            (b'~', 1 | 7) => Some(Key::Home),
            (b'~', 4 | 8) => Some(Key::End),
            (b'~', 3) => Some(Key::Delete),
            (b'R', _) if second > 0 => Some(Key::Column(second - 1)),
            (last, _) => cursor_key(*last, word),
        });
        State::Text(Vec::new())
    }

    fn paste(&mut self, bytes: &[u8]) {
        let mut text = String::new();
        let mut whole = true;
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            whole &= chunk.invalid().is_empty();
        }
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let keep = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
        self.keys.push(Key::Paste(text.chars().filter(keep).collect()));
        if !whole {
            self.keys.push(Key::NotUtf8);
        }
    }
}

/// The key whose sequence ends with this letter. `word`: with Ctrl or Alt.
fn cursor_key(letter: u8, word: bool) -> Option<Key> {
    Some(match letter {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' if word => Key::WordRight,
        b'D' if word => Key::WordLeft,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        Decoder::new().feed(bytes, Instant::now())
    }

    #[test]
    fn letters_controls_and_sequences_are_keys() {
        use Key::*;
        for (bytes, expected) in [
            (&b"a\xc3\xb1"[..], vec![Char('a'), Char('ñ')]),
            (b"\r", vec![Enter]),
            (b"\n", vec![Enter]),
            (b"\x1b\r", vec![LineBreak]),
            (b"\x03\x1a\x7f\t", vec![Ctrl('c'), Ctrl('z'), Backspace, Tab]),
            (b"\x1b[A\x1bOB\x1b[1;5C\x1b[1;3D", vec![Up, Down, WordRight, WordLeft]),
            (b"\x1b[H\x1b[4~\x1b[3~", vec![Home, End, Delete]),
            (b"\x1bb\x1b\x7f", vec![Alt('b'), Alt('\u{8}')]),
            (b"\x1b[12;40Rx", vec![Column(39), Char('x')]),
            // A function key of the Linux console, an unknown sequence, a title report.
            (b"\x1b[[Ax\x1b[99;1uy\x1b]0;t\x07z", vec![Char('x'), Char('y'), Char('z')]),
            (b"\x1b[200~a\r\nb\tc\x1b\x07\x1b[201~d", vec![Paste("a\nb\tc".into()), Char('d')]),
        ] {
            assert_eq!(keys(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_told_and_end_nothing() {
        use Key::*;
        assert_eq!(keys(b"ma\xf1ana\r")[2..4], [NotUtf8, Char('a')]);
        assert_eq!(keys(b"\xff\xfe!"), [NotUtf8, NotUtf8, Char('!')]);
        assert_eq!(keys(b"\xe9\xc3\xa9"), [NotUtf8, Char('é')]);
        assert_eq!(keys(b"\x1b[200~\xe9t\xe9\x1b[201~"), [Paste("t".into()), NotUtf8]);
    }

    #[test]
    fn an_escape_alone_does_not_swallow_the_next_key() {
        let mut decoder = Decoder::new();
        let now = Instant::now();
        assert_eq!(decoder.feed(b"\x1b", now), []);
        assert_eq!(decoder.feed(b"h", now + ESCAPE_TIMEOUT), [Key::Char('h')]);
        assert_eq!(decoder.feed(b"\x1b", now + ESCAPE_TIMEOUT), []);
        assert_eq!(decoder.feed(b"[A", now + ESCAPE_TIMEOUT), [Key::Up]);
    }

    #[test]
    fn a_paste_that_is_too_long_is_cut() {
        let long = format!("\x1b[200~{}\x1b[201~x", "a".repeat(MAX_PASTE_BYTES + 100));
        let [Key::Paste(text), Key::PasteCut, Key::Char('x')] = &keys(long.as_bytes())[..] else {
            panic!()
        };
        assert_eq!(text.len(), MAX_PASTE_BYTES);
        let fits = format!("\x1b[200~{}\x1b[201~x", "a".repeat(MAX_PASTE_BYTES));
        assert_eq!(keys(fits.as_bytes()).len(), 2);
    }

    proptest! {
        #[test]
        fn keys_do_not_depend_on_how_bytes_are_cut(bytes in any::<Vec<u8>>(), at in any::<prop::sample::Index>()) {
            let at = at.index(bytes.len() + 1);
            let (mut decoder, now) = (Decoder::new(), Instant::now());
            let mut cut = decoder.feed(&bytes[..at], now);
            cut.extend(decoder.feed(&bytes[at..], now));
            prop_assert_eq!(cut, keys(&bytes));
        }
    }
}
