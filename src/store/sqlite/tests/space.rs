//! A full disk: batches are refused as a whole, and appending works again as soon as there is space.

use std::process::Command;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::*;
use crate::store::{DeleteError, EraseStep, PruneResult, Shortage, StoreError};

/// Held by the test that has a disk: until a child process of another test runs its program, it has the
/// lock of a store open too.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A store on a small file system, which is unmounted when this is dropped.
struct SmallDisk {
    mount: tempfile::TempDir,
    key: AtRestKey,
    _guard: MutexGuard<'static, ()>,
}

impl SmallDisk {
    /// `None`, said on standard error, if this user may not mount.
    fn new() -> Option<Self> {
        let guard = ONE_AT_A_TIME.lock();
        let mount = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(mount.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("skipped: mounting a small file system needs root");
            return None;
        }
        let key = AtRestKey::find(&mount.path().join("history"), None).unwrap();
        Some(SmallDisk { mount, key, _guard: guard })
    }

    fn store(&self) -> PathBuf {
        self.mount.path().join("history")
    }

    fn try_open(&self) -> Result<OpenedStore, OpenError> {
        open_disk(&self.store(), &self.key, RETENTION, at(0))
    }

    fn open(&self) -> OpenedStore {
        self.try_open().unwrap()
    }

    /// Stores five messages and closes the store. Gives the position of the last one.
    fn store_five_messages(&self) -> Position {
        let mut opened = self.open();
        fill(&mut opened, 1..=5);
        let position = Position { epoch: everything(&opened).head.epoch, seq: Seq(5) };
        opened.log().close().unwrap();
        position
    }

    /// The file whose removal makes space.
    fn ballast(&self) -> PathBuf {
        self.mount.path().join("ballast")
    }

