//! The signal mask of this process (sigprocmask(2)).

use nix::sys::signal::SigSet;

/// Unblocks every signal. A process inherits the mask of its parent, and one that was started with SIGTERM
/// blocked would never end by it. The processes that this one starts get the empty mask too. To be called
/// before any thread starts, because each thread has a mask of its own.
pub fn unblock_all() {
    // It fails only for an operation that does not exist (pthread_sigmask(3)).
    let _ = SigSet::empty().thread_set_mask();
}
