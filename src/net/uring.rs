//! The same bytes on many sockets with one system call, by io_uring(7): leaving and entering the
//! kernel for each costs about as much as what it does there for a short frame.
//!
//! The one place with unsafe code: the kernel is given addresses and reads from them. Every
//! request is answered before [`UringSender::send`] returns, and none waits for room in a socket, so the
//! kernel reads nothing after that.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};
use rustix::net::SendFlags;

/// Sockets that one system call is for at most.
pub const TOGETHER: usize = 64;

/// What is shared with the kernel.
pub struct UringSender(IoUring);

impl UringSender {
    /// Nothing where the system does not have it or does not let us.
    pub fn new() -> Option<Self> {
        IoUring::new(TOGETHER as u32).ok().map(UringSender)
    }

    /// Sends the same bytes on at most [`TOGETHER`] sockets, and says in `sent` how many each took:
    /// 0 also where it could take none. It waits for no socket. After an error it must not be used
    /// again; what `sent` says is true even then.
    pub fn send(
        &mut self,
        sockets: &[Option<BorrowedFd<'_>>],
        bytes: &[u8],
        sent: &mut [usize; TOGETHER],
    ) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let flags = (SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits().cast_signed();
        let mut unanswered = 0;
        let mut queue = self.0.submission();
        for (number, socket) in sockets.iter().enumerate() {
            let Some(socket) = socket else { continue };
            let request = opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), length)
                .flags(flags)
                .build()
                .user_data(number as u64);
            // SAFETY: the bytes and the sockets outlive this call, and it ends when every request
            // was answered, or with an error: then the ring goes, and with it what nobody took.
            unsafe { queue.push(&request) }.map_err(|_| io::ErrorKind::InvalidInput)?;
            unanswered += 1;
        }
        drop(queue);
        while unanswered > 0 {
            let outcome = self.0.submit_and_wait(unanswered);
            for answer in self.0.completion() {
                if let Some(sent) = sent.get_mut(answer.user_data() as usize) {
                    *sent = usize::try_from(answer.result()).unwrap_or(0);
                }
                unanswered -= 1;
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
