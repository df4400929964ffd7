//! A full disk: batches are refused as a whole, and appending works again as soon as there is space.

use std::process::Command;

use super::*;
use crate::store::{Shortage, StoreError};

/// A small file system, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` if this user may not mount.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(SmallDisk(folder))
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
