//! The promises about delivery. Every message is unique and ends as stored, refused or unknown. Faults come from
//! outside, and a test checks that they occurred. Then everything recovers, the test reads the whole history, and the
//! checker counts lost, double, phantom and disordered messages. None may occur.

mod checker;
mod crowd;
mod full_client;
mod node_faults;
mod node_promises;
mod nodes;
mod partitions;
mod proxy;
mod restarts;
mod schedule;
mod storage;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use full_client::{FullClient, Outcome, whole_history};
use proxy::{Direction, FaultProxy};

use crate::support::client::Client;
use crate::support::endpoint::Endpoint;
use crate::support::server::Server;
use crate::support::{Mode, in_both_modes, is_long_run, load_lock};

in_both_modes!(p7_resume_has_no_holes, p8_there_is_one_order);

const ROOM: &str = "ops";
/// How long everything may take to recover.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Unacked messages per sender.
const WINDOW: usize = 32;

/// No rate limit.
const FAST: &str = "[limits]\nrate_messages = 1000000\nrate_bytes = 1000000000\n";

type Sent = (String, (Vec<String>, BTreeMap<String, Outcome>));

/// Sends `count` messages, one per `every`, through all faults.
async fn send_all(mut sender: FullClient, count: usize, every: Duration) -> Sent {
    let name = sender.name().to_owned();
    let mut texts = Vec::new();
    let mut due = Instant::now();
    for number in 0..count {
        due += every;
        let text = format!("{name} says {number}");
        sender.send_chat(&text).await;
        texts.push(text);
        sender.until(due, |_| false).await;
        let deadline = Instant::now() + RECOVERY_TIMEOUT;
        sender.until(deadline, |sender| sender.outstanding() < WINDOW).await;
    }
    let all =
        sender.until(Instant::now() + RECOVERY_TIMEOUT, |sender| sender.outstanding() == 0).await;
    assert!(all, "{name}: {} messages never got an answer", sender.outstanding());
    (name, (texts, sender.statuses))
}

fn senders(
    endpoint: impl Into<Endpoint>,
    how_many: usize,
    count: usize,
    every: Duration,
) -> Vec<tokio::task::JoinHandle<Sent>> {
    let endpoint = endpoint.into();
    (0..how_many)
        .map(|number| {
            let name = format!("sender{number}");
            endpoint.tokens.iter().for_each(|tokens| drop(tokens.of(&name)));
            let sender = FullClient::new(&endpoint, &name, ROOM, false);
            tokio::spawn(send_all(sender, count, every))
        })
        .collect()
}

/// How long a reader may take to receive everything.
fn read_timeout() -> Duration {
    RECOVERY_TIMEOUT * if is_long_run() { 12 } else { 2 }
}

async fn gather(
    tasks: Vec<tokio::task::JoinHandle<Sent>>,
) -> BTreeMap<String, (Vec<String>, BTreeMap<String, Outcome>)> {
    let mut sent = BTreeMap::new();
    for task in tasks {
        let (name, record) = task.await.unwrap();
        sent.insert(name, record);
    }
    sent
}

async fn assert_clean(
    server: &Server,
    sent: &BTreeMap<String, (Vec<String>, BTreeMap<String, Outcome>)>,
) {
    let history = whole_history(server, ROOM).await;
    let verdict = checker::check(sent, &history);
    assert!(verdict.is_clean(), "{verdict}");
    let stored: usize = sent.values().map(|(texts, _)| texts.len()).sum();
    assert_eq!(history.len(), stored, "everything sent is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_kill_9_loses_nothing_acked() {
    let _lock = load_lock();
    let kills = if is_long_run() { 100 } else { 10 };
    let mut server = Server::with(FAST).start();
    // 20 senders with 25 messages per second each, for a little longer than the kills take.
    let count = kills * 12 + 20;
    let tasks = senders(&server, 20, count, Duration::from_millis(40));
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(350)).await;
        tokio::task::block_in_place(|| server.kill());
        let down = Instant::now();
        tokio::task::block_in_place(|| server.start_again());
        slowest = slowest.max(down.elapsed());
    }
    let sent = gather(tasks).await;
    assert_clean(&server, &sent).await;
    println!("{kills} kills, slowest start {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "ready again after {slowest:?}");
}

