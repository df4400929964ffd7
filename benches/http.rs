//! Compares HTTP with the WebSocket, in one run: acked messages per second with 64 in flight (by HTTP, 64
//! connections that stay open), the processor time of the server per message, and the memory of an idle
//! reader that follows a room. For orientation, Redis streams that are synced at each message
//! (`appendfsync always`), if it is installed.
//!
//! `cargo bench --bench http`. The history is created in `TMPDIR`, which must be on a real disk.

#[path = "support/sender.rs"]
mod sender;
mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sender::{IN_FLIGHT, MESSAGES, ROUND_TRIPS, Sender, dial};
use serde_json::json;
use support::{Server, memory_kib};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

const ROUNDS: usize = 5;
const READERS: usize = 3_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut rounds: Vec<[f64; 7]> = Vec::new();
    for _ in 0..ROUNDS {
        let server = Server::start(&[]);
        let mut sender = Sender::connect(&server.address).await;
        // Warm-up: a sync costs more until the write-ahead log has reached its full size.
        sender.measure_throughput().await;
        let mut posts = Posts::connect(&server.address).await;
        posts.measure().await;
        let before = cpu_seconds(&server.child);
        let websocket = sender.measure_throughput().await;
        let between = cpu_seconds(&server.child);
        let http = posts.measure().await;
        let after = cpu_seconds(&server.child);
        let times = [sender.measure_ack_time().await, posts.measure_ack_time().await];
        let per_message = |seconds: f64| seconds * 1e6 / MESSAGES as f64;
        let redis = Redis::start().map_or(f64::NAN, |redis| redis.measure());
        let costs = [per_message(between - before), per_message(after - between)];
        rounds.push([websocket, http, costs[0], costs[1], redis, times[0], times[1]]);
    }
    let median = |index: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[index]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let [websocket, http, websocket_cost, http_cost, redis, websocket_time, http_time] =
        [0, 1, 2, 3, 4, 5, 6].map(median);
    println!(
        "acked per second with {IN_FLIGHT} in flight: WebSocket {websocket:.0}, POST {http:.0}; ratio {:.2}",
        http / websocket
    );
    println!(
        "processor time of the server per message: WebSocket {websocket_cost:.1} µs, POST {http_cost:.1} µs; ratio {:.2}",
        http_cost / websocket_cost
    );
    println!(
        "send to ack, one in flight: WebSocket {:.0} µs, POST {:.0} µs; ratio {:.2}",
        websocket_time * 1e6,
        http_time * 1e6,
        http_time / websocket_time
    );
    println!(
        "for orientation, Redis XADD with appendfsync always, {IN_FLIGHT} connections: {redis:.0} per second"
    );

    let websocket = idle_bytes(Reader::WebSocket).await;
    for (name, reader) in [("lines", Reader::Lines), ("events", Reader::Events)] {
        let bytes = idle_bytes(reader).await;
        println!(
            "memory of an idle reader, {READERS} of them: WebSocket {websocket:.0} B, {name} {bytes:.0} B; ratio {:.2}",
            bytes / websocket
        );
    }
}

/// Connections that send one message after the other.
struct Posts {
    connections: Vec<BufReader<TcpStream>>,
    sent: usize,
}

impl Posts {
    async fn connect(address: &str) -> Self {
        let mut connections = Vec::new();
        for _ in 0..IN_FLIGHT {
            let stream = TcpStream::connect(address).await.expect("a connection");
            stream.set_nodelay(true).expect("nodelay");
            connections.push(BufReader::new(stream));
        }
        Posts { connections, sent: 0 }
    }

    /// Returns acked messages per second.
    async fn measure(&mut self) -> f64 {
        let each = MESSAGES / IN_FLIGHT;
        let start = Instant::now();
        let mut tasks = Vec::new();
        for (index, mut connection) in self.connections.drain(..).enumerate() {
            let first = self.sent + index * each;
            tasks.push(tokio::spawn(async move {
                for id in first..first + each {
                    post(&mut connection, id).await;
                }
                connection
            }));
        }
        for task in tasks {
            self.connections.push(task.await.expect("its messages are acked"));
        }
        self.sent += MESSAGES;
        (each * IN_FLIGHT) as f64 / start.elapsed().as_secs_f64()
    }
}

