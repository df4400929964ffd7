//! What the steps cost, printed on request: `cargo test --release --lib -- --ignored --nocapture mls::tests::measure`.

use std::time::{Duration, Instant};

use super::*;
use crate::mls::apply::apply_all;

const BATCH: usize = 256;

fn median(mut work: impl FnMut(usize) -> Duration, rounds: usize) -> Duration {
    let mut times: Vec<_> = (0..rounds).map(&mut work).collect();
    times.sort_unstable();
    times[rounds / 2]
}

/// A room of Ana's and Bob's device and others of Bob.
fn room_with(devices: usize) -> (Member, Member, Log) {
    let (ana, bob) = (User::new("ana"), User::new("bob"));
    let (mut a, mut b) = (Member::new(&ana), Member::new(&bob));
    let mut log = room_of(&ana, &mut a, &mut [&mut b]);
    let mut left = devices - 2;
    while left > 0 {
        let count = left.min(40);
        left -= count;
        let adds = (0..count).map(|_| Member::new(&bob).newcomer()).collect();
        let added = a.change(&format!("add{left}"), Change { adds, ..Change::default() }).unwrap();
        log.append(0, &added).unwrap();
        a.read(&log);
        b.read(&log);
    }
    (a, b, log)
}

#[test]
#[ignore = "a measurement, not a test"]
fn what_a_listener_reads_per_second() {
    for devices in [10, 100] {
        let (mut a, mut b, mut log) = room_with(devices);
        for round in 0..8 {
            let name = |n| (id(&format!("m{round}-{n}")), "x".repeat(100));
            let texts: Vec<_> = (0..BATCH).map(name).collect();
            let said =
                a.step(|step, device| room::say_all(step, device, &ops(), &texts, at(1))).unwrap();
            for one in said {
                log.append(0, &one.unwrap()).unwrap();
            }
            a.read(&log);
        }
        let start = b.room().applied;
        let entries: Vec<_> =
            log.entries.iter().filter(|entry| entry.seq > start).map(Entry::as_log).collect();
        let took = median(
            |round| {
                let batch = &entries[round * BATCH..(round + 1) * BATCH];
                let start = Instant::now();
                b.step(|step, device| apply_all(step, device, &ops(), batch)).unwrap();
                start.elapsed()
            },
            8,
        );
        println!("{devices} devices: {:.0} messages/s", BATCH as f64 / took.as_secs_f64());
    }
}

#[test]
#[ignore = "a measurement, not a test"]
fn what_steps_cost() {
    for devices in [2, 10, 100] {
        let (mut a, mut b, mut log) = room_with(devices);
        let text = "x".repeat(100);
        let mut contents = Vec::new();
        let say = median(
            |n| {
                let start = Instant::now();
                let said = a.say(&format!("m{n}"), &text).unwrap();
                let took = start.elapsed();
                log.append(0, &said).unwrap();
                contents.push(said.content.len());
                took
            },
            51,
        );
        let read = median(
            |_| {
                let entry = log.entry(b.room().applied.next()).clone();
                let start = Instant::now();
                b.apply(&entry).unwrap();
                start.elapsed()
            },
            51,
        );
        // Without the disk.
        let (mut encrypt, mut decrypt, mut load) = (Vec::new(), Vec::new(), Vec::new());
        let name = ops();
        let mut plain = Vec::new();
        a.step(|step, device| {
            for _ in 0..51 {
                let start = Instant::now();
                let room = Room::load(step, &name)?.unwrap();
                let mut group = crate::mls::group::load(step, &room.group)?;
                load.push(start.elapsed());
                let start = Instant::now();
                let message =
                    group.create_message(step.provider(), &device.secret, text.as_bytes()).unwrap();
                encrypt.push(start.elapsed());
                plain.push(message.to_bytes().unwrap());
            }
            Ok(())
        })
        .unwrap();
        b.step(|step, _| {
            let room = Room::load(step, &name)?.unwrap();
            let mut group = crate::mls::group::load(step, &room.group)?;
            for message in &plain {
                let start = Instant::now();
                let message = crate::mls::decode::content(message).unwrap();
                group.process_message(step.provider(), message).unwrap();
                decrypt.push(start.elapsed());
            }
            Ok(())
        })
        .unwrap();
        for times in [&mut encrypt, &mut decrypt, &mut load] {
            times.sort_unstable();
        }
        let bytes: i64 = a
            .state
            .connection()
            .query_row("SELECT sum(length(key) + length(value)) FROM kv", [], |row| row.get(0))
            .unwrap();
        println!(
            "{devices} devices: say {say:?}, read {read:?} (both synced); load {:?}, encrypt and store {:?}, \
             decrypt and store {:?}; state {bytes} bytes, content {} bytes",
            load[25], encrypt[25], decrypt[25], contents[25],
        );
    }
}
