//! A torn or rotten record never lies: it opens, keeps what it can, says so, and what it gives is
//! what was raw.

use std::fs;

use super::*;

/// The files of a server that was killed: nothing was folded or closed.
fn killed(numbers: u64, folded: u64) -> (Home, OpenedStore) {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=folded);
    drop(opened);
    let mut opened = home.open();
    fill(&mut opened, folded + 1..=numbers);
    (home, opened)
}

/// The same folder again as it lies on the disk now, with one file changed. The record keeps its
/// inode number in the mark, so it is put back in place, not copied elsewhere.
struct Lying {
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Lying {
    fn of(home: &Home) -> Self {
        let files = home.folder.path().read_dir().unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|path| !path.ends_with("history.sqlite3-shm"));
        Lying { files: files.map(|path| (path.clone(), fs::read(path).unwrap())).collect() }
    }

    /// Puts everything back, with one file changed, and opens it.
    fn open(&self, home: &Home, changed: &str, change: impl Fn(&mut Vec<u8>)) -> OpenedStore {
        for file in home.folder.path().read_dir().unwrap() {
            let path = file.unwrap().path();
            if !self.files.iter().any(|(known, _)| *known == path) {
                fs::remove_file(path).unwrap();
            }
        }
        let mut renew_mark = true;
        for (path, bytes) in &self.files {
            let mut bytes = bytes.clone();
            if path.ends_with(changed) {
                change(&mut bytes);
                renew_mark &= changed != MARK_FILE;
            }
            // Written into, not replaced, as long as it is there.
            fs::write(path, bytes).unwrap();
        }
        if renew_mark {
            self.mark_for_this_file(home);
        }
        home.open()
    }

    // After a salvage the record is another file than the one the mark speaks of.
    fn mark_for_this_file(&self, home: &Home) {
        let sealer = Sealer::new(&home.key);
        let store = home.file(STORE_FILE);
        let inode = fs::metadata(store).unwrap().ino();
        let sealed = fs::read(home.file(MARK_FILE)).unwrap();
        let mut plain = sealer.open(&sealed).unwrap();
        plain[4..12].copy_from_slice(&inode.to_be_bytes());
        fs::write(home.file(MARK_FILE), sealer.seal(plain)).unwrap();
    }
}

#[test]
fn the_log_of_commits_cut_anywhere_keeps_what_was_before_and_says_so() {
    let (home, opened) = killed(12, 3);
    let whole = everything(&opened);
    let lying = Lying::of(&home);
    drop(opened);
    let wal = home.file("history.sqlite3-wal");
    let length = lying.files.iter().find(|(path, _)| *path == wal).unwrap().1.len();
    // Every byte of the last record's frames would take minutes; every 13th meets each place of
    // a frame's head and of a page as well as its middle.
    let mut cuts: Vec<usize> = (length.saturating_sub(3 * 4120)..length).step_by(13).collect();
    cuts.extend([0, 1, 31, 32, 33, 4151, length - 1]);
    let mut reported = 0;
    for (number, cut) in cuts.into_iter().enumerate() {
        // What never reached the disk is missing, or zeros where the file had its length before.
        let mut opened = lying.open(&home, "history.sqlite3-wal", |bytes| match number % 2 {
            0 => bytes.truncate(cut),
            _ => bytes[cut..].fill(0),
        });
        let page = everything(&opened);
        assert_true(&page);
        assert!(page.entries.len() >= 3, "cut at {cut}");
        let lost = page.entries.len() < 12;
        assert_eq!(lost, page.head.epoch != whole.head.epoch, "cut at {cut}");
        assert_eq!(lost, !opened.findings.is_empty(), "cut at {cut}");
        reported += u32::from(lost);
        let next = page.head.last.0 + 1;
        fill(&mut opened, next..=next);
    }
    assert!(reported > 0);
}

/// The head of the file is then all that shows whose it is.
#[test]
fn a_young_record_that_lost_its_log_of_commits_is_not_taken_for_a_strangers() {
    let (home, opened) = killed(5, 0);
    let epoch = everything(&opened).head.epoch;
    let lying = Lying::of(&home);
    drop(opened);
    let opened = lying.open(&home, "history.sqlite3-wal", |bytes| bytes.truncate(40));
    let page = everything(&opened);
    assert!(page.entries.is_empty() && !opened.findings.is_empty());
    assert_ne!(page.head.epoch, epoch);
}

