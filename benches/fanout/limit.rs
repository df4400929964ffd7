//! The lower bound of the cost: a program that only writes prepared frames to its sockets. A
//! sender's message has the length of a frame, and its content is ignored.
//!
//! `each` makes one write per delivery; `gather` writes everything pending for a socket at once; `pages`
//! does the same from shared pages (`secure_chat::net::shared_pages`), without a copy per socket.
//!
//! Over TLS, `each` makes one record and one write per delivery; `gather` encrypts everything pending in records
//! of full size and writes them together. The library is that of chat-server.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secure_chat::net::shared_pages::{MAX_BYTES, SharedPages};

use crate::certificate;

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
    tls: Option<Box<ServerConnection>>,
    /// Whether this is a reader or a sender; unknown until its first byte.
    is_reader: Option<bool>,
    /// For a sender, the received bytes of an incomplete message; for a reader, the written bytes of
    /// an incomplete frame.
    partial: usize,
    /// Bytes that are still to be written.
    pending: usize,
    blocked: bool,
}

/// Serves on a free port, which it prints, until the process is killed. With a folder of certificate and key, it
/// speaks TLS.
pub fn serve(frame: usize, mode: Mode, folder: Option<&Path>) -> ! {
    let mut prepared = Prepared::new(frame, mode);
    let tls = folder.map(configuration);
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
                while let Ok((stream, _)) = listener.accept() {
                    let _ = stream.set_nodelay(true);
                    let Some((mut stream, tls)) = accept_tls(stream, tls.as_ref()) else {
                        continue;
                    };
                    let both = Interest::READABLE | Interest::WRITABLE;
                    let token = Token(connections.len());
                    poll.registry().register(&mut stream, token, both).expect("registered");
                    let mut connection = Connection {
                        stream,
                        tls,
                        is_reader: None,
                        partial: 0,
                        pending: 0,
                        blocked: false,
                    };
                    // The handshake may have read more; no event tells of that.
                    received += receive(&mut connection, &mut into, frame);
                    connections.push(connection);
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

/// The TLS configuration of chat-server.
fn configuration(folder: &Path) -> Arc<ServerConfig> {
    let [certificate, key] = certificate::files(folder);
    let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .expect("a pair");
    config.ignore_client_order = true;
    Arc::new(config)
}

/// Makes the handshake, if there is a TLS configuration. `None` if the client closes the connection.
fn accept_tls(
    stream: TcpStream,
    config: Option<&Arc<ServerConfig>>,
) -> Option<(TcpStream, Option<Box<ServerConnection>>)> {
    let Some(config) = config else { return Some((stream, None)) };
    let mut tls = ServerConnection::new(config.clone()).ok()?;
    tls.set_buffer_limit(None);
    let mut stream = std::net::TcpStream::from(stream);
    stream.set_nonblocking(false).ok()?;
    while tls.is_handshaking() || tls.wants_write() {
        tls.complete_io(&mut stream).ok()?;
    }
    stream.set_nonblocking(true).ok()?;
    Some((TcpStream::from_std(stream), Some(Box::new(tls))))
}

/// Reads from a connection; returns how many messages are complete.
fn receive(connection: &mut Connection, into: &mut [u8], frame: usize) -> usize {
    let mut bytes = 0;
    while let Ok(count) = connection.read(into) {
        if count == 0 {
            connection.is_reader = Some(false);
            break;
        }
        let mut count = count;
        if connection.is_reader != Some(false) {
            connection.is_reader = Some(into[0] == b'r');
            connection.answer();
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

impl Connection {
    /// Reads what the client has sent, decrypted.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(into) };
        loop {
            match tls.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            tls.read_tls(&mut self.stream)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    fn answer(&mut self) {
        let _ = match &mut self.tls {
            None => self.stream.write(b"k"),
            Some(tls) => tls.writer().write(b"k").and_then(|_| tls.write_tls(&mut self.stream)),
        };
    }

    /// Writes what is encrypted. Returns whether the socket took everything.
    fn flush_tls(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return true };
        while tls.wants_write() {
            if tls.write_tls(&mut self.stream).is_err() {
                return false;
            }
        }
        true
    }
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
    connection.blocked |= !connection.flush_tls();
    while connection.pending > 0 && !connection.blocked {
        let max_bytes = match prepared.mode {
            Mode::Each => prepared.frame - connection.partial,
            Mode::Gather | Mode::Pages => WRITE_BYTES,
        };
        let length = connection.pending.min(max_bytes);
        let outcome = match &mut connection.tls {
            None => prepared.write(&mut connection.stream, length),
            // Encrypted bytes count as written.
            Some(tls) => tls.writer().write(&prepared.bytes[..length]),
        };
        match outcome {
            Ok(count) => {
                connection.pending -= count;
                connection.partial = (connection.partial + count) % prepared.frame;
                connection.blocked = !connection.flush_tls();
            }
            Err(_) => connection.blocked = true,
        }
    }
}
