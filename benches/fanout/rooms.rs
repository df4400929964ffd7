//! Many rooms with one talker each: one message after the other, each in the next room, and the
//! next only when the talker has its own back. What is measured begins when something was said in
//! each: a room that is new costs its entry in the history, once.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::load::AppendOutcome;
use crate::wire::{Incoming, Wire};

/// Goes round the rooms for a while; calls `begin` when that is about to be measured.
pub fn go_round(
    wire: Wire,
    text: usize,
    talkers: &mut [Incoming],
    time: Duration,
    mut begin: impl FnMut(),
) -> Result<AppendOutcome, String> {
    let mut into = vec![0; 16 * 1024];
    let mut counters: Vec<_> = talkers.iter().map(|_| wire.counter(text)).collect();
    let mut out = Vec::new();
    let first_round = talkers.len() as u64;
    let (mut began, mut sent) = (Instant::now(), 0);
    while sent <= first_round || began.elapsed() < time {
        if sent == first_round {
            began = Instant::now();
            begin();
        }
        let place = sent as usize % talkers.len();
        let Incoming { stream, token } = &mut talkers[place];
        out.clear();
        wire.message(&mut out, token, began.elapsed().as_nanos() as u64, text);
        stream.write_all(&out).map_err(|error| format!("a talker: {error}"))?;
        sent += 1;
        let mut came = 0;
        while came == 0 {
            match stream.read(&mut into) {
                Ok(count) if count > 0 => came += counters[place].feed(&into[..count]),
                other => return Err(format!("a delivery lost: {other:?}")),
            }
        }
        if came > 1 {
            return Err("more came than was said".into());
        }
    }
    let deliveries = sent - first_round;
    Ok(AppendOutcome { sent: deliveries, deliveries, elapsed: began.elapsed(), delays: Vec::new() })
}
