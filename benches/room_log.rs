//! Measures the room log alone: what an append costs at batches of 1, 10, 100 and 1,000 in one room and
//! in many, beside a bare file with as many bytes and syncs; and, with a long history, the time to open it
//! and to read the last thousand messages.
//!
//! `cargo bench --bench room_log [-- --rooms 1,100,10000 --batches 1,10 --millis 1000 --history 1000000]`.
//! The store is created in `TMPDIR`, which must be on a real disk, because a sync costs nothing on a file
//! system in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use secure_chat::credentials::at_rest_key::AtRestKey;
use secure_chat::protocol::{MessageId, RoomName, Seq, Timestamp, UserName};
use secure_chat::store::{AppendOutcome, Draft, OpenedStore, PageRange, Retention, open_disk};

const RETENTION: Retention =
    Retention { messages: u64::MAX, age: Duration::from_secs(30 * 86_400), max_bytes: None };
const TEXT_BYTES: usize = 100;
/// Messages in each room before measuring, so that the newest messages of two rooms are in different pages.
const FIRST_MESSAGES: u64 = 20;
/// The message after one in room `n` is in room `n + ROOM_STRIDE`, so neighbours are in different pages.
const ROOM_STRIDE: u64 = 7919;
/// A message in the store: its record and its id.
const STORED_BYTES: u64 = 300;
/// The size of the bare file, which is overwritten from its beginning when it is full.
const BARE_FILE_BYTES: u64 = 18 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let list = |name: &str, usual: &str| -> Vec<u64> {
        let at = arguments.iter().position(|argument| argument == name);
        let list = at.map_or(usual, |at| &arguments[at + 1]);
        list.split(',').map(|number| number.parse().expect("a number")).collect()
    };
    let time = Duration::from_millis(list("--millis", "1000")[0]);
    println!(
        "{:>6} {:>6} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "rooms", "batch", "records/s", "commit µs", "CPU µs", "WAL pages", "bytes"
    );
    println!("{:>13} {:>10} {:>10} {:>32}", "", "", "median", "per record; pages per commit");
    for rooms in list("--rooms", "1,100,10000") {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut store = Store::open(folder.path(), rooms);
        for batch in list("--batches", "1,10,100,1000") {
            let figures = measure(time, || store.append(batch));
            println!("{rooms:>6} {batch:>6} {}", figures.show(batch));
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bare = BareFile::create(&folder.path().join("bare")).expect("a file");
    for batch in list("--batches", "1,10,100,1000") {
        let figures = measure(time, || bare.append(batch));
        println!("{:>6} {batch:>6} {}", "bare", figures.show(batch));
    }
    let history = list("--history", "0")[0];
    if history > 0 {
        measure_reading(history);
    }
}

/// The cost of one commit.
struct Commit {
    time: Duration,
    cpu: Duration,
    pages: u64,
}

struct Figures {
    commits: Vec<Commit>,
    elapsed: Duration,
    written_bytes: u64,
}

/// Commits for `time`.
fn measure(time: Duration, mut commit: impl FnMut() -> Commit) -> Figures {
    let (mut commits, mut elapsed) = (Vec::new(), Duration::ZERO);
    let before = written_bytes();
    while elapsed < time {
        commits.push(commit());
        elapsed += commits[commits.len() - 1].time;
    }
    Figures { commits, elapsed, written_bytes: written_bytes() - before }
}

impl Figures {
    fn show(&self, batch: u64) -> String {
        let count = self.commits.len() as f64;
        let records = count * batch as f64;
        let mut times: Vec<Duration> = self.commits.iter().map(|commit| commit.time).collect();
        times.sort();
        let median = times[times.len() / 2].as_secs_f64() * 1e6;
        let cpu: Duration = self.commits.iter().map(|commit| commit.cpu).sum();
        let pages: u64 = self.commits.iter().map(|commit| commit.pages).sum();
        format!(
            "{:>10.0} {median:>10.0} {:>10.2} {:>10.1} {:>10.0}",
            records / self.elapsed.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / records,
            pages as f64 / count,
            self.written_bytes as f64 / records
        )
    }
}

struct Store {
    opened: OpenedStore,
    rooms: Vec<RoomName>,
    next_room: u64,
    wal: WalIndex,
}

impl Store {
    /// A new store in which each room has a few messages.
    fn open(folder: &Path, rooms: u64) -> Self {
        let key = AtRestKey::find(folder, None).expect("a key");
        let opened = open_disk(folder, &key, RETENTION, now()).expect("the room log opens");
        let name = |number| RoomName::parse(&format!("room-{number}")).expect("a name");
        let rooms: Vec<RoomName> = (0..rooms).map(name).collect();
        let wal = WalIndex::open(&folder.join("history.sqlite3-shm")).expect("an index");
        let mut store = Store { opened, rooms, next_room: 0, wal };
        for _ in 0..store.rooms.len() as u64 * FIRST_MESSAGES / 1000 {
            store.append(1000);
        }
        store
    }

    fn append(&mut self, batch: u64) -> Commit {
        let drafts: Vec<Draft> = (0..batch).map(|_| self.draft()).collect();
        let (start, cpu) = (Instant::now(), cpu());
        let outcomes = self.opened.log().append(drafts, now());
        self.opened.log().after_commit();
        let (time, cpu) = (start.elapsed(), self::cpu() - cpu);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Appended(_))));
        Commit { time, cpu, pages: self.wal.added_pages().expect("a number of pages") }
    }

    fn draft(&mut self) -> Draft {
        self.next_room = (self.next_room + ROOM_STRIDE) % self.rooms.len() as u64;
        Draft {
            room: self.rooms[self.next_room as usize].clone(),
            user: UserName::clean("Alice"),
            verified: true,
            id: Some(MessageId::fresh()),
            text: "x".repeat(TEXT_BYTES).into(),
            e2e: None,
            commit: None,
        }
    }
}

