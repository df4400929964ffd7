//! Listening sockets: bound here, or handed over by systemd (sd_listen_fds(3)).

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections the kernel keeps until they are accepted; it cuts this to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Binding failed.
    #[error("can't listen on {address}: {reason}; {advice}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        reason: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The service manager handed over something else than TCP sockets.
    #[error(
        "the sockets from the service manager can't be used: {0}; ListenStream= must name TCP ports"
    )]
    Inherited(io::Error),
}

/// The sockets the service manager handed over, or else one for each address.
pub fn listeners(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    let inherited = inherited().map_err(ListenError::Inherited)?;
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    addresses
        .iter()
        .map(|address| bind(*address).map_err(|reason| explain(*address, reason)))
        .collect()
}

fn inherited() -> io::Result<Vec<TcpListener>> {
    let mut given = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..given.len() {
        if let Some(listener) = given.take_tcp_listener(index)? {
            listeners.push(ready(listener)?);
        }
    }
    Ok(listeners)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the run before (TIME_WAIT).
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that "0.0.0.0" and "::" can stand beside each other.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    ready(socket.into())
}

fn ready(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn explain(address: SocketAddr, reason: io::Error) -> ListenError {
    let advice = match reason.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; stop it or set listen.port",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; set listen.host",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "set listen.host and listen.port",
    };
    ListenError::Bind { address, reason, advice }
}
