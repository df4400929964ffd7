//! A crowd comes back: thousands of clients lose the server and connect again, plain and over TLS, while others
//! talk. Measures the time until all are back, the processor time of the server per connection, and how long the
//! messages of the others take.
//!
//! `cargo bench --bench crowd -- [--clients N] [--rounds N] [--only WORD]`
//!
//! The clients keep the tickets that TLS gives them in some scenarios. The server recognises its newest 256 tickets, and
//! none after a restart. A server in the folder of `CHAT_TEST_PROGRAMS` is measured instead of this build.
//!
//! Every client, and every session that talks, has an answer or a delivery for all it sends; one that is lost fails the
//! run. The clients need about as much processor time as the server, and run on the same processors on one thread.

#[path = "../support/certificate.rs"]
mod certificate;
mod crowd;
#[path = "../support/process.rs"]
mod process;
mod server;
mod session;
mod talkers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use crowd::{Crowd, Return, Spread};
use rcgen::KeyPair;
use server::Server;
use talkers::{Delivery, Talkers};

const CLIENTS: usize = 2_000;
/// How long the server is away before clients that pause can connect: long enough for the pauses to grow.
const OUTAGE: Duration = Duration::from_secs(3);
/// How long the others talk before the crowd comes, and after.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    P256,
    Rsa2048,
}

/// How the sessions are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The server is killed and started again.
    Restart,
    /// The clients end them; the server remains.
    Disconnect,
}

#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    key: Option<Key>,
    /// Whether the clients resume TLS sessions.
    resumes: bool,
    loss: Loss,
    spread: Spread,
}

const SCENARIOS: [Scenario; 11] = [
    scenario("plain, at once", None, false, Loss::Restart, Spread::AtOnce),
    scenario("TLS P-256, at once", Some(Key::P256), false, Loss::Restart, Spread::AtOnce),
    scenario("TLS RSA 2048, at once", Some(Key::Rsa2048), false, Loss::Restart, Spread::AtOnce),
    scenario(
        "TLS P-256, with tickets, at once",
        Some(Key::P256),
        true,
        Loss::Restart,
        Spread::AtOnce,
    ),
    scenario(
        "TLS P-256, same server, at once",
        Some(Key::P256),
        false,
        Loss::Disconnect,
        Spread::AtOnce,
    ),
    scenario(
        "TLS P-256, with tickets, same server, at once",
        Some(Key::P256),
        true,
        Loss::Disconnect,
        Spread::AtOnce,
    ),
    scenario(
        "TLS RSA 2048, same server, at once",
        Some(Key::Rsa2048),
        false,
        Loss::Disconnect,
        Spread::AtOnce,
    ),
    scenario(
        "TLS RSA 2048, with tickets, same server, at once",
        Some(Key::Rsa2048),
        true,
        Loss::Disconnect,
        Spread::AtOnce,
    ),
    scenario("plain, after pauses", None, false, Loss::Restart, Spread::Pauses),
    scenario("TLS P-256, after pauses", Some(Key::P256), false, Loss::Restart, Spread::Pauses),
    scenario(
        "TLS RSA 2048, after pauses",
        Some(Key::Rsa2048),
        false,
        Loss::Restart,
        Spread::Pauses,
    ),
];

/// The columns of the table.
const FIGURES: [&str; 9] = [
    "all back s",
    "per s",
    "CPU s",
    "CPU µs each",
    "others p50 ms",
    "p99 ms",
    "alone p99 ms",
    "peak/mean",
    "resumed",
];
type Figures = [f64; FIGURES.len()];

const fn scenario(
    name: &'static str,
    key: Option<Key>,
    resumes: bool,
    loss: Loss,
    spread: Spread,
) -> Scenario {
    Scenario { name, key, resumes, loss, spread }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |word: &str| {
        let at = arguments.iter().position(|argument| argument == word)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let number = |word: &str, usual: usize| {
        after(word).map_or(usual, |text| text.parse().expect("a number"))
    };
    let (clients, rounds) = (number("--clients", CLIENTS), number("--rounds", 3));
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let folder = std::env::var_os("CHAT_TEST_PROGRAMS");
    let program = folder.map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_chat-server")),
        |folder| Path::new(&folder).join("chat-server"),
    );
    let chosen =
        |scenario: &Scenario| after("--only").is_none_or(|word| scenario.name.contains(word));
    let mut results: Vec<(Scenario, Vec<Figures>)> =
        SCENARIOS.into_iter().filter(chosen).map(|scenario| (scenario, Vec::new())).collect();
    for round in 0..rounds {
        let mut measure = |(scenario, all): &mut (Scenario, Vec<Figures>)| {
            all.push(measure(*scenario, clients, &program));
        };
        match round % 2 {
            0 => results.iter_mut().for_each(&mut measure),
            _ => results.iter_mut().rev().for_each(&mut measure),
        }
    }
    println!(
        "{clients} clients come back, {} others talk; medians of {rounds} rounds",
        talkers::TALKERS
    );
    println!("{:49} {}", "", FIGURES.map(|name| format!("{name:>14}")).join(""));
    for (Scenario { name, .. }, all) in results {
        let cell = |index: usize| format!("{:>14.2}", median(&all, index));
        println!("{name:49} {}", (0..FIGURES.len()).map(cell).collect::<String>());
    }
}

