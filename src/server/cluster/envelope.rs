//! Every message between nodes is sealed under a key that only the nodes have, with its subject, its sender,
//! a number and the time. So nobody else can read, write or repeat one.
//!
//! A message whose time is more than [`MAX_SKEW`] away from the clock of the receiver is refused, and within
//! that time the receiver remembers the numbers it has seen from each sender. The clocks of the nodes decide
//! nothing else.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::sealer::{NONCE_BYTES, SEAL_OVERHEAD_BYTES};
use crate::crypto::secrets::{Sealers, Secrets};
use crate::protocol::Timestamp;
use crate::server::node_id::NodeId;

/// The purpose of the key, for its derivation from the secret of the cluster.
const PURPOSE: &str = "secure-chat cluster bus";
/// The form of the message: its last byte.
const FORM: u8 = 1;
/// How far the clocks of two nodes may differ, transport included.
pub const MAX_SKEW: Duration = Duration::from_secs(60);
/// How many numbers below the highest are remembered.
const WINDOW: u64 = 4096;
/// Senders that are remembered. A cluster has some tens, and each restart adds one for twice [`MAX_SKEW`].
const MAX_SENDERS: usize = 4096;
/// Bytes before the body: subject length, sender, number, time.
const HEADER_BYTES: usize = 2 + 8 + 8 + 8;

/// What a message bears besides its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The sender.
    pub from: NodeId,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was not made with the cluster's secret, or is for another subject.
    #[error("a message was not sealed with the secret of this cluster")]
    Foreign,
    /// Its time is too far away.
    #[error(
        "the clock of another node differs by {} s from this one's, and more than {} s are refused; set the clocks",
        .0.as_secs(), MAX_SKEW.as_secs()
    )]
    Skewed(Duration),
    /// It was seen before, or is older than the numbers that are remembered.
    #[error("a message was repeated")]
    Repeated,
}

/// Seals messages of one node.
pub struct Outgoing {
    sealers: Sealers,
    node: NodeId,
    number: u64,
}

impl Outgoing {
    /// For the messages of `node`.
    pub fn new(secrets: &Secrets, node: NodeId) -> Self {
        Outgoing { sealers: secrets.sealers(PURPOSE), node, number: 0 }
    }

    /// Seals a message for a subject.
    pub fn seal(&mut self, subject: &str, body: &[u8], now: Timestamp) -> Bytes {
        self.number += 1;
        let mut plain =
            Vec::with_capacity(HEADER_BYTES + subject.len() + body.len() + SEAL_OVERHEAD_BYTES);
        plain.extend((subject.len() as u16).to_be_bytes());
        plain.extend(self.node.0.to_be_bytes());
        plain.extend(self.number.to_be_bytes());
        plain.extend(now.micros().to_be_bytes());
        plain.extend(subject.as_bytes());
        plain.extend(body);
        let mut sealed = self.sealers.seal(plain);
        sealed.push(FORM);
        sealed.into()
    }
}

/// Opens messages of all nodes, each only once. For the messages of one inbox.
pub struct Incoming {
    sealers: Sealers,
    senders: HashMap<NodeId, Seen>,
}

impl Incoming {
    /// Opens what was sealed under one of the secrets.
    pub fn new(secrets: &Secrets) -> Self {
        Incoming { sealers: secrets.sealers(PURPOSE), senders: HashMap::new() }
    }

    /// Opens a message that came on `subject`.
    pub fn open(
        &mut self,
        subject: &str,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<Opened, Refused> {
        let plain = self.unseal(payload).ok_or(Refused::Foreign)?;
        let header = Header::read(&plain, subject).ok_or(Refused::Foreign)?;
        let skew = now.since(header.at).max(header.at.since(now));
        if skew > MAX_SKEW {
            return Err(Refused::Skewed(skew));
        }
        if !self.seen(header.from, now)?.is_new(header.number, header.at) {
            return Err(Refused::Repeated);
        }
        Ok(Opened { from: header.from, body: header.body.to_vec() })
    }

    /// Opens a message that was refused for its time. It may have been repeated, so it shows no more than that such a
    /// node was there at some time.
    pub fn open_skewed(&self, subject: &str, payload: &[u8]) -> Option<Opened> {
        let plain = self.unseal(payload)?;
        let header = Header::read(&plain, subject)?;
        Some(Opened { from: header.from, body: header.body.to_vec() })
    }

    fn unseal(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let (form, sealed) = payload.split_last()?;
        let is_whole = *form == FORM && sealed.len() >= NONCE_BYTES;
        let (plain, _) = is_whole.then(|| self.sealers.open(sealed))??;
        Some(plain)
    }

    fn seen(&mut self, from: NodeId, now: Timestamp) -> Result<&mut Seen, Refused> {
        if self.senders.len() >= MAX_SENDERS && !self.senders.contains_key(&from) {
            // Whatever these have sent would be refused for its time.
            self.senders.retain(|_, seen| now.since(seen.newest) <= 2 * MAX_SKEW);
            if self.senders.len() >= MAX_SENDERS {
                return Err(Refused::Repeated);
            }
        }
        Ok(self.senders.entry(from).or_insert_with(Seen::new))
    }
}

struct Header<'a> {
    from: NodeId,
    number: u64,
    at: Timestamp,
    body: &'a [u8],
}

