//! What arrives is put above the line being typed, in order, by one thread.
//!
//! The editor can print above its line only while it reads one; between two lines it would write
//! wherever the cursor stands, into the middle of what was typed or of wiping it. So text waits
//! here until a line is being edited: the editor says when that begins ([`Screen::editing`], in its
//! first painting of a line) and ends ([`Screen::entered`], before it gives the line back).

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustyline::ExternalPrinter;

/// How long a line that was entered waits for a printing that is under way. One that takes longer
/// is already queued inside the editor, which shows it above the next line.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// Where text waits; shared by the conversation, the editor and the printing thread.
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
    /// Nobody edits, or nobody can print above it: text goes straight out.
    Straight,
    /// The editor is between two lines.
    Between,
    /// The editor is about to paint its line.
    Beginning,
    /// A line is being edited.
    Editing,
}

impl Screen {
    /// Straight to the terminal, until [`Screen::above`].
    pub fn new() -> Self {
        let state = State { waiting: String::new(), phase: Phase::Straight, printing: false };
        Screen(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// From now on text goes above the line being typed.
    pub fn above(&self, printer: impl ExternalPrinter + Send + 'static) {
        self.state().phase = Phase::Between;
        let screen = self.clone();
        std::thread::spawn(move || screen.print_above(printer));
    }

    /// Shows one or more lines.
    pub fn show(&self, text: &str) {
        let mut state = self.state();
        state.waiting.push_str(text);
        state.waiting.push('\n');
        if state.phase == Phase::Straight {
            straight(&mut state);
        }
        self.0.changed.notify_all();
    }

    /// The editor is about to read a line.
    pub fn begin(&self) {
        let mut state = self.state();
        if state.phase == Phase::Between {
            state.phase = Phase::Beginning;
        }
    }

    /// The editor paints its line.
    pub fn editing(&self) {
        let mut state = self.state();
        if state.phase == Phase::Beginning {
            state.phase = Phase::Editing;
            self.0.changed.notify_all();
        }
    }

    /// A line was entered: nothing may be written until the editor begins the next.
    pub fn entered(&self) {
        let mut state = self.state();
        if state.phase == Phase::Editing {
            state.phase = Phase::Between;
            let waited =
                self.0.changed.wait_timeout_while(state, UNDER_WAY, |state| state.printing);
            drop(waited);
        }
    }

    /// No line is edited any more: what waits goes out, and all that follows.
    pub fn end(&self) {
        let mut state = self.state();
        if state.phase != Phase::Straight {
            state.phase = Phase::Straight;
            // The line that was being typed, and bracketed paste (xterm's control sequences).
            let _ = std::io::stdout().write_all(b"\r\x1b[J\x1b[?2004l");
            straight(&mut state);
        }
    }

    fn print_above(self, mut printer: impl ExternalPrinter) {
        let mut state = self.state();
        loop {
            let idle =
                |state: &mut State| state.waiting.is_empty() || state.phase != Phase::Editing;
            state = self.0.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            let text = std::mem::take(&mut state.waiting);
            state.printing = true;
            drop(state);
            // A terminal that is gone ends the editor's thread, and so the conversation.
            let _ = printer.print(text);
            state = self.state();
            state.printing = false;
            self.0.changed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn straight(state: &mut State) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(state.waiting.as_bytes()).and_then(|()| out.flush());
    state.waiting.clear();
}
