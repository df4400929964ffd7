//! What waits for one reader: a queue of shared bytes, bounded, with the socket behind it.
//!
//! Whoever has something for a reader puts it in here and writes it at once, on the reader's own
//! socket, without waking the reader's task: a wake-up for each reader costs as much as the write.
//! Only where the socket is full does the connection's task go on, when the socket is writable
//! ([`Outbound::poll_write_out`]). Over TLS the bytes must pass through the one cipher state the
//! task owns, so there the task always writes.
//!
//! The bound is in bytes. A reader that stays behind it is not waited for: what waits is thrown
//! away, except a frame that is partly out, and the reader is told to come back later (1013).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::net::TcpStream;

use super::frames;
use crate::words::Close;

/// Pieces given to one `writev`; the kernel takes 1,024, and more than a few dozen win nothing.
const PIECES_PER_WRITE: usize = 64;

/// How a connection is being ended from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What the peer is told.
    pub close: Close,
    /// Why, for the log: a fixed word.
    pub cause: &'static str,
}

/// The queue of one reader.
pub struct Outbound {
    /// Where anybody may write directly; `None` where only the connection's task can.
    socket: Option<TcpStream>,
    /// Most bytes that may wait.
    bound: AtomicUsize,
    queue: Mutex<Queue>,
    task: AtomicWaker,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// How much of the first piece is out: the frame in which that ends must go out whole.
    out: usize,
    /// The socket took no more at that time; the connection's task goes on.
    blocked: Option<Instant>,
    ending: Option<Ending>,
    /// Nothing can be written any more.
    dead: bool,
}

impl Outbound {
    /// An empty queue of at most `bound` bytes before `socket`.
    pub fn new(socket: Option<TcpStream>, bound: usize) -> Self {
        Outbound {
            socket,
            bound: AtomicUsize::new(bound),
            queue: Mutex::default(),
            task: AtomicWaker::new(),
        }
    }

    /// The socket, where it is this queue's own.
    pub fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_ref()
    }

    /// Changes the bound for what comes from now on.
    pub fn set_bound(&self, bound: usize) {
        self.bound.store(bound, Ordering::Relaxed);
    }

    /// Puts bytes in the queue without writing; [`Self::flush`] must follow.
    pub fn push(&self, bytes: Bytes) {
        let mut queue = self.lock();
        self.admit(&mut queue, bytes);
    }

    /// Writes at once; only what the socket does not take waits in the queue.
    pub fn send(&self, bytes: &Bytes) {
        let mut queue = self.lock();
        let written = self.write_past(&mut queue, bytes);
        if written < bytes.len() {
            self.admit(&mut queue, bytes.clone());
            queue.advance(written);
            self.write_now(&mut queue);
        }
    }

    /// Writes what the socket takes.
    pub fn flush(&self) {
        let mut queue = self.lock();
        self.write_now(&mut queue);
    }

    /// Says goodbye after everything that waits. The first goodbye counts.
    pub fn end(&self, ending: Ending, reason: &str) {
        let mut queue = self.lock();
        if queue.ending.is_none() && !queue.dead {
            queue.put(frames::close(ending.close, reason));
            queue.ending = Some(ending);
            self.write_now(&mut queue);
        }
        drop(queue);
        self.task.wake();
    }

    /// Ends it at once: what waits is thrown away, except a frame that is partly out, and only the
    /// goodbye follows. Counts even after another goodbye that is not out yet.
    pub fn cut_off(&self, ending: Ending, reason: &str) {
        let mut queue = self.lock();
        if !queue.dead {
            queue.throw_away();
            queue.put(frames::close(ending.close, reason));
            queue.ending.get_or_insert(ending);
            self.write_now(&mut queue);
        }
        drop(queue);
        self.task.wake();
    }

    /// How this side ends it, if it does.
    pub fn ending(&self) -> Option<Ending> {
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
        if queue.bytes + bytes.len() > self.bound.load(Ordering::Relaxed) {
            // Perhaps only the socket has become writable since.
            self.write_now(queue);
            if queue.bytes + bytes.len() > self.bound.load(Ordering::Relaxed) {
                queue.give_up();
                self.task.wake();
                return;
            }
        }
        queue.put(bytes);
    }

    /// Writes past a queue in which nothing waits; says how much. What is left fits the bound.
    fn write_past(&self, queue: &mut Queue, bytes: &Bytes) -> usize {
        let Some(socket) = &self.socket else { return 0 };
        if !queue.is_idle() || bytes.len() > self.bound.load(Ordering::Relaxed) {
            return 0;
        }
        socket.try_write(bytes).unwrap_or(0)
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
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                    queue.blocked = Some(Instant::now());
                    self.task.wake();
                }
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
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

