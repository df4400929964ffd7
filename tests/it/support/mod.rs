//! What every test stands on: a real server, a real client, a raw connection, real Python.

pub mod client;
pub mod python;
pub mod server;
pub mod terminal;
pub mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `done`, or fails with `what`.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        std::thread::sleep(LOOK);
    }
}

/// Held by tests that load the machine, so that they run one at a time. Each test has a runtime of
/// its own, so waiting for it blocks nobody else's tasks.
pub struct Heavy(#[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

/// Waits until no other heavy test runs.
pub fn heavy() -> Heavy {
    static ONE: Mutex<()> = Mutex::new(());
    // A test that failed while holding it has left nothing behind that matters here.
    Heavy(ONE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether the long forms were asked for.
pub fn long() -> bool {
    std::env::var_os("CHAT_TEST_LONG").is_some()
}
