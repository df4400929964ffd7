//! A damaged store opens, keeps what can be read, reports the damage, and never returns an entry that
//! was not written.

use std::fs;

use super::*;

/// A store as a killed server leaves it: the messages above `checkpointed` are only in the WAL.
fn killed(messages: u64, checkpointed: u64) -> (Home, OpenedStore) {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=checkpointed);
    opened.log().close().unwrap();
    drop(opened);
    let mut opened = home.open();
    fill(&mut opened, checkpointed + 1..=messages);
    (home, opened)
}

/// A copy of the files of a folder.
struct Snapshot {
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Snapshot {
    fn of(home: &Home) -> Self {
        let files = home.folder.path().read_dir().unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|path| !path.ends_with("history.sqlite3-shm"));
        Snapshot { files: files.map(|path| (path.clone(), fs::read(path).unwrap())).collect() }
    }

    /// Restores the files, changes one of them, and opens the store.
    fn open(&self, home: &Home, changed: &str, change: impl Fn(&mut Vec<u8>)) -> OpenedStore {
        for file in home.folder.path().read_dir().unwrap() {
            let path = file.unwrap().path();
            if !self.files.iter().any(|(known, _)| *known == path) {
                fs::remove_file(path).unwrap();
            }
        }
        for (path, bytes) in &self.files {
            let mut bytes = bytes.clone();
            if path.ends_with(changed) {
                change(&mut bytes);
            }
            fs::write(path, bytes).unwrap();
        }
        home.open()
    }
}

