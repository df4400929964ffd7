//! Connects to a host by TCP, whichever of its addresses answers first (RFC 8305).
//!
//! The addresses come in the order of the system (RFC 6724), with the families alternating. Attempts
//! start 250 ms apart, or at once when one fails, and the first that connects wins. So an address
//! that leads nowhere costs a quarter of a second and not the time limit of TCP.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// The time between the starts of two attempts (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to `host`, a name or an IP address. Resolving the name and connecting may take `limit`
/// each.
pub async fn connect(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    connect_to_one(resolve(host, port, limit).await?, limit).await
}

/// Connects to one of the addresses, whichever answers first, within `limit`.
pub async fn connect_to_one(addresses: Vec<SocketAddr>, limit: Duration) -> io::Result<TcpStream> {
    let race = race(interleave(addresses));
    tokio::time::timeout(limit, race).await.unwrap_or_else(|_| {
        Err(timed_out(format!("no answer within {}", humantime::format_duration(limit))))
    })
}

/// The addresses of `host`, at least one.
pub async fn resolve(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let look_up = tokio::net::lookup_host((host, port));
    let found = tokio::time::timeout(limit, look_up).await.map_err(|_| {
        let limit = humantime::format_duration(limit);
        timed_out(format!("no answer about the name {host} from the resolver within {limit}"))
    })?;
    let addresses: Vec<SocketAddr> = found.map_err(without_prefix)?.collect();
    match addresses.is_empty() {
        false => Ok(addresses),
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
    }
}

/// An error of getaddrinfo(3) as the system words it, without what Rust's library puts before it.
fn without_prefix(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.strip_prefix("failed to lookup address information: ") {
        Some(reason) => io::Error::new(error.kind(), reason.to_owned()),
        None => error,
    }
}

/// The addresses with the families alternating; the first address stays the first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_family = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut own, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_family);
    let mut mixed = Vec::with_capacity(own.len() + other.len());
    while !own.is_empty() || !other.is_empty() {
        mixed.extend(own.pop_front());
        mixed.extend(other.pop_front());
    }
    mixed
}

async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failed = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(async move { (address, TcpStream::connect(address).await) });
        }
        let more = waiting.len() > 0;
        tokio::select! {
            ended = attempts.next() => match ended {
                Some((_, Ok(stream))) => return Ok(stream),
                Some((address, Err(error))) => failed.push((address, error)),
                None => return Err(summary(failed)),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if more => {}
        }
    }
}

/// One error for all failed attempts. It names the addresses where they failed for different reasons.
fn summary(mut failed: Vec<(SocketAddr, io::Error)>) -> io::Error {
    let Some((_, first)) = failed.first() else {
        return io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    };
    let kind = first.kind();
    let reason = first.to_string();
    if failed.iter().all(|(_, error)| error.to_string() == reason) {
        return failed.swap_remove(0).1;
    }
    let reasons: Vec<String> =
        failed.iter().map(|(address, error)| format!("{}: {error}", address.ip())).collect();
    io::Error::new(kind, reasons.join(", "))
}

fn timed_out(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::net::{TcpListener, TcpSocket};

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_alternate_and_the_first_address_stays_first() {
        for (given, mixed) in [
            (&["1.1.1.1:1"][..], &["1.1.1.1:1"][..]),
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"],
            ),
            (&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"], &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"]),
        ] {
            assert_eq!(interleave(addresses(given)), addresses(mixed));
        }
    }

    /// A loopback address that answers nothing: its queue of connections is full. The sockets keep it so.
    async fn dead_address() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        loop {
            let attempt = TcpStream::connect(address);
            match tokio::time::timeout(Duration::from_millis(300), attempt).await {
                Ok(stream) => held.push(stream.unwrap()),
                Err(_) => return (address, listener, held),
            }
            assert!(held.len() < 64, "the queue is never full");
        }
    }

    #[tokio::test]
    async fn dead_addresses_before_a_live_one_cost_a_quarter_of_a_second_each() {
        let (dead, _listener, _held) = dead_address().await;
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = live.local_addr().unwrap();
        let started = Instant::now();
        let stream = race(vec![dead, dead, address]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let took = started.elapsed();
        assert!(took >= 2 * ATTEMPT_DELAY && took < 20 * ATTEMPT_DELAY, "{took:?}");
    }

    #[tokio::test]
    async fn a_refused_attempt_is_followed_at_once_by_the_next() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let started = Instant::now();
        race(vec![closed, closed, live.local_addr().unwrap()]).await.unwrap();
        assert!(started.elapsed() < ATTEMPT_DELAY, "{:?}", started.elapsed());
        let error = race(vec![closed, closed]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(!error.to_string().contains("127.0.0.1"), "one reason is told once: {error}");
        let error = race(vec![closed, "255.255.255.255:1".parse().unwrap()]).await.unwrap_err();
        assert!(error.to_string().contains("127.0.0.1: "), "{error}");
        assert!(error.to_string().contains("255.255.255.255: "), "{error}");
    }
}
