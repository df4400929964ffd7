//! The listening sockets for client connections.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::error::ServerError;
use crate::config::{AuthMode, Config};
use crate::net::listen;

/// Takes the sockets that systemd passed, or binds the configured addresses.
pub fn bind(config: &Config) -> Result<Vec<TcpListener>, ServerError> {
    let listeners = listen::listeners(&config.listen.addresses)?;
    refuse_open_to_other_machines(config, &addresses(&listeners))?;
    Ok(listeners)
}

/// Logs the address that a listener is bound to.
pub fn log_listening(address: SocketAddr, tls: bool) {
    let scheme = if tls { "wss" } else { "ws" };
    tracing::info!(event = "listening", address = %address, url = format!("{scheme}://{address}"),
        "ready; say something with: echo hola | chat-client {scheme}://{address}");
}

/// The addresses that the listeners are bound to.
pub fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// The configuration was validated for its own addresses, but systemd may have passed others.
pub fn refuse_open_to_other_machines(
    config: &Config,
    addresses: &[SocketAddr],
) -> Result<(), ServerError> {
    if config.auth.mode != AuthMode::Open || config.auth.allow_open {
        return Ok(());
    }
    match addresses.iter().find(|address| !address.ip().is_loopback()) {
        Some(address) => Err(ServerError::OpenToOtherMachines(*address)),
        None => Ok(()),
    }
}
