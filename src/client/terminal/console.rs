//! The terminal of a conversation: a line is typed in its lowest rows, and everything else is printed
//! above. One task owns it, so nothing is printed in the middle of anything else.
//!
//! A terminal that can only print (`TERM=dumb`) is left in its usual mode: it echoes the line itself, and
//! text is printed as it comes.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::time::Instant;

use tokio::sync::mpsc;

use super::keys::{Decoder, Key};
use super::line::{Line, Outcome};
use super::mode::{KeyMode, ask_to_stop, read, window_size, write};
use super::view::{Content, View};
use crate::client::blanks::fill;
use crate::client::display;
use crate::client::driver::sleep_until;
use crate::client::messages::Messages;
use crate::protocol::{invitation, mask};
use crate::sys::terminal_signals::{TerminalChange, TerminalSignals};

/// Reads that wait until they are processed; the terminal itself holds what is typed meanwhile.
const MAX_READS_AHEAD: usize = 4;
/// Longest line from a terminal that can only print (termios(3) allows 4096).
const MAX_DUMB_LINE_BYTES: usize = 64 * 1024;
/// Names kept for completion.
const MAX_NAMES: usize = 4096;

/// Before a note, and before its further rows.
const NOTE_MARK: &str = "-- ";
const NOTE_INDENT: &str = "   ";
/// A window that is narrower breaks notes itself.
const MIN_NOTE_COLUMNS: usize = 10;

/// What the user did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Entered a line.
    Line(String),
    /// Tried to enter a line while none is taken. It stays in the editor.
    NotTaken,
    /// Wants to quit, or the terminal is gone.
    End,
}

/// The terminal.
pub struct Console {
    reads: mpsc::Receiver<Vec<u8>>,
    /// `None` for a terminal that can only print.
    editor: Option<Editor>,
    /// The unfinished line from a terminal that can only print.
    dumb_line: Vec<u8>,
    names: BTreeSet<String>,
    texts: &'static Messages,
    colours: bool,
    /// Whether the user was told that a key was not UTF-8.
    not_utf8_told: bool,
    /// Whether the line being typed answers a question, so that it may be an invitation.
    asking: bool,
}

struct Editor {
    mode: KeyMode,
    signals: TerminalSignals,
    decoder: Decoder,
    keys: VecDeque<Key>,
    line: Line,
    view: View,
    prompt: String,
    status: Vec<String>,
    /// Whether the view shows something else than the fields above.
    stale: bool,
}

impl Console {
    /// Takes over the terminal. Needs a tokio runtime. `dumb`: it can only print.
    pub fn new(texts: &'static Messages, dumb: bool, colours: bool) -> io::Result<Self> {
        let editor = if dumb { None } else { Some(Editor::new(colours)?) };
        let (out, reads) = mpsc::channel(MAX_READS_AHEAD);
        std::thread::Builder::new().spawn(move || {
            while let Some(bytes) = read() {
                if out.blocking_send(bytes).is_err() {
                    return;
                }
            }
        })?;
        Ok(Console {
            reads,
            editor,
            dumb_line: Vec::new(),
            names: BTreeSet::new(),
            texts,
            colours,
            not_utf8_told: false,
            asking: false,
        })
    }

    /// The next thing that the user does. A line is taken only if `may_enter`. Cancel safe.
    pub async fn next(&mut self, may_enter: bool) -> Input {
        loop {
            if let Some(input) = self.take_input(may_enter) {
                return input;
            }
            self.flush();
            let Console { reads, editor, .. } = self;
            let Some(editor) = editor else {
                match reads.recv().await {
                    Some(bytes) => self.dumb_line.extend(bytes),
                    None => return Input::End,
                }
                continue;
            };
            let answer_by = editor.view.asked_until();
            tokio::select! {
                bytes = reads.recv() => match bytes {
                    Some(bytes) => editor.keys.extend(editor.decoder.feed(&bytes, Instant::now())),
                    None => return Input::End,
                },
                change = editor.signals.next() => editor.changed(change),
                () = sleep_until(answer_by) => {
                    editor.view.answer(None);
                    editor.stale = true;
                }
            }
        }
    }

    /// Prints one or more lines above the line being typed.
    pub fn show(&mut self, text: &str) {
        match &mut self.editor {
            Some(editor) => {
                editor.view.print_above(text);
                editor.stale = true;
            }
            None => write(&format!("{text}\n")),
        }
    }

    /// Shows a text of the client's own, marked so that it can't be taken for a message.
    pub fn note(&mut self, text: &str) {
        let columns = self.columns().saturating_sub(NOTE_MARK.len()).max(MIN_NOTE_COLUMNS);
        for line in text.lines() {
            let rows = display::wrap(line, columns).join(&format!("\n{NOTE_INDENT}"));
            let note = format!("{NOTE_MARK}{rows}");
            self.show(&if self.colours { format!("\x1b[2m{note}\x1b[0m") } else { note });
        }
    }

    /// The columns of the window.
    pub fn columns(&self) -> usize {
        self.editor.as_ref().map_or_else(|| window_size().0, |editor| editor.view.columns())
    }

    /// Sets what is before the line being typed.
    pub fn set_prompt(&mut self, prompt: &str) {
        match &mut self.editor {
            Some(editor) if editor.prompt != prompt => {
                prompt.clone_into(&mut editor.prompt);
                editor.stale = true;
            }
            _ => {}
        }
    }

    /// Sets the lines above the line being typed.
    pub fn set_status(&mut self, status: Vec<String>) {
        if let Some(editor) = &mut self.editor
            && editor.status != status
        {
            editor.status = status;
            editor.stale = true;
        }
    }

