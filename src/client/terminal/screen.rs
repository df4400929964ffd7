//! Prints text above the line being typed, in order, from one thread.
//!
//! The editor can print above its line only while it reads one. Between two lines it would print at
//! the cursor, into the middle of what was typed or is being erased. So text waits here until a line
//! is edited: the editor calls [`Screen::line_painted`] when it first paints a line, and
//! [`Screen::line_entered`] before it returns the line.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustyline::ExternalPrinter;

/// How long an entered line waits for text that is being printed. Text that takes longer is queued
/// inside the editor, which prints it above the next line.
const PRINT_TIMEOUT: Duration = Duration::from_millis(100);

/// The text that waits; shared by the conversation, the editor and the printing thread.
#[derive(Clone)]
pub struct Screen(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: String,
    phase: Phase,
    printing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No line is edited, or nothing can be printed above it: text is written at once.
    Direct,
    /// The editor is between two lines.
    Between,
    /// The editor is about to paint its line.
    Beginning,
    /// A line is being edited.
    Editing,
}

impl Screen {
    /// Writes text at once, until [`Screen::print_above_line`].
    pub fn new() -> Self {
        let state = State { waiting: String::new(), phase: Phase::Direct, printing: false };
        Screen(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Prints text above the line being typed from now on.
    pub fn print_above_line(&self, printer: impl ExternalPrinter + Send + 'static) {
        self.state().phase = Phase::Between;
        let screen = self.clone();
        std::thread::spawn(move || screen.run_printer(printer));
    }

    /// Prints one or more lines.
    pub fn show(&self, text: &str) {
        let mut state = self.state();
        state.waiting.push_str(text);
        state.waiting.push('\n');
        if state.phase == Phase::Direct {
            write_waiting(&mut state);
        }
        self.0.changed.notify_all();
    }

    /// The editor is about to read a line.
    pub fn before_line(&self) {
        let mut state = self.state();
        if state.phase == Phase::Between {
            state.phase = Phase::Beginning;
        }
    }

    /// The editor paints its line.
    pub fn line_painted(&self) {
        let mut state = self.state();
        if state.phase == Phase::Beginning {
            state.phase = Phase::Editing;
            self.0.changed.notify_all();
        }
    }

    /// A line was entered: nothing may be written until the editor reads the next.
    pub fn line_entered(&self) {
        let mut state = self.state();
        if state.phase == Phase::Editing {
            state.phase = Phase::Between;
            let printing = |state: &mut State| state.printing;
            self.0.changed.wait_while_for(&mut state, printing, PRINT_TIMEOUT);
        }
    }

    /// No line is edited any more: waiting and later text is written at once.
    pub fn end(&self) {
        let mut state = self.state();
        if state.phase != Phase::Direct {
            state.phase = Phase::Direct;
            // Erases the line being typed and ends bracketed paste (xterm control sequences).
            let _ = std::io::stdout().write_all(b"\r\x1b[J\x1b[?2004l");
            write_waiting(&mut state);
        }
    }

    fn run_printer(self, mut printer: impl ExternalPrinter) {
        let mut state = self.state();
        loop {
            let idle =
                |state: &mut State| state.waiting.is_empty() || state.phase != Phase::Editing;
            self.0.changed.wait_while(&mut state, idle);
            let text = std::mem::take(&mut state.waiting);
            state.printing = true;
            drop(state);
            // If the terminal is gone, the editor's thread ends, and with it the conversation.
            let _ = printer.print(text);
            state = self.state();
            state.printing = false;
            self.0.changed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

fn write_waiting(state: &mut State) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(state.waiting.as_bytes()).and_then(|()| out.flush());
    state.waiting.clear();
}
