//! Compares chat-server with other servers and with a lower bound, under the same load in one run: CPU
//! time and latency per delivery, and memory per idle connection. Every delivery is counted, and a run
//! that loses one fails. `scripts/bench` installs the other servers and runs this benchmark.
//!
//! `cargo bench --bench fanout -- [--quick] [--only WORD] [--peers WORDS] [--rounds N] [--window N]`
//!
//! With `CHAT_BENCH_BASELINE=/path/to/another/chat-server`, that build takes part, too. Without `--peers`, only
//! the two builds run, with history on disk. With `--peers TLS`, they run over TLS, beside the limit over TLS.
//!
//! All servers run in each round, in alternating order. The ratio of each round is shown for both builds, and over
//! TLS for plain TCP, for nginx, and for the limit.

#[path = "../support/certificate.rs"]
mod certificate;
mod counting;
mod limit;
mod load;
mod nginx;
#[path = "../support/process.rs"]
mod process;
mod rooms;
mod scenario;
mod servers;
mod wire;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use limit::Mode;
use load::{Load, Pace};
use scenario::{Scenario, Spread, WINDOW, Work, scenarios};
use secure_chat::credentials::at_rest_key::AtRestKey;
use secure_chat::protocol::{MessageId, RoomName, Timestamp, UserName};
use secure_chat::store::{Draft, Retention, open_disk};
use servers::{ALL, Peer, Server};
use wire::Incoming;

/// Threads that connect clients in parallel.
const CONNECTORS: usize = 16;

/// Two figures of one server in one scenario; see [`Scenario::figures`].
type Figures = [f64; 2];

