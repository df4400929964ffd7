//! Fault injection for tests: a named point in the server panics, stalls or ends the process, so that a test can check
//! that the rest of the server goes on. Without the feature `faults` the points do nothing.

/// Panics at the first call whose `name` is the value of `$CHAT_TEST_PANIC`. Where `$CHAT_TEST_STALL`
/// is `name=FILE`, the call blocks for as long as FILE exists. A call whose `name` is the value of
/// `$CHAT_TEST_ABORT` ends the process at once, without any clean-up, as `kill -9` does. Where `$CHAT_TEST_SLOW` is `name=FILE`, the
/// call takes 50 ms for as long as FILE exists.
#[cfg(feature = "faults")]
pub fn point(name: &str) {
    use std::sync::atomic::{AtomicBool, Ordering};
    static FIRED: AtomicBool = AtomicBool::new(false);
    let named = std::env::var("CHAT_TEST_PANIC").is_ok_and(|panicking| panicking == name);
    if named && !FIRED.swap(true, Ordering::Relaxed) {
        panic!("injected panic in {name}");
    }
    if std::env::var("CHAT_TEST_ABORT").is_ok_and(|aborting| aborting == name) {
        std::process::abort();
    }
    let stall = std::env::var("CHAT_TEST_STALL").unwrap_or_default();
    if let Some((stalling, file)) = stall.split_once('=')
        && stalling == name
    {
        while std::path::Path::new(file).exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    let slow = std::env::var("CHAT_TEST_SLOW").unwrap_or_default();
    if let Some((slowed, file)) = slow.split_once('=')
        && slowed == name
        && std::path::Path::new(file).exists()
    {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Does nothing: fault injection is not compiled in.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_: &str) {}
