//! Measures the disk usage of the history, and warns before the disk is full.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::store::DiskUsage;

/// How often the disk is measured.
const INTERVAL: Duration = Duration::from_secs(5);
/// The disk is low if less than this part of it is free, and less than [`MAX_LOW_BYTES`].
const LOW_PART: u64 = 10;
const MAX_LOW_BYTES: u64 = 1 << 30;

/// The last measurement, shared with metrics and `ctl status`.
#[derive(Clone, Default)]
pub struct DiskWatch(Arc<Mutex<Option<DiskUsage>>>);

impl DiskWatch {
    /// The last measurement; `None` before it, if it failed, and if the history is not on disk.
    pub fn usage(&self) -> Option<DiskUsage> {
        *self.0.lock()
    }

    /// Measures the folder until `stop`, and logs when space gets low and when it no longer is.
    pub async fn run(self, folder: PathBuf, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut alarm = Alarm::default();
        // Logged once until a measurement succeeds.
        let mut has_failed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let folder = folder.clone();
            // A disk that does not answer blocks only this task.
            let measured = tokio::task::spawn_blocking(move || DiskUsage::measure(&folder));
            let measured = tokio::select! {
                () = stop.cancelled() => return,
                measured = measured => measured,
            };
            let measured =
                measured.unwrap_or_else(|interrupted| Err(io::Error::other(interrupted)));
            *self.0.lock() = measured.as_ref().ok().copied();
            match measured {
                Ok(usage) => {
                    has_failed = false;
                    if let Some(is_low) = alarm.update(&usage) {
                        log(is_low, &usage);
                    }
                }
                Err(error) if !std::mem::replace(&mut has_failed, true) => tracing::warn!(
                    event = "disk_unmeasured",
                    reason = %error,
                    "the disk of the history can't be measured, so nothing warns before it is full"
                ),
                Err(_) => {}
            }
        }
    }
}

/// Whether so little is free that a warning is due.
pub fn is_low(usage: &DiskUsage) -> bool {
    usage.free_bytes < low_limit(usage)
}

fn low_limit(usage: &DiskUsage) -> u64 {
    (usage.total_bytes / LOW_PART).min(MAX_LOW_BYTES)
}

fn log(is_low: bool, usage: &DiskUsage) {
    let DiskUsage { bytes, damaged_bytes, free_bytes, total_bytes, .. } = *usage;
    match is_low {
        true => tracing::warn!(
            event = "disk_low",
            free_bytes,
            total_bytes,
            bytes,
            damaged_bytes,
            "the file system of the history has {free_bytes} bytes left; make space, or set \
             history.max_bytes, before messages are refused"
        ),
        false => tracing::info!(
            event = "disk_no_longer_low",
            free_bytes,
            total_bytes,
            bytes,
            damaged_bytes,
            "the file system of the history has space again"
        ),
    }
}

/// When a line about the disk is due.
#[derive(Default)]
struct Alarm {
    /// Whether the last line said that the disk is low.
    is_low: bool,
}

impl Alarm {
    /// Returns the new state if it changed. The disk is low below the limit, and no longer low from one and
    /// a half times the limit on.
    fn update(&mut self, usage: &DiskUsage) -> Option<bool> {
        let limit = low_limit(usage);
        let is_low = match self.is_low {
            true => usage.free_bytes < limit + limit / 2,
            false => is_low(usage),
        };
        (is_low != std::mem::replace(&mut self.is_low, is_low)).then_some(is_low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_until_there_is_clearly_space_again() {
        let mut alarm = Alarm::default();
        let mut update = |free_bytes, total_bytes| {
            alarm.update(&DiskUsage { free_bytes, total_bytes, ..DiskUsage::default() })
        };
        assert_eq!(update(100, 1000), None);
        assert_eq!(update(99, 1000), Some(true));
        for free in [99, 0, 101, 149] {
            assert_eq!(update(free, 1000), None, "{free}");
        }
        assert_eq!(update(150, 1000), Some(false));
        assert_eq!(update(120, 1000), None);
        // On a large disk, a tenth is plenty.
        assert_eq!(update(2 << 30, 1 << 40), None);
        assert_eq!(update((1 << 30) - 1, 1 << 40), Some(true));
    }
}
