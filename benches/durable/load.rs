//! The load generator: one thread sends messages with one or more senders, and counts acknowledgements and
//! deliveries without looking at the texts.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::wire::{Client, State};

/// Acks or deliveries that are missing count as lost after this long without progress.
const LOST_TIMEOUT: Duration = Duration::from_secs(10);
/// Senders that wait only for acks are at most this many messages ahead of the slowest reader.
const MAX_AHEAD: u64 = 1_024;

/// When the next message is sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// While fewer than this many messages of the next sender have no ack.
    Unacked(u64),
    /// While fewer than this many messages have no ack or lack a delivery.
    InFlight(u64),
    /// This many per second, independent of acks and deliveries.
    Rate(u64),
}

struct Connection {
    stream: TcpStream,
    state: State,
    /// Received bytes of an incomplete message.
    tail: Vec<u8>,
    out: Vec<u8>,
    written: usize,
    /// Deliveries to a reader, acks to a sender.
    count: u64,
}

/// The readers, and the senders after them. The senders send in turn.
pub struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    readers: usize,
    text: String,
    /// For each message that lacks a delivery, how many readers have not received it.
    missing: VecDeque<u32>,
    /// Messages that every reader has received.
    delivered: u64,
    sent: u64,
    into: Vec<u8>,
}

/// The result of a run. Times are milliseconds from the moment when a message was due.
#[derive(Default)]
pub struct RunResult {
    pub sent: u64,
    pub deliveries: u64,
    /// Until the last ack, and until the last delivery.
    pub until_acked: Duration,
    pub until_delivered: Duration,
    pub ack_times: Vec<f64>,
    /// Of each delivery, only on a schedule.
    pub delivery_times: Vec<f64>,
    /// Of the last delivery of each message.
    pub last_delivery_times: Vec<f64>,
}

/// A run that is going on.
struct Run {
    first: u64,
    started: Instant,
    /// When each message was due, since the start.
    due: Vec<Duration>,
    is_scheduled: bool,
    result: RunResult,
}

impl Run {
    /// Milliseconds since a message was due.
    fn delay(&self, number: u64) -> f64 {
        let due = self.due[(number - self.first) as usize];
        self.started.elapsed().saturating_sub(due).as_secs_f64() * 1e3
    }
}

