//! Sends to many sockets with one system call, by io_uring(7). For short frames,
//! entering and leaving the kernel costs about as much as the work done there.
//!
//! This is the only module with unsafe code: the kernel reads from addresses in its requests.
//! [`UringSender::send`] returns only when every request is completed, and no request waits for room
//! in a socket, so the kernel does not read from the bytes after the call.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};
use rustix::net::SendFlags;

/// The most sockets per call.
pub const MAX_SOCKETS: usize = 64;

/// An io_uring with room for [`MAX_SOCKETS`] requests.
pub struct UringSender(IoUring);

impl UringSender {
    /// Sets up the ring. `None` if the kernel has no io_uring or does not permit it.
    pub fn new() -> Option<Self> {
        IoUring::new(MAX_SOCKETS as u32).ok().map(UringSender)
    }

    /// Sends bytes to at most [`MAX_SOCKETS`] sockets without waiting for any of them, and
    /// stores in `sent` how many bytes each took: 0 for a full or broken socket. After an error the
    /// sender must not be used again, but the counts in `sent` are correct.
    pub fn send(
        &mut self,
        writes: &[Option<(BorrowedFd<'_>, &[u8])>],
        sent: &mut [usize; MAX_SOCKETS],
    ) -> io::Result<()> {
        let flags = (SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits().cast_signed();
        let mut in_flight = 0;
        let mut submissions = self.0.submission();
        for (index, write) in writes.iter().enumerate() {
            let Some((socket, bytes)) = write else { continue };
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let request = opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), length)
                .flags(flags)
                .build()
                .user_data(index as u64);
            // SAFETY: the bytes and the sockets outlive this call. It returns when every request is
            // completed, or with an error; then the caller drops the ring, which cancels the rest.
            unsafe { submissions.push(&request) }.map_err(|_| io::ErrorKind::InvalidInput)?;
            in_flight += 1;
        }
        drop(submissions);
        while in_flight > 0 {
            let outcome = self.0.submit_and_wait(in_flight);
            for completion in self.0.completion() {
                if let Some(sent) = sent.get_mut(completion.user_data() as usize) {
                    *sent = usize::try_from(completion.result()).unwrap_or(0);
                }
                in_flight -= 1;
            }
            if let Err(error) = outcome
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
        }
        Ok(())
    }
}
