//! What this process takes of the machine: memory, processor time, threads and file descriptors.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::time::{ClockId, clock_gettime};

/// A measurement. What the system does not tell is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// Processor time of all threads since the start, in seconds.
    pub cpu_seconds: f64,
    /// Bytes in memory.
    pub resident_bytes: u64,
    /// Bytes of the address space.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_descriptors: u64,
    /// The soft limit of file descriptors.
    pub max_descriptors: u64,
}

impl ProcessUsage {
    /// Measures this process. The cost does not depend on the number of descriptors (Linux 6.2 and newer).
    pub fn measure() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        ProcessUsage {
            cpu_seconds: time.tv_sec as f64 + time.tv_nsec as f64 / 1e9,
            resident_bytes: number(&status, "VmRSS:") * 1024,
            virtual_bytes: number(&status, "VmSize:") * 1024,
            threads: number(&status, "Threads:"),
            open_descriptors: open_descriptors(),
            max_descriptors: rlimit::getrlimit(rlimit::Resource::NOFILE)
                .map_or(0, |(soft, _)| soft),
        }
    }
}

/// A number of `/proc/self/status` (proc(5)); those in kB count 1,024 bytes.
fn number(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn open_descriptors() -> u64 {
    const FOLDER: &str = "/proc/self/fd";
    // Since Linux 6.2 the size of the folder is the number of descriptors (proc(5)); before, it is 0.
    match fs::metadata(FOLDER).map_or(0, |folder| folder.size()) {
        0 => fs::read_dir(FOLDER).map_or(0, |entries| entries.count().saturating_sub(1) as u64),
        count => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_this_process_is_measured() {
        let files: Vec<_> = (0..40).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let usage = ProcessUsage::measure();
        assert!(usage.cpu_seconds > 0.0 && usage.threads > 0, "{usage:?}");
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!(usage.virtual_bytes >= usage.resident_bytes, "{usage:?}");
        assert!(usage.open_descriptors > files.len() as u64, "{usage:?}");
        assert!(usage.open_descriptors < usage.max_descriptors, "{usage:?}");
    }
}
