//! Sockets, TLS, WebSocket framing and queues. Nothing here knows about rooms or messages.

pub mod admission;
pub mod client_connection;
mod client_stream;
pub mod dial;
pub mod framing;
pub mod listen;
pub mod send_queue;
pub mod server_connection;
pub mod shared_pages;
pub mod tls_client;
pub mod tls_server;
pub mod transport;
pub mod uring;
