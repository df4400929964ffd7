//! A TCP front of a server, as tunnels and proxies are: it passes connections on, answers them itself, or connects them
//! as a forward proxy.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::TIMEOUT;

/// What a front does with the next connection.
#[derive(Clone)]
enum Mode {
    /// It passes every byte on.
    Pass,
    /// It reads a request, sends this answer, and closes.
    Answer(Vec<u8>),
    /// It is a proxy for CONNECT and SOCKS 5, with this user name and password, if any.
    Proxy(Option<(String, String)>),
}

/// A running front. Its threads end with the test process.
pub struct Front {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    mode: Mutex<Mode>,
    open: Mutex<Vec<TcpStream>>,
    requests: Mutex<Vec<Request>>,
}

/// A request that the front answered, and when.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it came.
    pub at: Instant,
    /// Its head; of SOCKS, the host and port.
    pub head: String,
}

impl Front {
    /// Passes connections on to `target`, an address.
    pub fn before(target: &str) -> Front {
        Front::start(target, Mode::Pass)
    }

    /// Answers every connection with these bytes.
    pub fn answering(answer: impl AsRef<[u8]>) -> Front {
        Front::start("", Mode::Answer(answer.as_ref().to_vec()))
    }

    /// Is a forward proxy. Whatever host a client names, it connects it to `target`.
    pub fn proxy(target: &str, credentials: Option<(&str, &str)>) -> Front {
        let credentials = credentials.map(|(user, password)| (user.into(), password.into()));
        Front::start(target, Mode::Proxy(credentials))
    }

    fn start(target: &str, mode: Mode) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            target: target.into(),
            mode: Mutex::new(mode),
            open: Mutex::default(),
            requests: Mutex::default(),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = serving.clone();
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Front { address, shared }
    }

    /// `127.0.0.1:4321`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on it answers with these bytes.
    pub fn answer(&self, answer: impl AsRef<[u8]>) {
        *self.shared.mode.lock().unwrap() = Mode::Answer(answer.as_ref().to_vec());
    }

    /// From now on it passes connections on.
    pub fn pass(&self) {
        *self.shared.mode.lock().unwrap() = Mode::Pass;
    }

    /// Cuts every connection that it passed on.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The requests that it answered itself.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) {
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mode = self.mode.lock().unwrap().clone();
        match mode {
            Mode::Pass => self.pass(client),
            Mode::Answer(answer) => {
                let head = read_head(&mut client);
                // Noted before the answer, so that a client that has it is counted.
                self.note(&head);
                let _ = client.write_all(&answer);
                let _ = client.shutdown(Shutdown::Write);
                let mut rest = [0; 1024];
                while matches!(client.read(&mut rest), Ok(count) if count > 0) {}
            }
            Mode::Proxy(credentials) => {
                if self.connect(&mut client, credentials).is_some() {
                    self.pass(client);
                }
            }
        }
    }

    fn note(&self, head: &[u8]) {
        let head = String::from_utf8_lossy(head).into_owned();
        self.requests.lock().unwrap().push(Request { at: Instant::now(), head });
    }

    fn pass(&self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.target) else { return };
        client.set_read_timeout(None).unwrap();
        self.open.lock().unwrap().extend([&client, &server].map(|one| one.try_clone().unwrap()));
        let copy = |mut from: TcpStream, mut to: TcpStream| {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            })
        };
        copy(client.try_clone().unwrap(), server.try_clone().unwrap());
        copy(server, client);
    }

    /// Answers the request of a client of the proxy; `None` if that was refused.
    fn connect(&self, client: &mut TcpStream, credentials: Option<(String, String)>) -> Option<()> {
        let mut first = [0];
        client.read_exact(&mut first).ok()?;
        if first == [5] {
            return self.connect_by_socks(client, credentials);
        }
        let head = [&first[..], &read_head(client)].concat();
        self.note(&head);
        let head = String::from_utf8(head).unwrap();
        let wanted = credentials.map(|(user, password)| {
            use base64::Engine as _;
            let both = format!("{user}:{password}");
            let encoded = base64::engine::general_purpose::STANDARD.encode(both);
            format!("Proxy-Authorization: Basic {encoded}\r\n")
        });
        let allowed = wanted.is_none_or(|wanted| head.contains(&wanted));
        let answer: &[u8] = match allowed && head.starts_with("CONNECT ") {
            true => b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n",
            false => b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        };
        client.write_all(answer).ok()?;
        allowed.then_some(())
    }

    /// RFC 1928 and RFC 1929, after the first byte.
    fn connect_by_socks(
        &self,
        client: &mut TcpStream,
        credentials: Option<(String, String)>,
    ) -> Option<()> {
        let methods = read_counted(client)?;
        let method = if credentials.is_some() { 2 } else { 0 };
        if !methods.contains(&method) {
            client.write_all(&[5, 0xff]).ok()?;
            return None;
        }
        client.write_all(&[5, method]).ok()?;
        if let Some((user, password)) = credentials {
            client.read_exact(&mut [0]).ok()?;
            let (sent_user, sent_password) = (read_counted(client)?, read_counted(client)?);
            let right = sent_user == user.as_bytes() && sent_password == password.as_bytes();
            client.write_all(&[1, u8::from(!right)]).ok()?;
            right.then_some(())?;
        }
        let mut request = [0; 4];
        client.read_exact(&mut request).ok()?;
        let host = match request[3] {
            1 => {
                let mut address = [0; 4];
                client.read_exact(&mut address).ok()?;
                std::net::Ipv4Addr::from(address).to_string()
            }
            _ => String::from_utf8(read_counted(client)?).ok()?,
        };
        let mut port = [0; 2];
        client.read_exact(&mut port).ok()?;
        self.note(format!("{host}:{}", u16::from_be_bytes(port)).as_bytes());
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()
    }
}

/// A request up to its empty line, or what came of one that is not HTTP.
fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => head.extend_from_slice(&buffer[..count]),
            _ => break,
        }
        // A TLS handshake.
        if head.starts_with(&[0x16]) {
            break;
        }
    }
    head
}

/// Bytes behind their number.
fn read_counted(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut count = [0];
    stream.read_exact(&mut count).ok()?;
    let mut bytes = vec![0; count[0].into()];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
