//! Reads the messages of a room by direct get, which may be answered by a replica that lags behind. What such a replica
//! has is a prefix, never a hole. So an answer that says that nothing follows is complete only if it reaches the last
//! message of the room.

use std::thread;
use std::time::Instant;

use super::cluster::{Cluster, Read, Room, failed};
use super::engine::{ReadRequest, StreamMessage};
use crate::store::room_log::StoreError;

/// The most messages that are asked for at once.
pub(super) const MAX_MESSAGES: usize = 512;
const MAX_BYTES: usize = 1 << 20;

/// The messages of a room from this number on, at most `messages` of them.
pub(super) fn from(
    cluster: &Cluster,
    room: &Room<'_>,
    seq: u64,
    messages: usize,
) -> Result<Read, StoreError> {
    let subject = room.subject.clone();
    let messages = messages.clamp(1, MAX_MESSAGES);
    let request = ReadRequest::From { subject, seq, messages, bytes: MAX_BYTES };
    let (began, mut last, mut was_asked) = (Instant::now(), room.last, false);
    loop {
        let read = cluster.read(room.log, &request)?;
        let reaches = read.messages.last().is_some_and(|message| message.seq >= last);
        if read.pending > 0 && !read.messages.is_empty() || reaches || last < seq {
            return Ok(read);
        }
        if !was_asked {
            // The last message may have been removed since.
            last = cluster.ask_last(room.log, &room.tag, &room.epoch)?;
            was_asked = true;
            continue;
        }
        if began.elapsed() >= cluster.timings.stale {
            return Err(failed(room.log, "its replicas lack messages that were read before"));
        }
        thread::sleep(cluster.timings.pause);
    }
}

/// How many messages a room has from this number on.
pub(super) fn count_from(cluster: &Cluster, room: &Room<'_>, seq: u64) -> Result<u64, StoreError> {
    let read = from(cluster, room, seq, 1)?;
    Ok(read.messages.len() as u64 + read.pending)
}

/// At least the last `wanted` messages of a room that are below `end`, or all of those above `room.forgotten`.
/// Returns them with the number from which on they are complete.
///
/// The engine only reads forward, but says how many messages follow. From that the place is estimated.
pub(super) fn last_below(
    cluster: &Cluster,
    room: &Room<'_>,
    end: u64,
    wanted: usize,
) -> Result<(Vec<StreamMessage>, u64), StoreError> {
    let first = room.forgotten + 1;
    if end <= first {
        return Ok((Vec::new(), first));
    }
    let after = match end > room.last {
        true => 0,
        false => count_from(cluster, room, end)?,
    };
    let wanted = wanted as u64;
    let (mut low, mut high) = (first, end);
    let mut below = count_from(cluster, room, low)?.saturating_sub(after);
    // Between `low` and `end` are `below` messages, and between `high` and `end` too few.
    let mut too_few = 0;
    while below > wanted.saturating_mul(4).max(64) && high - low > 1 {
        // A place with about twice as many as wanted, if the messages are evenly distributed.
        let share = (wanted * 2).saturating_sub(too_few).max(1);
        let width = u128::from(high - low) * u128::from(share) / u128::from(below - too_few).max(1);
        let width = u64::try_from(width).unwrap_or(u64::MAX).clamp(1, high - low - 1);
        let mut middle = high - width;
        for _ in 0..2 {
            let count = count_from(cluster, room, middle)?.saturating_sub(after);
            if count >= wanted {
                (low, below) = (middle, count);
            } else {
                (high, too_few) = (middle, count);
            }
            // Halves, so that an uneven distribution takes few steps too.
            middle = low + (high - low) / 2;
            if high - low <= 1 || below <= wanted.saturating_mul(4).max(64) {
                break;
            }
        }
    }
    let mut messages = Vec::new();
    let mut next = low;
    while next < end {
        let read = from(cluster, room, next, MAX_MESSAGES)?;
        let last = read.messages.last().map(|message| message.seq);
        messages.extend(read.messages.into_iter().filter(|message| message.seq < end));
        match last {
            Some(last) if read.pending > 0 => next = last + 1,
            _ => break,
        }
    }
    Ok((messages, low))
}
