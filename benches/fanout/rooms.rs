//! Many rooms with one member each. One message is in flight at a time, each in the next room; the next
//! is sent when the sender has received its own back. Measuring starts after one message in each room,
//! because the first message of a room also creates its entry in the store.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::load::RunResult;
use crate::wire::{Incoming, Wire};

/// Sends to the rooms in turn for `time`; calls `on_start` when measuring starts.
pub fn run(
    wire: Wire,
    text: usize,
    members: &mut [Incoming],
    time: Duration,
    mut on_start: impl FnMut(),
) -> Result<RunResult, String> {
    let mut into = vec![0; 16 * 1024];
    let mut counters: Vec<_> = members.iter().map(|_| wire.counter(text)).collect();
    let mut out = Vec::new();
    let first_round = members.len() as u64;
    let (mut started, mut sent) = (Instant::now(), 0);
    while sent <= first_round || started.elapsed() < time {
        if sent == first_round {
            started = Instant::now();
            on_start();
        }
        let index = sent as usize % members.len();
        let Incoming { stream, token, .. } = &mut members[index];
        out.clear();
        wire.message(&mut out, token, started.elapsed().as_nanos() as u64, text);
        stream.write_all(&out).map_err(|error| format!("a member: {error}"))?;
        sent += 1;
        let mut received = 0;
        while received == 0 {
            match stream.read(&mut into) {
                Ok(count) if count > 0 => received += counters[index].feed(&into[..count]),
                other => return Err(format!("a delivery is lost: {other:?}")),
            }
        }
        if received > 1 {
            return Err("more deliveries than messages".into());
        }
    }
    let deliveries = sent - first_round;
    Ok(RunResult { sent: deliveries, deliveries, elapsed: started.elapsed(), delays: Vec::new() })
}
