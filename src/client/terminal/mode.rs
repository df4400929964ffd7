//! The mode of the terminal (termios(3)): keys are delivered as they are pressed, without echo. Also
//! Ctrl-Z and SIGTSTP, which give the terminal back to the shell for a while.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize,
    tcsetattr,
};

use crate::sys::terminal_signals::{can_be_continued, stop_process};

/// Columns and lines where the terminal does not know its size.
const USUAL_SIZE: (usize, usize) = (80, 24);
/// Between two attempts at a terminal that is not ready.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Bytes read at once.
const MAX_READ_BYTES: usize = 4096;
const BRACKETED_PASTE_ON: &str = "\x1b[?2004h";
const BRACKETED_PASTE_OFF: &str = "\x1b[?2004l";

/// The terminal in key mode. Its earlier mode is restored on drop.
pub struct KeyMode {
    before: Termios,
}

impl KeyMode {
    /// Sets the mode of standard input.
    pub fn set() -> io::Result<Self> {
        let mode = KeyMode { before: tcgetattr(io::stdin())? };
        mode.enter()?;
        Ok(mode)
    }

    /// Sets the mode again, after another program has used the terminal.
    pub fn enter(&self) -> io::Result<()> {
        let mut mode = self.before.clone();
        mode.local_modes &=
            !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG);
        mode.input_modes &= !(InputModes::BRKINT
            | InputModes::ICRNL
            | InputModes::INPCK
            | InputModes::ISTRIP
            | InputModes::IXON);
        mode.special_codes[SpecialCodeIndex::VMIN] = 1;
        mode.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Drain, &mode)?;
        write(BRACKETED_PASTE_ON);
        Ok(())
    }

    fn leave(&self) {
        write(BRACKETED_PASTE_OFF);
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }

    /// Gives the terminal back to the shell, stops this process, and sets the mode again when it goes on. It does
    /// nothing where nobody could continue the process, such as in a session without a shell.
    pub fn suspend(&mut self) {
        if !can_be_continued() {
            return;
        }
        self.leave();
        stop_process();
        if let Ok(before) = tcgetattr(io::stdin()) {
            self.before = before;
        }
        let _ = self.enter();
    }
}

/// Asks the process group to stop, as Ctrl-Z does in a terminal's usual mode. This process gets the signal too, and
/// [`KeyMode::suspend`] is its answer.
pub fn ask_to_stop() {
    let _ = kill_current_process_group(Signal::TSTP);
}

impl Drop for KeyMode {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Columns and lines of the window.
pub fn window_size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL_SIZE,
    }
}

/// Writes to the terminal. If it is gone, its input ends too, and with it the conversation.
pub fn write(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(io::stdout(), rest) {
            Ok(0) => return,
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            // Another program has made the terminal non-blocking.
            Err(Errno::AGAIN) => std::thread::sleep(RETRY_PAUSE),
            Err(_) => return,
        }
    }
}

/// Reads from the terminal. `None` at its end, and when it is gone.
pub fn read() -> Option<Vec<u8>> {
    let mut buffer = vec![0; MAX_READ_BYTES];
    loop {
        match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(0) => return None,
            Ok(length) => {
                buffer.truncate(length);
                return Some(buffer);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(RETRY_PAUSE),
            Err(_) => return None,
        }
    }
}
