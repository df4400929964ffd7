//! Prints what the room log reaches by itself: records per second at batches of 1, 10, 100 and
//! 1,000, and with a long history how soon it is ready and how fast the last thousand are read.
//!
//! `cargo bench --bench room_log [-- --history 1000000]`. The folder is made below `TMPDIR`, which
//! must be on a real disk: a file system in memory syncs for nothing.

use std::time::{Duration, Instant, SystemTime};

use secure_chat::credentials::at_rest_key::AtRestKey;
use secure_chat::protocol::{MessageId, RoomName, Seq, Timestamp, UserName};
use secure_chat::store::{AppendOutcome, Draft, OpenedStore, PageRange, Retention, open_disk};

const KEEP: Retention = Retention { messages: u64::MAX, age: Duration::from_secs(30 * 86_400) };
/// How long each batch size is tried.
const WINDOW: Duration = Duration::from_secs(1);
const TEXT_BYTES: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let history = arguments.iter().position(|argument| argument == "--history");
    let history: u64 = history
        .map(|index| arguments[index + 1].parse().expect("--history wants a number"))
        .unwrap_or(0);
    let folder = tempfile::tempdir().expect("a folder to try in");
    let key = AtRestKey::find(folder.path(), None).expect("a key");
    let open = || open_disk(folder.path(), &key, KEEP, now()).expect("the room log opens");
    let mut opened = open();
    println!("batch · records per second · median commit");
    for batch in [1, 10, 100, 1000] {
        let (rate, median) = appended(&mut opened, batch);
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
    let from = Instant::now();
    let opened = open();
    println!("ready with {last} messages after {:?}", from.elapsed());
    let from = Instant::now();
    let span = PageRange::After(Seq(last - 1000));
    let page = opened.reader.page(&room, span, 1000, usize::MAX).expect("a page");
    assert_eq!(page.entries.len(), 1000);
    println!("the last 1000 read in {:?}", from.elapsed());
    let from = Instant::now();
    opened.reader.since(&room, now()).expect("a place");
    println!("a moment found in {:?}; resident {}", from.elapsed(), resident());
}

fn appended(opened: &mut OpenedStore, batch: u64) -> (f64, Duration) {
    let mut commits = Vec::new();
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < WINDOW {
        let from = Instant::now();
        count += append(opened, batch, count);
        commits.push(from.elapsed());
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
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
