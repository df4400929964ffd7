//! Counts deliveries in what a reader receives: by the lengths in WebSocket frame headers, or by bytes where
//! the length of each delivery is known.
//!
//! Over TLS, only the headers of the records are read, so that the load generator costs about as much as over
//! plain TCP. One reader decrypts everything, and its frames are counted; each of the others must have received
//! exactly the bytes of as many frames.

use std::io::{self, Read as _, Write as _};

use rustls::{ClientConnection, ProtocolVersion, Stream};

use crate::wire::{Incoming, Wire};

/// The header of a TLS record.
const RECORD_HEADER: usize = 5;
/// The bytes of a TLS 1.3 record after its header, without the plaintext: its type and the tag.
const RECORD_OVERHEAD: usize = 1 + 16;

/// Counts the deliveries that one reader receives.
pub enum Receiver {
    Plain(Counter),
    /// TLS, decrypted.
    Decrypted(Box<ClientConnection>, Counter),
    /// TLS, of which only the headers of the records are read.
    Records(Records, Counter),
}

/// Counts deliveries in a stream of bytes.
#[derive(Clone)]
pub enum Counter {
    Frames(Frames),
    Lengths(Lengths),
}

/// The parse state of a stream of WebSocket frames.
#[derive(Clone, Default)]
pub struct Frames {
    head: Vec<u8>,
    rest: usize,
    counts: bool,
}

/// Deliveries of known lengths.
#[derive(Clone)]
pub struct Lengths {
    /// The length without the numbers.
    base: usize,
    /// Whether a delivery contains its number among all, in decimal digits, counted from 0 and from 1.
    is_numbered: bool,
    next: u64,
    partial: usize,
}

/// The parse state of a stream of TLS 1.3 records.
#[derive(Default)]
pub struct Records {
    header: Vec<u8>,
    length: usize,
    rest: usize,
}

/// The receivers of all readers, and how many messages were sent to create them. Only the first reader has
/// read these messages.
pub struct Receivers {
    pub all: Vec<Receiver>,
    pub sent: u64,
}

impl Receivers {
    pub fn new(
        wire: Wire,
        text: usize,
        readers: &mut [Incoming],
        senders: &mut [Incoming],
    ) -> Self {
        let mut counter = wire.counter(text);
        let Some((first, others)) = readers.split_first_mut() else {
            return Receivers { all: Vec::new(), sent: 0 };
        };
        let Some(mut tls) = first.tls.take() else {
            let plain = |_| Receiver::Plain(counter.clone());
            return Receivers { all: (0..=others.len()).map(plain).collect(), sent: 0 };
        };
        assert_eq!(tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let (mut of_first, mut sent) = (counter.clone(), 0);
        if let Counter::Frames(frames) = &mut of_first {
            // The length of a frame is known from the first one.
            let sender = &mut senders[0];
            let mut message = Vec::new();
            wire.message(&mut message, &sender.token, 0, text);
            let sender_tls = sender.tls.as_mut().expect("TLS");
            let mut out = Stream::new(&mut **sender_tls, &mut sender.stream);
            out.write_all(&message).and_then(|()| out.flush()).expect("sent");
            sent = 1;
            let mut incoming = Stream::new(&mut *tls, &mut first.stream);
            let (mut into, mut length, mut received) = ([0; 4096], 0, 0);
            while received == 0 {
                let count = incoming.read(&mut into).expect("the first delivery");
                length += count;
                received += frames.feed(&into[..count]);
            }
            counter = Counter::Lengths(Lengths::numbered(length));
        }
        let mut all = vec![Receiver::Decrypted(tls, of_first)];
        all.extend(others.iter().map(|_| Receiver::Records(Records::default(), counter.clone())));
        Receivers { all, sent }
    }
}

impl Receiver {
    /// Returns how many deliveries these bytes complete.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<u64, String> {
        match self {
            Receiver::Plain(counter) => Ok(counter.feed(bytes)),
            Receiver::Records(records, counter) => match (records.feed(bytes)?, counter) {
                (plaintext, Counter::Lengths(lengths)) => Ok(lengths.feed(plaintext)),
                (_, Counter::Frames(_)) => Err("frames can't be counted by their lengths".into()),
            },
            Receiver::Decrypted(tls, counter) => {
                let (mut whole, mut plaintext) = (0, [0; 16 * 1024]);
                while !bytes.is_empty() {
                    tls.read_tls(&mut bytes).map_err(|error| error.to_string())?;
                    tls.process_new_packets().map_err(|error| error.to_string())?;
                    loop {
                        match tls.reader().read(&mut plaintext) {
                            Ok(0) => return Err("a reader was closed".into()),
                            Ok(count) => whole += counter.feed(&plaintext[..count]),
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                            Err(error) => return Err(format!("a reader: {error}")),
                        }
                    }
                }
                Ok(whole)
            }
        }
    }

