//! The scenarios that are measured.

use crate::servers::Peer;
use crate::wire::Wire;

/// Messages in flight in a saturated run, unless `--window` is given.
pub const WINDOW: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// As fast as possible, with this many messages in flight.
    Saturated(u64),
    /// One message in flight.
    Paced,
    /// This many messages per second.
    Schedule(u64),
    /// No messages: the rate of connections, and the memory they hold.
    Idle,
    /// All clients join one room, or each its own, with presence.
    Joins(Spread),
    /// One member per room; one message in flight.
    Rooms,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spread {
    OneRoom,
    OwnRoom,
}

#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub work: Work,
    pub readers: usize,
    pub senders: usize,
    pub text: usize,
}

pub fn scenarios(quick: bool, window: u64) -> Vec<Scenario> {
    let saturated = Work::Saturated(window);
    let scenario = |work, readers, senders, text| Scenario { work, readers, senders, text };
    let mut all = vec![
        scenario(saturated, 100, 1, 100),
        scenario(saturated, 1000, 1, 100),
        scenario(Work::Paced, 100, 1, 100),
        scenario(Work::Paced, 1000, 1, 100),
        scenario(Work::Schedule(50), 1000, 1, 100),
        scenario(Work::Idle, 5000, 0, 100),
        scenario(Work::Joins(Spread::OneRoom), 5000, 0, 100),
        scenario(Work::Joins(Spread::OwnRoom), 5000, 0, 100),
        scenario(Work::Rooms, 10_000, 0, 100),
    ];
    if !quick {
        all.extend([
            scenario(saturated, 10, 1, 100),
            scenario(saturated, 5000, 1, 100),
            scenario(saturated, 1000, 8, 100),
            scenario(saturated, 1000, 1, 1024),
            scenario(Work::Paced, 5000, 1, 100),
            scenario(Work::Schedule(100), 100, 1, 100),
            scenario(Work::Schedule(10), 5000, 1, 100),
        ]);
    }
    all
}

impl Scenario {
    pub fn name(&self) -> String {
        let Scenario { readers, senders, text, .. } = self;
        match self.work {
            Work::Saturated(WINDOW) => {
                format!("saturated, {readers} readers, {senders} senders, {text} B")
            }
            Work::Saturated(window) => {
                format!("saturated by {window}, {readers} readers, {senders} senders, {text} B")
            }
            Work::Paced => format!("paced, {readers} readers, {text} B"),
            Work::Schedule(rate) => format!("schedule, {readers} readers, {rate}/s, {text} B"),
            Work::Idle => format!("idle, {readers} connections"),
            Work::Joins(Spread::OneRoom) => format!("joins, {readers} into one room"),
            Work::Joins(Spread::OwnRoom) => format!("joins, {readers} into as many rooms"),
            Work::Rooms => format!("rooms, {readers} with one member each"),
        }
    }

    /// The names of the two figures.
    pub fn figures(&self) -> [&'static str; 2] {
        match self.work {
            Work::Saturated(_) | Work::Paced => ["server CPU µs per delivery", "deliveries/s"],
            Work::Rooms => ["server CPU µs per delivery", "in one room"],
            Work::Joins(_) => ["server CPU µs per join", "joins/s"],
            Work::Schedule(_) => ["p99 ms", "median ms"],
            Work::Idle => ["bytes per connection", "connections/s"],
        }
    }

    pub fn includes(&self, peer: Peer) -> bool {
        match self.work {
            Work::Joins(_) | Work::Rooms => peer.wire() == Wire::Full && !peer.is_over_tls(),
            Work::Idle => {
                peer.wire() != Wire::Limit && (peer != Peer::Python || self.readers <= 1000)
            }
            _ => peer != Peer::Python || self.readers <= 1000,
        }
    }
}
