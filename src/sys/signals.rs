//! Signals as things to do (signal(7)).

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;

use crate::protocol::CloseCode;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Finish and end; what those who are connected are told. SIGTERM comes from a service manager,
    /// which mostly starts the server again; SIGINT from a person at a terminal.
    Stop(CloseCode),
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: new keys.
    Rotate,
    /// SIGUSR2: say how things stand.
    Status,
}

/// The signals of this process.
pub struct Signals(signal_hook_tokio::Signals);

impl Signals {
    /// Takes them over. The second SIGTERM or SIGINT ends the process at once.
    pub fn new() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Looked at before it is set, so it is the second that ends.
            flag::register_conditional_shutdown(signal, 128 + signal, asked.clone())?;
            flag::register(signal, asked.clone())?;
        }
        let all = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2];
        Ok(Signals(signal_hook_tokio::Signals::new(all)?))
    }

    /// The next one.
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

/// What tells a program on a terminal to go: SIGTERM, SIGHUP (the terminal is gone), SIGINT.
pub struct TerminationSignal(signal_hook_tokio::Signals);

impl TerminationSignal {
    /// Takes them over; needs a runtime.
    pub fn new() -> io::Result<Self> {
        Ok(TerminationSignal(signal_hook_tokio::Signals::new([SIGTERM, SIGHUP, SIGINT])?))
    }

    /// Comes with the next of them.
    pub async fn come(&mut self) {
        if self.0.next().await.is_none() {
            std::future::pending().await
        }
    }
}
