//! Restarts without loss, and clients that reconnect at different times.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::full_client::FullClient;
use super::{FAST, RECOVERY_TIMEOUT, ROOM, checker, gather, senders, whole_history};
use crate::support::client::Client;
use crate::support::server::{Server, command};
use crate::support::wire::Wire;
use crate::support::{is_long_run, load_lock, programs};

/// A listening socket that is handed from one server to the next.
struct Activator {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
    address: String,
    _folder: tempfile::TempDir,
}

impl Activator {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("chat-server.toml");
        std::fs::write(&config, FAST).unwrap();
        for name in ["state", "run"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let log = std::fs::File::create(folder.path().join("errors")).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/activator.py");
        let mut child = command(folder.path(), &["python3".into(), script.into()])
            .args(["--log-level", "error", "--config"])
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        output.read_line(&mut port).unwrap();
        let address = format!("127.0.0.1:{}", port.trim());
        let input = child.stdin.take().unwrap();
        let mut activator = Activator { child, input, output, address, _folder: folder };
        activator.wait();
        activator
    }

    fn wait(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "started\n", "the server did not come back");
    }

    fn restart(&mut self) {
        self.input.write_all(b"restart\n").unwrap();
        self.wait();
    }
}

impl Drop for Activator {
    fn drop(&mut self) {
        // The server is the activator's child, and the activator sends it SIGTERM at the end of its input.
        let _ = Command::new("pkill").arg("-P").arg(self.child.id().to_string()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p17_a_restart_loses_and_delays_nothing() {
    let _lock = load_lock();
    let restarts = if is_long_run() { 50 } else { 6 };
    let mut activator = Activator::start();
    let address = activator.address.clone();
    let total = restarts as usize * 500;
    let mut reader = FullClient::new(&address, "reader", ROOM, true);
    assert!(reader.until(Instant::now() + RECOVERY_TIMEOUT, |reader| reader.connects > 0).await);
    let tasks = senders(&address, 10, total / 10, Duration::from_millis(20));
    let listening = tokio::spawn(async move {
        let (mut stall, mut last, mut count) = (Duration::ZERO, Instant::now(), 0);
        let deadline = Instant::now() + 3 * RECOVERY_TIMEOUT;
        reader
            .until(deadline, |reader| {
                if reader.received.len() > count {
                    stall = stall.max(if count > 0 { last.elapsed() } else { Duration::ZERO });
                    (count, last) = (reader.received.len(), Instant::now());
                }
                count >= total
            })
            .await;
        (reader, stall)
    });
    let stop = tokio_util::sync::CancellationToken::new();
    let probe = {
        let (address, stop) = (address.clone(), stop.clone());
        tokio::spawn(async move {
            let mut connects = 0;
            while !stop.is_cancelled() {
                let connect = tokio::net::TcpStream::connect(&address).await;
                connect.expect("no connect is refused while the socket is held");
                connects += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            connects
        })
    };
    for _ in 0..restarts {
        tokio::time::sleep(Duration::from_millis(700)).await;
        tokio::task::block_in_place(|| activator.restart());
    }
    let sent = gather(tasks).await;
    let (reader, stall) = listening.await.unwrap();
    stop.cancel();
    assert!(probe.await.unwrap() > restarts * 20, "the probe was at work");
    let verdict = checker::check(&sent, &whole_history(&address, ROOM).await);
    assert!(verdict.is_clean(), "{verdict}");
    let seqs: Vec<u64> = reader.received.iter().map(|(seq, _)| *seq).collect();
    let whole: Vec<u64> = (seqs[0]..=seqs[seqs.len() - 1]).collect();
    assert_eq!(seqs, whole, "the reader has every message once and in order");
    assert_eq!((reader.received.len(), reader.gaps.len()), (total, 0));
    assert!(reader.connects as usize > restarts as usize, "it was there at every restart");
    println!("{restarts} restarts, the longest stall {stall:?}");
    assert!(stall < Duration::from_secs(1), "a stall of {stall:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p18_clients_do_not_reconnect_in_step() {
    let _lock = load_lock();
    let count = if is_long_run() { 2_000 } else { 60 };
    let mut server = Server::with("[limits]\nconnections_per_address = 10000\n").start();
    let url = server.url();
    let clients: Vec<Client> = (0..count)
        .map(|number| Client::start(&[&url, "--listen", "-u", &format!("c{number}")]))
        .collect();
    // Thousands of programs take a while to start.
    let begun = Instant::now();
    while server.event_count("session_opened") < count {
        assert!(begun.elapsed() < Duration::from_secs(180), "all are there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.kill();
    // Long enough for the reconnect pauses to grow.
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.start_again();
    let begun = Instant::now();
    let returned = || server.event_count("session_opened");
    while returned() < count {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} came back in 60 s", returned());
        // Not more often: reading a long log takes a core that 2,000 programs need.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let moments = |event: &'static str| -> Vec<i64> {
        let log = server.log().into_iter().filter(|line| line["event"] == event);
        log.map(|line| {
            let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
            time.as_millisecond()
        })
        .collect()
    };
    // Counted from the moment they could reconnect: clients in step would all come within the first 250 ms.
    let (ready, mut moments) = (moments("listening")[0], moments("session_opened"));
    moments.sort_unstable();
    let span = (moments[moments.len() - 1] - ready).max(250);
    let peak = moments
        .iter()
        .map(|from| moments.iter().filter(|at| (*from..from + 250).contains(at)).count());
    let (peak, mean) = (peak.max().unwrap() as f64, count as f64 * 250.0 / span as f64);
    println!(
        "{count} came back within {span} ms; the busiest 250 ms had {peak}, the mean {mean:.1}"
    );
    // With a few dozen clients chance matters much; the long form has the promised bound. There, 2,000 unoptimised
    // programs on a few cores also delay each other.
    let bound = match (is_long_run(), programs::are_optimised()) {
        (true, true) => 3.0 * mean,
        (true, false) => 5.0 * mean,
        (false, _) => count as f64 / 2.0,
    };
    assert!(peak <= bound, "peak {peak} of {mean:.1}");
    drop(clients);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p16_a_crowd_is_told_over_a_while_and_within_the_grace() {
    let _lock = load_lock();
    let mut server = Server::with("[history]\nstore = \"memory\"\n").start();
    let mut crowd = Vec::new();
    for number in 0..1_000 {
        let room = format!("room{}", number % 50);
        crowd.push(Wire::full(server.address(), &format!("c{number}"), &room).await.0);
    }
    let begun = Instant::now();
    let status = tokio::task::block_in_place(|| server.stop());
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    for wire in crowd {
        assert_eq!(wire.until_closed().await.0, 1012);
    }
    assert_eq!(server.wait_for_event("stopped")["drained"], true);
    let closed = server.log().into_iter().filter(|line| line["event"] == "session_closed");
    let moments: Vec<i64> = closed
        .map(|line| {
            assert_eq!(line["reason"], "server_stopping");
            let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
            time.as_millisecond()
        })
        .collect();
    let spread = moments.iter().max().unwrap() - moments.iter().min().unwrap();
    println!("1,000 sessions were closed within {spread} ms");
    // 256 at once, the others at 1,000 per second.
    assert!(spread >= 500, "all within {spread} ms");
}
