//! What waits for one reader: a queue of shared bytes, bounded, with the socket behind it.
//!
//! Whoever has something for a reader puts it in here and writes it at once, on the reader's own
//! socket, without waking the reader's task: a wake-up for each reader costs as much as the write.
//! Only where the socket is full does the connection's task go on, when the socket is writable
//! ([`SendQueue::poll_write_out`]). Over TLS the bytes must pass through the one cipher state the
//! task owns, so there the task always writes.
//!
//! The bound is in bytes. A reader that stays behind it is not waited for: what waits is thrown
//! away, except a frame that is partly out, and the reader is told to come back later (1013).

mod queue;

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::io::Interest;
use tokio::net::TcpStream;

pub use queue::CloseReason;
use queue::Queue;

use super::framing;
use super::shared_pages::SharedPages;
use super::uring::{TOGETHER, UringSender};

/// Pieces given to one `writev`; the kernel takes 1,024, and more than a few dozen win nothing.
const PIECES_PER_WRITE: usize = 64;

/// Bytes handed to the system in one call for many sockets: their queues are locked meanwhile.
const BYTES_TOGETHER: usize = 256 * 1024;

/// So much for so many goes out without being copied for each; for less that costs more.
const BYTES_IN_PAGES: usize = 24 * 1024;
const MANY: usize = 8;

/// The queue of one reader.
pub struct SendQueue {
    /// Where anybody may write directly; `None` where only the connection's task can.
    socket: Option<TcpStream>,
    queue: Mutex<Queue>,
    task: AtomicWaker,
}

impl SendQueue {
    /// An empty queue of at most `bound` bytes before `socket`.
    pub fn new(socket: Option<TcpStream>, bound: usize) -> Self {
        SendQueue {
            socket,
            queue: Mutex::new(Queue { bound, ..Queue::default() }),
            task: AtomicWaker::new(),
        }
    }