/// Lets all clients connect, takes the server away from them, and measures how they come back.
fn measure(scenario: Scenario, clients: usize, program: &Path) -> Figures {
    let Scenario { name, key, resumes, loss, spread } = scenario;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trust = key.map(|key| {
        certificate::write(folder.path(), &key.generate());
        certificate::trust(folder.path())
    });
    let mut server = Server::start(folder, program.to_owned(), key.is_some());
    let crowd = Crowd::new(clients, server.port, trust.clone(), resumes);
    crowd.release(Spread::AtOnce);
    crowd.wait();
    match loss {
        Loss::Restart => {
            server.kill();
            crowd.wait_until_lost();
        }
        Loss::Disconnect => crowd.end_sessions(),
    }
    crowd.take_failed();
    if spread == Spread::Pauses {
        crowd.release(spread);
        std::thread::sleep(OUTAGE);
    }
    if loss == Loss::Restart {
        server.start_again();
    }
    let (mut released, mut before) = (Instant::now(), server.cpu());
    let talkers = Talkers::start(server.port, trust.map(Arc::new));
    if spread == Spread::AtOnce {
        std::thread::sleep(QUIET);
        (released, before) = (Instant::now(), server.cpu());
        crowd.release(spread);
    }
    let returns = crowd.wait();
    let cpu = server.cpu() - before;
    let last = returns[returns.len() - 1].at;
    let alone = (Instant::now(), server.cpu());
    std::thread::sleep(QUIET);
    let (end, alone_cpu) = (Instant::now(), server.cpu() - alone.1);
    let deliveries = talkers.finish();
    let elapsed = (last - released).as_secs_f64();
    // The others talk all the time.
    let talking = alone_cpu.as_secs_f64() / QUIET.as_secs_f64();
    let each = (cpu.as_secs_f64() - talking * elapsed) / clients as f64;
    let [p50, p99] = percentiles(&deliveries, released, last);
    let [_, alone_p99] = percentiles(&deliveries, alone.0, end);
    let peak = peak(&returns, elapsed);
    let resumed = returns.iter().filter(|back| back.is_resumed).count();
    println!(
        "{name}: all back in {elapsed:.2} s, 99 % in {:.2} s; peak/mean {peak:.2}; others p99 {p99:.1} ms; {} attempts failed",
        (returns[returns.len() * 99 / 100].at - released).as_secs_f64(),
        crowd.take_failed()
    );
    [
        elapsed,
        clients as f64 / elapsed,
        cpu.as_secs_f64(),
        each * 1e6,
        p50,
        p99,
        alone_p99,
        peak,
        resumed as f64,
    ]
}

impl Key {
    fn generate(self) -> KeyPair {
        match self {
            Key::P256 => KeyPair::generate().expect("a key"),
            Key::Rsa2048 => {
                let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
                let der = AsDer::<Pkcs8V1Der>::as_der(&key).expect("its encoding");
                KeyPair::try_from(der.as_ref()).expect("a key")
            }
        }
    }
}

/// The median and the 99th percentile of the messages that were sent in a time, in milliseconds.
fn percentiles(deliveries: &[Delivery], from: Instant, to: Instant) -> [f64; 2] {
    let within = deliveries.iter().filter(|delivery| (from..to).contains(&delivery.sent));
    let mut delays: Vec<Duration> = within.map(|delivery| delivery.delay).collect();
    delays.sort_unstable();
    let at = |percent: usize| delays.get(delays.len() * percent / 100);
    [50, 99].map(|percent| at(percent).map_or(f64::NAN, |delay| delay.as_secs_f64() * 1e3))
}

/// The most sessions within 250 ms, as a multiple of the mean.
fn peak(returns: &[Return], elapsed: f64) -> f64 {
    const WINDOW: Duration = Duration::from_millis(250);
    let within = |from: &Return| {
        returns.iter().filter(|back| (from.at..from.at + WINDOW).contains(&back.at)).count()
    };
    let peak = returns.iter().map(within).max().unwrap_or(0) as f64;
    peak / (returns.len() as f64 * WINDOW.as_secs_f64() / elapsed.max(WINDOW.as_secs_f64()))
}

fn median(figures: &[Figures], index: usize) -> f64 {
    let mut all: Vec<f64> = figures.iter().map(|figures| figures[index]).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