#[test]
fn five_hundred_flipped_bits_never_give_a_wrong_record() {
    let (home, opened) = killed(60, 40);
    let whole = everything(&opened);
    let lying = Lying::of(&home);
    drop(opened);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut least = usize::MAX;
    for _ in 0..500 {
        // xorshift, so that a failure comes again.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let name = ["history.sqlite3", "history.sqlite3-wal", "history.mark"]
            [[0, 0, 0, 1, 1, 1, 1, 2][(seed % 8) as usize]];
        let bytes = fs_len(&lying, &home.file(name));
        let bit = (seed >> 8) as usize % (bytes * 8);
        let mut opened = lying.open(&home, name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let page = everything(&opened);
        assert_true(&page);
        let what = format!("bit {bit} of {name}: {:?}", opened.findings);
        let lost = page.entries.len() < 60;
        assert!(!lost || page.head.epoch != whole.head.epoch, "{what}");
        assert!(!lost || !opened.findings.is_empty(), "{what}");
        least = least.min(page.entries.len());
        let next = page.head.last.0 + 1;
        fill(&mut opened, next..=next);
    }
    // One bit costs one page at most, and a page holds few of these messages.
    assert!(least >= 40, "{least}");
}

fn fs_len(lying: &Lying, path: &Path) -> usize {
    lying.files.iter().find(|(known, _)| known == path).unwrap().1.len()
}

#[test]
fn a_file_that_is_none_or_cut_or_another_opens_anew() {
    let (home, opened) = killed(60, 60);
    let whole = everything(&opened);
    let lying = Lying::of(&home);
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
        let opened = lying.open(&home, store, change);
        let page = everything(&opened);
        assert_true(&page);
        assert!(matches!(opened.findings[..], [Finding::Recovered { .. }]), "{name}");
        assert_ne!(page.head.epoch, whole.head.epoch, "{name}");
        assert!(home.file("history.sqlite3.damaged-1").exists(), "{name}");
        if matches!(name, "headless") {
            assert_eq!(page.entries, whole.entries, "{name}");
        }
        if matches!(name, "halved" | "holed") {
            assert!(page.entries.len() > 10, "{name}: {}", page.entries.len());
        }
        let epoch = page.head.epoch;
        drop(opened);
        let again = home.open();
        assert_eq!(again.findings, [], "{name}: said once");
        assert_eq!(everything(&again).head.epoch, epoch, "{name}");
    }
}

#[test]
fn a_wiped_or_copied_history_gets_another_epoch() {
    let (home, opened) = killed(5, 5);
    let before = everything(&opened);
    drop(opened);
    let copy = fs::read(home.file(STORE_FILE)).unwrap();
    let opened = home.open();
    drop(opened);
    fs::write(home.file("copy"), copy).unwrap();
    fs::rename(home.file("copy"), home.file(STORE_FILE)).unwrap();
    let opened = home.open();
    assert!(matches!(opened.findings[..], [Finding::Restored { .. }]), "{:?}", opened.findings);
    let restored = everything(&opened);
    assert_eq!(restored.entries, before.entries);
    assert_ne!(restored.head.epoch, before.head.epoch);
    drop(opened);
    fs::remove_file(home.file(STORE_FILE)).unwrap();
    let opened = home.open();
    let wiped = everything(&opened);
    assert_eq!((wiped.entries.len(), wiped.head.last), (0, Seq(0)));
    assert_ne!(wiped.head.epoch, restored.head.epoch);
}

#[test]
fn a_record_changed_or_moved_behind_our_back_is_a_hole() {
    let (home, opened) = killed(9, 9);
    drop(opened);
    let mut opened = home.open();
    let other = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
    // 3 and 4 trade places, 7 rots, 8 is gone.
    other
        .execute_batch(
            "CREATE TEMP TABLE was AS SELECT seq, sealed FROM records;
             UPDATE records SET sealed = (SELECT sealed FROM was WHERE was.seq = 7 - records.seq)
                WHERE seq IN (3, 4);
             UPDATE records SET sealed = zeroblob(80) WHERE seq = 7;
             DELETE FROM records WHERE seq = 8",
        )
        .unwrap();
    let hole = |first, last| crate::store::SeqRange { first: Seq(first), last: Seq(last) };
    let page = everything(&opened);
    assert_true(&page);
    assert_eq!(page.damaged, [hole(3, 4), hole(7, 8)]);
    assert_eq!(page.entries.iter().map(|e| e.seq.0).collect::<Vec<_>>(), [1, 2, 5, 6, 9]);
    let newest = opened.reader.page(&RoomName::lobby(), PageRange::Newest, 3, usize::MAX).unwrap();
    assert_eq!(newest.damaged, [hole(7, 8)]);
    assert_eq!((newest.entries.len(), newest.more, newest.reached), (3, true, Seq(5)));
    fill(&mut opened, 10..=10);
}
