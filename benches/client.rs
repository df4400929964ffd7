//! What the client reaches: how soon it says its first byte, how fast a pipe is beside what the
//! server takes, how much memory that needs, and what printing a message costs.
//!
//! `cargo bench --bench client`

mod own;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use own::{Server, memory_kib};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

const LINES: usize = 100_000;
/// What the server tells a full client it may have unacked.
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 3;

fn main() {
    let median = |one: &dyn Fn() -> f64| {
        let mut all: Vec<f64> = (0..ROUNDS).map(|_| one()).collect();
        all.sort_by(f64::total_cmp);
        all[ROUNDS / 2]
    };
    println!("start to the first byte sent: {:.1} ms", median(&first_byte) * 1e3);

    let server = Server::start(&[]);
    let bare = median(&|| LINES as f64 / pour(&server.address).as_secs_f64());
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
        "a pipe of {LINES} lines: {rate:.0} lines/s, the server takes {bare:.0}/s with {IN_FLIGHT} in flight; ratio {:.2}; at most {memory} KiB resident",
        rate / bare
    );
    let (seconds, cpu) = listen(&server.address, 2 * LINES);
    println!(
        "--listen printed {} messages in {seconds:.2} s; {:.0} a second of its processor time",
        2 * LINES,
        2.0 * LINES as f64 / cpu
    );
}

fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-client"));
    command.env_clear().args(arguments).args(["-u", "bench"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// From the start of the program to the first byte of its request.
fn first_byte() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let began = Instant::now();
    let mut child = client(&[&url, "--listen", "--timeout", "5s"])
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let (mut stream, _) = listener.accept().expect("it comes");
    stream.read_exact(&mut [0]).expect("it speaks");
    let took = began.elapsed();
    let _ = child.kill();
    let _ = child.wait();
    took.as_secs_f64()
}

/// What the server takes from a sender that does nothing but send what it made before.
fn pour(address: &str) -> Duration {
    let (mut socket, _) = tungstenite::connect(format!("ws://{address}/")).expect("a WebSocket");
    let register = json!({"type": "register", "protocol": 1, "username": "pour", "echo": false,
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
        // Acks come many at a time, so as many messages go out together.
        let most = match number + 1 {
            LINES => 0,
            _ if outstanding == IN_FLIGHT => IN_FLIGHT / 2,
            _ => continue,
        };
        socket.flush().expect("sent");
        while outstanding > most {
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

/// The same from a pipe through the client; and the most memory it held, in KiB.
fn pipe(address: &str) -> (Duration, u64) {
    let url = format!("ws://{address}");
    let began = Instant::now();
    let mut child = client(&[&url]).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut input = child.stdin.take().expect("its input");
    let mut line = "x".repeat(100);
    line.push('\n');
    for _ in 0..LINES {
        input.write_all(line.as_bytes()).expect("it reads");
    }
    let peak = memory_kib(&child, "VmHWM");
    drop(input);
    assert!(child.wait().expect("it ends").success(), "not every line was stored");
    (began.elapsed(), peak)
}

/// Prints what is kept: seconds, and seconds of the client's processor time.
fn listen(address: &str, count: usize) -> (f64, f64) {
    let url = format!("ws://{address}");
    let (before, began) = (children(), Instant::now());
    let count = count.to_string();
    let status = client(&[&url, "--listen", "--since", "all", "-n", &count]).status();
    assert!(status.expect("it runs").success(), "it did not print everything");
    (began.elapsed().as_secs_f64(), children() - before)
}

/// Processor seconds of the children that were waited for: fields 16 and 17 of proc(5).
fn children() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("its state");
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |index: usize| rest.split_whitespace().nth(index)?.parse::<f64>().ok();
    (ticks(13).unwrap_or(0.0) + ticks(14).unwrap_or(0.0)) / 100.0
}
