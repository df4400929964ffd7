//! The signals that tell a program about its terminal (signal(7)).

use std::io;

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGCONT, SIGWINCH};

/// A change of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalChange {
    /// SIGWINCH: the window has another size.
    Resized,
    /// SIGCONT: the program was stopped, and others may have used the terminal.
    Continued,
}

/// Receives SIGWINCH and SIGCONT.
pub struct TerminalSignals(signal_hook_tokio::Signals);

impl TerminalSignals {
    /// Installs the handlers; needs a Tokio runtime.
    pub fn new() -> io::Result<Self> {
        Ok(TerminalSignals(signal_hook_tokio::Signals::new([SIGWINCH, SIGCONT])?))
    }

    /// Waits for the next of these signals. Cancel safe.
    pub async fn next(&mut self) -> TerminalChange {
        match self.0.next().await {
            Some(SIGCONT) => TerminalChange::Continued,
            Some(_) => TerminalChange::Resized,
            None => std::future::pending().await,
        }
    }
}
