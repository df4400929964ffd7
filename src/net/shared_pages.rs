//! Bytes in pages that the kernel can send to many sockets without copying them for each.
//!
//! The bytes are copied into a pipe once. For each socket, tee(2) duplicates references to the pages
//! into a second pipe, and splice(2) moves these references to the socket. The socket keeps the
//! pages until the peer has acknowledged them, even if the pipes are closed before.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{retry_on_intr, write};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, tee};

/// The most bytes that fit in the pages.
pub const MAX_BYTES: usize = 256 * 1024;

/// Bytes in shared pages.
pub struct SharedPages {
    source: Pipe,
    /// Holds the references on their way to one socket; empty between calls, made anew when needed.
    transfer: Option<Pipe>,
}

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl SharedPages {
    /// Copies bytes into pages. `None` if there are more than [`MAX_BYTES`] or the system refuses
    /// pipes of that size.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_BYTES {
            return None;
        }
        let pages = SharedPages { source: Pipe::new()?, transfer: Some(Pipe::new()?) };
        let written = retry_on_intr(|| write(&pages.source.writer, bytes)).ok()?;
        (written == bytes.len()).then_some(pages)
    }

    /// Sends the first `length` bytes to a non-blocking socket and returns how many it took. Fails
    /// with `WouldBlock` when the socket is full.
    pub fn send(&mut self, socket: impl AsFd, length: usize) -> io::Result<usize> {
        let transfer = match self.transfer.take() {
            Some(transfer) => transfer,
            None => Pipe::new().ok_or(io::ErrorKind::Unsupported)?,
        };
        let flags = SpliceFlags::NONBLOCK;
        // The source is never empty and the transfer pipe is, so tee does not block.
        let teed = retry_on_intr(|| tee(&self.source.reader, &transfer.writer, length, flags))
            .map_err(io::Error::other)?;
        // splice has no MSG_NOSIGNAL; Rust programs ignore SIGPIPE anyway.
        let sent = retry_on_intr(|| splice(&transfer.reader, None, &socket, None, teed, flags));
        if sent == Ok(teed) {
            // Otherwise the pipe still holds bytes that must not reach the next socket: it is dropped.
            self.transfer = Some(transfer);
        }
        Ok(sent?)
    }
}

impl Pipe {
    fn new() -> Option<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        (fcntl_setpipe_size(&writer, MAX_BYTES).ok()? >= MAX_BYTES)
            .then_some(Pipe { reader, writer })
    }
}
