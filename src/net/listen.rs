//! Listening sockets: bound by the server, or inherited from systemd (sd_listen_fds(3)).

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel queues until they are accepted, at most net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Why the server can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address can't be bound.
    #[error("can't listen on {address}: {reason}; {advice}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        reason: io::Error,
        /// The next step.
        advice: &'static str,
    },
    /// The service manager passed sockets that are not TCP listeners.
    #[error("can't use the sockets of the service manager: {0}; ListenStream= must name TCP ports")]
    Inherited(io::Error),
}

/// Returns the inherited sockets if there are any; otherwise binds one socket per address.
pub fn listeners(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    let inherited = inherited().map_err(ListenError::Inherited)?;
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    addresses
        .iter()
        .map(|address| bind(*address).map_err(|reason| bind_error(*address, reason)))
        .collect()
}

fn inherited() -> io::Result<Vec<TcpListener>> {
    let mut inherited = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..inherited.len() {
        if let Some(listener) = inherited.take_tcp_listener(index)? {
            listeners.push(into_tokio(listener)?);
        }
    }
    Ok(listeners)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the previous run in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that "0.0.0.0" and "::" can be bound together.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    into_tokio(socket.into())
}

fn into_tokio(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn bind_error(address: SocketAddr, reason: io::Error) -> ListenError {
    let advice = match reason.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens on this port; stop it or set listen.port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have this address; set listen.host"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "set listen.host and listen.port",
    };
    ListenError::Bind { address, reason, advice }
}
