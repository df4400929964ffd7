//! The byte stream below a client's WebSocket.

use tokio::io::{AsyncRead, AsyncWrite};

/// A TCP or TLS stream; implemented for every type that has these traits.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ClientStream for T {}
