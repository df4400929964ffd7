//! Prints what the whole server reaches beside what its store reaches by itself, in one run: acked
//! messages per second with 64 in flight (and beside it the store with commits as large), the time from send to ack one at a time, and with a long
//! history how soon it is ready, how fast the last thousand are resumed, and what it takes in memory.
//!
//! `cargo bench --bench delivery [-- --history 1000000]`. Folders are made below `TMPDIR`, which
//! must be on a real disk: a file system in memory syncs for nothing.

mod own;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use fernet::Fernet;
use futures_util::{SinkExt as _, StreamExt as _};
use own::{Server, memory_kib};
use secure_chat::credentials::at_rest_key::AtRestKey;
use secure_chat::protocol::{MessageId, RoomName, Timestamp, UserName};
use secure_chat::store::{Draft, OpenedStore, Retention, open_disk};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const KEEP: Retention = Retention { messages: u64::MAX, age: Duration::from_secs(30 * 86_400) };
const IN_FLIGHT: usize = 64;
const MESSAGES: usize = 20_000;
const ALONE: usize = 2_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let history = arguments.iter().position(|argument| argument == "--history");
    let history: u64 = history
        .map(|index| arguments[index + 1].parse().expect("--history wants a number"))
        .unwrap_or(0);

    // Three rounds, each with both sides of every ratio; the medians are printed.
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let (bare_one, _) = bare(1);
        let trip = round_trip().await;
        let server = Measured::start(None);
        let mut sender = Sender::connect(&server.server.address).await;
        // Once before: a sync costs more while the store's log of commits still grows, and the store by
        // itself has that behind it for most of its second.
        sender.pouring().await;
        let before = server.commits();
        let rate = sender.pouring().await;
        // What the store reaches by itself at the size that the server's commits really had.
        let size = MESSAGES as f64 / (server.commits() - before) as f64;
        let alone = sender.alone().await;
        drop(server);
        let (_, bare_rate) = bare(size.round() as u64);
        rounds.push([bare_one, trip, alone, rate, size, bare_rate, rate / bare_rate]);
    }
    let median = |index: usize| {
        let mut all: Vec<f64> = rounds.iter().map(|round| round[index]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let [bare_one, trip, alone, rate, size, bare_rate, ratio] = [0, 1, 2, 3, 4, 5, 6].map(median);
    println!(
        "send to ack, one at a time: {:.0} µs; a bare commit {:.0} µs + a loopback round trip {:.0} µs; ratio {:.2}",
        alone * 1e6,
        bare_one * 1e6,
        trip * 1e6,
        alone / (bare_one + trip)
    );
    println!(
        "acked per second with {IN_FLIGHT} in flight: {rate:.0}, {size:.0} a commit; the store alone with as many a commit: {bare_rate:.0}; ratio {ratio:.2}"
    );
    if history > 0 {
        long_history(history).await;
    }
}

/// The store by itself: seconds of the median commit, and records per second.
fn bare(batch: u64) -> (f64, f64) {
    let folder = tempfile::tempdir().expect("a folder to try in");
    let key = AtRestKey::find(folder.path(), None).expect("a key");
    let mut opened = open_disk(folder.path(), &key, KEEP, now()).expect("the room log opens");
    let (began, mut commits, mut count) = (Instant::now(), Vec::new(), 0);
    while began.elapsed() < Duration::from_secs(1) {
        let from = Instant::now();
        count += append(&mut opened, batch, count);
        commits.push(from.elapsed().as_secs_f64());
    }
    commits.sort_by(f64::total_cmp);
    (commits[commits.len() / 2], count as f64 / began.elapsed().as_secs_f64())
}

fn append(opened: &mut OpenedStore, batch: u64, from: u64) -> u64 {
    let drafts = (from..from + batch)
        .map(|number| Draft {
            room: RoomName::lobby(),
            user: UserName::clean("bench"),
            verified: false,
            id: MessageId::parse(&format!("bench-{number}")),
            text: "x".repeat(100).into(),
        })
        .collect();
    let kept = opened.log.append(drafts, now()).len() as u64;
    opened.log.after_commit();
    kept
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// Seconds of the median round trip of 300 bytes over loopback.
async fn round_trip() -> f64 {
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
    for _ in 0..ALONE {
        let from = Instant::now();
        stream.write_all(&bytes).await.expect("written");
        stream.read_exact(&mut bytes).await.expect("read");
        trips.push(from.elapsed().as_secs_f64());
    }
    trips.sort_by(f64::total_cmp);
    trips[trips.len() / 2]
}

struct Measured {
    server: Server,
    metrics: String,
    ready: Duration,
}

impl Measured {
    fn start(history: Option<&Path>) -> Self {
        // Free a moment ago; nobody else asks for ports on this address.
        let metrics = std::net::TcpListener::bind("127.0.0.2:0").and_then(|port| port.local_addr());
        let metrics = metrics.expect("a port for the metrics").to_string();
        let mut settings = vec![("CHAT_SERVER_ADMIN__METRICS", metrics.as_str())];
        if let Some(path) = history {
            settings.push(("CHAT_SERVER_HISTORY__PATH", path.to_str().expect("a plain path")));
        }
        let from = Instant::now();
        let server = Server::start(&settings);
        Measured { server, ready: from.elapsed(), metrics }
    }

    /// Commits of the room log so far, as operators see them.
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

struct Sender {
    socket: WebSocketStream<TcpStream>,
    key: Fernet,
    said: usize,
}

impl Sender {
    async fn connect(address: &str) -> Self {
        let (mut socket, _) = dial(address, json!({"echo": false})).await;
        let key = loop {
            let frame = next(&mut socket).await;
            if frame["type"] == "encryption_key" {
                break frame["key"].as_str().expect("a key").to_owned();
            }
        };
        let key = base64::engine::general_purpose::STANDARD.decode(key).expect("base64");
        let key = Fernet::new(std::str::from_utf8(&key).expect("text")).expect("a Fernet key");
        Sender { socket, key, said: 0 }
    }

    async fn say(&mut self) {
        let content = self.key.encrypt("x".repeat(100).as_bytes());
        let id = format!("id{}", self.said);
        self.said += 1;
        let frame = json!({"type": "chat_message", "room": "lobby", "id": id, "content": content});
        self.socket.feed(Message::text(frame.to_string())).await.expect("sent");
    }

    async fn ack(&mut self) {
        while next(&mut self.socket).await["type"] != "ack" {}
    }

    async fn alone(&mut self) -> f64 {
        let mut times = Vec::new();
        for _ in 0..ALONE {
            let from = Instant::now();
            self.say().await;
            self.socket.flush().await.expect("sent");
            self.ack().await;
            times.push(from.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    async fn pouring(&mut self) -> f64 {
        let from = Instant::now();
        let mut outstanding = 0;
        for _ in 0..MESSAGES {
            self.say().await;
            outstanding += 1;
            if outstanding == IN_FLIGHT {
                self.socket.flush().await.expect("sent");
                self.ack().await;
                outstanding -= 1;
            }
        }
        self.socket.flush().await.expect("sent");
        for _ in 0..outstanding {
            self.ack().await;
        }
        MESSAGES as f64 / from.elapsed().as_secs_f64()
    }
}

async fn dial(address: &str, more: Value) -> (WebSocketStream<TcpStream>, Value) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    let upgrade = tokio_tungstenite::client_async(format!("ws://{address}/"), stream);
    let (mut socket, _) = upgrade.await.expect("a WebSocket");
    let mut register = json!({"type": "register", "protocol": 1, "username": "bench",
        "rooms": ["lobby"], "presence": false});
    for (name, value) in more.as_object().expect("an object") {
        register[name] = value.clone();
    }
    socket.send(Message::text(register.to_string())).await.expect("sent");
    let welcome = next(&mut socket).await;
    (socket, welcome)
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Value {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return serde_json::from_str(&text).expect("an object");
            }
            Some(Ok(_)) => {}
            other => panic!("instead of a frame: {other:?}"),
        }
    }
}

async fn long_history(messages: u64) {
    let folder = tempfile::tempdir().expect("a folder to try in");
    let key = AtRestKey::find(folder.path(), None).expect("a key");
    let mut opened = open_disk(folder.path(), &key, KEEP, now()).expect("the room log opens");
    let mut last = 0;
    let mut short = (Duration::ZERO, 0);
    while last < messages {
        last += append(&mut opened, 1_000, last);
        if last == 1_000 {
            drop(opened);
            let server = Measured::start(Some(folder.path()));
            resume(&server.server.address, 1_000).await;
            short = (server.ready, server.resident_kib());
            drop(server);
            opened = open_disk(folder.path(), &key, KEEP, now()).expect("the room log opens");
        }
    }
    drop(opened);
    let server = Measured::start(Some(folder.path()));
    let took = resume(&server.server.address, 1_000).await;
    println!(
        "{last} messages of history: ready {:?} after the start ({:?} with 1,000); the last 1,000 resumed in {took:?}; resident {} KiB ({} KiB with 1,000)",
        server.ready,
        short.0,
        server.resident_kib(),
        short.1
    );
}

async fn resume(address: &str, count: u64) -> Duration {
    let (_, welcome) = dial(address, json!({})).await;
    let at = &welcome["rooms"]["lobby"];
    let seq = at["seq"].as_u64().expect("a place") - count;
    let from = Instant::now();
    let resume = json!({"resume": {"lobby": {"epoch": at["epoch"], "seq": seq}}});
    let (mut socket, _) = dial(address, resume).await;
    let mut got = 0;
    while got < count {
        if next(&mut socket).await["type"] == "chat_message" {
            got += 1;
        }
    }
    from.elapsed()
}
