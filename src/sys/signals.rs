//! The signals of the server as commands (signal(7)).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::{flag, low_level};

use super::ignored_signals::IgnoredSignals;
use crate::protocol::CloseCode;

/// The command that a signal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Drain and exit, and close every session with this code. For SIGTERM it is 1012 (restarting),
    /// because a service manager usually starts the server again; for SIGINT, which Ctrl-C at a
    /// terminal sends, it is 1001 (the server stops).
    Stop(CloseCode),
    /// SIGHUP: reload the configuration.
    Reload,
    /// SIGUSR1: rotate the room keys.
    Rotate,
    /// SIGUSR2: log the status.
    Status,
}

/// Keeps SIGHUP, SIGUSR1 and SIGUSR2 from ending a server that is still starting: their default
/// action ends the process (signal(7)). [`Signals`] receives them later.
pub struct EarlySignals {
    default_action: Arc<AtomicBool>,
    /// The last signal that came; 0 is none.
    received: Arc<AtomicUsize>,
}

impl EarlySignals {
    /// Installs the handlers. To be called before anything else. A signal that the process was
    /// started to ignore (nohup(1)) stays ignored.
    pub fn hold_back() -> io::Result<Self> {
        let early = EarlySignals { default_action: Arc::default(), received: Arc::default() };
        let held_back = [SIGHUP, SIGUSR1, SIGUSR2];
        let ignored = IgnoredSignals::read();
        for signal in held_back.into_iter().filter(|signal| !ignored.contain(*signal)) {
            flag::register_usize(signal, early.received.clone(), signal.cast_unsigned() as usize)?;
            flag::register_conditional_default(signal, early.default_action.clone())?;
        }
        Ok(early)
    }

    /// For a process that is not a server: from here on, the signals have their default action,
    /// also one that has already come.
    pub fn release(self) {
        self.default_action.store(true, Ordering::SeqCst);
        let received = self.received.load(Ordering::SeqCst);
        if let Ok(signal @ 1..) = i32::try_from(received) {
            let _ = low_level::emulate_default_handler(signal);
        }
    }
}

/// From here on, a write above the file size limit fails with EFBIG, and SIGXFSZ does not end the process
/// (setrlimit(2)).
pub fn survive_file_size_limit() -> io::Result<()> {
    // A handler that does nothing of use ignores the signal without unsafe code.
    flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// Receives the signals of this process.
pub struct Signals(signal_hook_tokio::Signals);

impl Signals {
    /// Installs the handlers; needs a Tokio runtime. The second SIGTERM or SIGINT ends the process
    /// at once, with exit code 128 + the signal's number.
    pub fn new() -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Handlers run in the order of registration: the first signal finds the flag unset.
            flag::register_conditional_shutdown(signal, 128 + signal, stopping.clone())?;
            flag::register(signal, stopping.clone())?;
        }
        survive_file_size_limit()?;
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
