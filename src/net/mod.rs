//! Sockets, TLS, framing and queues. Nothing here knows what a room is.

pub mod admission;
pub mod client_connection;
pub mod dial;
pub mod framing;
pub mod listen;
pub mod send_queue;
pub mod server_connection;
pub mod shared_pages;
pub mod stream;
pub mod tls_client;
pub mod tls_server;
pub mod transport;
pub mod uring;
