//! The user that this process runs as.

use std::os::unix::fs::MetadataExt as _;

/// The user id of this process, if /proc says it (proc(5)).
pub fn user_id() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|process| process.uid())
}
