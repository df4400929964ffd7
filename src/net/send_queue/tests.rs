use std::io::Read as _;

use super::*;
use crate::protocol::CloseCode;

fn without_socket(bound: usize) -> SendQueue {
    SendQueue::new(None, bound)
}

fn drain(outbound: &SendQueue) -> Vec<u8> {
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
    assert_eq!(outbound.ending().map(|ending| ending.close), Some(CloseCode::TryLater));
    outbound.push(Bytes::from_static(b"e"));
    assert_eq!(drain(&outbound)[0], 0x88);
}

#[test]
fn who_is_cut_off_gets_nothing_but_the_goodbye() {
    let outbound = without_socket(100);
    outbound.push(Bytes::from_static(b"secret"));
    let ending = CloseReason { close: CloseCode::Forbidden, cause: "kicked" };
    outbound.cut_off(ending, "bye");
    outbound.push(Bytes::from_static(b"later"));
    assert_eq!(drain(&outbound), framing::close(CloseCode::Forbidden, "bye"));
    assert_eq!(outbound.ending(), Some(ending));
}

#[test]
fn only_the_frame_that_is_partly_out_goes_out_whole() {
    let three = [framing::text("one"), framing::text("two"), framing::text("three")].concat();
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
        outbound.cut_off(CloseReason { close: CloseCode::Forbidden, cause: "kicked" }, "bye");
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

/// Two ends of a connection; the reading one blocks, for at most a while.
fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reader = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    reader.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let (writer, _) = listener.accept().unwrap();
    writer.set_nonblocking(true).unwrap();
    (TcpStream::from_std(writer).unwrap(), reader)
}

/// So many of them, ready to be written to, and the reading ends.
async fn pairs(count: usize) -> (Vec<SendQueue>, Vec<std::net::TcpStream>) {
    let (mut all, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (writer, reader) = pair();
        writer.writable().await.unwrap();
        all.push(SendQueue::new(Some(writer), 64 << 20));
        readers.push(reader);
    }
    (all, readers)
}

#[tokio::test]
async fn what_is_for_many_reaches_each_whatever_its_socket_takes() {
    // Little in each way, where the system has both, and much.
    let much = numbered(BYTES_IN_PAGES as u32 + 1);
    assert!(SharedPages::of(&much).is_some());
    for (piece, mut ring) in [
        (Bytes::from_static(b"for all"), None),
        (Bytes::from_static(b"for all"), UringSender::new()),
        (much, UringSender::new()),
    ] {
        // For more than one call: most are ready, two are full, one is over TLS, in one
        // something waits, one is being ended and one is gone.
        let (mut all, mut readers) = pairs(2 * TOGETHER + 6).await;
        // What fills two of them, so that the last is taken in part.
        let large = numbered(100_003);
        let mut before = 0;
        while all[3].blocked_since().is_none() || all[4].blocked_since().is_none() {
            SendQueue::send_to_all(&[&all[3], &all[4]], &large, &mut ring);
            before += 1;
        }
        all[5] = without_socket(4 * piece.len());
        all[7].push(Bytes::from_static(b"before "));
        all[9].end(CloseReason { close: CloseCode::Forbidden, cause: "kicked" }, "bye");
        readers[11] = pair().1;
        // One that is gone answers the first write with a reset.
        while !all[11].is_dead() {
            all[11].send(&piece);
            tokio::task::yield_now().await;
        }
        let waits: usize = all[3].waiting_bytes();
        for _ in 0..3 {
            let everybody: Vec<&SendQueue> = all.iter().collect();
            SendQueue::send_to_all(&everybody, &piece, &mut ring);
        }
        assert_eq!(all[3].waiting_bytes(), waits + 3 * piece.len());
        assert!(drain(&all[5]) == piece.repeat(3));
        assert!(all[11].is_dead() && all[11].waiting_bytes() == 0);
        for (number, (one, reader)) in all.iter().zip(readers).enumerate() {
            let expected = match number {
                5 | 11 => continue,
                // The full ones go on where they were.
                3 | 4 => [large.repeat(before), piece.repeat(3)].concat(),
                7 => [&b"before "[..], &piece.repeat(3)].concat(),
                9 => framing::close(CloseCode::Forbidden, "bye").to_vec(),
                _ => piece.repeat(3),
            };
            assert!(all_of(one, reader).await == expected, "{number}");
        }
    }
}

#[tokio::test]
async fn what_one_socket_does_not_take_reaches_no_other() {
    let (all, readers) = pairs(MANY).await;
    // Not a whole number of pages, so that every part begins elsewhere in one.
    let much = numbered(200_003);
    let mut rounds = 0;
    while all.iter().any(|one| one.blocked_since().is_none()) {
        let everybody: Vec<&SendQueue> = all.iter().collect();
        SendQueue::send_to_all(&everybody, &much, &mut None);
        rounds += 1;
    }
    for (one, reader) in all.iter().zip(readers) {
        assert!(all_of(one, reader).await == much.repeat(rounds));
    }
}

/// Everything that comes out at the other end, up to the end of it.
async fn all_of(one: &SendQueue, mut reader: std::net::TcpStream) -> Vec<u8> {
    let read = tokio::task::spawn_blocking(move || {
        let mut got = Vec::new();
        reader.read_to_end(&mut got).map(|_| got)
    });
    std::future::poll_fn(|cx| one.poll_write_out(cx)).await;
    socket2::SockRef::from(one.socket().unwrap()).shutdown(std::net::Shutdown::Write).unwrap();
    read.await.unwrap().unwrap()
}

/// Each byte tells its place.
fn numbered(length: u32) -> Bytes {
    (0..length).map(|place| (place % 251) as u8).collect()
}

#[tokio::test]
async fn what_is_left_to_the_task_goes_out_in_order_once_that_runs() {
    let (writer, mut reader) = pair();
    writer.writable().await.unwrap();
    let outbound = SendQueue::new(Some(writer), 100);
    outbound.flush_later();
    assert!(outbound.blocked_since().is_none(), "nothing waits");
    outbound.push(Bytes::from_static(b"one "));
    outbound.flush_later();
    outbound.send(&Bytes::from_static(b"two"));
    outbound.flush();
    assert_eq!(outbound.waiting_bytes(), 7);
    std::future::poll_fn(|cx| outbound.poll_write_out(cx)).await;
    assert!(outbound.is_drained() && outbound.blocked_since().is_none());
    let mut got = [0; 7];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"one two");
}
