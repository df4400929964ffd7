//! The signals that tell a program about its terminal (signal(7)).

use std::io;

use futures_util::StreamExt as _;
use rustix::process::{Pid, getpgid, getpgrp, getppid, getsid};
use signal_hook::consts::{SIGCONT, SIGTSTP, SIGWINCH};
use signal_hook::low_level::emulate_default_handler;

use super::ignored_signals::IgnoredSignals;

/// A change of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalChange {
    /// SIGWINCH: the window has another size.
    Resized,
    /// SIGCONT: the program was stopped, and others may have used the terminal.
    Continued,
    /// SIGTSTP: the program is to give the terminal back and to stop ([`stop_process`]).
    Stop,
}

/// Receives SIGWINCH, SIGCONT and SIGTSTP. A SIGTSTP that was ignored when the process started stays ignored.
pub struct TerminalSignals(signal_hook_tokio::Signals);

impl TerminalSignals {
    /// Installs the handlers; needs a Tokio runtime.
    pub fn new() -> io::Result<Self> {
        let stop = (!IgnoredSignals::read().contain(SIGTSTP)).then_some(SIGTSTP);
        let signals = [SIGWINCH, SIGCONT].into_iter().chain(stop);
        Ok(TerminalSignals(signal_hook_tokio::Signals::new(signals)?))
    }

    /// Waits for the next of these signals. Cancel safe.
    pub async fn next(&mut self) -> TerminalChange {
        match self.0.next().await {
            Some(SIGCONT) => TerminalChange::Continued,
            Some(SIGTSTP) => TerminalChange::Stop,
            Some(_) => TerminalChange::Resized,
            None => std::future::pending().await,
        }
    }
}

/// Stops this process, with all its threads, until SIGCONT comes.
pub fn stop_process() {
    // It sends SIGSTOP, and fails only for signals that can't be sent.
    let _ = emulate_default_handler(SIGTSTP);
}

/// Whether a shell could continue this process: one of the processes above it is in the same session and in another
/// process group (setpgid(2)). Else its group is orphaned, and the system does not stop it by SIGTSTP.
pub fn can_be_continued() -> bool {
    let mut parent = getppid();
    while let Some(process) = parent {
        if getsid(Some(process)).ok() != getsid(None).ok() {
            return false;
        }
        match getpgid(Some(process)) {
            Ok(group) if group == getpgrp() => parent = parent_of(process),
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// The parent of a process (proc_pid_stat(5)).
fn parent_of(process: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program is in parentheses and may have any sign.
    let (_, fields) = stat.rsplit_once(')')?;
    Pid::from_raw(fields.split_whitespace().nth(1)?.parse().ok()?)
}
