//! The limit: a program that holds the sockets and the ready bytes of a frame and does nothing but
//! write. A sender's message is as long as a frame; what it says is not looked at.
//!
//! `each` writes once a delivery; `gather` writes everything that waits for a socket at once; `pages`
//! does that without copying it for each, by our server's means, from pages that are made once.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use secure_chat::net::shared_pages::{MAX_BYTES, SharedPages};

const LISTENER: Token = Token(usize::MAX);
/// As much as one write may take: the socket takes less.
const READY_BYTES: usize = MAX_BYTES;

/// How it writes.
pub enum How {
    Each,
    Gather,
    Pages,
}

/// As much as is written at once, twice: as bytes, and as pages.
struct Ready {
    bytes: Vec<u8>,
    pages: SharedPages,
    frame: usize,
    how: How,
}

struct Connection {
    stream: TcpStream,
    reads: Option<bool>,
    /// Bytes of an unfinished message that came; for a reader, how far its frame is out.
    part: usize,
    owed: usize,
    blocked: bool,
}

/// Serves on a free port, which it prints, until it is killed.
pub fn serve(frame: usize, how: How) -> ! {
    let mut ready = Ready::new(frame, how);
    let mut into = vec![0; 64 * 1024];
    let address = "127.0.0.1:0".parse().expect("an address");
    let mut listener = TcpListener::bind(address).expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let mut poll = Poll::new().expect("a poll");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registered");
    let mut all: Vec<Connection> = Vec::new();
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, Some(Duration::from_secs(3600))).expect("polled");
        let mut came = 0;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.set_nodelay(true);
                    let both = Interest::READABLE | Interest::WRITABLE;
                    let token = Token(all.len());
                    poll.registry().register(&mut stream, token, both).expect("registered");
                    all.push(Connection { stream, reads: None, part: 0, owed: 0, blocked: false });
                }
                continue;
            }
            let one = &mut all[event.token().0];
            if event.is_readable() {
                came += take(one, &mut into, frame);
            }
            if event.is_writable() && one.blocked {
                one.blocked = false;
                give(one, &mut ready);
            }
        }
        if came > 0 {
            for one in all.iter_mut().filter(|one| one.reads == Some(true)) {
                one.owed += came * frame;
                give(one, &mut ready);
            }
        }
    }
}

/// Reads what a sender sent; says how many messages that made.
fn take(one: &mut Connection, into: &mut [u8], frame: usize) -> usize {
    let mut bytes = 0;
    while let Ok(count) = one.stream.read(into) {
        if count == 0 {
            one.reads = Some(false);
            break;
        }
        let mut count = count;
        if one.reads != Some(false) {
            one.reads = Some(into[0] == b'r');
            let _ = one.stream.write(b"k");
            count -= 1;
        }
        bytes += count;
    }
    if one.reads != Some(false) {
        return 0;
    }
    let whole = one.part + bytes;
    one.part = whole % frame;
    whole / frame
}

impl Ready {
    fn new(frame: usize, how: How) -> Self {
        let bytes = vec![b'x'; READY_BYTES];
        let pages = SharedPages::new(&bytes).expect("pipes");
        Ready { bytes, pages, frame, how }
    }

    fn write(&mut self, stream: &mut TcpStream, length: usize) -> io::Result<usize> {
        match self.how {
            How::Each | How::Gather => stream.write(&self.bytes[..length.min(READY_BYTES)]),
            How::Pages => self.pages.send(stream, length),
        }
    }
}

fn give(one: &mut Connection, ready: &mut Ready) {
    while one.owed > 0 && !one.blocked {
        let most = match ready.how {
            How::Each => ready.frame - one.part,
            How::Gather | How::Pages => READY_BYTES,
        };
        match ready.write(&mut one.stream, one.owed.min(most)) {
            Ok(count) => {
                one.owed -= count;
                one.part = (one.part + count) % ready.frame;
            }
            Err(_) => one.blocked = true,
        }
    }
}