impl Posts {
    /// Returns the median time from send to ack with one message in flight, in seconds.
    async fn measure_ack_time(&mut self) -> f64 {
        let mut times = Vec::new();
        for _ in 0..ROUND_TRIPS {
            let start = Instant::now();
            post(&mut self.connections[0], self.sent).await;
            self.sent += 1;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }
}

/// Sends a message of the same size as the [`Sender`]'s, and waits for the answer.
async fn post(connection: &mut BufReader<TcpStream>, id: usize) {
    let body = "x".repeat(100);
    let request = format!(
        "POST /rooms/lobby HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
         Idempotency-Key: post-{id}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.get_mut().write_all(request.as_bytes()).await.expect("sent");
    let mut length = 0;
    let mut line = String::new();
    let mut is_first = true;
    loop {
        line.clear();
        connection.read_line(&mut line).await.expect("an answer");
        if std::mem::take(&mut is_first) {
            assert!(line.contains(" 201 "), "{line}");
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    connection.read_exact(&mut vec![0; length]).await.expect("a body");
}

/// Redis with an append-only file that is synced at each command.
struct Redis {
    child: Child,
    port: String,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// `None` if it is not installed.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.ok()?.port().to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--save", "", "--appendonly", "yes", "--appendfsync", "always"])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
            if Instant::now() > deadline {
                return None;
            }
            std::thread::yield_now();
        }
        Some(Redis { child, port, _folder: folder })
    }

    /// Messages per second.
    fn measure(&self) -> f64 {
        let text = "x".repeat(100);
        let output = Command::new("redis-benchmark")
            .args(["-p", &self.port, "-c", &IN_FLIGHT.to_string(), "-n", &MESSAGES.to_string()])
            .args(["--csv", "xadd", "lobby", "*", "text", &text])
            .output();
        let output = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        // "test","rps",…
        let line = output.ok().and_then(|output| output.lines().last().map(str::to_owned));
        let rate = line.and_then(|line| line.split("\",\"").nth(1)?.parse().ok());
        rate.unwrap_or(f64::NAN)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Copy)]
enum Reader {
    WebSocket,
    Lines,
    Events,
}

/// The memory that an idle reader takes on the server.
async fn idle_bytes(reader: Reader) -> f64 {
    let server = Server::start(&[("CHAT_SERVER_LIMITS__CONNECTIONS_PER_ADDRESS", "100000")]);
    // What the first readers make the server allocate is not theirs.
    let mut readers = open_readers(&server, reader, 100).await;
    let before = memory_kib(&server.child, "VmRSS");
    let more = open_readers(&server, reader, READERS).await;
    let after = memory_kib(&server.child, "VmRSS");
    readers.0.extend(more.0);
    readers.1.extend(more.1);
    (after - before) as f64 * 1024.0 / READERS as f64
}

type Readers = (Vec<tokio_tungstenite::WebSocketStream<TcpStream>>, Vec<TcpStream>);

async fn open_readers(server: &Server, reader: Reader, count: usize) -> Readers {
    let (mut sockets, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let accept = match reader {
            Reader::WebSocket => {
                sockets.push(dial(&server.address, json!({})).await.0);
                continue;
            }
            Reader::Lines => "*/*",
            Reader::Events => "text/event-stream",
        };
        let mut stream = TcpStream::connect(&server.address).await.expect("a connection");
        let request = format!(
            "GET /rooms/lobby?follow=true HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        streams.push(stream);
    }
    (sockets, streams)
}

/// Processor seconds of a process, by /proc/PID/stat (proc(5)), in ticks of 10 ms.
fn cpu_seconds(child: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}
