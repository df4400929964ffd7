//! Sockets, TLS, WebSocket framing and queues. Nothing here knows about rooms or messages.

#[cfg(feature = "server")]
pub(crate) mod admission;
#[cfg(feature = "server")]
pub(crate) mod certificate_expiry;
#[cfg(feature = "server")]
mod certificate_names;
#[cfg(feature = "client")]
pub(crate) mod client_connection;
#[cfg(feature = "client")]
mod client_stream;
#[cfg(feature = "client")]
pub(crate) mod dial;
#[cfg(feature = "client")]
mod dial_error;
#[cfg(feature = "server")]
mod frame_meter;
#[cfg(feature = "server")]
pub(crate) mod framing;
#[cfg(feature = "client")]
mod happy_eyeballs;
#[cfg(feature = "server")]
pub(crate) mod listen;
#[cfg(feature = "client")]
mod proxy;
#[cfg(feature = "server")]
pub(crate) mod send_queue;
#[cfg(feature = "server")]
pub(crate) mod server_connection;
#[cfg(feature = "server")]
pub mod shared_pages;
#[cfg(feature = "server")]
pub(crate) mod stream_connection;
#[cfg(feature = "client")]
pub(crate) mod tls_client;
#[cfg(feature = "server")]
pub(crate) mod tls_server;
#[cfg(feature = "server")]
pub(crate) mod tls_session;
#[cfg(feature = "server")]
pub(crate) mod transport;
#[cfg(feature = "client")]
mod trusted_roots;
#[cfg(feature = "server")]
pub(crate) mod uring;
#[cfg(feature = "client")]
mod websocket_error;
#[cfg(feature = "server")]
pub(crate) mod write_timeout;
#[cfg(feature = "server")]
pub(crate) mod writer;
