//! Measures the room log alone: records per second at batches of 1, 10, 100 and 1,000, and, with a
//! long history, the time to open it and to read the last thousand messages.
//!
//! `cargo bench --bench room_log [-- --history 1000000]`. The store is created in `TMPDIR`, which must be
//! on a real disk, because a sync costs nothing on a file system in memory.

use std::time::{Duration, Instant, SystemTime};

use secure_chat::credentials::at_rest_key::AtRestKey;
use secure_chat::protocol::{MessageId, RoomName, Seq, Timestamp, UserName};
use secure_chat::store::{AppendOutcome, Draft, OpenedStore, PageRange, Retention, open_disk};

const RETENTION: Retention =
    Retention { messages: u64::MAX, age: Duration::from_secs(30 * 86_400), max_bytes: None };
/// How long each batch size is measured.
const MEASURE_TIME: Duration = Duration::from_secs(1);
const TEXT_BYTES: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let history = arguments.iter().position(|argument| argument == "--history");
    let history: u64 = history
        .map(|index| arguments[index + 1].parse().expect("--history needs a number"))
        .unwrap_or(0);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = AtRestKey::find(folder.path(), None).expect("a key");
    let open = || open_disk(folder.path(), &key, RETENTION, now()).expect("the room log opens");
    let mut opened = open();
    println!("batch · records per second · median commit time");
    for batch in [1, 10, 100, 1000] {
        let (rate, median) = measure_appends(&mut opened, batch);
        println!("{batch:>5} · {rate:>9.0} · {median:?}");
    }
    if history == 0 {
        return;
    }
    let room = RoomName::lobby();
    let mut last = opened.reader.head(&room).expect("a head").last.0;
    while last < history {
        last += append(&mut opened, 1000, last);
    }
    drop(opened);
    let start = Instant::now();
    let opened = open();
    println!("opened with {last} messages in {:?}", start.elapsed());
    let start = Instant::now();
    let range = PageRange::After(Seq(last - 1000));
    let page = opened.reader.page(&room, range, 1000, usize::MAX).expect("a page");
    assert_eq!(page.entries.len(), 1000);
    println!("read the last 1000 in {:?}", start.elapsed());
    let start = Instant::now();
    opened.reader.since(&room, now()).expect("a position");
    println!("found a position by time in {:?}; resident {}", start.elapsed(), resident());
}

fn measure_appends(opened: &mut OpenedStore, batch: u64) -> (f64, Duration) {
    let mut commits = Vec::new();
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < MEASURE_TIME {
        let start = Instant::now();
        count += append(opened, batch, count);
        commits.push(start.elapsed());
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    commits.sort();
    (rate, commits[commits.len() / 2])
}

fn append(opened: &mut OpenedStore, batch: u64, from: u64) -> u64 {
    let drafts = (from..from + batch).map(|_| Draft {
        room: RoomName::lobby(),
        user: UserName::clean("Alice"),
        verified: true,
        id: Some(MessageId::fresh()),
        text: "x".repeat(TEXT_BYTES).into(),
    });
    let outcomes = opened.log.append(drafts.collect(), now());
    opened.log.after_commit();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Appended(_))));
    batch
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.map_or("unknown".into(), |line| line[6..].trim().into())
}