    /// Whether all bytes so far belong to whole deliveries, if they are counted by their lengths.
    pub fn is_whole(&self) -> bool {
        let (Receiver::Plain(counter)
        | Receiver::Decrypted(_, counter)
        | Receiver::Records(_, counter)) = self;
        match counter {
            Counter::Frames(_) => true,
            Counter::Lengths(lengths) => lengths.partial == 0,
        }
    }
}

impl Counter {
    /// Deliveries that all have the same length.
    pub fn fixed(length: usize) -> Self {
        Counter::Lengths(Lengths { base: length, is_numbered: false, next: 0, partial: 0 })
    }

    /// Returns how many deliveries these bytes complete.
    pub fn feed(&mut self, bytes: &[u8]) -> u64 {
        match self {
            Counter::Lengths(lengths) => lengths.feed(bytes.len()),
            Counter::Frames(frames) => frames.feed(bytes),
        }
    }
}

impl Lengths {
    /// Deliveries of chat-server, of which the first has this length.
    fn numbered(first: usize) -> Self {
        Lengths { base: first - digits(0) - digits(1), is_numbered: true, next: 0, partial: 0 }
    }

    fn feed(&mut self, bytes: usize) -> u64 {
        let first = self.next;
        self.partial += bytes;
        loop {
            let numbers =
                if self.is_numbered { digits(self.next) + digits(self.next + 1) } else { 0 };
            let length = self.base + numbers;
            if self.partial < length {
                return self.next - first;
            }
            self.partial -= length;
            self.next += 1;
        }
    }
}

/// The length of a decimal number.
fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

impl Records {
    /// Returns how many bytes of plaintext are in the records that these bytes complete.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<usize, String> {
        let mut plaintext = 0;
        while !bytes.is_empty() {
            if self.rest == 0 {
                let count = (RECORD_HEADER - self.header.len()).min(bytes.len());
                self.header.extend_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                // Application data, as TLS 1.2 would write it (RFC 8446, section 5.2).
                if let [23, 3, 3, high, low] = self.header[..] {
                    self.rest = usize::from(u16::from_be_bytes([high, low]));
                    self.length = self.rest.checked_sub(RECORD_OVERHEAD).ok_or("a short record")?;
                    self.header.clear();
                } else if self.header.len() == RECORD_HEADER {
                    return Err(format!("not a record of data: {:?}", self.header));
                }
                continue;
            }
            let count = self.rest.min(bytes.len());
            self.rest -= count;
            bytes = &bytes[count..];
            if self.rest == 0 {
                plaintext += self.length;
            }
        }
        Ok(plaintext)
    }
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut whole = 0;
        while !bytes.is_empty() {
            if self.rest > 0 {
                let now = self.rest.min(bytes.len());
                self.rest -= now;
                bytes = &bytes[now..];
                whole += u64::from(self.rest == 0 && self.counts);
                continue;
            }
            if self.head.is_empty()
                && let Some((length, counts)) = parse_start(bytes)
            {
                (self.rest, self.counts) = (length, counts);
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some((length, counts)) = parse_start(&self.head) {
                (self.rest, self.counts) = (length - self.head.len(), counts);
                self.head.clear();
                whole += u64::from(self.rest == 0 && self.counts);
            }
        }
        whole
    }
}

/// Parses the start of a frame: its length with the header, and whether it is a delivery. `None` if
/// there are too few bytes.
fn parse_start(bytes: &[u8]) -> Option<(usize, bool)> {
    let (head, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    let start = bytes.get(head..head + length.min(24))?;
    Some((head + length, start.windows(14).any(|part| part == b"\"chat_message\"")))
}
