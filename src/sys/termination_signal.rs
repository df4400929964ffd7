//! The signals that end a client on a terminal (signal(7)).

use std::io;

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Receives SIGTERM, SIGINT and SIGHUP (the terminal was closed).
pub struct TerminationSignal(signal_hook_tokio::Signals);

impl TerminationSignal {
    /// Installs the handlers; needs a Tokio runtime.
    pub fn new() -> io::Result<Self> {
        Ok(TerminationSignal(signal_hook_tokio::Signals::new([SIGTERM, SIGHUP, SIGINT])?))
    }

    /// Waits for the next of these signals. Cancel safe.
    pub async fn next(&mut self) {
        if self.0.next().await.is_none() {
            std::future::pending().await
        }
    }
}
