//! The load generator: one thread sends messages and counts deliveries without decrypting them. (Of the readers
//! over TLS, one decrypts; see [`crate::counting`].)

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConnection;

use crate::counting::{Receiver, Receivers};
use crate::wire::{Incoming, Wire};

/// Deliveries that are missing count as lost after this long without progress.
const LOST_TIMEOUT: Duration = Duration::from_secs(10);

/// When the next message is sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// While fewer than this many messages are in flight.
    Window(u64),
    /// This many per second, independent of the deliveries.
    Rate(u64),
}

struct Reader {
    stream: TcpStream,
    receiver: Receiver,
    received: u64,
}

struct Sender {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    token: String,
    /// Messages that are not yet written, over TLS not yet encrypted.
    out: Vec<u8>,
    written: usize,
}

/// The readers and senders that are connected to one server.
pub struct Load {
    wire: Wire,
    text: usize,
    poll: Poll,
    readers: Vec<Reader>,
    senders: Vec<Sender>,
    /// For each message in flight, how many readers have not received it.
    missing: VecDeque<u32>,
    /// Messages that every reader has received.
    delivered: u64,
    sent: u64,
    into: Vec<u8>,
}

/// The result of a run.
#[derive(Default)]
pub struct RunResult {
    pub sent: u64,
    pub deliveries: u64,
    pub elapsed: Duration,
    /// Microseconds from the scheduled time of a message to each of its deliveries.
    pub delays: Vec<u32>,
}

impl Load {
    pub fn new(
        wire: Wire,
        text: usize,
        mut readers: Vec<Incoming>,
        mut senders: Vec<Incoming>,
    ) -> Self {
        let Receivers { all, sent } = Receivers::new(wire, text, &mut readers, &mut senders);
        let poll = Poll::new().expect("a poll");
        let mut next = 0;
        let mut register = |stream: std::net::TcpStream| {
            stream.set_nonblocking(true).expect("non-blocking");
            let mut stream = TcpStream::from_std(stream);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(next), both).expect("registered");
            next += 1;
            stream
        };
        let mut readers: Vec<Reader> = readers
            .into_iter()
            .zip(all)
            .map(|(incoming, receiver)| Reader {
                stream: register(incoming.stream),
                receiver,
                received: 0,
            })
            .collect();
        let sender = |Incoming { stream, mut tls, token }| {
            if let Some(tls) = &mut tls {
                tls.set_buffer_limit(None);
            }
            Sender { stream: register(stream), tls, token, out: Vec::new(), written: 0 }
        };
        let senders = senders.into_iter().map(sender).collect();
        if let Some(first) = readers.first_mut() {
            first.received = sent;
        }
        Load {
            wire,
            text,
            poll,
            missing: (0..sent).map(|_| readers.len() as u32 - 1).collect(),
            readers,
            senders,
            delivered: 0,
            sent,
            into: vec![0; 256 * 1024],
        }
    }

    /// Sends messages for `time` and waits until all are delivered.
    pub fn run(&mut self, pace: Pace, time: Duration) -> Result<RunResult, String> {
        let mut events = Events::with_capacity(1024);
        let (first, started) = (self.sent, Instant::now());
        let mut outcome = RunResult::default();
        let mut last_progress = started;
        loop {
            let now = Instant::now();
            let mut wait = Duration::from_millis(100);
            let sending = now - started < time;
            match pace {
                Pace::Window(max) => {
                    while sending && self.sent - self.delivered < max {
                        self.queue_message();
                    }
                }
                Pace::Rate(rate) => {
                    let due = |number: u64| {
                        started + Duration::from_secs(1) * number as u32 / rate as u32
                    };
                    while sending && due(self.sent - first) <= now {
                        self.queue_message();
                    }
                    // Poll timeouts have a resolution of 1 ms, so the last millisecond is a busy wait.
                    wait = due(self.sent - first).saturating_duration_since(now);
                    wait = wait
                        .saturating_sub(Duration::from_millis(1))
                        .min(Duration::from_millis(100));
                    if !sending {
                        wait = Duration::from_millis(10);
                    }
                }
            }
            self.flush()?;
            if !sending && self.delivered == self.sent {
                break;
            }
            if now - last_progress > LOST_TIMEOUT {
                let missing: u64 = self.missing.iter().map(|&count| u64::from(count)).sum();
                return Err(format!("{missing} deliveries are lost"));
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
                    last_progress = now;
                }
                if let Pace::Rate(rate) = pace {
                    let since = started.elapsed().as_micros() as u64;
                    outcome.delays.extend(
                        (from.max(first)..to)
                            .map(|number| (since - (number - first) * 1_000_000 / rate) as u32),
                    );
                }
            }
        }
        outcome.elapsed = started.elapsed();
        if !self.readers.iter().all(|reader| reader.receiver.is_whole()) {
            return Err("a reader has bytes of no delivery".into());
        }
        outcome.sent = self.sent - first;
        let own = if self.wire.echoes() { self.senders.len() } else { 0 };
        outcome.deliveries = outcome.sent * (self.readers.len() + own) as u64;
        Ok(outcome)
    }

    fn queue_message(&mut self) {
        let index = (self.sent % self.senders.len() as u64) as usize;
        let sender = &mut self.senders[index];
        self.wire.message(&mut sender.out, &sender.token, self.sent, self.text);
        self.sent += 1;
        self.missing.push_back(self.readers.len() as u32);
    }

    fn flush(&mut self) -> Result<(), String> {
        for sender in &mut self.senders {
            if let Some(tls) = &mut sender.tls {
                tls.writer().write_all(&sender.out).map_err(|error| error.to_string())?;
                sender.out.clear();
                while tls.wants_write() {
                    match tls.write_tls(&mut sender.stream) {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(format!("a sender: {error}")),
                    }
                }
                continue;
            }
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

    /// Reads the deliveries of one reader; returns its count before and after.
    fn receive(&mut self, index: usize) -> Result<(u64, u64), String> {
        let reader = &mut self.readers[index];
        let from = reader.received;
        loop {
            match reader.stream.read(&mut self.into) {
                Ok(0) => return Err("a reader was closed".into()),
                Ok(count) => {
                    reader.received += reader.receiver.feed(&self.into[..count])?;
                    // A short read has emptied the socket; more bytes cause a new event.
                    if count < self.into.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("a reader: {error}")),
            }
        }
        let to = reader.received;
        if to > self.sent {
            return Err("more deliveries than messages".into());
        }
        for number in from..to {
            self.missing[(number - self.delivered) as usize] -= 1;
        }
        while self.missing.front() == Some(&0) {
            self.missing.pop_front();
            self.delivered += 1;
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
