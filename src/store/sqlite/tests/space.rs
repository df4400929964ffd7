//! A full disk: batches are refused as a whole, and appending works again as soon as there is space.

use std::process::Command;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::*;
use crate::store::{PruneResult, Shortage, StoreError};

/// Held by the test that has a disk: until a child process of another test runs its program, it has the
/// lock of a store open too.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A small file system, unmounted when dropped.
struct SmallDisk(
    tempfile::TempDir,
    #[allow(dead_code, reason = "a guard")] MutexGuard<'static, ()>,
);

impl SmallDisk {
    /// `None` if this user may not mount.
    fn new() -> Option<Self> {
        let guard = ONE_AT_A_TIME.lock();
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(SmallDisk(folder, guard))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_whole_batches_until_there_is_space() {
    let Some(disk) = SmallDisk::new() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let folder = disk.0.path().join("history");
    let key = AtRestKey::find(&folder, None).unwrap();
    let open = || open_disk(&folder, &key, RETENTION, at(0)).unwrap();
    let mut opened = open();
    let mut sent = 0u64;
    let mut batch = || {
        let from = sent + 1;
        sent += 5;
        (from..=sent).map(|n| draft("lobby", &n.to_string(), &"x".repeat(2000))).collect()
    };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 600_000]).unwrap();
    let mut acked = 0;
    let refused =
        loop {
            let drafts: Vec<Draft> = batch();
            let outcomes = opened.log.append(drafts.clone(), at(1));
            if outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Appended(_))) {
                acked += 5;
                assert!(acked < 5000, "the disk never fills up");
                continue;
            }
            assert!(outcomes.iter().all(
                |outcome| *outcome == AppendOutcome::Refused(StoreError::Full(Shortage::Space))
            ));
            break drafts;
        };
    assert!(acked > 0);
    let page = everything(&opened);
    assert_eq!((page.entries.len(), page.head.last), (acked, Seq(acked as u64)));
    std::fs::remove_file(&ballast).unwrap();
    let outcomes = opened.log.append(refused, at(2));
    let first = Seq(acked as u64 + 1);
    assert!(matches!(&outcomes[0], AppendOutcome::Appended(entry) if entry.seq == first));
    drop(opened);
    let opened = open();
    assert_eq!(opened.findings, []);
    assert_eq!(everything(&opened).entries.len(), acked + 5);
}

/// Fills a file system until only this many bytes are free. Gives the file to remove.
fn fill_disk(disk: &SmallDisk, free_bytes: u64) -> PathBuf {
    let ballast = disk.0.path().join("ballast");
    let file = std::fs::File::create(&ballast).unwrap();
    let system = rustix::fs::statvfs(disk.0.path()).unwrap();
    let bytes = system.f_bavail * system.f_frsize - free_bytes;
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![1; bytes as usize], 0).unwrap();
    ballast
}

#[test]
fn a_start_and_a_stop_on_a_full_disk_are_no_loss() {
    let Some(disk) = SmallDisk::new() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let folder = disk.0.path().join("history");
    let key = AtRestKey::find(&folder, None).unwrap();
    let open = || open_disk(&folder, &key, RETENTION, at(0)).unwrap();
    let mut opened = open();
    fill(&mut opened, 1..=5);
    let position = Position { epoch: everything(&opened).head.epoch, seq: Seq(5) };
    let same = Resumption { from: Seq(5), gap: None };
    opened.log.close().unwrap();
    drop(opened);
    // Somewhere among these, the shared memory of SQLite has room, and the first commit has not.
    let mut refused = 0;
    for (pages, crash) in (0u64..=10).flat_map(|pages| [(pages, false), (pages, true)]) {
        let shown = format!("{pages} free pages, crash: {crash}");
        let ballast = fill_disk(&disk, pages * 4096);
        // With less space than the shared memory takes, the store does not open.
        if let Ok(mut opened) = open_disk(&folder, &key, RETENTION, at(0)) {
            assert!(opened.findings.is_empty(), "{shown}: {:?}", opened.findings);
            let outcomes = opened.log.append(vec![draft("lobby", &shown, "x")], at(1));
            let full = AppendOutcome::Refused(StoreError::Full(Shortage::Space));
            refused += u32::from(outcomes == [full]);
            assert_eq!(resume(&opened, &position), same, "{shown}");
            if !crash {
                // A start that had the space to begin may lack it for its end.
                let _ = opened.log.close();
            }
        }
        std::fs::remove_file(&ballast).unwrap();
        let mut opened = open();
        assert!(opened.findings.is_empty(), "{shown}: {:?}", opened.findings);
        assert_eq!(resume(&opened, &position), same, "{shown}");
        opened.log.close().unwrap();
    }
    assert!(refused >= 2, "{refused}");
}

#[test]
fn a_start_on_a_full_disk_begins_as_soon_as_there_is_space() {
    let Some(disk) = SmallDisk::new() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let folder = disk.0.path().join("history");
    let key = AtRestKey::find(&folder, None).unwrap();
    let open = || open_disk(&folder, &key, RETENTION, at(0)).unwrap();
    let mut opened = open();
    fill(&mut opened, 1..=5);
    opened.log.close().unwrap();
    drop(opened);
    let ballast = fill_disk(&disk, 9 * 4096);
    let mut opened = open();
    // A reader that reads now has a position under the epoch of this start.
    let position = Position { epoch: everything(&opened).head.epoch, seq: Seq(5) };
    assert_eq!(opened.log.prune(at(1), Duration::ZERO), PruneResult::default());
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(opened.log.prune(at(2), Duration::ZERO).error, None);
    // The next start recovers this one like any that was killed.
    drop(opened);
    let opened = open();
    assert!(opened.findings.is_empty(), "{:?}", opened.findings);
    assert_eq!(resume(&opened, &position), Resumption { from: Seq(5), gap: None });
}

#[test]
fn a_store_that_a_full_disk_keeps_from_opening_names_the_shortage() {
    let Some(disk) = SmallDisk::new() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let folder = disk.0.path().join("history");
    let key = AtRestKey::find(&folder, None).unwrap();
    let mut opened = open_disk(&folder, &key, RETENTION, at(0)).unwrap();
    fill(&mut opened, 1..=5);
    opened.log.close().unwrap();
    drop(opened);
    // As in a copy of the store: SQLite has to make these files again.
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.join(format!("{STORE_FILE}{suffix}")));
    }
    let ballast = fill_disk(&disk, 4096);
    let error = open_disk(&folder, &key, RETENTION, at(0)).err().unwrap();
    assert!(matches!(error, OpenError::Full { shortage: Shortage::Space, .. }), "{error}");
    std::fs::remove_file(&ballast).unwrap();
    let opened = open_disk(&folder, &key, RETENTION, at(0)).unwrap();
    assert!(opened.findings.is_empty(), "{:?}", opened.findings);
    assert_eq!(everything(&opened).entries.len(), 5);
}
