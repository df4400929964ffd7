//! The cost of one answer of `/metrics`, with ten sessions and with ten thousand: the time until the client
//! has it, and the processor time of the server.
//!
//! `cargo bench --bench metrics`

mod support;

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use support::{Server, memory_kib};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const ANSWERS: usize = 1_000;
/// Sessions per room.
const MEMBERS: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    for count in [10, 10_000] {
        // A free port; nothing else uses ports on this address, so it stays free.
        let metrics = std::net::TcpListener::bind("127.0.0.2:0").and_then(|port| port.local_addr());
        let metrics = metrics.expect("a port for the metrics").to_string();
        let server = Server::start(&[
            ("CHAT_SERVER_ADMIN__METRICS", &metrics),
            ("CHAT_SERVER_LIMITS__CONNECTIONS_PER_ADDRESS", "20000"),
            ("CHAT_SERVER_LIMITS__PING_INTERVAL", "10m"),
        ]);
        let mut sessions = Vec::with_capacity(count);
        for number in 0..count {
            sessions.push(connect(&server.address, number / MEMBERS).await);
        }
        let page = ask(&metrics);
        assert_eq!(figure(&page, "chat_sessions{protocol=\"full\"}"), count as f64, "{page}");
        let before = figure(&page, "process_cpu_seconds_total");
        let mut times: Vec<Duration> = (0..ANSWERS)
            .map(|_| {
                let begun = Instant::now();
                ask(&metrics);
                begun.elapsed()
            })
            .collect();
        let page = ask(&metrics);
        let cpu = figure(&page, "process_cpu_seconds_total") - before;
        times.sort();
        println!(
            "{count} sessions: an answer of {} bytes takes {:.2} ms (99th percentile {:.2} ms), and {:.2} ms of the \
             server's processor time; the server has {} KiB of memory",
            page.len(),
            times[ANSWERS / 2].as_secs_f64() * 1e3,
            times[ANSWERS * 99 / 100].as_secs_f64() * 1e3,
            cpu * 1e3 / (ANSWERS + 1) as f64,
            memory_kib(&server.child, "VmRSS"),
        );
    }
}

/// A session in a room with this number.
async fn connect(address: &str, room: usize) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("connected");
    let url = format!("ws://{address}/");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("upgraded");
    let register = format!(
        "{{\"type\":\"register\",\"protocol\":1,\"username\":\"x\",\"rooms\":[\"r{room}\"],\"presence\":false}}"
    );
    socket.send(Message::text(register)).await.expect("sent");
    socket.next().await.expect("an answer").expect("a welcome");
    socket
}

/// The answer of `/metrics`.
fn ask(address: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("connected");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("asked");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("an answer");
    page
}

fn figure(page: &str, sample: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(sample));
    line.and_then(|value| value.trim().parse().ok()).expect("the sample has a value")
}
