//! The processor time of a process.

use std::time::Duration;

/// The processor time of a running process so far, user and system.
pub fn processor_time(process: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // The fields from the third on follow the name in parentheses (proc(5)).
    let fields: Vec<&str> =
        text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().unwrap_or(0);
    // A clock tick in /proc is 10 ms on Linux.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
