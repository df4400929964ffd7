//! What the tests share: a server, a client, a raw connection, proxies, certificates, Python.

pub mod browser;
pub mod certificates;
pub mod client;
pub mod endpoint;
pub mod engine;
pub mod front;
pub mod log_schema;
pub mod metrics;
pub mod network;
pub mod nginx;
pub mod nodes;
pub mod programs;
pub mod python;
pub mod server;
pub mod small_cluster;
pub mod sparse_store;
pub mod stall;
pub mod terminal;
pub mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a test waits for anything that should happen at once; a busy machine is slow.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// How often a waiting test checks its condition.
pub const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `done` holds; panics with `what` after [`TIMEOUT`].
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !done() {
        assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Held by tests that load the machine, so that they run one at a time. Each test has its own runtime, so waiting for
/// the lock blocks no task of another test.
pub struct LoadLock(#[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

/// Waits until no other test holds the lock.
pub fn load_lock() -> LoadLock {
    static ONE: Mutex<()> = Mutex::new(());
    // A test that panicked with the lock held leaves nothing behind that matters to the next one.
    LoadLock(ONE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether the long forms of the tests are asked for, by `CHAT_TEST_LONG`.
pub fn is_long_run() -> bool {
    std::env::var_os("CHAT_TEST_LONG").is_some()
}

/// How the server of a test is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The default: open mode, no TLS.
    Open,
    /// Token mode and TLS.
    Secured,
}

/// Runs each test twice: in the module `open` and in the module `secured`.
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
