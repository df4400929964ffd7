//! The signals that end a client (signal(7)).

use std::fmt;
use std::io;
use std::sync::Arc;

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use super::ignored_signals::IgnoredSignals;

/// A signal that ends the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// Ends the process by this signal, as if it had not been caught. A shell shows 128 + its number.
    pub fn end_process(self) {
        // It fails only for signals that can't be sent.
        let _ = signal_hook::low_level::emulate_default_handler(self.0);
    }

    /// 128 + the number of the signal.
    pub fn exit_code(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(255)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(signal_hook::low_level::signal_name(self.0).unwrap_or("a signal"))
    }
}

/// Receives SIGTERM, SIGINT and SIGHUP (the terminal was closed). A signal that was ignored when the
/// process started stays ignored, as nohup(1) wants it.
pub struct TerminationSignal(signal_hook_tokio::Signals);

impl TerminationSignal {
    /// Installs the handlers; needs a Tokio runtime. A write above the file size limit (setrlimit(2))
    /// fails from then on, and does not end the process by SIGXFSZ.
    pub fn new() -> io::Result<Self> {
        // A handler that does nothing of use ignores the signal without unsafe code.
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        let ignored = IgnoredSignals::read();
        let wanted = [SIGTERM, SIGHUP, SIGINT].into_iter();
        let wanted = wanted.filter(|signal| !ignored.contain(*signal));
        Ok(TerminationSignal(signal_hook_tokio::Signals::new(wanted)?))
    }

    /// Waits for the next of these signals. Cancel safe.
    pub async fn next(&mut self) {
        self.next_signal().await;
    }

    /// Waits for the next of these signals, and says which it was. Cancel safe.
    pub async fn next_signal(&mut self) -> Signal {
        match self.0.next().await {
            Some(signal) => Signal(signal),
            None => std::future::pending().await,
        }
    }
}