/// Servers whose ratio is shown for each round.
const PAIRS: [(Peer, Peer); 6] = [
    (Peer::Disk, Peer::Baseline),
    (Peer::Tls, Peer::BaselineTls),
    (Peer::Tls, Peer::Disk),
    (Peer::Tls, Peer::Nginx),
    (Peer::Tls, Peer::GatherTls),
    (Peer::Tls, Peer::EachTls),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |word: &str| {
        let at = arguments.iter().position(|argument| argument == word)?;
        arguments.get(at + 1).map(String::as_str)
    };
    if let Some(mode) = after("--limit") {
        let frame =
            arguments.last().and_then(|text| text.parse().ok()).expect("the length of a frame");
        let mode = match mode {
            "each" => Mode::Each,
            "gather" => Mode::Gather,
            "pages" => Mode::Pages,
            other => panic!("unknown mode {other}"),
        };
        limit::serve(frame, mode, after("--tls").map(Path::new));
    }
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let rounds: usize = match after("--rounds") {
        Some(text) => text.parse().expect("--rounds needs a number"),
        None => {
            if quick {
                1
            } else {
                3
            }
        }
    };
    let window =
        after("--window").map_or(WINDOW, |text| text.parse().expect("--window needs a number"));
    let has_baseline = std::env::var_os(servers::BASELINE).is_some();
    let usual = if has_baseline { "history on disk" } else { "" };
    let peers = after("--peers").unwrap_or(usual);
    let peers: Vec<Peer> = ALL
        .into_iter()
        .filter(|peer| has_baseline || !matches!(peer, Peer::Baseline | Peer::BaselineTls))
        .filter(|peer| peers.split(',').any(|word| peer.name().contains(word)))
        .collect();
    let mut lines = String::from("scenario\tpeer\tfirst\tsecond\n");
    for scenario in scenarios(quick, window) {
        let name = scenario.name();
        if after("--only").is_none_or(|word| name.contains(word)) {
            let results = compare(scenario, &peers, rounds, quick);
            show(scenario, &results);
            if let Work::Schedule(rate) = scenario.work {
                let [median, p99] = one_commit(rate).map(|time| time.as_secs_f64() * 1e3);
                println!("  {:32} {p99:>26.3} {median:>16.1}", "one commit of the store alone");
            }
            for (peer, [first, second]) in results {
                let _ = writeln!(lines, "{name}\t{}\t{first:.4}\t{second:.4}", peer.name());
            }
        }
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench");
    std::fs::create_dir_all(folder).expect("a folder for the results");
    std::fs::write(format!("{folder}/results.tsv"), lines).expect("results written");
}

/// Measures every server in turn, round after round; returns the medians. Every other round has the
/// opposite order, so that a drift of the machine favours nobody.
fn compare(scenario: Scenario, peers: &[Peer], rounds: usize, quick: bool) -> Vec<(Peer, Figures)> {
    let mut all: Vec<(Peer, Vec<Figures>)> = peers.iter().map(|&peer| (peer, Vec::new())).collect();
    let mut ratios = PAIRS.map(|_| Vec::new());
    for round in 0..rounds {
        let mut of_round: Vec<(Peer, Figures)> = Vec::new();
        let mut measure_one =
            |(peer, figures): &mut (Peer, Vec<Figures>)| match measure(scenario, *peer, quick) {
                Ok(Some(these)) => {
                    figures.push(these);
                    of_round.push((*peer, these));
                }
                Ok(None) => {}
                Err(error) => println!("FAILED: {}: {}: {error}", scenario.name(), peer.name()),
            };
        match round % 2 {
            0 => all.iter_mut().for_each(&mut measure_one),
            _ => all.iter_mut().rev().for_each(&mut measure_one),
        }
        let of = |wanted: Peer| of_round.iter().find(|(peer, _)| *peer == wanted);
        for ((first, second), ratios) in PAIRS.into_iter().zip(&mut ratios) {
            if let (Some((_, new)), Some((_, old))) = (of(first), of(second)) {
                ratios.push([new[0] / old[0], new[1] / old[1]]);
            }
        }
    }
    for (pair, ratios) in PAIRS.into_iter().zip(&ratios) {
        show_ratios(scenario, pair, ratios);
    }
    all.into_iter()
        .filter(|(_, figures)| !figures.is_empty())
        .map(|(peer, figures)| (peer, [median(&figures, 0), median(&figures, 1)]))
        .collect()
}

fn median(figures: &[Figures], which: usize) -> f64 {
    let mut all: Vec<f64> = figures.iter().map(|figures| figures[which]).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Prints how two servers compare, round by round and as the median.
fn show_ratios(scenario: Scenario, (first, second): (Peer, Peer), ratios: &[Figures]) {
    if ratios.is_empty() {
        return;
    }
    println!("\n{}: {} as a multiple of {}", scenario.name(), first.name(), second.name());
    for (which, figure) in scenario.figures().into_iter().enumerate() {
        let rounds: Vec<String> = ratios.iter().map(|of| format!("{:.3}", of[which])).collect();
        println!("  {figure:30} {:.3}  (rounds: {})", median(ratios, which), rounds.join(" "));
    }
}

/// Measures one server once; `None` if it is not installed or does not take part. One room is measured
/// right after many rooms, because only figures taken close together can be compared.
fn measure(scenario: Scenario, peer: Peer, quick: bool) -> Result<Option<Figures>, String> {
    let figures = measure_once(scenario, peer, quick)?;
    let Some([many, _]) = figures.filter(|_| scenario.work == Work::Rooms) else {
        return Ok(figures);
    };
    let one = measure_once(Scenario { readers: 1, ..scenario }, peer, quick)?;
    Ok(one.map(|[one, _]| [many, one]))
}

fn measure_once(scenario: Scenario, peer: Peer, quick: bool) -> Result<Option<Figures>, String> {
    let Scenario { work, readers, senders, text } = scenario;
    if !scenario.includes(peer) {
        return Ok(None);
    }
    let Some(server) = peer.start(text) else {
        println!("(not installed: {})", peer.name());
        return Ok(None);
    };
    let (idle_bytes, before, started) = (server.resident(), server.cpu(), Instant::now());
    let mut incoming = connect_all(&server, scenario, true);
    let rate = readers as f64 / started.elapsed().as_secs_f64();
    match work {
        Work::Idle => {
            return Ok(Some([(server.resident() - idle_bytes) as f64 / readers as f64, rate]));
        }
        Work::Joins(_) => {
            let cpu = server.cpu() - before;
            return Ok(Some([cpu.as_secs_f64() * 1e6 / readers as f64, rate]));
        }
        Work::Rooms => {
            let time = Duration::from_secs(if quick { 2 } else { 4 });
            let mut before = server.cpu();
            let on_start = || before = server.cpu();
            let outcome = rooms::run(server.wire, text, &mut incoming, time, on_start)?;
            return Ok(Some(outcome.figures(server.cpu() - before)));
        }
        _ => {}
    }
    let senders = connect_all(&server, Scenario { readers: senders, ..scenario }, false);
    let mut load = Load::new(server.wire, text, incoming, senders);
    let time = Duration::from_secs(if quick { 2 } else { 4 });
    let (pace, time) = match work {
        Work::Saturated(window) => (Pace::Window(window), time),
        Work::Schedule(rate) => (Pace::Rate(rate), time * 2),
        _ => (Pace::Window(1), time),
    };
    load.run(pace, Duration::from_millis(500))?;
    let before = server.cpu();
    let mut outcome = load.run(pace, time)?;
    let cpu = server.cpu() - before;
    if let Work::Schedule(_) = work {
        outcome.delays.sort_unstable();
        let at = |share: f64| {
            let index = (outcome.delays.len() as f64 * share) as usize;
            f64::from(outcome.delays[index.min(outcome.delays.len() - 1)]) / 1000.0
        };
        return Ok(Some([at(0.99), at(0.5)]));
    }
    Ok(Some(outcome.figures(cpu)))
}

impl load::RunResult {
    fn figures(&self, cpu: Duration) -> Figures {
        let deliveries = self.deliveries as f64;
        [cpu.as_secs_f64() * 1e6 / deliveries, deliveries / self.elapsed.as_secs_f64()]
    }
}

/// Connects the clients of a scenario, in parallel.
fn connect_all(server: &Server, scenario: Scenario, reads: bool) -> Vec<Incoming> {
    let (wire, address) = (server.wire, (server.port, server.tls.as_ref()));
    let Scenario { work, readers: count, text, .. } = scenario;
    let own = matches!(work, Work::Rooms | Work::Joins(Spread::OwnRoom));
    let presence = matches!(work, Work::Joins(_));
    let room = &|number: usize| if own { format!("r{number}") } else { "lobby".into() };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTORS)
            .map(|thread| {
                let own_count = count / CONNECTORS + usize::from(thread < count % CONNECTORS);
                scope.spawn(move || {
                    (0..own_count)
                        .map(|number| room(number * CONNECTORS + thread))
                        .map(|room| wire.connect(address, (&room, presence), reads, text))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("all clients connected"))
            .collect()
    })
}

/// Measures a synced commit of one message by the store alone, at a rate per second: median and 99th
/// percentile.
fn one_commit(rate: u64) -> [Duration; 2] {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = AtRestKey::find(folder.path(), None).expect("a key");
    let retention =
        Retention { messages: 100_000, age: Duration::from_secs(86_400), max_bytes: None };
    let now = || Timestamp::from_system(SystemTime::now());
    let mut opened = open_disk(folder.path(), &key, retention, now()).expect("a room log");
    let log = opened.log();
    let mut times: Vec<Duration> = (0..rate * 8)
        .map(|number| {
            let draft = Draft {
                room: RoomName::lobby(),
                user: UserName::clean("bench"),
                verified: false,
                id: MessageId::parse(&format!("bench-{number}")),
                text: "x".repeat(100).into(),
                e2e: None,
                commit: None,
            };
            let from = Instant::now();
            log.append(vec![draft], now());
            let took = from.elapsed();
            log.after_commit();
            std::thread::sleep((Duration::from_secs(1) / rate as u32).saturating_sub(took));
            took
        })
        .collect();
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

/// Prints one scenario as a table, with the first figure as a ratio to chat-server on disk. Over TLS, it is a ratio
/// to chat-server over TLS.
fn show(scenario: Scenario, results: &[(Peer, Figures)]) {
    let [first, second] = scenario.figures();
    println!("\n{}\n  {:32} {first:>26} {second:>16} {:>12}", scenario.name(), "", "ours is × it");
    for (peer, figures) in results {
        let tls = peer.is_over_tls() && *peer != Peer::Tls;
        let ours = if tls { Peer::Tls } else { Peer::Disk };
        let ours = results.iter().find(|(peer, _)| *peer == ours).map(|(_, figures)| figures[0]);
        let ratio = ours.map_or(String::new(), |ours| format!("{:.2}", ours / figures[0]));
        println!("  {:32} {:>26.3} {:>16.1} {ratio:>12}", peer.name(), figures[0], figures[1]);
    }
}
