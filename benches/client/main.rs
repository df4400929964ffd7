//! Measures the client: the time of a cold start, plain and over TLS, the throughput and memory of a
//! pipe compared with what the server accepts, and the CPU cost of printing messages.
//!
//! `cargo bench --bench client`, or only the cold starts: `cargo bench --bench client -- cold`

mod cold;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Server, memory_kib};
use tokio_tungstenite::tungstenite::{self, Message};

const LINES: usize = 100_000;
/// Messages in flight: the limit that the server announces to a full client.
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 3;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, address, authority] = &words[..]
        && word == cold::BARE_TLS
    {
        return cold::bare_tls(address, authority);
    }
    cold::measure();
    if words.iter().any(|word| word == "cold") {
        return;
    }
    let median = |measure: &dyn Fn() -> f64| {
        let mut values: Vec<f64> = (0..ROUNDS).map(|_| measure()).collect();
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    println!("start to the first byte sent: {:.1} ms", median(&first_byte) * 1e3);

    let server = Server::start(&[]);
    let server_rate = median(&|| LINES as f64 / send_prepared(&server.address).as_secs_f64());
    let mut memory = 0;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let (took, peak) = pipe(&server.address);
        rates.push(LINES as f64 / took.as_secs_f64());
        memory = memory.max(peak);
    }
    rates.sort_by(f64::total_cmp);
    let rate = rates[ROUNDS / 2];
    println!(
        "a pipe of {LINES} lines: {rate:.0} lines/s, the server accepts {server_rate:.0}/s with {IN_FLIGHT} in flight; ratio {:.2}; at most {memory} KiB resident",
        rate / server_rate
    );
    let (seconds, cpu) = listen(&server.address, 2 * LINES);
    println!(
        "--listen printed {} messages in {seconds:.2} s; {:.0} per second of its CPU time",
        2 * LINES,
        2.0 * LINES as f64 / cpu
    );
}

fn client(arguments: &[&str]) -> Command {
    let mut command =
        Command::new(support::program("chat-client", env!("CARGO_BIN_EXE_chat-client")));
    command.env_clear().args(arguments).args(["-u", "bench"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// Measures the seconds from the start of the program to the first byte of its request.
fn first_byte() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let started = Instant::now();
    let mut child = client(&[&url, "--listen", "--timeout", "5s"])
        .stderr(Stdio::null())
        .spawn()
        .expect("the client starts");
    let (mut stream, _) = listener.accept().expect("the client connects");
    stream.read_exact(&mut [0]).expect("the client sends");
    let took = started.elapsed();
    let _ = child.kill();
    let _ = child.wait();
    took.as_secs_f64()
}

/// Measures how fast the server acks messages from a sender that encrypted its text beforehand.
fn send_prepared(address: &str) -> Duration {
    let (mut socket, _) = tungstenite::connect(format!("ws://{address}/")).expect("a WebSocket");
    let register = json!({"type": "register", "protocol": 1, "username": "sender", "echo": false,
        "presence": false});
    socket.send(Message::text(register.to_string())).expect("sent");
    let key = loop {
        let frame = next(&mut socket);
        if frame["type"] == "encryption_key" {
            break frame["key"].as_str().expect("a key").to_owned();
        }
    };
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.decode(key).expect("base64");
    let fernet = fernet::Fernet::new(std::str::from_utf8(&key).expect("text")).expect("a key");
    let token = fernet.encrypt("x".repeat(100).as_bytes());
    let stamp = Instant::now();
    let run = std::process::id();
    let mut outstanding = 0;
    for number in 0..LINES {
        let id = format!("{run}-{}-{number}", stamp.elapsed().as_nanos());
        let frame = json!({"type": "chat_message", "id": id, "content": token});
        socket.write(Message::text(frame.to_string())).expect("sent");
        outstanding += 1;
        // The server acks in batches, so the sender flushes in batches too.
        let max_outstanding = match number + 1 {
            LINES => 0,
            _ if outstanding == IN_FLIGHT => IN_FLIGHT / 2,
            _ => continue,
        };
        socket.flush().expect("sent");
        while outstanding > max_outstanding {
            outstanding -= usize::from(next(&mut socket)["type"] == "ack");
        }
    }
    stamp.elapsed()
}

fn next(
    socket: &mut tungstenite::WebSocket<tungstenite::stream::MaybeTlsStream<std::net::TcpStream>>,
) -> Value {
    match socket.read().expect("a frame") {
        Message::Text(text) => serde_json::from_str(&text).expect("an object"),
        _ => Value::Null,
    }
}

/// Measures the same through the client in a pipe; also returns its peak memory in KiB.
fn pipe(address: &str) -> (Duration, u64) {
    let url = format!("ws://{address}");
    let started = Instant::now();
    let mut child = client(&[&url]).stdin(Stdio::piped()).spawn().expect("the client starts");
    let mut input = child.stdin.take().expect("its standard input");
    let mut line = "x".repeat(100);
    line.push('\n');
    for _ in 0..LINES {
        input.write_all(line.as_bytes()).expect("the client reads");
    }
    let peak = memory_kib(&child, "VmHWM");
    drop(input);
    assert!(child.wait().expect("the client exits").success(), "not every line was stored");
    (started.elapsed(), peak)
}

/// Has the client print the history; returns the seconds and the CPU seconds it took.
fn listen(address: &str, count: usize) -> (f64, f64) {
    let url = format!("ws://{address}");
    let (before, started) = (children_cpu(), Instant::now());
    let count = count.to_string();
    let status = client(&[&url, "--listen", "--since", "all", "-n", &count]).status();
    assert!(status.expect("the client runs").success(), "the client did not print everything");
    (started.elapsed().as_secs_f64(), children_cpu() - before)
}

/// CPU seconds of terminated child processes: fields 16 and 17 of /proc/self/stat (proc(5)).
fn children_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("its state");
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |index: usize| rest.split_whitespace().nth(index)?.parse::<f64>().ok();
    (ticks(13).unwrap_or(0.0) + ticks(14).unwrap_or(0.0)) / 100.0
}