impl Queue {
    /// Nothing waits, and something may come.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.blocked.is_none() && self.ending.is_none() && !self.dead
    }

    fn put(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.waiting.push_back(bytes);
    }

    fn advance(&mut self, written: usize) {
        self.bytes -= written;
        self.out += written;
        while let Some(first) = self.waiting.front().filter(|first| first.len() <= self.out) {
            self.out -= first.len();
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 8 {
            self.waiting = VecDeque::new();
        }
    }

    /// Only a frame that is partly out stays: it must go out whole. What follows it in the same
    /// piece does not.
    fn throw_away(&mut self) {
        self.waiting.truncate(usize::from(self.out > 0));
        if let Some(first) = self.waiting.front_mut() {
            first.truncate(frames::end_of_frame(first, self.out));
        }
        self.advance(0);
        self.waiting.shrink_to_fit();
        self.bytes = self.waiting.iter().map(Bytes::len).sum::<usize>() - self.out;
    }

    fn give_up(&mut self) {
        let ending = Ending { close: Close::TryLater, cause: "slow_reader" };
        self.throw_away();
        self.put(frames::close(ending.close, "too slow to read; come back and resume"));
        self.ending = Some(ending);
    }

    fn die(&mut self) {
        self.waiting = VecDeque::new();
        (self.bytes, self.out) = (0, 0);
        self.blocked = None;
        self.dead = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_socket(bound: usize) -> Outbound {
        Outbound::new(None, bound)
    }

    fn drain(outbound: &Outbound) -> Vec<u8> {
        let mut out = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let _ = outbound.poll_write_through(&mut cx, |_, piece| {
            out.extend_from_slice(piece);
            Poll::Ready(Ok(piece.len()))
        });
        out
    }

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let outbound = without_socket(100);
        outbound.push(Bytes::from_static(b"ab"));
        outbound.send(&Bytes::from_static(b"cd"));
        assert_eq!(outbound.waiting_bytes(), 4);
        assert_eq!(drain(&outbound), b"abcd");
        assert!(outbound.is_drained());
    }

    #[test]
    fn over_the_bound_only_the_goodbye_is_left() {
        let outbound = without_socket(3);
        outbound.push(Bytes::from_static(b"ab"));
        outbound.push(Bytes::from_static(b"cd"));
        assert_eq!(outbound.ending().map(|ending| ending.close), Some(Close::TryLater));
        outbound.push(Bytes::from_static(b"e"));
        assert_eq!(drain(&outbound)[0], 0x88);
    }

    #[test]
    fn who_is_cut_off_gets_nothing_but_the_goodbye() {
        let outbound = without_socket(100);
        outbound.push(Bytes::from_static(b"secret"));
        let ending = Ending { close: Close::Forbidden, cause: "kicked" };
        outbound.cut_off(ending, "bye");
        outbound.push(Bytes::from_static(b"later"));
        assert_eq!(drain(&outbound), frames::close(Close::Forbidden, "bye"));
        assert_eq!(outbound.ending(), Some(ending));
    }

    #[test]
    fn only_the_frame_that_is_partly_out_goes_out_whole() {
        let three = [frames::text("one"), frames::text("two"), frames::text("three")].concat();
        for out in 0..=three.len() {
            let outbound = without_socket(three.len());
            outbound.push(Bytes::from(three.clone()));
            let mut got = Vec::new();
            let mut cx = Context::from_waker(Waker::noop());
            let _ = outbound.poll_write_through(&mut cx, |_, piece| match out - got.len() {
                0 => Poll::Pending,
                left => {
                    got.extend_from_slice(&piece[..left]);
                    Poll::Ready(Ok(left))
                }
            });
            outbound.cut_off(Ending { close: Close::Forbidden, cause: "kicked" }, "bye");
            got.extend(drain(&outbound));
            let whole = match out {
                0 => 0,
                1..=5 => 5,
                6..=10 => 10,
                _ => three.len(),
            };
            assert_eq!(got[..whole], three[..whole], "{out}");
            assert_eq!(got[whole], 0x88, "{out}: {got:?}");
            assert_eq!(outbound.waiting_bytes(), 0);
        }
    }
}