    /// Fills the file system until only this many bytes are free.
    fn fill(&self, free_bytes: u64) {
        let file = std::fs::File::create(self.ballast()).unwrap();
        let system = rustix::fs::statvfs(self.mount.path()).unwrap();
        let bytes = system.f_bavail * system.f_frsize - free_bytes;
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![1; bytes as usize], 0).unwrap();
    }

    fn make_space(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.mount.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_whole_batches_until_there_is_space() {
    let Some(disk) = SmallDisk::new() else { return };
    let mut opened = disk.open();
    let mut sent = 0u64;
    let mut batch = || {
        let from = sent + 1;
        sent += 5;
        (from..=sent).map(|n| draft("lobby", &n.to_string(), &"x".repeat(2000))).collect()
    };
    std::fs::write(disk.ballast(), vec![1; 600_000]).unwrap();
    let mut acked = 0;
    let refused =
        loop {
            let drafts: Vec<Draft> = batch();
            let outcomes = opened.log().append(drafts.clone(), at(1));
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
    disk.make_space();
    let outcomes = opened.log().append(refused, at(2));
    let first = Seq(acked as u64 + 1);
    assert!(matches!(&outcomes[0], AppendOutcome::Appended(entry) if entry.seq == first));
    drop(opened);
    let opened = disk.open();
    assert_eq!(opened.findings, []);
    assert_eq!(everything(&opened).entries.len(), acked + 5);
}

#[test]
fn a_start_and_a_stop_on_a_full_disk_are_no_loss() {
    let Some(disk) = SmallDisk::new() else { return };
    let position = disk.store_five_messages();
    let same = Resumption { from: Seq(5), gap: None };
    // Somewhere among these, the shared memory of SQLite has room, and the first commit has not.
    let mut refused = 0;
    for (pages, crash) in (0u64..=10).flat_map(|pages| [(pages, false), (pages, true)]) {
        let shown = format!("{pages} free pages, crash: {crash}");
        disk.fill(pages * 4096);
        // With less space than the shared memory takes, the store does not open.
        if let Ok(mut opened) = disk.try_open() {
            assert!(opened.findings.is_empty(), "{shown}: {:?}", opened.findings);
            let outcomes = opened.log().append(vec![draft("lobby", &shown, "x")], at(1));
            let full = AppendOutcome::Refused(StoreError::Full(Shortage::Space));
            refused += u32::from(outcomes == [full]);
            assert_eq!(resume(&opened, &position), same, "{shown}");
            if !crash {
                // A start that had the space to begin may lack it for its end.
                let _ = opened.log().close();
            }
        }
        disk.make_space();
        let mut opened = disk.open();
        assert!(opened.findings.is_empty(), "{shown}: {:?}", opened.findings);
        assert_eq!(resume(&opened, &position), same, "{shown}");
        opened.log().close().unwrap();
    }
    assert!(refused >= 2, "{refused}");
}

#[test]
fn a_start_on_a_full_disk_begins_as_soon_as_there_is_space() {
    let Some(disk) = SmallDisk::new() else { return };
    disk.store_five_messages();
    disk.fill(9 * 4096);
    let mut opened = disk.open();
    // A reader that reads now has a position under the epoch of this start.
    let position = Position { epoch: everything(&opened).head.epoch, seq: Seq(5) };
    assert_eq!(opened.log().prune(at(1), Duration::ZERO), PruneResult::default());
    disk.make_space();
    assert_eq!(opened.log().prune(at(2), Duration::ZERO).error, None);
    // The next start recovers this one like any that was killed.
    drop(opened);
    let opened = disk.open();
    assert!(opened.findings.is_empty(), "{:?}", opened.findings);
    assert_eq!(resume(&opened, &position), Resumption { from: Seq(5), gap: None });
}

#[test]
fn a_store_that_a_full_disk_keeps_from_opening_names_the_shortage() {
    let Some(disk) = SmallDisk::new() else { return };
    disk.store_five_messages();
    // As in a copy of the store: SQLite has to make these files again.
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(disk.store().join(format!("{STORE_FILE}{suffix}")));
    }
    disk.fill(4096);
    let error = disk.try_open().err().unwrap();
    assert!(matches!(error, OpenError::Full { shortage: Shortage::Space, .. }), "{error}");
    disk.make_space();
    let opened = disk.open();
    assert!(opened.findings.is_empty(), "{:?}", opened.findings);
    assert_eq!(everything(&opened).entries.len(), 5);
}

#[test]
fn a_deletion_on_a_full_disk_is_refused_or_carried_out_and_never_half_of_it() {
    let Some(disk) = SmallDisk::new() else { return };
    let (mut refused, mut deleted) = (0, 0);
    let mut opened = disk.open();
    fill(&mut opened, 1..=5);
    let lobby = RoomName::lobby();
    for (seq, free_bytes) in [(1, 0), (2, 4096), (3, 0), (4, 65_536)] {
        // A checkpoint and a short file make the next commit need space.
        opened.log().close().unwrap();
        drop(opened);
        opened = disk.open();
        disk.fill(free_bytes);
        let range = [seq.to_string().parse().unwrap()];
        match opened.log().delete(&lobby, &range) {
            Ok(done) => {
                deleted += 1;
                assert_eq!(done.redactions.len(), 1);
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error, DeleteError::Store(StoreError::Full(Shortage::Space)));
                let page = everything(&opened);
                assert!(page.entries.iter().any(|entry| entry.seq == Seq(seq)), "it is not there");
                assert_eq!(opened.log().erase_step(), EraseStep::Done);
            }
        }
        disk.make_space();
        let done = opened.log().delete(&lobby, &range).unwrap();
        assert_eq!(done.redactions.len() as u64 + done.already, 1);
        while opened.log().erase_step() != EraseStep::Done {}
        assert_eq!(everything(&opened).redactions.len() as u64, seq);
    }
    assert_eq!(refused + deleted, 4);
    drop(opened);
    let opened = disk.open();
    assert_eq!((everything(&opened).redactions.len(), &opened.findings[..]), (4, &[][..]));
}
