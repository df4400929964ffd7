//! The lower bound of the cost: a program that only writes prepared frames to its sockets. A
//! sender's message has the length of a frame, and its content is ignored.
//!
//! `each` makes one write per delivery; `gather` writes everything pending for a socket at once; `pages`
//! does the same from shared pages (`secure_chat::net::shared_pages`), without a copy per socket.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use secure_chat::net::shared_pages::{MAX_BYTES, SharedPages};

const LISTENER: Token = Token(usize::MAX);
/// The most bytes per write; a socket takes less.
const WRITE_BYTES: usize = MAX_BYTES;

/// How the program writes.
pub enum Mode {
    Each,
    Gather,
    Pages,
}

/// The prepared frames, as bytes and as shared pages.
struct Prepared {
    bytes: Vec<u8>,
    pages: SharedPages,
    frame: usize,
    mode: Mode,
}

struct Connection {
    stream: TcpStream,
    /// Whether this is a reader or a sender; unknown until its first byte.
    is_reader: Option<bool>,
    /// For a sender, the received bytes of an incomplete message; for a reader, the written bytes of
    /// an incomplete frame.
    partial: usize,
    /// Bytes that are still to be written.
    pending: usize,
    blocked: bool,
}

/// Serves on a free port, which it prints, until the process is killed.
pub fn serve(frame: usize, mode: Mode) -> ! {
    let mut prepared = Prepared::new(frame, mode);
    let mut into = vec![0; 64 * 1024];
    let address = "127.0.0.1:0".parse().expect("an address");
    let mut listener = TcpListener::bind(address).expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let mut poll = Poll::new().expect("a poll");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registered");
    let mut connections: Vec<Connection> = Vec::new();
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, Some(Duration::from_secs(3600))).expect("polled");
        let mut received = 0;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.set_nodelay(true);
                    let both = Interest::READABLE | Interest::WRITABLE;
                    let token = Token(connections.len());
                    poll.registry().register(&mut stream, token, both).expect("registered");
                    connections.push(Connection {
                        stream,
                        is_reader: None,
                        partial: 0,
                        pending: 0,
                        blocked: false,
                    });
                }
                continue;
            }
            let connection = &mut connections[event.token().0];
            if event.is_readable() {
                received += receive(connection, &mut into, frame);
            }
            if event.is_writable() && connection.blocked {
                connection.blocked = false;
                send(connection, &mut prepared);
            }
        }
        if received > 0 {
            for connection in
                connections.iter_mut().filter(|connection| connection.is_reader == Some(true))
            {
                connection.pending += received * frame;
                send(connection, &mut prepared);
            }
        }
    }
}

/// Reads from a connection; returns how many messages are complete.
fn receive(connection: &mut Connection, into: &mut [u8], frame: usize) -> usize {
    let mut bytes = 0;
    while let Ok(count) = connection.stream.read(into) {
        if count == 0 {
            connection.is_reader = Some(false);
            break;
        }
        let mut count = count;
        if connection.is_reader != Some(false) {
            connection.is_reader = Some(into[0] == b'r');
            let _ = connection.stream.write(b"k");
            count -= 1;
        }
        bytes += count;
    }
    if connection.is_reader != Some(false) {
        return 0;
    }
    let whole = connection.partial + bytes;
    connection.partial = whole % frame;
    whole / frame
}

impl Prepared {
    fn new(frame: usize, mode: Mode) -> Self {
        let bytes = vec![b'x'; WRITE_BYTES];
        let pages = SharedPages::new(&bytes).expect("pipes");
        Prepared { bytes, pages, frame, mode }
    }

    fn write(&mut self, stream: &mut TcpStream, length: usize) -> io::Result<usize> {
        match self.mode {
            Mode::Each | Mode::Gather => stream.write(&self.bytes[..length.min(WRITE_BYTES)]),
            Mode::Pages => self.pages.send(stream, length),
        }
    }
}

fn send(connection: &mut Connection, prepared: &mut Prepared) {
    while connection.pending > 0 && !connection.blocked {
        let max_bytes = match prepared.mode {
            Mode::Each => prepared.frame - connection.partial,
            Mode::Gather | Mode::Pages => WRITE_BYTES,
        };
        match prepared.write(&mut connection.stream, connection.pending.min(max_bytes)) {
            Ok(count) => {
                connection.pending -= count;
                connection.partial = (connection.partial + count) % prepared.frame;
            }
            Err(_) => connection.blocked = true,
        }
    }
}
