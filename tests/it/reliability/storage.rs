//! The promises and the disk: acks after the sync, a sync that fails, a damaged store, a full disk.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::full_client::whole_history;
use super::{FAST, ROOM};
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{eventually, is_long_run, load_lock};

/// Sends one message and gives the answer to it.
async fn say(wire: &mut Wire, id: &str, text: &str) -> Value {
    wire.send_chat_in(ROOM, id, text).await;
    loop {
        let frame = wire.next().await;
        if frame["id"] == id && frame["type"] != "chat_message" {
            return frame;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_an_ack_means_on_disk() {
    let _lock = load_lock();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let calls = "trace=fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg";
    let wrapper = [
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-y",
        "-s",
        "400",
        "-e",
        calls,
        "-o",
        trace.to_str().unwrap(),
    ];
    let mut server = Server::with(FAST).wrapped_in(&wrapper).start();
    let (mut wire, _) = Wire::full(server.address(), "ci", ROOM).await;
    for number in 0..20 {
        assert_eq!(say(&mut wire, &format!("id{number}"), "x").await["type"], "ack");
    }
    drop(wire);
    server.stop();
    let text = std::fs::read_to_string(&trace).unwrap();
    let (mut unsynced, mut acks, mut syncs) = (false, 0, 0);
    for line in text.lines() {
        let store = line.contains("history.sqlite3-wal>");
        if store && line.contains("pwrite64(") {
            unsynced = true;
        }
        // strace shows a call that another thread's interrupted in two lines; the second has the result.
        let sync = line.contains("fdatasync") || line.contains("fsync");
        if sync && line.trim_end().ends_with("= 0") && (store || line.contains("resumed")) {
            (unsynced, syncs) = (false, syncs + 1);
        }
        if line.contains(r#"\"type\":\"ack\""#) {
            acks += 1;
            assert!(!unsynced, "an ack left before the sync that covers it:\n{line}");
        }
    }
    assert_eq!(acks, 20, "every ack was seen");
    assert!(syncs >= 20, "{syncs} syncs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_the_first_sync_that_fails_is_final() {
    let _lock = load_lock();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    // From the 30th sync on, three syncs fail with EIO; later ones succeed.
    let error = "inject=fsync,fdatasync:error=EIO:when=30..32";
    let wrapper = [
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        error,
        "-o",
        trace.to_str().unwrap(),
    ];
    let mut server = Server::with(FAST).wrapped_in(&wrapper).start();
    let (mut wire, _) = Wire::full(server.address(), "ci", ROOM).await;
    let mut acked = 0;
    for number in 0..200 {
        let answer = say(&mut wire, &format!("id{number}"), &format!("text {number}")).await;
        match answer["type"].as_str().unwrap() {
            "ack" => {
                assert_eq!(acked, number, "no ack after the sync that failed");
                acked += 1;
            }
            _ => {
                assert_eq!(answer["code"], "storage_failed", "{answer}");
                if number > acked + 20 {
                    break;
                }
            }
        }
    }
    let injected = std::fs::read_to_string(&trace).unwrap().matches("(INJECTED)").count();
    assert!(injected >= 1, "the fault occurred");
    assert!(acked > 0 && acked < 100, "{acked}");
    server.wait_for_event("append_failed");
    // Reading still works, and every acked message is there after a restart on a disk without faults.
    assert!(whole_history(server.address(), ROOM).await.len() >= acked);
    server.kill();
    let server = Server::copy_of(&server);
    let history = whole_history(server.address(), ROOM).await;
    for (number, (_, _, text)) in history.iter().take(acked).enumerate() {
        assert_eq!(*text, format!("text {number}"));
    }
    let (mut wire, _) = Wire::full(server.address(), "ci", ROOM).await;
    assert_eq!(say(&mut wire, "later", "later").await["type"], "ack");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_torn_or_rotten_store_never_lies() {
    let _lock = load_lock();
    let mut server = Server::with(FAST).start();
    let (mut wire, _) = Wire::full(server.address(), "ci", ROOM).await;
    let texts: Vec<String> = (0..60).map(|number| format!("text {number}")).collect();
    for (number, text) in texts.iter().enumerate() {
        assert_eq!(say(&mut wire, &format!("id{number}"), text).await["type"], "ack");
    }
    server.kill();
    let history = server.state().join("history");
    let saved = tempfile::tempdir().unwrap();
    copy(&history, saved.path());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for round in 0..if is_long_run() { 200 } else { 16 } {
        for file in std::fs::read_dir(&history).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        copy(saved.path(), &history);
        let name = ["history.sqlite3-wal", "history.sqlite3"][round % 2];
        let path = history.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let at = next(bytes.len() as u64) as usize;
        match round % 4 {
            0 | 1 => bytes[at] ^= 1 << next(8),
            _ => bytes.truncate(at),
        }
        std::fs::write(&path, bytes).unwrap();
        server.start_again();
        let stored = whole_history(server.address(), ROOM).await;
        for (_, _, text) in &stored {
            assert!(texts.contains(text), "round {round}: a record that was never written: {text}");
        }
        let seqs: Vec<u64> = stored.iter().map(|(seq, ..)| *seq).collect();
        assert!(seqs.is_sorted_by(|a, b| a < b), "round {round}: {seqs:?}");
        let (mut wire, _) = Wire::full(server.address(), "ci", ROOM).await;
        let answer = say(&mut wire, &format!("new{round}"), "new").await;
        assert_eq!(answer["type"], "ack", "round {round}: the server stores again");
        server.kill();
    }
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_full_disk_is_survivable() {
    let _lock = load_lock();
    // A small disk in a mount namespace of its own, so that nothing outside is touched.
    let disk = "mount -t tmpfs -o size=4m none \"$STATE_DIRECTORY\" && exec \"$@\"";
    let mut server =
        Server::with(FAST).wrapped_in(&["unshare", "-rm", "sh", "-c", disk, "sh"]).start();
    let inside = format!("/proc/{}/root{}", server.pid(), server.state().display());
    let ballast = Path::new(&inside).join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let (mut wire, _) = Wire::full(server.address(), "ci", ROOM).await;
    let text = "x".repeat(4_000);
    let mut acked = 0;
    let refusal = loop {
        let begun = Instant::now();
        let answer =
            say(&mut wire, &format!("id{acked}"), &format!("{acked} {}", &text[8..])).await;
        if answer["type"] == "ack" {
            acked += 1;
            assert!(acked < 5_000, "the disk was never full");
            continue;
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        break answer;
    };
    assert_eq!((&refusal["code"], &refusal["temporary"]), (&json!("storage_full"), &json!(true)));
    // Reading still works, and the client reports the failure.
    assert_eq!(whole_history(server.address(), ROOM).await.len(), acked);
    let url = server.url();
    let pipe = tokio::task::spawn_blocking(move || {
        // A shorter line may still fit in what the refused commit had allocated.
        let line = "y".repeat(4_090) + "\n";
        Client::pipe(&[&url, "-r", ROOM, "--timeout", "1s"], line.as_bytes())
    });
    let finished = pipe.await.unwrap();
    assert_eq!(finished.code, Some(75), "{}", finished.errors);
    // Within ten seconds the server says itself that it can't store messages.
    let begun = Instant::now();
    for number in 0.. {
        let line = format!("{number} {}", "z".repeat(4_080));
        let answer = say(&mut wire, &format!("still{number}"), &line).await;
        assert_eq!(answer["code"], "storage_full", "{answer}");
        if server.run_ok(&["ctl", "status"]).contains("messages can't be stored") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the status says nothing");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // With space again, the server acks within five seconds, without a restart.
    std::fs::remove_file(&ballast).unwrap();
    let begun = Instant::now();
    while say(&mut wire, "after", "after").await["type"] != "ack" {
        assert!(begun.elapsed() < Duration::from_secs(5), "no ack after there was space");
    }
    let status = server.run_ok(&["ctl", "status"]);
    assert!(!status.contains("messages can't be stored"), "{status}");
    let history = whole_history(server.address(), ROOM).await;
    assert_eq!(history.iter().filter(|(_, _, text)| text == "after").count(), 1);
    for (number, (_, _, text)) in history.iter().take(acked).enumerate() {
        assert!(text.starts_with(&format!("{number} ")), "{number} is lost");
    }
    eventually("the server runs", || server.is_alive());
}
