//! Compares the whole server with its store alone, in one run: acked messages per second with 64 in
//! flight (beside the store with commits of the same size), and the time from send to ack with one in
//! flight. With a long history it also measures the start, the resume of the last thousand messages,
//! and the memory.
//!
//! `cargo bench --bench delivery [-- --history 1000000]`. Stores are created in `TMPDIR`, which must be on
//! a real disk, because a sync costs nothing on a file system in memory.

#[path = "support/sender.rs"]
mod sender;
mod support;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use secure_chat::credentials::at_rest_key::AtRestKey;
use secure_chat::protocol::{MessageId, RoomName, Timestamp, UserName};
use secure_chat::store::{Draft, OpenedStore, Retention, open_disk};
use sender::{IN_FLIGHT, MESSAGES, ROUND_TRIPS, Sender, dial, next};
use serde_json::json;
use support::{Server, memory_kib};
use tokio::net::TcpStream;

const RETENTION: Retention =
    Retention { messages: u64::MAX, age: Duration::from_secs(30 * 86_400), max_bytes: None };

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let history = arguments.iter().position(|argument| argument == "--history");
    let history: u64 = history
        .map(|index| arguments[index + 1].parse().expect("--history needs a number"))
        .unwrap_or(0);

    // Three rounds, each with both sides of every ratio. The medians are printed.
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let (commit_time, _) = measure_store(1);
        let round_trip = measure_round_trip().await;
        let server = MeasuredServer::start(None);
        let mut sender = Sender::connect(&server.server.address).await;
        // Warm-up: a sync costs more until the WAL has reached its full size, and the store alone is
        // past that for most of its second.
        sender.measure_throughput().await;
        let before = server.commits();
        let rate = sender.measure_throughput().await;
        // The store alone is measured at the average size of the server's commits.
        let size = MESSAGES as f64 / (server.commits() - before) as f64;
        let ack_time = sender.measure_ack_time().await;
        drop(server);
        let (_, store_rate) = measure_store(size.round() as u64);
        let ratio = rate / store_rate;
        rounds.push([commit_time, round_trip, ack_time, rate, size, store_rate, ratio]);
    }
    let median = |index: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[index]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let [commit_time, round_trip, ack_time, rate, size, store_rate, ratio] =
        [0, 1, 2, 3, 4, 5, 6].map(median);
    println!(
        "send to ack, one in flight: {:.0} µs; commit of the store alone {:.0} µs + loopback round trip {:.0} µs; ratio {:.2}",
        ack_time * 1e6,
        commit_time * 1e6,
        round_trip * 1e6,
        ack_time / (commit_time + round_trip)
    );
    println!(
        "acked per second with {IN_FLIGHT} in flight: {rate:.0}, {size:.0} per commit; the store alone with as many per commit: {store_rate:.0}; ratio {ratio:.2}"
    );
    if history > 0 {
        long_history(history).await;
    }
}

/// Measures the store alone: the median commit in seconds, and records per second.
fn measure_store(batch: u64) -> (f64, f64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = AtRestKey::find(folder.path(), None).expect("a key");
    let mut opened = open_disk(folder.path(), &key, RETENTION, now()).expect("the room log opens");
    let (started, mut commits, mut count) = (Instant::now(), Vec::new(), 0);
    while started.elapsed() < Duration::from_secs(1) {
        let start = Instant::now();
        count += append(&mut opened, batch, count);
        commits.push(start.elapsed().as_secs_f64());
    }
    commits.sort_by(f64::total_cmp);
    (commits[commits.len() / 2], count as f64 / started.elapsed().as_secs_f64())
}