async fn p7_resume_has_no_holes(mode: Mode) {
    let _lock = load_lock();
    let (readers, rounds) = if is_long_run() { (20, 50) } else { (20, 6) };
    let server = Server::with(FAST).mode(mode).start();
    let proxy = FaultProxy::start(server.address().parse().unwrap()).await;
    // Fast enough that messages arrive while a reader is between replay and live delivery.
    let total = rounds * 240;
    let through = server.endpoint().at(proxy.address());
    let mut reading = Vec::new();
    let (ready, mut waiting) = tokio::sync::mpsc::channel::<()>(readers);
    for number in 0..readers {
        let (through, ready) = (through.clone(), ready.clone());
        let name = format!("reader{number}");
        server.prepare_token(&name);
        reading.push(tokio::spawn(async move {
            let mut reader = FullClient::new(through, &name, ROOM, true);
            reader.until(Instant::now() + RECOVERY_TIMEOUT, |reader| reader.connects > 0).await;
            ready.send(()).await.unwrap();
            let whole = |reader: &FullClient| reader.received.len() >= total;
            let complete = reader.until(Instant::now() + 4 * RECOVERY_TIMEOUT, whole).await;
            assert!(complete, "reader{number} has {} of {total}", reader.received.len());
            reader
        }));
    }
    drop(ready);
    for _ in 0..readers {
        waiting.recv().await.expect("every reader is connected");
    }
    let tasks = senders(&server, 6, total / 6, Duration::from_millis(5));
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(150)).await;
        proxy.cut_all();
    }
    let sent = gather(tasks).await;
    assert_clean(&server, &sent).await;
    assert_eq!(proxy.fired(), rounds as u64, "every cut happened");
    let history = whole_history(&server, ROOM).await;
    let expected: Vec<u64> = history.iter().map(|(seq, ..)| *seq).collect();
    for task in reading {
        let reader = task.await.unwrap();
        let seqs: Vec<u64> = reader.received.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, expected, "every seq once, in order");
        assert!(reader.gaps.is_empty() && reader.connects > 1);
    }
}

