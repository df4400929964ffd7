//! The signals that this process was started to ignore, as nohup(1) does it.

/// Whether this process ignores a signal now.
pub fn is_ignored(signal: i32) -> bool {
    // A mask: bit 0 is signal 1 (proc_pid_status(5)).
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}
