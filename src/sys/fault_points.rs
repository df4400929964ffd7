//! ReadPositions where a test can make a named part panic, or stand still, to see that nothing else notices.
//! Without the feature `faults` there is nothing here.

/// Panics once if `CHAT_TEST_PANIC` names this place. Where `CHAT_TEST_STALL` is `place=file`, it
/// stays here for as long as there is such a file.
#[cfg(feature = "faults")]
pub fn point(place: &str) {
    use std::sync::atomic::{AtomicBool, Ordering};
    static FIRED: AtomicBool = AtomicBool::new(false);
    let named = std::env::var("CHAT_TEST_PANIC").is_ok_and(|named| named == place);
    if named && !FIRED.swap(true, Ordering::Relaxed) {
        panic!("asked to panic in {place}");
    }
    let stall = std::env::var("CHAT_TEST_STALL").unwrap_or_default();
    if let Some((named, file)) = stall.split_once('=')
        && named == place
    {
        while std::path::Path::new(file).exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Nothing.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_: &str) {}
