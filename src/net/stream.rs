//! Any byte stream to a peer: plain TCP, TLS, or a tunnel.

use tokio::io::{AsyncRead, AsyncWrite};

/// Reads and writes bytes.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
