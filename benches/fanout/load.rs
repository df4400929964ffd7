//! The load: one thread that says messages and counts what comes out, without looking inside.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::wire::{Counter, Incoming, Wire};

/// Without any progress for so long, what is missing is lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// When the next message is said.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// While at most so many are not everywhere yet.
    Window(u64),
    /// So many a second, whatever happens meanwhile.
    Rate(u64),
}

struct RoomLogReader {
    stream: TcpStream,
    counter: Counter,
    got: u64,
}

struct Sender {
    stream: TcpStream,
    token: String,
    out: Vec<u8>,
    written: usize,
}

/// Readers and senders at one server.
pub struct Load {
    wire: Wire,
    text: usize,
    poll: Poll,
    readers: Vec<RoomLogReader>,
    senders: Vec<Sender>,
    /// For each message that is not everywhere yet, by how many readers it is still missed.
    missing: VecDeque<u32>,
    everywhere: u64,
    sent: u64,
    into: Vec<u8>,
}

/// What a run came to.
#[derive(Default)]
pub struct AppendOutcome {
    pub sent: u64,
    pub deliveries: u64,
    pub elapsed: Duration,
    /// Microseconds from when a message was due to each arrival.
    pub delays: Vec<u32>,
}

impl Load {
    pub fn new(wire: Wire, text: usize, readers: Vec<Incoming>, senders: Vec<Incoming>) -> Self {
        let poll = Poll::new().expect("a poll");
        let mut next = 0;
        let mut join = |came: Incoming| {
            came.stream.set_nonblocking(true).expect("non-blocking");
            let mut stream = TcpStream::from_std(came.stream);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(next), both).expect("registered");
            next += 1;
            (stream, came.token)
        };
        let reader = |(stream, _)| RoomLogReader { stream, counter: wire.counter(text), got: 0 };
        let sender = |(stream, token)| Sender { stream, token, out: Vec::new(), written: 0 };
        let readers: Vec<RoomLogReader> =
            readers.into_iter().map(|came| reader(join(came))).collect();
        let senders = senders.into_iter().map(|came| sender(join(came))).collect();
        Load {
            wire,
            text,
            poll,
            readers,
            senders,
            missing: VecDeque::new(),
            everywhere: 0,
            sent: 0,
            into: vec![0; 256 * 1024],
        }
    }

    /// Says messages for a while and waits until the last is everywhere.
    pub fn run(&mut self, pace: Pace, time: Duration) -> Result<AppendOutcome, String> {
        let mut events = Events::with_capacity(1024);
        let (first, began) = (self.sent, Instant::now());
        let mut outcome = AppendOutcome::default();
        // When something came last.
        let mut moved = began;
        loop {
            let now = Instant::now();
            let mut wait = Duration::from_millis(100);
            let open = now - began < time;
            match pace {
                Pace::Window(most) => {
                    while open && self.sent - self.everywhere < most {
                        self.say();
                    }
                }
                Pace::Rate(rate) => {
                    let due =
                        |number: u64| began + Duration::from_secs(1) * number as u32 / rate as u32;
                    while open && due(self.sent - first) <= now {
                        self.say();
                    }
                    // The poll counts in milliseconds: the last one is waited for awake.
                    wait = due(self.sent - first).saturating_duration_since(now);
                    wait = wait
                        .saturating_sub(Duration::from_millis(1))
                        .min(Duration::from_millis(100));
                    if !open {
                        wait = Duration::from_millis(10);
                    }
                }
            }
            self.flush()?;
            if !open && self.everywhere == self.sent {
                break;
            }
            if now - moved > LOST_AFTER {
                let missing: u64 = self.missing.iter().map(|&count| u64::from(count)).sum();
                return Err(format!("{missing} deliveries lost"));
            }
            self.poll.poll(&mut events, Some(wait)).map_err(|error| error.to_string())?;
            for event in &events {
                let index = event.token().0;
                if !event.is_readable() {
                    continue;
                }
                if index >= self.readers.len() {
                    drain(&mut self.senders[index - self.readers.len()].stream, &mut self.into)?;
                    continue;
                }
                let (from, to) = self.receive(index)?;
                if to > from {
                    moved = now;
                }
                if let Pace::Rate(rate) = pace {
                    let since = began.elapsed().as_micros() as u64;
                    outcome.delays.extend(
                        (from - first..to - first)
                            .map(|number| (since - number * 1_000_000 / rate) as u32),
                    );
                }
            }
        }
        outcome.elapsed = began.elapsed();
        outcome.sent = self.sent - first;
        let own = if self.wire.echoes() { self.senders.len() } else { 0 };
        outcome.deliveries = outcome.sent * (self.readers.len() + own) as u64;
        Ok(outcome)
    }

    fn say(&mut self) {
        let index = (self.sent % self.senders.len() as u64) as usize;
        let sender = &mut self.senders[index];
        self.wire.message(&mut sender.out, &sender.token, self.sent, self.text);
        self.sent += 1;
        self.missing.push_back(self.readers.len() as u32);
    }

    fn flush(&mut self) -> Result<(), String> {
        for sender in &mut self.senders {
            while sender.written < sender.out.len() {
                match sender.stream.write(&sender.out[sender.written..]) {
                    Ok(count) => sender.written += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(format!("a sender: {error}")),
                }
            }
            if sender.written == sender.out.len() {
                sender.out.clear();
                sender.written = 0;
            }
        }
        Ok(())
    }

    /// Reads what came for one reader; gives its count before and after.
    fn receive(&mut self, index: usize) -> Result<(u64, u64), String> {
        let reader = &mut self.readers[index];
        let from = reader.got;
        loop {
            match reader.stream.read(&mut self.into) {
                Ok(0) => return Err("a reader was closed".into()),
                Ok(count) => {
                    reader.got += reader.counter.feed(&self.into[..count]);
                    // A short read has emptied the socket; the next bytes make a new event.
                    if count < self.into.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("a reader: {error}")),
            }
        }
        let to = reader.got;
        if to > self.sent {
            return Err("more came than was said".into());
        }
        for number in from..to {
            self.missing[(number - self.everywhere) as usize] -= 1;
        }
        while self.missing.front() == Some(&0) {
            self.missing.pop_front();
            self.everywhere += 1;
        }
        Ok((from, to))
    }
}

fn drain(stream: &mut TcpStream, into: &mut [u8]) -> Result<(), String> {
    loop {
        match stream.read(into) {
            Ok(0) => return Err("a sender was closed".into()),
            Ok(count) if count < into.len() => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(format!("a sender: {error}")),
        }
    }
}
