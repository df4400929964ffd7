//! What every test stands on: a real server, a real client, a raw connection, real Python.

pub mod certificates;
pub mod client;
pub mod endpoint;
pub mod nginx;
pub mod programs;
pub mod python;
pub mod server;
pub mod terminal;
pub mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once, on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `done`, or fails with `what`.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !done() {
        assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Held by tests that load the machine, so that they run one at a time. Each test has a runtime of
/// its own, so waiting for it blocks nobody else's tasks.
pub struct LoadLock(#[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

/// Waits until no other load_lock test runs.
pub fn load_lock() -> LoadLock {
    static ONE: Mutex<()> = Mutex::new(());
    // A test that failed while holding it has left nothing behind that matters here.
    LoadLock(ONE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether the long forms were asked for.
pub fn is_long_run() -> bool {
    std::env::var_os("CHAT_TEST_LONG").is_some()
}

/// What a story is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A server as it comes: open, and without TLS.
    Open,
    /// One with access tokens and TLS.
    Secured,
}

/// Tells each story in both settings.
macro_rules! in_both_modes {
    ($($test:ident),* $(,)?) => {
        mod open {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::support::Mode::Open).await;
                }
            )*
        }
        mod secured {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::support::Mode::Secured).await;
                }
            )*
        }
    };
}
pub(crate) use in_both_modes;