    /// The socket, where it is this queue's own.
    pub fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_ref()
    }

    /// Changes the bound for what comes from now on.
    pub fn set_bound(&self, bound: usize) {
        self.lock().bound = bound;
    }

    /// Puts bytes in the queue without writing; [`Self::flush`] must follow.
    pub fn push(&self, bytes: Bytes) {
        let mut queue = self.lock();
        self.admit(&mut queue, bytes);
    }

    /// Writes at once; only what the socket does not take waits in the queue.
    pub fn send(&self, bytes: &Bytes) {
        self.send_by(bytes, |socket| socket.try_write(bytes));
    }

    /// The same, where the bytes are in pages too.
    fn send_pages(&self, pages: &mut SharedPages, bytes: &Bytes) {
        self.send_by(bytes, |socket| {
            socket.try_io(Interest::WRITABLE, || pages.send(socket, bytes.len()))
        });
    }

    fn send_by(&self, bytes: &Bytes, write: impl FnOnce(&TcpStream) -> io::Result<usize>) {
        let mut queue = self.lock();
        let socket = self.open_for(&queue, bytes);
        let sent = socket.and_then(|socket| write(socket).ok()).unwrap_or(0);
        self.keep_rest(&mut queue, bytes, sent);
    }

    /// The same bytes for many, each once, as [`Self::send`] to every one of them; but much is not
    /// copied for each, and with less one system call is for many sockets, where the system has
    /// that. A ring that fails is given up.
    pub fn send_to_all(all: &[&SendQueue], bytes: &Bytes, ring: &mut Option<UringSender>) {
        if bytes.len() >= BYTES_IN_PAGES
            && all.iter().filter(|one| one.socket.is_some()).nth(MANY - 1).is_some()
            && let Some(mut pages) = SharedPages::of(bytes)
        {
            return all.iter().for_each(|one| one.send_pages(&mut pages, bytes));
        }
        let together = (BYTES_TOGETHER / bytes.len().max(1)).clamp(1, TOGETHER);
        for some in all.chunks(together) {
            match ring {
                Some(usable) if some.len() > 1 => {
                    if Self::send_together(some, bytes, usable).is_err() {
                        *ring = None;
                    }
                }
                _ => some.iter().for_each(|one| one.send(bytes)),
            }
        }
    }

    fn send_together(some: &[&SendQueue], bytes: &Bytes, ring: &mut UringSender) -> io::Result<()> {
        // Nobody else ever holds two of these, so nobody waits for another here.
        let mut queues: Vec<_> = some.iter().map(|one| one.lock()).collect();
        let sockets: Vec<_> = some
            .iter()
            .zip(&queues)
            .map(|(one, queue)| one.open_for(queue, bytes).map(AsFd::as_fd))
            .collect();
        let mut sent = [0; TOGETHER];
        let outcome = ring.send(&sockets, bytes, &mut sent);
        for ((one, queue), sent) in some.iter().zip(&mut queues).zip(sent) {
            one.keep_rest(queue, bytes, sent);
        }
        outcome
    }

    /// Writes what the socket takes.
    pub fn flush(&self) {
        let mut queue = self.lock();
        self.write_now(&mut queue);
    }

    /// Leaves the writing to the connection's task: for a caller with something more urgent to do.
    pub fn flush_later(&self) {
        let mut queue = self.lock();
        if !queue.waiting.is_empty() && self.socket.is_some() && !queue.dead {
            queue.blocked.get_or_insert_with(Instant::now);
        }
        drop(queue);
        self.task.wake();
    }

    /// Says goodbye after everything that waits. The first goodbye counts.
    pub fn end(&self, ending: CloseReason, reason: &str) {
        let mut queue = self.lock();
        if queue.ending.is_none() && !queue.dead {
            queue.put(framing::close(ending.close, reason));
            queue.ending = Some(ending);
            self.write_now(&mut queue);
        }
        drop(queue);
        self.task.wake();
    }

    /// Ends it at once: what waits is thrown away, except a frame that is partly out, and only the
    /// goodbye follows. Counts even after another goodbye that is not out yet.
    pub fn cut_off(&self, ending: CloseReason, reason: &str) {
        let mut queue = self.lock();
        if !queue.dead {
            queue.throw_away();
            queue.put(framing::close(ending.close, reason));
            queue.ending.get_or_insert(ending);
            self.write_now(&mut queue);
        }
        drop(queue);
        self.task.wake();
    }

    /// How this side ends it, if it does.
    pub fn ending(&self) -> Option<CloseReason> {
        self.lock().ending
    }

    /// Whether everything is out, or never will be.
    pub fn is_drained(&self) -> bool {
        let queue = self.lock();
        queue.waiting.is_empty() || queue.dead
    }

    /// Whether nothing can be written any more.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Bytes that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Since when the socket has taken nothing, if something waits.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.lock().blocked
    }

    /// Wakes the connection's task to look again.
    pub fn wake(&self) {
        self.task.wake();
    }

    /// The connection's task calls this whenever it runs: it is woken by [`Self::wake`].
    pub fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Goes on writing where the socket was full. `Ready` when nothing is left to do for now.
    pub fn poll_write_out(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(socket) = &self.socket else { return Poll::Ready(()) };
        loop {
            if self.blocked_since().is_none() {
                return Poll::Ready(());
            }
            match socket.poll_write_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => {
                    let mut queue = self.lock();
                    let before = queue.bytes;
                    let since = queue.blocked.take();
                    self.write_now(&mut queue);
                    if queue.bytes == before && queue.blocked.is_some() {
                        queue.blocked = since;
                    }
                }
            }
        }
    }

    /// The same for a stream that only the task can write to: `write` is given the next piece.
    pub fn poll_write_through(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<()> {
        let mut queue = self.lock();
        while let Some(piece) = queue.waiting.front().cloned() {
            if queue.dead {
                break;
            }
            match write(cx, &piece[queue.out..]) {
                Poll::Pending => {
                    queue.blocked.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(written)) if written > 0 => {
                    queue.blocked = None;
                    queue.advance(written);
                }
                Poll::Ready(_) => queue.die(),
            }
        }
        queue.blocked = None;
        Poll::Ready(())
    }

    /// Nothing can be written any more: everything that waits is let go.
    pub fn kill(&self) {
        self.lock().die();
        self.task.wake();
    }

    fn admit(&self, queue: &mut Queue, bytes: Bytes) {
        if queue.ending.is_some() || queue.dead {
            return;
        }
        if !queue.has_room_for(&bytes) {
            // Perhaps only the socket has become writable since.
            self.write_now(queue);
            if !queue.has_room_for(&bytes) {
                queue.give_up();
                self.task.wake();
                return;
            }
        }
        queue.put(bytes);
    }

    /// The socket, where these bytes may go past the queue because nothing waits in it. What the
    /// socket does not take of them fits the bound.
    fn open_for(&self, queue: &Queue, bytes: &Bytes) -> Option<&TcpStream> {
        self.socket.as_ref().filter(|_| queue.is_idle() && queue.has_room_for(bytes))
    }

    /// What of these bytes went past the queue is done; the rest waits.
    fn keep_rest(&self, queue: &mut Queue, bytes: &Bytes, sent: usize) {
        if sent < bytes.len() {
            self.admit(queue, bytes.clone());
            queue.advance(sent);
            self.write_now(queue);
        }
    }

    fn write_now(&self, queue: &mut Queue) {
        let Some(socket) = &self.socket else {
            if !queue.waiting.is_empty() {
                self.task.wake();
            }
            return;
        };
        while !queue.waiting.is_empty() && queue.blocked.is_none() && !queue.dead {
            let outcome = if queue.waiting.len() == 1 {
                socket.try_write(&queue.waiting[0][queue.out..])
            } else {
                let mut pieces = [IoSlice::new(&[]); PIECES_PER_WRITE];
                let mut count = 0;
                let mut out = queue.out;
                for (slot, piece) in pieces.iter_mut().zip(&queue.waiting) {
                    *slot = IoSlice::new(&piece[out..]);
                    (out, count) = (0, count + 1);
                }
                socket.try_write_vectored(&pieces[..count])
            };
            match outcome {
                Ok(written) if written > 0 => queue.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    queue.blocked = Some(Instant::now());
                    self.task.wake();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    queue.die();
                    self.task.wake();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics half-way; after a panic elsewhere the queue is still whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
