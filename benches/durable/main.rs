//! Compares chat-server with other servers that promise the same, under the same load in one run: a
//! message is durable and acknowledged to its sender, and every reader gets it. Prints each server's
//! promise, acked messages per second, the times from send to ack and to receipt, and processor time per
//! delivery. Every ack and delivery is counted, and a run that loses one fails. `scripts/bench` installs the
//! other servers and runs this benchmark.
//!
//! `--peers engine,ours` compares one server on its disk with nodes that share their rooms over three servers of
//! JetStream, and with these three alone.
//!
//! `cargo bench --bench durable -- [--quick] [--only WORD] [--peers WORD,WORD] [--rounds N]`. The stores are
//! created in `TMPDIR`, which must be on a real disk, because a sync costs nothing in memory.

mod cluster;
#[path = "../../tests/it/support/engine.rs"]
mod engine;
mod full;
mod jetstream;
mod load;
#[path = "../support/measure.rs"]
mod measure;
mod mqtt;
mod redis;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use std::fmt::Write as _;
use std::time::Duration;

use load::{Load, Pace, RunResult};
use measure::{disk_sync_times, percentile};
use servers::{ALL, Peer, Server};
use wire::Client;

/// Bytes of text per message.
const TEXT: usize = 100;
/// Messages in flight in a saturated run. A full client of chat-server may have as many without an ack.
const WINDOW: u64 = 64;
/// Senders where several have that many.
const SENDERS: usize = 8;
/// Threads that connect readers in parallel.
const CONNECTORS: usize = 16;
/// The type of a file system in memory (statfs(2)).
const TMPFS: i64 = 0x0102_1994;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    /// With this many senders, each with this many messages without an ack.
    Acked(usize, u64),
    /// This many messages per second.
    Schedule(u64),
    /// With [`WINDOW`] messages that are not acked and delivered everywhere.
    Saturated,
    /// With one such message.
    Paced,
}

#[derive(Clone, Copy, Debug)]
struct Scenario {
    work: Work,
    readers: usize,
}

/// The figures of one server in one scenario; see [`Scenario::figures`].
type Figures = Vec<f64>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |word: &str| {
        let at = arguments.iter().position(|argument| argument == word)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let rounds = after("--rounds")
        .map_or(if quick { 1 } else { 3 }, |text| text.parse().expect("--rounds needs a number"));
    let words = after("--peers").unwrap_or("");
    let is_wanted = |peer: &Peer| words.split(',').any(|word| peer.name().contains(word));
    let peers: Vec<Peer> = ALL.into_iter().filter(is_wanted).collect();
    let mut scenarios = scenarios(quick);
    scenarios.retain(|scenario| after("--only").is_none_or(|word| scenario.name().contains(word)));
    if peers.is_empty() || scenarios.is_empty() {
        return;
    }

    println!("The promise of each server:");
    for peer in &peers {
        println!("  {:26} {}", peer.name(), peer.promise());
    }
    let folder = std::env::temp_dir();
    if rustix::fs::statfs(&folder).is_ok_and(|system| system.f_type == TMPFS) {
        println!("{} is in memory: no figure is one of a disk", folder.display());
    }
    print_disk();
    let (mut lines, mut failures) = (String::from("scenario\tpeer\tfigures\n"), 0);
    for scenario in scenarios {
        let (results, failed) = compare(scenario, &peers, rounds, quick);
        failures += failed;
        show(scenario, &results);
        for (peer, figures) in results {
            let figures: Vec<String> =
                figures.iter().map(|figure| format!("{figure:.4}")).collect();
            let _ = writeln!(lines, "{}\t{}\t{}", scenario.name(), peer.name(), figures.join("\t"));
        }
    }
    print_disk();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench");
    std::fs::create_dir_all(folder).expect("a folder for the results");
    std::fs::write(format!("{folder}/durable.tsv"), lines).expect("results written");
    if failures > 0 {
        println!("{failures} runs FAILED");
        std::process::exit(1);
    }
}

fn print_disk() {
    let [median, p99] = disk_sync_times();
    println!("the disk alone, 100 bytes and fdatasync: median {median:.3} ms, 99 % {p99:.3} ms");
}

fn scenarios(quick: bool) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |work, readers| all.push(Scenario { work, readers });
    add(Work::Acked(1, 1), 10);
    add(Work::Acked(1, WINDOW), 10);
    add(Work::Acked(SENDERS, WINDOW), 10);
    add(Work::Schedule(200), 10);
    add(Work::Schedule(100), 100);
    add(Work::Schedule(50), 1_000);
    for work in [Work::Saturated, Work::Paced] {
        for readers in [10, 100, 1_000] {
            if !quick || readers == 100 {
                add(work, readers);
            }
        }
    }
    all
}

impl Scenario {
    fn name(&self) -> String {
        let readers = self.readers;
        match self.work {
            Work::Acked(senders, window) => {
                let all = senders as u64 * window;
                format!("acked, {all} in flight, senders {senders}, {readers} readers")
            }
            Work::Schedule(rate) => format!("schedule, {rate}/s, {readers} readers"),
            Work::Saturated => format!("saturated, {WINDOW} in flight, {readers} readers"),
            Work::Paced => format!("paced, 1 in flight, {readers} readers"),
        }
    }