impl<'a> Header<'a> {
    /// `None` if the message is not for this subject.
    fn read(plain: &'a [u8], wanted: &str) -> Option<Self> {
        let (subject_len, rest) = plain.split_first_chunk::<2>()?;
        let (from, rest) = rest.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let (subject, body) =
            rest.split_at_checked(usize::from(u16::from_be_bytes(*subject_len)))?;
        let is_wanted = subject == wanted.as_bytes();
        is_wanted.then(|| Header {
            from: NodeId(u64::from_be_bytes(*from)),
            number: u64::from_be_bytes(*number),
            at: Timestamp::from_micros(i64::from_be_bytes(*at)),
            body,
        })
    }
}

/// The numbers that were seen from one sender.
struct Seen {
    highest: u64,
    newest: Timestamp,
    /// One bit per number of the window.
    window: Box<[u64; (WINDOW / 64) as usize]>,
}

impl Seen {
    fn new() -> Self {
        let newest = Timestamp::from_micros(i64::MIN);
        Seen { highest: 0, newest, window: Box::new([0; (WINDOW / 64) as usize]) }
    }

    /// Notes a number. Returns whether it was not seen before.
    fn is_new(&mut self, number: u64, at: Timestamp) -> bool {
        let bit = |number: u64| ((number % WINDOW / 64) as usize, 1 << (number % 64));
        if number > self.highest {
            for passed in (self.highest + 1..number).rev().take(WINDOW as usize) {
                let (word, mask) = bit(passed);
                self.window[word] &= !mask;
            }
            self.highest = number;
        } else if self.highest - number >= WINDOW {
            return false;
        } else {
            let (word, mask) = bit(number);
            if self.window[word] & mask != 0 {
                return false;
            }
        }
        let (word, mask) = bit(number);
        self.window[word] |= mask;
        self.newest = self.newest.max(at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];
    const NODE: NodeId = NodeId(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_message_is_opened_once_on_its_subject_under_the_same_secret() {
        let mut outgoing = Outgoing::new(&SECRET.into(), NODE);
        let sealed = outgoing.seal("p.ctl", b"kick", at(1000));
        assert!(!sealed.windows(4).any(|part| part == b"kick"), "it is readable");
        let mut incoming = Incoming::new(&SECRET.into());
        assert_eq!(incoming.open("p.n", &sealed, at(1000)), Err(Refused::Foreign));
        let opened = incoming.open("p.ctl", &sealed, at(1001)).unwrap();
        assert_eq!(opened, Opened { from: NODE, body: b"kick".to_vec() });
        assert_eq!(incoming.open("p.ctl", &sealed, at(1001)), Err(Refused::Repeated));
        let other = Incoming::new(&[8; 32].into()).open("p.ctl", &sealed, at(1000));
        assert_eq!(other, Err(Refused::Foreign));
        for index in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[index] ^= 1;
            let opened = Incoming::new(&SECRET.into()).open("p.ctl", &changed, at(1000));
            assert_eq!(opened, Err(Refused::Foreign), "byte {index}");
            let cut = Incoming::new(&SECRET.into()).open("p.ctl", &sealed[..index], at(1000));
            assert_eq!(cut, Err(Refused::Foreign), "cut at {index}");
        }
    }

    #[test]
    fn a_message_of_another_time_is_refused_also_after_a_restart() {
        let sealed = Outgoing::new(&SECRET.into(), NODE).seal("p.ctl", b"", at(1000));
        for (seconds, is_ok) in [(1060, true), (1061, false), (940, true), (939, false)] {
            let opened = Incoming::new(&SECRET.into()).open("p.ctl", &sealed, at(seconds));
            assert_eq!(opened.is_ok(), is_ok, "{seconds}: {opened:?}");
        }
        let incoming = Incoming::new(&SECRET.into());
        assert_eq!(incoming.open_skewed("p.ctl", &sealed).map(|opened| opened.from), Some(NODE));
        assert_eq!(incoming.open_skewed("p.n", &sealed), None);
        assert_eq!(Incoming::new(&[8; 32].into()).open_skewed("p.ctl", &sealed), None);
        // Without the memory of its numbers, a forgotten sender can't be repeated either.
        let mut incoming = Incoming::new(&SECRET.into());
        incoming.open("p.ctl", &sealed, at(1000)).unwrap();
        for sender in 0..2 * MAX_SENDERS as u64 {
            let later = at(1000 + 200 * (1 + sender as i64 / 2000));
            let sealed =
                Outgoing::new(&SECRET.into(), NodeId(100 + sender)).seal("p.ctl", b"", later);
            incoming.open("p.ctl", &sealed, later).unwrap();
            assert!(incoming.senders.len() <= MAX_SENDERS);
        }
        assert!(!incoming.senders.contains_key(&NODE));
        assert!(incoming.open("p.ctl", &sealed, at(1400)).is_err());
    }

    #[test]
    fn numbers_may_come_in_any_order_within_the_window() {
        let mut outgoing = Outgoing::new(&SECRET.into(), NODE);
        let count = 2 * WINDOW as usize;
        let sealed: Vec<Bytes> = (0..count).map(|_| outgoing.seal("s", b"", at(1))).collect();
        let mut incoming = Incoming::new(&SECRET.into());
        let mut open = |index: usize| incoming.open("s", &sealed[index], at(1)).is_ok();
        assert!(open(10) && open(3) && !open(3) && !open(10) && open(9));
        assert!(open(count - 1));
        assert!(!open(0) && !open(10), "older than the window");
        let first = count - WINDOW as usize;
        for index in (first..count - 1).rev() {
            assert!(open(index), "{index}");
        }
        for index in first..count {
            assert!(!open(index), "{index}");
        }
    }
}
