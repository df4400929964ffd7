//! Bytes in pages that the kernel sends as they are: where much goes to many, copying it into each
//! socket is what costs. The bytes are copied into a pipe once; for each socket the pages are
//! shared with a second pipe (tee(2)) and from there given to the socket (splice(2)), which keeps
//! them, whatever becomes of the pipes, until the peer has acknowledged them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{retry_on_intr, write};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, tee};

/// What fits at most.
pub const MOST_BYTES: usize = 256 * 1024;

/// Bytes for many sockets.
pub struct SharedPages {
    all: Pipe,
    /// What is on its way to one of them; empty in between, and made when it is needed.
    hand: Option<Pipe>,
}

struct Pipe {
    reading: OwnedFd,
    writing: OwnedFd,
}

impl SharedPages {
    /// Nothing where it is too much, or the system has no such pipes for us.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MOST_BYTES {
            return None;
        }
        let pages = SharedPages { all: Pipe::new()?, hand: Some(Pipe::new()?) };
        let written = retry_on_intr(|| write(&pages.all.writing, bytes)).ok()?;
        (written == bytes.len()).then_some(pages)
    }

    /// Sends the first `length` bytes, or as many as the socket takes; it waits for no socket that
    /// does not block. `WouldBlock` is the socket's.
    pub fn send(&mut self, socket: impl AsFd, length: usize) -> io::Result<usize> {
        let hand = match self.hand.take() {
            Some(hand) => hand,
            None => Pipe::new().ok_or(io::ErrorKind::Unsupported)?,
        };
        let flags = SpliceFlags::NONBLOCK;
        // The one pipe always has something and the other room for it, so nothing here blocks.
        let there = retry_on_intr(|| tee(&self.all.reading, &hand.writing, length, flags))
            .map_err(io::Error::other)?;
        // Unlike send(2) it can't be told to raise no SIGPIPE, which Rust programs ignore anyway.
        let sent = retry_on_intr(|| splice(&hand.reading, None, &socket, None, there, flags));
        if sent == Ok(there) {
            // Else what this one did not take must not reach the next, and goes with the pipe.
            self.hand = Some(hand);
        }
        Ok(sent?)
    }
}

impl Pipe {
    fn new() -> Option<Self> {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        (fcntl_setpipe_size(&writing, MOST_BYTES).ok()? >= MOST_BYTES)
            .then_some(Pipe { reading, writing })
    }
}
