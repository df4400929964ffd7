use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::fan_out::{SHARED_PAGES_MIN_BYTES, SHARED_PAGES_MIN_SOCKETS};
use super::{CloseReason, SendQueue, SendQueueTotals, send_to_all};
use crate::net::framing;
use crate::net::shared_pages::SharedPages;
use crate::net::uring::{MAX_SOCKETS, UringSender};
use crate::protocol::CloseCode;

fn without_socket(max_bytes: usize) -> SendQueue {
    SendQueue::new(None, max_bytes, Arc::default())
}

/// Takes at most `max` bytes, as a socket would.
fn take(queue: &SendQueue, max: usize) -> Vec<u8> {
    let mut pending = queue.lock();
    let (written, bytes) = (pending.written, pending.bytes);
    let mut out = pending.pieces.iter().flatten().copied().skip(written).collect::<Vec<u8>>();
    assert_eq!(out.len(), bytes);
    out.truncate(max);
    pending.advance(out.len());
    pending.blocked_since = (pending.bytes > 0).then(Instant::now);
    out
}

fn drain(queue: &SendQueue) -> Vec<u8> {
    take(queue, usize::MAX)
}

#[test]
fn frames_are_written_in_order() {
    let queue = without_socket(100);
    queue.push(Bytes::from_static(b"ab"));
    queue.send(&Bytes::from_static(b"cd"));
    assert_eq!(queue.pending_bytes(), 4);
    assert_eq!(drain(&queue), b"abcd");
    assert!(queue.is_drained());
}

#[test]
fn a_frame_over_the_bound_leaves_only_a_close_frame() {
    let queue = without_socket(3);
    for _ in 0..6 {
        queue.push(Bytes::from_static(b"ab"));
        assert_eq!(queue.close_reason(), None, "up to four times the bound");
    }
    queue.push(Bytes::from_static(b"c"));
    assert_eq!(queue.close_reason().map(|ending| ending.close), Some(CloseCode::TryLater));
    queue.push(Bytes::from_static(b"e"));
    assert_eq!(drain(&queue)[0], 0x88);
}

#[test]
fn above_the_bound_only_a_client_that_takes_nothing_is_closed() {
    let set_back = |queue: &SendQueue| {
        let mut pending = queue.lock();
        pending.blocked_since = pending.blocked_since.map(|since| since - Duration::from_secs(3));
    };
    let take_one = |queue: &SendQueue| drop(take(queue, 1));
    let queue = without_socket(10);
    queue.push(Bytes::from_static(&[b'a'; 20]));
    for _ in 0..5 {
        // An earlier write was long ago, but this one has succeeded.
        set_back(&queue);
        take_one(&queue);
        queue.push(Bytes::from_static(b"b"));
        assert_eq!(queue.close_reason(), None, "the client reads");
    }
    while queue.pending_bytes() > 10 {
        take_one(&queue);
    }
    set_back(&queue);
    queue.push(Bytes::from_static(b"c"));
    assert_eq!(queue.close_reason(), None, "the queue was within the bound");
    queue.push(Bytes::from_static(b"d"));
    assert_eq!(queue.close_reason().map(|ending| ending.close), Some(CloseCode::TryLater));
}

#[test]
fn evict_discards_pending_frames_and_sends_a_close_frame() {
    let queue = without_socket(100);
    queue.push(Bytes::from_static(b"secret"));
    let ending = CloseReason { close: CloseCode::Forbidden, cause: "kicked" };
    queue.evict(ending, "bye");
    queue.push(Bytes::from_static(b"later"));
    assert_eq!(drain(&queue), framing::close(CloseCode::Forbidden, "bye"));
    assert_eq!(queue.close_reason(), Some(ending));
}

#[test]
fn evict_completes_only_a_partly_written_frame() {
    let three = [framing::text("one"), framing::text("two"), framing::text("three")].concat();
    for written in 0..=three.len() {
        let queue = without_socket(three.len());
        queue.push(Bytes::from(three.clone()));
        let mut got = take(&queue, written);
        queue.evict(CloseReason { close: CloseCode::Forbidden, cause: "kicked" }, "bye");
        got.extend(drain(&queue));
        let whole = match written {
            0 => 0,
            1..=5 => 5,
            6..=10 => 10,
            _ => three.len(),
        };
        assert_eq!(got[..whole], three[..whole], "{written}");
        assert_eq!(got[whole], 0x88, "{written}: {got:?}");
        assert_eq!(queue.pending_bytes(), 0);
    }
}

/// Returns both ends of a connection; the reader blocks, with a timeout.
fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reader = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    reader.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let (writer, _) = listener.accept().unwrap();
    writer.set_nonblocking(true).unwrap();
    (TcpStream::from_std(writer).unwrap(), reader)
}

/// Returns `count` queues with writable sockets, and the readers at the other ends.
async fn pairs(
    count: usize,
    totals: &Arc<SendQueueTotals>,
) -> (Vec<SendQueue>, Vec<std::net::TcpStream>) {
    let (mut queues, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (writer, reader) = pair();
        writer.writable().await.unwrap();
        queues.push(SendQueue::new(Some(writer), 64 << 20, totals.clone()));
        readers.push(reader);
    }
    (queues, readers)
}

