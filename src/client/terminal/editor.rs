//! The line editor on a terminal: it asks questions first, then reads lines on a thread of its own.
//! Other text is printed above the line being typed by [`Screen`].

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::{History as _, MemHistory};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, Config, Context, Editor, Helper};
use tokio::sync::mpsc;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::screen::Screen;

/// Lines that may be typed ahead of a slow connection.
const MAX_LINES_AHEAD: usize = 64;
/// Lines that the up arrow can bring back.
const MAX_HISTORY_LINES: usize = 500;
/// Printed before the line being typed.
const PROMPT: &str = "> ";
/// The commands, for completion.
const COMMANDS: [&str; 6] = ["/help", "/who", "/join ", "/history ", "/quit", "exit"];

/// Names for completion.
pub type Names = Arc<Mutex<BTreeSet<String>>>;

type Lines = Editor<Assistant, MemHistory>;

/// The line editor, before [`Self::start`] moves it to its thread.
pub struct LineEditor {
    editor: Lines,
    screen: Screen,
    /// Whether the terminal can only print.
    dumb: bool,
}

struct Assistant {
    names: Names,
    screen: Screen,
}

impl LineEditor {
    /// Takes over the terminal. `dumb`: it can only print, without control sequences.
    pub fn new(names: Names, dumb: bool) -> rustyline::Result<Self> {
        let config = Config::builder()
            .max_history_size(MAX_HISTORY_LINES)?
            .auto_add_history(true)
            // The highlighter colours nothing. It has to be called whenever a line is painted.
            .color_mode(ColorMode::Forced)
            .build();
        let mut editor = Lines::with_history(config, MemHistory::new())?;
        let screen = Screen::new();
        editor.set_helper(Some(Assistant { names, screen: screen.clone() }));
        Ok(LineEditor { editor, screen, dumb })
    }

    /// Asks a question; `None` at the end of input.
    pub fn ask(&mut self, question: &str) -> Option<String> {
        let answer = self.editor.readline(question).ok()?;
        Some(answer.trim().to_owned())
    }

    /// Moves the editor to a thread of its own. The channel closes when the user quits.
    pub fn start(mut self) -> (mpsc::Receiver<String>, Screen) {
        // The answers to the questions are no messages.
        let _ = self.editor.history_mut().clear();
        let screen = self.screen.clone();
        if !self.dumb
            && let Ok(printer) = self.editor.create_external_printer()
        {
            screen.print_above_line(printer);
        }
        let (out, lines) = mpsc::channel(MAX_LINES_AHEAD);
        std::thread::spawn(move || {
            loop {
                self.screen.before_line();
                match self.editor.readline(if self.dumb { "" } else { PROMPT }) {
                    Ok(line) => {
                        self.erase(&line);
                        let last = is_quit(&line);
                        if out.blocking_send(line).is_err() || last {
                            break;
                        }
                    }
                    Err(ReadlineError::Signal(_)) => {}
                    // Ctrl-D, Ctrl-C, or the terminal is gone.
                    Err(_) => break,
                }
            }
            self.screen.end();
        });
        (lines, screen)
    }

    /// Erases the line just typed. The message is shown, with its time, when the server sends it back.
    fn erase(&mut self, line: &str) {
        if self.dumb {
            return;
        }
        let Some((columns, _)) = self.editor.dimensions() else { return };
        let rows = rows(usize::from(columns), line);
        let mut out = std::io::stdout();
        let _ = write!(out, "\x1b[{rows}A\r\x1b[J").and_then(|()| out.flush());
    }
}

/// Whether a line is a command to quit.
pub fn is_quit(line: &str) -> bool {
    matches!(line.trim(), "exit" | "/quit" | "/exit")
}

/// How many rows of the terminal a typed line and its prompt take. A wide character that does not fit
/// into the last column is in the next row.
fn rows(columns: usize, line: &str) -> usize {
    let columns = columns.max(2);
    let (mut rows, mut column) = (1, PROMPT.width());
    for c in line.chars() {
        let width = c.width().unwrap_or(0);
        if c == '\n' || column + width > columns {
            (rows, column) = (rows + 1, 0);
        }
        column += width;
    }
    if column == columns { rows + 1 } else { rows }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..position];
        let start = typed.rfind(' ').map_or(0, |at| at + 1);
        let word = &typed[start..];
        let names = self.names.lock();
        let commands = COMMANDS.iter().map(|command| (*command).to_owned()).filter(|_| start == 0);
        let found = commands.chain(names.iter().cloned());
        Ok((start, found.filter(|one| !word.is_empty() && one.starts_with(word)).collect()))
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        self.screen.line_painted();
        Cow::Borrowed(prompt)
    }
}

impl Validator for Assistant {
    fn validate(&self, _: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        self.screen.line_entered();
        Ok(ValidationResult::Valid(None))
    }
}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_as_the_terminal_wraps_them() {
        for (columns, line, expected) in [
            (10, "", 1),
            (10, "1234567", 1),
            (10, "12345678", 2),
            (10, "123456789", 2),
            (10, "1234567日", 2),
            (10, "123456日", 2),
            (10, "12345日", 1),
            (10, "日日日日日日日日日", 3),
            (10, "a\nb", 2),
            (0, "ab", 3),
        ] {
            assert_eq!(rows(columns, line), expected, "{line:?}");
        }
    }
}