/// Whether a reader that had read the first message under this epoch is told that messages may be
/// missing.
fn is_told(opened: &OpenedStore, epoch: &Epoch) -> bool {
    let position = Position { epoch: epoch.clone(), seq: Seq(1) };
    match resume(opened, &position).gap {
        None => false,
        Some(Gap { reason: GapReason::Epoch, .. }) => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wal_cut_anywhere_keeps_earlier_messages_and_the_loss_is_reported() {
    let (home, opened) = killed(12, 3);
    let whole = everything(&opened);
    let snapshot = Snapshot::of(&home);
    drop(opened);
    let wal = home.file("history.sqlite3-wal");
    let length = snapshot.files.iter().find(|(path, _)| *path == wal).unwrap().1.len();
    // Trying every byte of the last frames would take minutes. Every 13th byte covers each part of a
    // frame header and of a page.
    let mut cuts: Vec<usize> = (length.saturating_sub(3 * 4120)..length).step_by(13).collect();
    cuts.extend([0, 1, 31, 32, 33, 4151, length - 1]);
    let mut reported = 0;
    for (number, cut) in cuts.into_iter().enumerate() {
        // What never reached the disk is missing, or zeros if the file had its full size before.
        let mut opened = snapshot.open(&home, "history.sqlite3-wal", |bytes| match number % 2 {
            0 => bytes.truncate(cut),
            _ => bytes[cut..].fill(0),
        });
        let page = everything(&opened);
        assert_genuine(&page);
        assert!(page.entries.len() >= 3, "cut at {cut}");
        let lost = page.entries.len() < 12;
        // A cut of the whole log is told, even if nothing was lost.
        let told = is_told(&opened, &whole.head.epoch);
        assert!(told == lost || (told && cut == 0), "cut at {cut}");
        assert_eq!(told, !opened.findings.is_empty(), "cut at {cut}");
        reported += u32::from(lost);
        let next = page.head.last.0 + 1;
        fill(&mut opened, next..=next);
    }
    assert!(reported > 0);
}

/// Then only the metadata in the file shows that the key is right.
#[test]
fn a_new_store_that_lost_its_wal_is_not_reported_as_wrong_key() {
    let (home, opened) = killed(5, 0);
    let epoch = everything(&opened).head.epoch;
    let snapshot = Snapshot::of(&home);
    drop(opened);
    let opened = snapshot.open(&home, "history.sqlite3-wal", |bytes| bytes.truncate(40));
    let page = everything(&opened);
    assert!(page.entries.is_empty() && !opened.findings.is_empty());
    assert!(is_told(&opened, &epoch));
}

#[test]
fn five_hundred_flipped_bits_never_give_a_wrong_entry() {
    let (home, opened) = killed(60, 40);
    let whole = everything(&opened);
    let snapshot = Snapshot::of(&home);
    drop(opened);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut fewest = usize::MAX;
    for _ in 0..500 {
        // xorshift, so that a failure is reproducible.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let name = ["history.sqlite3", "history.sqlite3-wal", "history.mark"]
            [[0, 0, 0, 1, 1, 1, 1, 2][(seed % 8) as usize]];
        let bytes = file_length(&snapshot, &home.file(name));
        let bit = (seed >> 8) as usize % (bytes * 8);
        let mut opened = snapshot.open(&home, name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let page = everything(&opened);
        assert_genuine(&page);
        let what = format!("bit {bit} of {name}: {:?}", opened.findings);
        let lost = page.entries.len() < 60;
        assert!(!lost || is_told(&opened, &whole.head.epoch), "{what}");
        assert!(!lost || !opened.findings.is_empty(), "{what}");
        fewest = fewest.min(page.entries.len());
        let next = page.head.last.0 + 1;
        fill(&mut opened, next..=next);
    }
    // One bit damages at most one page, and a page holds few of these messages.
    assert!(fewest >= 40, "{fewest}");
}

fn file_length(snapshot: &Snapshot, path: &Path) -> usize {
    snapshot.files.iter().find(|(known, _)| known == path).unwrap().1.len()
}

#[test]
fn an_empty_truncated_or_foreign_file_is_recovered() {
    let (home, opened) = killed(60, 60);
    let whole = everything(&opened);
    let snapshot = Snapshot::of(&home);
    drop(opened);
    let store = STORE_FILE;
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 6] = [
        ("empty", |bytes| bytes.clear()),
        ("other", |bytes| *bytes = b"this is a text file\n".repeat(1000)),
        ("halved", |bytes| bytes.truncate(bytes.len() / 2 + 77)),
        ("tiny", |bytes| bytes.truncate(10)),
        ("headless", |bytes| bytes[..100].fill(0)),
        ("holed", |bytes| bytes[8192..16384].fill(0xff)),
    ];
    for (name, change) in changes {
        let opened = snapshot.open(&home, store, change);
        let page = everything(&opened);
        assert_genuine(&page);
        let kinds = &opened.findings[..];
        assert!(
            matches!(kinds, [Finding::Recovered { .. }, Finding::DamagedFiles { files: 1.., .. }]),
            "{name}: {kinds:?}"
        );
        assert!(is_told(&opened, &whole.head.epoch), "{name}");
        assert!(home.file("history.sqlite3.damaged-1").exists(), "{name}");
        if matches!(name, "headless") {
            assert_eq!(page.entries, whole.entries, "{name}");
        }
        if matches!(name, "halved" | "holed") {
            assert!(page.entries.len() > 10, "{name}: {}", page.entries.len());
        }
        let position = Position { epoch: page.head.epoch, seq: page.head.last };
        drop(opened);
        let again = home.open();
        assert!(
            matches!(again.findings[..], [Finding::DamagedFiles { .. }]),
            "{name}: reported once"
        );
        assert_eq!(resume(&again, &position).gap, None, "{name}");
    }
}

#[test]
fn a_deleted_store_is_a_loss() {
    let (home, opened) = killed(5, 5);
    let epoch = everything(&opened).head.epoch;
    drop(opened);
    fs::remove_file(home.file(STORE_FILE)).unwrap();
    let opened = home.open();
    assert!(matches!(opened.findings[0], Finding::Recovered { .. }), "{:?}", opened.findings);
    assert!(is_told(&opened, &epoch));
    drop(opened);
    fs::remove_file(home.file(STORE_FILE)).unwrap();
    fs::remove_file(home.file("history.sqlite3-wal")).unwrap();
    let opened = home.open();
    let wiped = everything(&opened);
    assert_eq!((wiped.entries.len(), wiped.head.last), (0, Seq(0)));
    assert!(is_told(&opened, &epoch));
}

#[test]
fn a_record_changed_by_another_program_is_reported_as_damaged() {
    let (home, opened) = killed(9, 9);
    drop(opened);
    let mut opened = home.open();
    let other = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    // Swap 3 and 4, overwrite 7, delete 8.
    other
        .execute_batch(
            "CREATE TEMP TABLE was AS SELECT seq, sealed FROM records;
             UPDATE records SET sealed = (SELECT sealed FROM was WHERE was.seq = 7 - records.seq)
                WHERE seq IN (3, 4);
             UPDATE records SET sealed = zeroblob(80) WHERE seq = 7;
             DELETE FROM records WHERE seq = 8",
        )
        .unwrap();
    let hole = |after, next| Gap { after: Seq(after), next: Seq(next), reason: GapReason::Damaged };
    let page = everything(&opened);
    assert_genuine(&page);
    assert_eq!(page.gaps, [hole(2, 5), hole(6, 9)]);
    assert_eq!(page.entries.iter().map(|e| e.seq.0).collect::<Vec<_>>(), [1, 2, 5, 6, 9]);
    let newest = opened.reader.page(&RoomName::lobby(), PageRange::Newest, 3, usize::MAX).unwrap();
    assert_eq!(newest.gaps, [hole(6, 9)]);
    assert_eq!((newest.entries.len(), newest.more, newest.reached), (3, true, Seq(5)));
    fill(&mut opened, 10..=10);
}