/// The index of SQLite's write-ahead log (sqlite.org/walformat.html).
struct WalIndex {
    file: File,
    pages: u32,
}

impl WalIndex {
    fn open(path: &Path) -> io::Result<Self> {
        let mut index = WalIndex { file: File::open(path)?, pages: 0 };
        index.added_pages().map(|_| index)
    }

    /// The pages that the commits since the last call put into the log.
    fn added_pages(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, 16)?;
        let before = std::mem::replace(&mut self.pages, u32::from_ne_bytes(bytes));
        // After a checkpoint the log is written from its beginning.
        Ok(u64::from(self.pages.checked_sub(before).unwrap_or(self.pages)))
    }
}

/// A file that gets one write and one sync per commit, and as many bytes as the store keeps.
struct BareFile {
    file: File,
    at: u64,
    bytes: Vec<u8>,
}

impl BareFile {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        file.write_all_at(&vec![0; BARE_FILE_BYTES as usize], 0)?;
        file.sync_all()?;
        Ok(BareFile { file, at: 0, bytes: vec![7; STORED_BYTES as usize * 1000] })
    }

    fn append(&mut self, batch: u64) -> Commit {
        let length = STORED_BYTES * batch;
        if self.at + length > BARE_FILE_BYTES {
            self.at = 0;
        }
        let (start, cpu) = (Instant::now(), cpu());
        self.file.write_all_at(&self.bytes[..length as usize], self.at).expect("written");
        self.file.sync_data().expect("synced");
        self.at += length;
        Commit { time: start.elapsed(), cpu: self::cpu() - cpu, pages: 0 }
    }
}

fn measure_reading(history: u64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut store = Store::open(folder.path(), 1);
    let room = store.rooms[0].clone();
    while store.opened.reader.head(&room).expect("a head").last.0 < history {
        store.append(1000);
    }
    drop(store);
    let key = AtRestKey::find(folder.path(), None).expect("a key");
    let start = Instant::now();
    let opened = open_disk(folder.path(), &key, RETENTION, now()).expect("the room log opens");
    println!("opened with {history} messages in {:?}", start.elapsed());
    let last = opened.reader.head(&room).expect("a head").last.0;
    let start = Instant::now();
    let range = PageRange::After(Seq(last - 1000));
    let page = opened.reader.page(&room, range, 1000, usize::MAX).expect("a page");
    assert_eq!(page.entries.len(), 1000);
    println!("read the last 1000 in {:?}", start.elapsed());
    let start = Instant::now();
    opened.reader.since(&room, now()).expect("a position");
    println!("found a position by time in {:?}; resident {}", start.elapsed(), resident());
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// The processor time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The bytes that this process gave to write(2) and pwrite(2).
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("the input and output of the process");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|bytes| bytes.parse().ok()).expect("a number of bytes")
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.map_or("unknown".into(), |line| line[6..].trim().into())
}
