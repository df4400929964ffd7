//! A process group that this program started, and the signal that tells how its children ended
//! (setpgid(2), signal(7)).

use std::io;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use signal_hook::consts::SIGCHLD;
use signal_hook::flag;

/// A process group. What is left of it is killed on drop, unless [`Self::leave`] was called.
pub struct ProcessGroup {
    id: Option<Pid>,
}

impl ProcessGroup {
    /// The group that the process `id` leads.
    pub fn led_by(id: Option<u32>) -> Self {
        let id = id.and_then(|id| i32::try_from(id).ok());
        ProcessGroup { id: id.and_then(Pid::from_raw) }
    }

    /// Asks every process of the group to end. A stopped process continues, so that it can.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Ends every process of the group.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Whether the group has a process. Only ESRCH says that it has none.
    pub fn exists(&self) -> bool {
        self.id.is_some_and(|id| test_kill_process_group(id) != Err(Errno::SRCH))
    }

    /// Lets the processes that are left run on.
    pub fn leave(&mut self) {
        self.id = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // Without a process left there is nothing to do.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes the exit statuses of children known to this process also where its parent ignored SIGCHLD:
/// then children would end without one (wait(2)).
pub fn keep_exit_statuses() -> io::Result<()> {
    // A handler that does nothing of use takes the place of the inherited disposition.
    flag::register(SIGCHLD, Arc::default()).map(drop)
}