fn append(opened: &mut OpenedStore, batch: u64, from: u64) -> u64 {
    let drafts = (from..from + batch)
        .map(|number| Draft {
            room: RoomName::lobby(),
            user: UserName::clean("bench"),
            verified: false,
            id: MessageId::parse(&format!("bench-{number}")),
            text: "x".repeat(100).into(),
            e2e: None,
            commit: None,
        })
        .collect();
    let appended = opened.log().append(drafts, now()).len() as u64;
    opened.log().after_commit();
    appended
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// Measures the median round trip of 300 bytes over loopback, in seconds.
async fn measure_round_trip() -> f64 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let Ok((mut stream, _)) = listener.accept() else { return };
        let _ = stream.set_nodelay(true);
        let mut bytes = [0; 300];
        while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
    });
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    let (mut trips, mut bytes) = (Vec::new(), [0; 300]);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        stream.write_all(&bytes).await.expect("written");
        stream.read_exact(&mut bytes).await.expect("read");
        trips.push(start.elapsed().as_secs_f64());
    }
    trips.sort_by(f64::total_cmp);
    trips[trips.len() / 2]
}

/// A server with its metrics port and start-up time.
struct MeasuredServer {
    server: Server,
    metrics: String,
    startup: Duration,
}

impl MeasuredServer {
    fn start(history: Option<&Path>) -> Self {
        // A free port; nothing else uses ports on this address, so it stays free.
        let metrics = std::net::TcpListener::bind("127.0.0.2:0").and_then(|port| port.local_addr());
        let metrics = metrics.expect("a port for the metrics").to_string();
        let mut settings = vec![("CHAT_SERVER_ADMIN__METRICS", metrics.as_str())];
        if let Some(path) = history {
            settings.push(("CHAT_SERVER_HISTORY__PATH", path.to_str().expect("a plain path")));
        }
        let start = Instant::now();
        let server = Server::start(&settings);
        MeasuredServer { server, startup: start.elapsed(), metrics }
    }

    /// Commits of the room log so far, by the metrics.
    fn commits(&self) -> u64 {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&self.metrics).expect("the metrics");
        let host = &self.metrics;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("asked");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        let line = page.lines().find_map(|line| line.strip_prefix("chat_commits_total "));
        line.and_then(|number| number.parse().ok()).expect("a number of commits")
    }

    fn resident_kib(&self) -> u64 {
        memory_kib(&self.server.child, "VmRSS")
    }
}

async fn long_history(messages: u64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = AtRestKey::find(folder.path(), None).expect("a key");
    let mut opened = open_disk(folder.path(), &key, RETENTION, now()).expect("the room log opens");
    let mut last = 0;
    let mut short = (Duration::ZERO, 0);
    while last < messages {
        last += append(&mut opened, 1_000, last);
        if last == 1_000 {
            drop(opened);
            let server = MeasuredServer::start(Some(folder.path()));
            resume(&server.server.address, 1_000).await;
            short = (server.startup, server.resident_kib());
            drop(server);
            opened = open_disk(folder.path(), &key, RETENTION, now()).expect("the room log opens");
        }
    }
    drop(opened);
    let server = MeasuredServer::start(Some(folder.path()));
    let took = resume(&server.server.address, 1_000).await;
    println!(
        "{last} messages of history: started in {:?} ({:?} with 1,000); resumed the last 1,000 in {took:?}; resident {} KiB ({} KiB with 1,000)",
        server.startup,
        short.0,
        server.resident_kib(),
        short.1
    );
}

/// Measures the time to connect and resume the last `count` messages.
async fn resume(address: &str, count: u64) -> Duration {
    let (_, welcome) = dial(address, json!({})).await;
    let head = &welcome["rooms"]["lobby"];
    let seq = head["seq"].as_u64().expect("a seq") - count;
    let start = Instant::now();
    let resume = json!({"resume": {"lobby": {"epoch": head["epoch"], "seq": seq}}});
    let (mut socket, _) = dial(address, resume).await;
    let mut received = 0;
    while received < count {
        if next(&mut socket).await["type"] == "chat_message" {
            received += 1;
        }
    }
    start.elapsed()
}