impl Load {
    pub fn new(readers: Vec<Client>, senders: Vec<Client>, text: String) -> Self {
        let count = readers.len();
        let poll = Poll::new().expect("a poll");
        let clients = readers.into_iter().chain(senders).enumerate();
        let connections = clients.map(|(index, Client { stream, state })| {
            stream.set_nonblocking(true).expect("non-blocking");
            let mut stream = TcpStream::from_std(stream);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(index), both).expect("registered");
            Connection { stream, state, tail: Vec::new(), out: Vec::new(), written: 0, count: 0 }
        });
        let connections = connections.collect();
        let into = vec![0; 1024 * 1024];
        let missing = VecDeque::new();
        Load { poll, connections, readers: count, text, missing, delivered: 0, sent: 0, into }
    }

    fn senders(&self) -> u64 {
        (self.connections.len() - self.readers) as u64
    }

    fn acked(&self) -> u64 {
        self.connections[self.readers..].iter().map(|sender| sender.count).sum()
    }

    /// How many messages of the sender whose turn it is have no ack.
    fn unacked(&self) -> u64 {
        let turn = self.sent % self.senders();
        self.sent / self.senders() - self.connections[self.readers + turn as usize].count
    }

    /// Sends messages for `time`, and waits until all are acked and delivered.
    pub fn run(&mut self, pace: Pace, time: Duration) -> Result<RunResult, String> {
        let mut events = Events::with_capacity(1024);
        let is_scheduled = matches!(pace, Pace::Rate(_));
        let (first, started) = (self.sent, Instant::now());
        let result = RunResult::default();
        let mut run = Run { first, started, due: Vec::new(), is_scheduled, result };
        let mut last_progress = started;
        loop {
            let elapsed = started.elapsed();
            let wait = if elapsed < time {
                self.send_due(pace, elapsed, &mut run)
            } else {
                Duration::from_millis(10)
            };
            self.connections[self.readers..].iter_mut().try_for_each(Connection::flush)?;
            if elapsed >= time && self.delivered == self.sent && self.acked() == self.sent {
                break;
            }
            if last_progress.elapsed() > LOST_TIMEOUT {
                let deliveries: u64 = self.missing.iter().map(|&count| u64::from(count)).sum();
                let acks = self.sent - self.acked();
                return Err(format!("{acks} acks and {deliveries} deliveries are lost"));
            }
            self.poll.poll(&mut events, Some(wait)).map_err(|error| error.to_string())?;
            for event in &events {
                let index = event.token().0;
                if event.is_readable() && self.receive(index, &mut run)? {
                    last_progress = Instant::now();
                }
                self.connections[index].flush()?;
            }
        }
        run.result.sent = self.sent - first;
        run.result.deliveries = run.result.sent * self.readers as u64;
        Ok(run.result)
    }

    /// Queues the messages that are due; returns how long to wait for events.
    fn send_due(&mut self, pace: Pace, elapsed: Duration, run: &mut Run) -> Duration {
        let soon = Duration::from_millis(100);
        match pace {
            Pace::Unacked(max) => {
                while self.unacked() < max && self.sent - self.delivered < MAX_AHEAD {
                    self.queue_message(run.started.elapsed(), run);
                }
                soon
            }
            Pace::InFlight(max) => {
                while self.sent - self.delivered.min(self.acked()) < max {
                    self.queue_message(run.started.elapsed(), run);
                }
                soon
            }
            Pace::Rate(rate) => {
                let first = run.first;
                let due =
                    |number: u64| Duration::from_secs(1) * (number - first) as u32 / rate as u32;
                while due(self.sent) <= elapsed {
                    self.queue_message(due(self.sent), run);
                }
                // Poll timeouts have a resolution of 1 ms, so the last millisecond is a busy wait.
                (due(self.sent) - elapsed).saturating_sub(Duration::from_millis(1)).min(soon)
            }
        }
    }

    fn queue_message(&mut self, due: Duration, run: &mut Run) {
        let index = self.readers + (self.sent % self.senders()) as usize;
        let sender = &mut self.connections[index];
        sender.state.message(&mut sender.out, self.sent, &self.text);
        run.due.push(due);
        self.sent += 1;
        self.missing.push_back(self.readers as u32);
    }

    /// Reads what a connection has received; returns whether something counted.
    fn receive(&mut self, index: usize, run: &mut Run) -> Result<bool, String> {
        let is_sender = index >= self.readers;
        let name = if is_sender { "a sender" } else { "a reader" };
        let connection = &mut self.connections[index];
        let from = connection.count;
        connection.receive(&mut self.into).map_err(|error| format!("{name}: {error}"))?;
        let to = connection.count;
        if to > self.sent {
            return Err(format!("{name}: received more than was sent"));
        }
        if is_sender && to > from {
            run.result.until_acked = run.started.elapsed();
        }
        for number in from..to {
            if is_sender {
                let message = number * self.senders() + (index - self.readers) as u64;
                run.result.ack_times.push(run.delay(message));
                continue;
            }
            let missing = &mut self.missing[(number - self.delivered) as usize];
            *missing -= 1;
            let is_last = *missing == 0;
            if run.is_scheduled || is_last {
                let delay = run.delay(number);
                if run.is_scheduled {
                    run.result.delivery_times.push(delay);
                }
                if is_last {
                    run.result.last_delivery_times.push(delay);
                    run.result.until_delivered = run.started.elapsed();
                }
            }
        }
        while self.missing.front() == Some(&0) {
            self.missing.pop_front();
            self.delivered += 1;
        }
        Ok(to > from)
    }
}

impl Connection {
    /// Reads until the socket is empty, and counts.
    fn receive(&mut self, into: &mut [u8]) -> Result<(), String> {
        loop {
            let kept = self.tail.len();
            into[..kept].copy_from_slice(&self.tail);
            match self.stream.read(&mut into[kept..]) {
                Ok(0) => return Err("closed by the server".into()),
                Ok(count) => {
                    let bytes = &into[..kept + count];
                    let parsed = self.state.parse(bytes, &mut self.out)?;
                    self.count += parsed.count;
                    self.tail.clear();
                    self.tail.extend_from_slice(&bytes[parsed.consumed..]);
                    if self.tail.len() == into.len() {
                        return Err("a message is too long".into());
                    }
                    // A short read has emptied the socket; more bytes cause a new event.
                    if kept + count < into.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    fn flush(&mut self) -> Result<(), String> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}