#[tokio::test]
async fn send_to_all_reaches_every_queue_in_any_state() {
    // A short frame without and with io_uring, and one large enough for shared pages.
    let large_frame = numbered(SHARED_PAGES_MIN_BYTES as u32 + 1);
    assert!(SharedPages::new(&large_frame).is_some());
    for (frame, mut uring) in [
        (Bytes::from_static(b"for all"), None),
        (Bytes::from_static(b"for all"), UringSender::new()),
        (large_frame, UringSender::new()),
    ] {
        let totals = Arc::<SendQueueTotals>::default();
        // More than one batch: most sockets are writable, two are full, one queue has no socket, one
        // has pending bytes, one is closed and one is disconnected.
        let (mut queues, mut readers) = pairs(2 * MAX_SOCKETS + 6, &totals).await;
        // Fills two sockets; the last write to each is partial.
        let filler = numbered(100_003);
        let mut fillers = 0;
        while queues[3].blocked_since().is_none() || queues[4].blocked_since().is_none() {
            send_to_all(&[&queues[3], &queues[4]], &filler, &mut uring);
            fillers += 1;
        }
        queues[5] = without_socket(4 * frame.len());
        queues[7].push(Bytes::from_static(b"before "));
        queues[9].close(CloseReason { close: CloseCode::Forbidden, cause: "kicked" }, "bye");
        readers[11] = pair().1;
        // The closed reader answers the first write with a reset.
        while !queues[11].is_disconnected() {
            queues[11].send(&frame);
            tokio::task::yield_now().await;
        }
        let before: usize = queues[3].pending_bytes();
        for _ in 0..3 {
            let all: Vec<&SendQueue> = queues.iter().collect();
            send_to_all(&all, &frame, &mut uring);
        }
        assert_eq!(queues[3].pending_bytes(), before + 3 * frame.len());
        assert_totals(&totals, queues.iter().enumerate().filter(|(index, _)| *index != 5));
        assert!(drain(&queues[5]) == frame.repeat(3));
        assert!(queues[11].is_disconnected() && queues[11].pending_bytes() == 0);
        for (index, (queue, reader)) in queues.iter().zip(readers).enumerate() {
            let expected = match index {
                5 | 11 => continue,
                3 | 4 => [filler.repeat(fillers), frame.repeat(3)].concat(),
                7 => [&b"before "[..], &frame.repeat(3)].concat(),
                9 => framing::close(CloseCode::Forbidden, "bye").to_vec(),
                _ => frame.repeat(3),
            };
            assert!(read_all(queue, reader).await == expected, "{index}");
        }
        assert_eq!((totals.bytes(), totals.waiting()), (0, 0));
    }
}

#[tokio::test]
async fn bytes_refused_by_one_socket_reach_no_other() {
    let (queues, readers) = pairs(SHARED_PAGES_MIN_SOCKETS, &Arc::default()).await;
    // Not a whole number of pages, so that each write starts at another offset in a page.
    let frame = numbered(200_003);
    let mut rounds = 0;
    while queues.iter().any(|queue| queue.blocked_since().is_none()) {
        let all: Vec<&SendQueue> = queues.iter().collect();
        send_to_all(&all, &frame, &mut None);
        rounds += 1;
    }
    for (queue, reader) in queues.iter().zip(readers) {
        assert!(read_all(queue, reader).await == frame.repeat(rounds));
    }
}

/// The totals must be the sums over the queues.
fn assert_totals<'a>(
    totals: &SendQueueTotals,
    queues: impl Iterator<Item = (usize, &'a SendQueue)>,
) {
    let pending: Vec<usize> = queues.map(|(_, queue)| queue.pending_bytes()).collect();
    let waiting = pending.iter().filter(|bytes| **bytes > 0).count();
    assert!(waiting > 0);
    assert_eq!((totals.bytes(), totals.waiting()), (pending.iter().sum(), waiting));
}

#[test]
fn the_totals_follow_every_queue_to_its_end() {
    let totals = Arc::<SendQueueTotals>::default();
    let queues = [4, 4, 1000].map(|bound| SendQueue::new(None, bound, totals.clone()));
    for queue in &queues {
        // The last frame is too much for the first two, and only their close frames stay.
        (0..5).for_each(|_| queue.push(Bytes::from_static(b"abcd")));
    }
    assert!(queues[0].close_reason().is_some() && queues[2].close_reason().is_none());
    assert_totals(&totals, queues.iter().enumerate());
    let [first, second, third] = queues;
    drain(&first);
    second.disconnect();
    assert_eq!((totals.bytes(), totals.waiting()), (20, 1));
    drop(third);
    assert_eq!((totals.bytes(), totals.waiting()), (0, 0));
}

/// Flushes the queue, shuts the socket down and returns what the reader received.
async fn read_all(queue: &SendQueue, mut reader: std::net::TcpStream) -> Vec<u8> {
    let read = tokio::task::spawn_blocking(move || {
        let mut got = Vec::new();
        reader.read_to_end(&mut got).map(|_| got)
    });
    std::future::poll_fn(|cx| queue.poll_flush(cx)).await;
    socket2::SockRef::from(queue.socket().unwrap()).shutdown(std::net::Shutdown::Write).unwrap();
    read.await.unwrap().unwrap()
}

/// Returns bytes that differ by position.
fn numbered(length: u32) -> Bytes {
    (0..length).map(|position| (position % 251) as u8).collect()
}

#[tokio::test]
async fn flush_later_leaves_writing_to_the_task_in_order() {
    let (writer, mut reader) = pair();
    writer.writable().await.unwrap();
    let queue = SendQueue::new(Some(writer), 100, Arc::default());
    queue.flush_later();
    assert!(queue.blocked_since().is_none(), "nothing is pending");
    queue.push(Bytes::from_static(b"one "));
    queue.flush_later();
    queue.send(&Bytes::from_static(b"two"));
    queue.flush();
    assert_eq!(queue.pending_bytes(), 7);
    std::future::poll_fn(|cx| queue.poll_flush(cx)).await;
    assert!(queue.is_drained() && queue.blocked_since().is_none());
    let mut got = [0; 7];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"one two");
}
