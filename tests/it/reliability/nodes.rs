//! The promises about delivery over three nodes and three servers of the engine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::full_client::{FullClient, Outcome, whole_history_within};
use super::{FAST, RECOVERY_TIMEOUT, ROOM, Sent, checker, gather, read_timeout, send_all};
use crate::support::nodes::Nodes;
use crate::support::{is_long_run, load_lock};

type AllSent = BTreeMap<String, (Vec<String>, BTreeMap<String, Outcome>)>;

/// Sends and reads over all nodes while `faults` goes on; then checks what every node has.
pub(super) async fn survive(nodes: &mut Nodes, count: usize, faults: impl AsyncFnOnce(&mut Nodes)) {
    let endpoint = nodes.endpoint();
    let total = 6 * count;
    let mut reading = Vec::new();
    for number in 0..3 {
        let mut reader = FullClient::new(&endpoint, &format!("reader{number}"), ROOM, true);
        reader.until(Instant::now() + RECOVERY_TIMEOUT, |reader| reader.connects > 0).await;
        reading.push(tokio::spawn(async move {
            let whole = |reader: &FullClient| reader.received.len() >= total;
            let all = reader.until(Instant::now() + read_timeout(), whole).await;
            (all, reader)
        }));
    }
    let sending: Vec<tokio::task::JoinHandle<Sent>> = (0..6)
        .map(|number| {
            let sender = FullClient::new(&endpoint, &format!("sender{number}"), ROOM, false);
            tokio::spawn(send_all(sender, count, Duration::from_millis(40)))
        })
        .collect();
    faults(nodes).await;
    let sent = gather(sending).await;
    let mut histories = Vec::new();
    for node in &nodes.nodes {
        let history = whole_history_within(RECOVERY_TIMEOUT, &node.endpoint(), ROOM).await;
        let verdict = checker::check(&sent, &history);
        assert!(verdict.is_clean(), "{verdict}\n{}", nodes.engine.logs());
        histories.push(history);
    }
    assert_all_equal(&sent, &histories);
    for task in reading {
        let (all, reader) = task.await.unwrap();
        let expected: Vec<(u64, String)> =
            histories[0].iter().map(|(seq, _, text)| (*seq, text.clone())).collect();
        assert!(
            all && reader.received == expected && reader.gaps.is_empty(),
            "{}: {} of {} received, gaps {:?}",
            reader.name(),
            reader.received.len(),
            expected.len(),
            reader.gaps
        );
    }
}

fn assert_all_equal(sent: &AllSent, histories: &[Vec<(u64, String, String)>]) {
    let stored: usize = sent.values().map(|(texts, _)| texts.len()).sum();
    for history in histories {
        assert_eq!(history.len(), stored, "everything sent is stored");
        assert!(*history == histories[0], "every node has the same");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_nodes_and_of_the_engine_lose_nothing() {
    let _lock = load_lock();
    let rounds = if is_long_run() { 20 } else { 2 };
    let mut nodes = tokio::task::block_in_place(|| Nodes::start(FAST));
    survive(&mut nodes, rounds * 200, async |nodes| {
        for round in 0..rounds {
            for number in 0..nodes.nodes.len() {
                tokio::time::sleep(Duration::from_millis(700)).await;
                tokio::task::block_in_place(|| {
                    nodes.nodes[number].kill();
                    nodes.nodes[number].start_again();
                });
            }
            tokio::task::block_in_place(|| {
                let victim = nodes.engine.leader().unwrap_or(round % 3);
                nodes.engine.kill(victim);
                nodes.engine.begin(victim);
                nodes.engine.wait_until_ready();
            });
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_stands_still_loses_nothing() {
    let _lock = load_lock();
    let still = Duration::from_secs(if is_long_run() { 30 } else { 4 });
    let mut nodes = tokio::task::block_in_place(|| Nodes::start(FAST));
    survive(&mut nodes, 150, async |nodes| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (0..3).for_each(|server| nodes.engine.signal(server, "STOP"));
        tokio::time::sleep(still).await;
        (0..3).for_each(|server| nodes.engine.signal(server, "CONT"));
    })
    .await;
}