async fn p8_there_is_one_order(mode: Mode) {
    let _lock = load_lock();
    let (people, each, listeners) = if is_long_run() { (100, 1000, 50) } else { (20, 100, 10) };
    let config = format!("{FAST}[history]\nkeep_messages = 1000000\n");
    let server = Server::with(&config).mode(mode).start();
    let total = people * each;
    let mut reading = Vec::new();
    for number in 0..listeners {
        let mut reader = FullClient::new(&server, &format!("reader{number}"), ROOM, true);
        reader.until(Instant::now() + RECOVERY_TIMEOUT, |reader| reader.connects > 0).await;
        reading.push(tokio::spawn(async move {
            let whole = |reader: &FullClient| reader.received.len() >= total;
            assert!(
                reader.until(Instant::now() + read_timeout(), whole).await,
                "{}",
                reader.received.len()
            );
            reader.received
        }));
    }
    let sent = gather(senders(&server, people, each, Duration::ZERO)).await;
    assert_clean(&server, &sent).await;
    let mut first: Option<Vec<(u64, String)>> = None;
    for task in reading {
        let received = task.await.unwrap();
        let first = first.get_or_insert_with(|| received.clone());
        assert!(*first == received, "all readers received the same in the same order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p14_rotation_is_invisible() {
    let _lock = load_lock();
    // Messages per second, and the number of readers.
    let (seconds, rate, readers) = if is_long_run() { (300, 500, 40) } else { (12, 100, 10) };
    let server = Server::with(&format!(
        "{FAST}[keys]\nrotate_every = \"1s\"\n[history]\nkeep_messages = 1000000\n"
    ))
    .start();
    let total = seconds * rate;
    let mut reading = Vec::new();
    for number in 0..readers {
        let mut reader = FullClient::new(&server, &format!("reader{number}"), ROOM, true);
        reader.until(Instant::now() + RECOVERY_TIMEOUT, |reader| reader.connects > 0).await;
        reading.push(tokio::spawn(async move {
            if number == 0 {
                // One reader is away for three rotations and comes back.
                reader.drop_connection();
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            let whole = |reader: &FullClient| reader.received.len() >= total;
            assert!(
                reader.until(Instant::now() + read_timeout(), whole).await,
                "{}",
                reader.received.len()
            );
        }));
    }
    let pause = Duration::from_millis(10_000 / rate as u64);
    let mut tasks = senders(&server, 9, total / 10, pause);
    let mut late = FullClient::new(&server, "late", ROOM, false);
    late.uses_earlier_key = true;
    tasks.push(tokio::spawn(send_all(late, total / 10, pause)));
    let sent = gather(tasks).await;
    assert_clean(&server, &sent).await;
    for task in reading {
        // A reader panics at a message that it can't decrypt.
        task.await.unwrap();
    }
    assert!(
        server.event_count("keys_rotated") >= seconds / 2,
        "{}",
        server.event_count("keys_rotated")
    );
    let refused = sent.values().flat_map(|(_, statuses)| statuses.values());
    assert!(
        refused.clone().all(|status| matches!(status, Outcome::Stored(_))),
        "nothing is refused"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p16_stopping_is_clean() {
    let _lock = load_lock();
    let mut server = Server::with(&format!("{FAST}[shutdown]\ngrace = \"5s\"\n")).start();
    let mut idle = Vec::new();
    for number in 0..if is_long_run() { 1_000 } else { 200 } {
        let name = format!("idle{number}");
        idle.push(crate::support::wire::Wire::register(server.address(), &name).await);
    }
    // One session never reads again and has a full send queue.
    let stalled = idle.pop().unwrap();
    let address = server.address().to_owned();
    let tasks = senders(&address, 8, 50, Duration::from_millis(5));
    tokio::time::sleep(Duration::from_millis(120)).await;
    let begun = Instant::now();
    let status = tokio::task::block_in_place(|| server.stop());
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    for wire in idle {
        let (code, _) = wire.until_closed().await;
        assert!(code == 1012 || code == 1001, "close code {code}");
    }
    drop(stalled);
    tokio::task::block_in_place(|| server.start_again());
    let sent = gather(tasks).await;
    assert_clean(&server, &sent).await;
}

/// Cuts the connection of one `chat-client send` at a byte; gives whether the cut happened.
async fn cut_at(
    server: &Server,
    proxy: &FaultProxy,
    direction: Direction,
    byte: u64,
    times: u64,
) -> bool {
    let fired = proxy.fired();
    proxy.cut_after(direction, byte, times);
    let through = format!("ws://{}", proxy.address());
    let id = format!("{direction:?}-{byte}-{times}");
    let timeout = if times > 1 { "1s" } else { "20s" };
    let send = |url: String, timeout: &'static str| {
        let id = id.clone();
        tokio::task::spawn_blocking(move || {
            Client::pipe(&["send", "--url", &url, "--timeout", timeout, "--id", &id, &id], b"")
        })
    };
    let sent = send(through, timeout).await.unwrap();
    let there = async || {
        let history = whole_history(server.address(), "lobby").await;
        history.iter().filter(|(_, _, text)| *text == id).count()
    };
    let count = there().await;
    match sent.code {
        Some(0) => assert_eq!(count, 1, "{id}: exit 0 means once"),
        code => assert!(count <= 1, "{id}: exit {code:?}, stored {count} times; {}", sent.errors),
    }
    proxy.cut_after(direction, 0, 0);
    let again = send(format!("ws://{}", server.address()), "20s").await.unwrap();
    assert_eq!((again.code, there().await), (Some(0), 1), "{id}: sent again, it is stored once");
    proxy.fired() > fired
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_exit_0_exactly_when_it_is_in_the_room_log() {
    let _lock = load_lock();
    let step = if is_long_run() { 1 } else { 23 };
    let mut server = Server::with(FAST).start();
    let proxy = FaultProxy::start(server.address().parse().unwrap()).await;
    let mut cuts = 0;
    for direction in [Direction::Up, Direction::Down] {
        // Beyond the end of the conversation no cut happens any more.
        for byte in (1..).step_by(step) {
            if !cut_at(&server, &proxy, direction, byte, 1).await {
                break;
            }
            cuts += 1;
        }
        // Every connection is cut: the client gives up, and the message may be stored.
        for byte in [100, 400, 700] {
            cut_at(&server, &proxy, direction, byte, 1_000).await;
        }
    }
    println!("{cuts} cuts");
    assert!(cuts as usize * step > 800, "the dialogue was cut everywhere: {cuts} cuts");
    assert!(server.stop().success());
}