    /// The names of the figures; CPU is the server's processor time in µs, without that of an engine below it.
    fn figures(&self) -> &'static [&'static str] {
        match self.work {
            Work::Acked(..) => &["acked/s", "ack ms", "ack 99 %", "CPU/message", "engine's CPU"],
            Work::Schedule(_) => {
                &["ack ms", "ack 99 %", "all ms", "all 99 %", "last ms", "last 99 %"]
            }
            Work::Saturated | Work::Paced => {
                &["CPU/delivery", "deliveries/s", "acked/s", "resident MiB", "engine's CPU"]
            }
        }
    }

    fn compute(&self, result: &mut RunResult, cpu: [Duration; 2], resident: f64) -> Figures {
        let (sent, deliveries) = (result.sent as f64, result.deliveries as f64);
        let [cpu, engine] = cpu.map(|cpu| cpu.as_secs_f64() * 1e6);
        let acked = sent / result.until_acked.as_secs_f64();
        let both = |times: &mut [f64]| [percentile(times, 0.5), percentile(times, 0.99)];
        match self.work {
            Work::Acked(..) => {
                let [median, p99] = both(&mut result.ack_times);
                vec![acked, median, p99, cpu / sent, engine / sent]
            }
            Work::Schedule(_) => {
                let all = both(&mut result.delivery_times);
                let last = both(&mut result.last_delivery_times);
                [both(&mut result.ack_times), all, last].concat()
            }
            Work::Saturated | Work::Paced => {
                let rate = deliveries / result.until_delivered.as_secs_f64();
                vec![cpu / deliveries, rate, acked, resident, engine / deliveries]
            }
        }
    }
}

/// Measures every server in turn, round after round; returns the medians, and how many runs failed. Every
/// other round has the opposite order, so that a drift of the machine favours nobody.
fn compare(
    scenario: Scenario,
    peers: &[Peer],
    rounds: usize,
    quick: bool,
) -> (Vec<(Peer, Figures)>, usize) {
    let mut failures = 0;
    let mut all: Vec<(Peer, Vec<Figures>)> = peers.iter().map(|&peer| (peer, Vec::new())).collect();
    for round in 0..rounds {
        let measure_one =
            |(peer, figures): &mut (Peer, Vec<Figures>)| match measure(scenario, *peer, quick) {
                Ok(Some(these)) => figures.push(these),
                Ok(None) => println!("(not installed: {})", peer.name()),
                Err(error) => {
                    failures += 1;
                    println!("FAILED: {}: {}: {error}", scenario.name(), peer.name());
                }
            };
        match round % 2 {
            0 => all.iter_mut().for_each(measure_one),
            _ => all.iter_mut().rev().for_each(measure_one),
        }
    }
    all.retain(|(_, rounds)| !rounds.is_empty());
    let median = |rounds: &[Figures], which: usize| {
        percentile(&mut rounds.iter().map(|figures| figures[which]).collect::<Vec<f64>>(), 0.5)
    };
    let medians = |rounds: &[Figures]| -> Figures {
        (0..scenario.figures().len()).map(|which| median(rounds, which)).collect()
    };
    (all.into_iter().map(|(peer, rounds)| (peer, medians(&rounds))).collect(), failures)
}

/// Measures one server once; `None` if it is not installed.
fn measure(scenario: Scenario, peer: Peer, quick: bool) -> Result<Option<Figures>, String> {
    let Some(server) = peer.start() else { return Ok(None) };
    server.wire.prepare(server.port(0));
    let readers = connect_readers(&server, scenario.readers);
    let senders = match scenario.work {
        Work::Acked(senders, _) => senders,
        Work::Schedule(_) | Work::Saturated | Work::Paced => 1,
    };
    let connect = |number| server.wire.connect(server.port(number), None, TEXT);
    let mut load = Load::new(readers, (0..senders).map(connect).collect(), "x".repeat(TEXT));
    let pace = match scenario.work {
        Work::Acked(_, window) => Pace::Unacked(window),
        Work::Schedule(rate) => Pace::Rate(rate),
        Work::Saturated => Pace::InFlight(WINDOW),
        Work::Paced => Pace::InFlight(1),
    };
    // Files reach their size, and buffers theirs, before anything is measured.
    load.run(Pace::InFlight(WINDOW), Duration::from_secs(1))?;
    load.run(pace, Duration::from_millis(500))?;
    let before = server.cpu();
    let time = Duration::from_secs(if quick { 2 } else { 4 });
    let mut result = load.run(pace, time)?;
    let after = server.cpu();
    let cpu = [after[0] - before[0], after[1] - before[1]];
    Ok(Some(scenario.compute(&mut result, cpu, server.resident_mib())))
}

/// Connects the readers, in parallel.
fn connect_readers(server: &Server, count: usize) -> Vec<Client> {
    std::thread::scope(|scope| {
        let connect = |first: usize| {
            (first..count)
                .step_by(CONNECTORS)
                .map(|number| server.wire.connect(server.port(number), Some(number), TEXT))
                .collect::<Vec<Client>>()
        };
        let threads: Vec<_> =
            (0..CONNECTORS).map(|first| scope.spawn(move || connect(first))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("readers connected"));
        joined.flatten().collect()
    })
}

/// Prints one scenario as a table. Behind each figure of another server, ours as a multiple of it.
fn show(scenario: Scenario, results: &[(Peer, Figures)]) {
    println!("\n{} (behind a figure: ours is × it)", scenario.name());
    let heads: String = scenario.figures().iter().map(|name| format!("{name:>18}")).collect();
    println!("  {:26}{heads}", "");
    let ours = results.iter().find(|(peer, _)| *peer == Peer::Ours).map(|(_, figures)| figures);
    for (peer, figures) in results {
        let mut line = String::new();
        for (which, figure) in figures.iter().enumerate() {
            let digits = if *figure < 1_000.0 { 3 } else { 0 };
            let ratio = match ours {
                Some(ours) if *peer != Peer::Ours => format!("{:.2}", ours[which] / figure),
                _ => String::new(),
            };
            let _ = write!(line, "{figure:>11.digits$} {ratio:>6}");
        }
        println!("  {:26}{line}", peer.name());
    }
}
