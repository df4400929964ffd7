//! The signals that this process was started to ignore, as nohup(1) does it.

/// The signals that this process ignores: bit 0 is signal 1 (proc_pid_status(5)).
#[derive(Clone, Copy)]
pub struct IgnoredSignals(u64);

impl IgnoredSignals {
    /// Those of now.
    pub fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        IgnoredSignals(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0))
    }

    /// Whether a signal is among them.
    pub fn contain(self, signal: i32) -> bool {
        self.0 >> (signal - 1) & 1 == 1
    }
}
