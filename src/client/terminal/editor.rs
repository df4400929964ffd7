//! Typing and showing on one terminal: a line editor on a thread of its own, and a printer that
//! puts what arrives above the line being typed.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, ExternalPrinter, Helper};
use tokio::sync::mpsc;
use unicode_width::UnicodeWidthStr as _;

/// Lines typed ahead of a slow connection.
const LINES_AHEAD: usize = 64;
/// Lines remembered for the up arrow.
const LINES_REMEMBERED: usize = 500;
/// What stands before the line being typed.
const PROMPT: &str = "> ";
/// The commands, for completion.
const COMMANDS: [&str; 6] = ["/help", "/who", "/join ", "/history ", "/quit", "exit"];

/// Names that can be completed.
pub type Names = Arc<Mutex<BTreeSet<String>>>;

type Lines = Editor<Assistant, MemHistory>;

/// The line editor before it goes to its thread: it can still be asked questions.
pub struct Typing {
    editor: Lines,
    dumb: bool,
}

/// Puts text above the line being typed.
pub struct Screen {
    printer: Option<Box<dyn ExternalPrinter + Send>>,
}

struct Assistant {
    names: Names,
}

impl Typing {
    /// Takes the terminal.
    pub fn new(names: Names) -> rustyline::Result<Self> {
        let config =
            Config::builder().max_history_size(LINES_REMEMBERED)?.auto_add_history(true).build();
        let mut editor = Lines::with_history(config, MemHistory::new())?;
        editor.set_helper(Some(Assistant { names }));
        let dumb = matches!(std::env::var("TERM").as_deref(), Ok("dumb" | "") | Err(_));
        Ok(Typing { editor, dumb })
    }

    /// Asks a question; `None` at the end of input.
    pub fn ask(&mut self, question: &str) -> Option<String> {
        let answer = self.editor.readline(question).ok()?;
        Some(answer.trim().to_owned())
    }

    /// Goes to a thread of its own; the channel closes when the user wants to leave.
    pub fn start(mut self) -> (mpsc::Receiver<String>, Screen) {
        let printer = match self.dumb {
            true => None,
            false => self.editor.create_external_printer().ok(),
        };
        let printer = printer.map(|printer| Box::new(printer) as Box<dyn ExternalPrinter + Send>);
        let (out, lines) = mpsc::channel(LINES_AHEAD);
        std::thread::spawn(move || {
            loop {
                match self.editor.readline(if self.dumb { "" } else { PROMPT }) {
                    Ok(line) => {
                        self.take_back(&line);
                        let last = is_farewell(&line);
                        if out.blocking_send(line).is_err() || last {
                            return;
                        }
                    }
                    Err(ReadlineError::Signal(_)) => {}
                    // Ctrl-D, Ctrl-C, a terminal that is gone.
                    Err(_) => return,
                }
            }
        });
        (lines, Screen { printer })
    }

    /// Wipes the line just typed: it comes back with its time when the server has it.
    fn take_back(&mut self, line: &str) {
        if self.dumb {
            return;
        }
        let Some((columns, _)) = self.editor.dimensions() else { return };
        let width = PROMPT.width() + line.width();
        let rows = width / usize::from(columns).max(1) + 1;
        print!("\x1b[{rows}A\r\x1b[J");
        let _ = std::io::stdout().flush();
    }
}

/// Whether a line says that the user leaves.
pub fn is_farewell(line: &str) -> bool {
    matches!(line.trim(), "exit" | "/quit" | "/exit")
}

impl Screen {
    /// Shows one or more lines.
    pub fn show(&mut self, text: &str) {
        let shown = match &mut self.printer {
            Some(printer) => printer.print(format!("{text}\n")).is_ok(),
            None => false,
        };
        if !shown {
            let mut out = std::io::stdout().lock();
            // A terminal that is gone ends the editor's thread, and so the conversation.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    }
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
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let commands = COMMANDS.iter().map(|command| (*command).to_owned()).filter(|_| start == 0);
        let found = commands.chain(names.iter().cloned());
        Ok((start, found.filter(|one| !word.is_empty() && one.starts_with(word)).collect()))
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}
impl Validator for Assistant {}
impl Helper for Assistant {}
