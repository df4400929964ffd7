//! Sockets, TLS, WebSocket framing and queues. Nothing here knows about rooms or messages.

#[cfg(feature = "server")]
pub mod admission;
#[cfg(feature = "server")]
pub mod certificate_expiry;
#[cfg(feature = "client")]
pub mod client_connection;
#[cfg(feature = "client")]
mod client_stream;
#[cfg(feature = "client")]
pub mod dial;
#[cfg(feature = "server")]
pub mod framing;
#[cfg(feature = "server")]
pub mod listen;
#[cfg(feature = "server")]
pub mod send_queue;
#[cfg(feature = "server")]
pub mod server_connection;
#[cfg(feature = "server")]
pub mod shared_pages;
#[cfg(feature = "client")]
pub mod tls_client;
#[cfg(feature = "server")]
pub mod tls_server;
#[cfg(feature = "server")]
pub mod transport;
#[cfg(feature = "server")]
pub mod uring;
