//! Promises of one server, kept over three nodes: restarts one by one, rotations, and the end of a session on another
//! node.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::block_in_place;

use super::node_faults::say_in;
use super::nodes::survive;
use super::{FAST, ROOM};
use crate::support::engine::{EngineCluster, Setup};
use crate::support::nodes::Nodes;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{is_long_run, load_lock};

/// How long a server of the engine may take to hand over and exit.
const HANDOVER_LIMIT: Duration = Duration::from_secs(40);
/// How long a node stands still while an operator's order waits for it; it has a second to answer.
const STANDSTILL: Duration = Duration::from_millis(300);

/// P14, P16 and P17: nodes stop and start one by one, then servers of the engine, as docs/cluster.md says. The keys of
/// each node are replaced each second meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_one_by_one_lose_nothing() {
    let _lock = load_lock();
    let (rounds, servers) = if is_long_run() { (10, 3) } else { (1, 1) };
    let lines = "lame_duck_grace_period: \"1s\"\nlame_duck_duration: \"30s\"\n".into();
    let engine = block_in_place(|| EngineCluster::with(Setup { lines, ..Setup::default() }));
    let config = format!("{FAST}[keys]\nrotate_every = \"1s\"\n[shutdown]\ngrace = \"2s\"\n");
    let mut nodes = block_in_place(|| Nodes::over(engine, &config, 3));
    survive(&mut nodes, rounds * 250, async |nodes| {
        for _ in 0..rounds {
            for number in 0..nodes.nodes.len() {
                tokio::time::sleep(Duration::from_millis(700)).await;
                block_in_place(|| {
                    let status = nodes.nodes[number].stop();
                    assert!(status.success(), "node-{number}: {status}");
                    nodes.nodes[number].start_again();
                });
            }
            block_in_place(|| {
                for server in 0..servers {
                    nodes.engine.signal(server, "USR2");
                    nodes.engine.wait_for_exit(server, HANDOVER_LIMIT);
                    nodes.engine.begin(server);
                    nodes.engine.wait_until_ready();
                }
            });
        }
        // A node that has just been started may not have had the time.
        let rotations = |node: &Server| node.event_count("keys_rotated");
        assert!(nodes.nodes.iter().map(rotations).sum::<usize>() > 0, "keys were replaced");
    })
    .await;
}

/// Lets a process continue after `pause`, whatever the test waits for.
fn continue_after(pause: Duration, process: u32) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(pause);
        let sent = Command::new("kill").args(["-CONT", &process.to_string()]).status();
        assert!(sent.unwrap().success());
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p23_after_a_kick_on_another_node_nothing_arrives() {
    let _lock = load_lock();
    let nodes = block_in_place(|| Nodes::start(FAST));
    let (mut sender, _) = Wire::full(&nodes.nodes[0], "sender", ROOM).await;
    for round in 0..if is_long_run() { 100 } else { 5 } {
        let user = format!("bob{round}");
        let (member, _) = Wire::full(&nodes.nodes[1], &user, ROOM).await;
        let before = format!("before {round}");
        assert_eq!(say_in(ROOM, &mut sender, &before, &before).await["type"], "ack");
        // The session's node is slow: whoever does not wait for it says too early that the session has ended.
        nodes.nodes[1].signal("STOP");
        let begun = Instant::now();
        let continued = continue_after(STANDSTILL, nodes.nodes[1].pid());
        let printed = block_in_place(|| nodes.nodes[2].run_ok(&["ctl", "kick", &user]));
        let took = begun.elapsed();
        let after = format!("after {round}");
        assert_eq!(say_in(ROOM, &mut sender, &after, &after).await["type"], "ack");
        continued.join().unwrap();
        assert!(took >= STANDSTILL, "said after {took:?}, before the node could know: {printed}");
        let (code, frames) = member.until_closed().await;
        assert_eq!(code, 4003, "{user}: ended by an operator");
        let is_later = |frame: &Value| frame["type"] == "chat_message" && frame["id"] == *after;
        assert!(!frames.iter().any(is_later), "{user} received what was sent later: {frames:?}");
    }
}
