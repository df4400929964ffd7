//! Standard output: gathered while more is at hand, written and flushed when it is not.

use std::io::{self, Write as _};

use super::args::Output;
use super::local_time;
use crate::conversation::client::event::{Message, is_unprintable, write_json_line};

/// What is gathered at most before it is raw.
const GATHERED_BYTES: usize = 64 * 1024;

/// Where messages are printed.
pub struct Printer {
    form: Output,
    gathered: Vec<u8>,
    closed: bool,
}

impl Printer {
    /// Prints in that form.
    pub fn new(form: Output) -> Self {
        Printer { form, gathered: Vec::new(), closed: false }
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// A message.
    pub fn message(&mut self, message: &Message<'_>) {
        match self.form {
            Output::Json => message.write_json_line(&mut self.gathered),
            Output::Plain => {
                let line = plain(message);
                self.gathered.extend_from_slice(line.as_bytes());
            }
        }
        if self.gathered.len() >= GATHERED_BYTES {
            self.flush();
        }
    }

    /// Any other frame; only JSON has a form for it.
    pub fn frame(&mut self, frame: &str) {
        if self.form == Output::Json {
            write_json_line(frame, &mut self.gathered);
        }
    }

    /// Writes what was gathered. A closed pipe ends printing, quietly.
    pub fn flush(&mut self) {
        if !self.gathered.is_empty() && !self.closed {
            let mut out = io::stdout().lock();
            if out.write_all(&self.gathered).and_then(|()| out.flush()).is_err() {
                self.closed = true;
            }
        }
        self.gathered.clear();
    }
}

/// `[12:34:56] Alice: Hola Bob!`
pub fn plain(message: &Message<'_>) -> String {
    let text = message.text.as_deref().unwrap_or("(unreadable)");
    let time = local_time::local(&message.timestamp);
    format!("[{time}] {}: {}\n", escape_for_terminal(&message.username), escape_for_terminal(text))
}

/// Text that only shows and never acts: what could steer a terminal stands there in letters.
pub fn escape_for_terminal(text: &str) -> String {
    if !text.chars().any(is_unprintable) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut out, c| {
        if is_unprintable(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steering_characters_become_letters() {
        assert_eq!(escape_for_terminal("a\u{1b}[31mb\u{202e}"), "a\\u{1b}[31mb\\u{202e}");
        assert_eq!(escape_for_terminal("año 🎉 日本"), "año 🎉 日本");
    }

    proptest! {
        #[test]
        fn nothing_harmless_steers(text in any::<String>()) {
            prop_assert!(!escape_for_terminal(&text).chars().any(is_unprintable));
        }
    }
}
