//! Places where a test can make a named part panic, to see that nothing else notices. Without the
//! feature `faults` there is nothing here.

/// Panics once if `CHAT_TEST_PANIC` names this place.
#[cfg(feature = "faults")]
pub fn point(place: &str) {
    use std::sync::atomic::{AtomicBool, Ordering};
    static FIRED: AtomicBool = AtomicBool::new(false);
    let named = std::env::var("CHAT_TEST_PANIC").is_ok_and(|named| named == place);
    if named && !FIRED.swap(true, Ordering::Relaxed) {
        panic!("asked to panic in {place}");
    }
}

/// Nothing.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_: &str) {}
