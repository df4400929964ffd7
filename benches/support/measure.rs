//! Processor time of a process, medians and percentiles, and the disk's own time for a sync.

use std::io::{Seek as _, Write as _};
use std::process::Child;
use std::time::{Duration, Instant};

/// Returns the processor time of a process so far, user and system, from /proc/PID/stat (proc(5)).
pub fn cpu_time(child: &Child) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    // The name in parentheses may contain spaces. After it, user and system time are fields 12 and 13.
    let (_, after_name) = stat.rsplit_once(')').unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    // A clock tick in /proc is 10 ms on Linux.
    Duration::from_millis(ticks * 10)
}

/// Returns the value below which `share` of all values are. Sorts the values.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let index = (values.len() as f64 * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Measures a write of 100 bytes with fdatasync(2) into a file of fixed size in the folder for temporary
/// files, for one second: median and 99th percentile in milliseconds.
pub fn disk_sync_times() -> [f64; 2] {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&[0; 1024 * 1024]).expect("written");
    file.sync_all().expect("synced");
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < Duration::from_secs(1) {
        let from = Instant::now();
        file.seek(std::io::SeekFrom::Start(times.len() as u64 % 10_000 * 100)).expect("a place");
        file.write_all(&[b'x'; 100]).expect("written");
        file.sync_data().expect("synced");
        times.push(from.elapsed().as_secs_f64() * 1e3);
    }
    [percentile(&mut times, 0.5), percentile(&mut times, 0.99)]
}
