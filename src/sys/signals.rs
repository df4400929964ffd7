//! The signals of the server as commands (signal(7)).

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::flag;

use crate::protocol::CloseCode;

/// The command that a signal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Drain and exit, and close every session with this code: restarting for SIGTERM, because a
    /// service manager usually starts the server again, and leaving for SIGINT, which comes from a
    /// person at a terminal.
    Stop(CloseCode),
    /// SIGHUP: reload the configuration.
    Reload,
    /// SIGUSR1: rotate the room keys.
    Rotate,
    /// SIGUSR2: log the status.
    Status,
}

/// Receives the signals of this process.
pub struct Signals(signal_hook_tokio::Signals);

impl Signals {
    /// Installs the handlers; needs a Tokio runtime. The second SIGTERM or SIGINT ends the process
    /// at once, with exit code 128 + the signal's number. SIGXFSZ no longer ends the process: a write
    /// above the file size limit fails with EFBIG (setrlimit(2)).
    pub fn new() -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Handlers run in the order of registration: the first signal finds the flag unset.
            flag::register_conditional_shutdown(signal, 128 + signal, stopping.clone())?;
            flag::register(signal, stopping.clone())?;
        }
        // A handler that does nothing of use ignores the signal without unsafe code.
        flag::register(SIGXFSZ, Arc::default())?;
        let all = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2];
        Ok(Signals(signal_hook_tokio::Signals::new(all)?))
    }

    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        loop {
            match self.0.next().await {
                Some(SIGTERM) => return Signal::Stop(CloseCode::Restarting),
                Some(SIGINT) => return Signal::Stop(CloseCode::Leaving),
                Some(SIGHUP) => return Signal::Reload,
                Some(SIGUSR1) => return Signal::Rotate,
                Some(SIGUSR2) => return Signal::Status,
                Some(_) => {}
                None => return std::future::pending().await,
            }
        }
    }
}
