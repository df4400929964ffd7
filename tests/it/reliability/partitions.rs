//! Partitions: nodes and servers of the engine on hosts of their own, between which the network is cut without a word.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::block_in_place;

use super::FAST;
use super::node_faults::{say_in, wait_for_readiness};
use super::nodes::survive;
use crate::support::engine::{EngineCluster, Host, Setup};
use crate::support::network::Network;
use crate::support::nodes::Nodes;
use crate::support::wire::Wire;
use crate::support::{is_long_run, load_lock};

/// The servers of the engine are on the first three hosts, the nodes on the others.
const SERVERS: [usize; 3] = [0, 1, 2];
const NODES: [usize; 3] = [3, 4, 5];

/// A room that is not checked: what is said there may be stored after all.
const ELSEWHERE: &str = "elsewhere";

/// How long the network is cut.
fn away() -> Duration {
    Duration::from_secs(if is_long_run() { 30 } else { 10 })
}

/// Three nodes and three servers of the engine. `None`, with a line, where no network can be made.
fn start() -> Option<(Network, Nodes)> {
    let network = Network::with_hosts(SERVERS.len() + NODES.len())
        .inspect_err(|reason| eprintln!("skipped: network namespaces need root: {reason}"))
        .ok()?;
    let host = |number| Host { address: network.address(number), wrapper: network.wrapper(number) };
    let setup = Setup { hosts: SERVERS.map(host).to_vec(), ..Setup::default() };
    let nodes = Nodes::on(&NODES.map(host), EngineCluster::with(setup), FAST);
    Some((network, nodes))
}

/// Which directions are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ways {
    Both,
    There,
    Back,
}

/// Cuts the hosts on one side from those on the other for some time; meanwhile does something else.
async fn part(
    network: &Network,
    ways: Ways,
    one_side: &[usize],
    other_side: &[usize],
    meanwhile: impl AsyncFnOnce(),
) {
    let mut pairs = Vec::new();
    for one in one_side {
        for other in other_side {
            if ways != Ways::Back {
                pairs.push((*one, *other));
            }
            if ways != Ways::There {
                pairs.push((*other, *one));
            }
        }
    }
    let begun = Instant::now();
    block_in_place(|| pairs.iter().for_each(|(from, to)| network.cut(*from, *to)));
    meanwhile().await;
    tokio::time::sleep(away().saturating_sub(begun.elapsed())).await;
    block_in_place(|| pairs.iter().for_each(|(from, to)| network.heal(*from, *to)));
}

/// What a session on a node that can't reach a majority of the engine is told, and by when.
async fn is_promised_nothing(session: &mut Wire) {
    let begun = Instant::now();
    let answer = say_in(ELSEWHERE, session, "stranded", "stranded").await;
    println!("{:?}: {answer}", begun.elapsed());
    assert_eq!(
        (&answer["type"], &answer["temporary"]),
        (&json!("error"), &json!(true)),
        "{answer}"
    );
    // Ten seconds, and a turn of the tail.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

async fn cut_a_node_off(ways: Ways) {
    let Some((network, mut nodes)) = block_in_place(start) else { return };
    survive(&mut nodes, 200, async |nodes| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (mut session, _) = Wire::full(&nodes.nodes[0], "stranded", ELSEWHERE).await;
        part(&network, ways, &NODES[..1], &SERVERS, async || {
            is_promised_nothing(&mut session).await;
            block_in_place(|| {
                wait_for_readiness(&nodes.nodes[0], " 503 ", Duration::from_secs(8));
                // The others do not mind.
                wait_for_readiness(&nodes.nodes[1], " 200 ", Duration::ZERO);
            });
        })
        .await;
        block_in_place(|| {
            wait_for_readiness(&nodes.nodes[0], " 200 ", Duration::from_secs(20));
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_loses_nothing() {
    let _lock = load_lock();
    cut_a_node_off(Ways::Both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_in_one_direction_loses_nothing() {
    let _lock = load_lock();
    if is_long_run() {
        cut_a_node_off(Ways::There).await;
    }
    cut_a_node_off(Ways::Back).await;
}

/// The minority: the leader, and a node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_with_a_node_acks_nothing_that_is_lost() {
    let _lock = load_lock();
    let Some((network, mut nodes)) = block_in_place(start) else { return };
    survive(&mut nodes, 250, async |nodes| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (mut session, _) = Wire::full(&nodes.nodes[0], "stranded", ELSEWHERE).await;
        let leader = nodes.engine.leader().expect("a leader");
        let minority = [SERVERS[leader], NODES[0]];
        let majority: Vec<usize> =
            SERVERS.into_iter().chain(NODES).filter(|host| !minority.contains(host)).collect();
        part(&network, Ways::Both, &minority, &majority, async || {
            is_promised_nothing(&mut session).await;
        })
        .await;
        block_in_place(|| {
            for node in &nodes.nodes {
                wait_for_readiness(node, " 200 ", Duration::from_secs(30));
            }
        });
    })
    .await;
}