    /// Asks a question; `None` if the user does not answer.
    pub async fn ask(&mut self, question: &str) -> Option<String> {
        self.asking = true;
        self.set_prompt(question);
        if self.editor.is_none() {
            write(question);
        }
        let Input::Line(answer) = self.next(true).await else { return None };
        // Questions and answers stay readable above.
        if self.editor.is_some() {
            self.show(&display::one_line(&mask::secrets(&format!("{question}{answer}"))));
        }
        Some(answer.trim().to_owned())
    }

    /// After the last question: the answers can't be recalled as messages.
    pub fn end_questions(&mut self) {
        self.asking = false;
        if let Some(editor) = &mut self.editor {
            editor.line.clear_history();
        }
    }

    /// Puts a line that was entered back, to be changed. `false` if another line is being typed.
    pub fn put_back(&mut self, line: &str) -> bool {
        let Some(editor) = &mut self.editor else { return false };
        editor.stale = true;
        editor.line.put_back(line)
    }

    /// Whether the user can bring earlier lines back.
    pub fn recalls_lines(&self) -> bool {
        self.editor.is_some()
    }

    /// Adds a name for completion.
    pub fn remember(&mut self, name: &str) {
        if self.names.len() < MAX_NAMES {
            self.names.insert(display::one_line(name));
        }
    }

    /// Shows what is not shown yet.
    pub fn flush(&mut self) {
        let Some(editor) = &mut self.editor else { return };
        if std::mem::take(&mut editor.stale) {
            let search;
            let prompt = match editor.line.searched() {
                None => &editor.prompt,
                Some(wanted) => {
                    search = fill(self.texts.search, &[&display::one_line(wanted)]);
                    &search
                }
            };
            let hidden;
            let text = match invitation::secret_part(editor.line.text()).filter(|_| self.asking) {
                None => editor.line.text(),
                Some(secret) => {
                    hidden = hide(editor.line.text(), secret);
                    &hidden
                }
            };
            editor.view.paint(Content {
                status: &editor.status,
                prompt,
                text,
                cursor: editor.line.cursor(),
            });
        }
        write(&editor.view.take_output());
    }

    /// What the bytes that came so far mean.
    fn take_input(&mut self, may_enter: bool) -> Option<Input> {
        if self.editor.is_none() {
            return self.take_dumb_line(may_enter);
        }
        while let Some(editor) = &mut self.editor
            && let Some(key) = editor.keys.pop_front()
        {
            editor.stale = true;
            match editor.line.press(key, &self.names, may_enter) {
                Outcome::Edited => {}
                Outcome::Entered(line) => return Some(Input::Line(line)),
                Outcome::Quit => return Some(Input::End),
                Outcome::Suspend => ask_to_stop(),
                Outcome::Clear => editor.view.clear(),
                Outcome::Candidates(found) => self.note(&found.join("  ")),
                Outcome::TooLong => self.note(self.texts.line_full),
                Outcome::Other(Key::Enter) => return Some(Input::NotTaken),
                Outcome::Other(Key::Column(column)) => editor.view.answer(Some(column)),
                Outcome::Other(Key::PasteCut) => self.note(self.texts.paste_cut),
                Outcome::Other(_) => self.tell_not_utf8(),
            }
        }
        None
    }

    fn take_dumb_line(&mut self, may_enter: bool) -> Option<Input> {
        let end = self.dumb_line.iter().position(|byte| *byte == b'\n');
        if end.is_none() && self.dumb_line.len() > MAX_DUMB_LINE_BYTES {
            self.dumb_line.clear();
            self.note(self.texts.line_full);
        }
        let rest = self.dumb_line.split_off(end? + 1);
        let mut line = std::mem::replace(&mut self.dumb_line, rest);
        line.truncate(line.len() - 1);
        match String::from_utf8(line) {
            Ok(line) if may_enter => Some(Input::Line(line)),
            Ok(_) => Some(Input::NotTaken),
            Err(_) => {
                self.note(self.texts.line_not_utf8);
                self.take_dumb_line(may_enter)
            }
        }
    }

    fn tell_not_utf8(&mut self) {
        if !std::mem::replace(&mut self.not_utf8_told, true) {
            self.note(self.texts.key_not_utf8);
        }
    }
}

/// The text with a star for each byte of a part of it, so that the cursor stays where it is.
fn hide(text: &str, part: Range<usize>) -> String {
    let stars = "*".repeat(part.len());
    format!("{}{stars}{}", &text[..part.start], &text[part.end..])
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(editor) = &mut self.editor {
            editor.view.end();
            write(&editor.view.take_output());
        }
    }
}

impl Editor {
    fn new(colours: bool) -> io::Result<Self> {
        let (columns, lines) = window_size();
        Ok(Editor {
            mode: KeyMode::set()?,
            signals: TerminalSignals::new()?,
            decoder: Decoder::new(),
            keys: VecDeque::new(),
            line: Line::new(),
            view: View::new(columns, lines, colours),
            prompt: String::new(),
            status: Vec::new(),
            stale: false,
        })
    }

    fn suspend(&mut self) {
        self.view.end();
        write(&self.view.take_output());
        self.mode.suspend();
        self.resume();
    }

    fn changed(&mut self, change: TerminalChange) {
        match change {
            TerminalChange::Resized => {
                let (columns, lines) = window_size();
                self.view.resize(columns, lines, Instant::now());
                self.stale = true;
            }
            TerminalChange::Stop => self.suspend(),
            TerminalChange::Continued => {
                // The terminal may be gone.
                let _ = self.mode.enter();
                self.resume();
            }
        }
    }

    fn resume(&mut self) {
        self.view.forget();
        let (columns, lines) = window_size();
        self.view.resize(columns, lines, Instant::now());
        self.stale = true;
    }
}
