use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpStream;

use super::queue::TASK_ENCRYPTS_BYTES;
use super::{CloseReason, SendQueue, SendQueueTotals, send_to_all};
use crate::net::framing;
use crate::net::tls_session::{Decrypted, MAX_RECORD_BYTES, TlsSession};
use crate::net::uring::{MAX_SOCKETS, UringSender};
use crate::protocol::CloseCode;

/// Returns the two sides of TLS after their handshake, in this version.
fn sides(
    version: &'static rustls::SupportedProtocolVersion,
) -> (ServerConnection, ClientConnection) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    loop {
        let mut records = Vec::new();
        if client.wants_write() {
            client.write_tls(&mut records).unwrap();
            let mut records = &records[..];
            while !records.is_empty() {
                server.read_tls(&mut records).unwrap();
                server.process_new_packets().unwrap();
            }
        } else if server.wants_write() {
            server.write_tls(&mut records).unwrap();
            read(&mut client, &records);
        } else {
            return (server, client);
        }
    }
}

/// Decrypts records; returns their bytes.
fn read(client: &mut ClientConnection, mut records: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !records.is_empty() {
        client.read_tls(&mut records).unwrap();
        client.process_new_packets().unwrap();
        let _ = client.reader().read_to_end(&mut out);
    }
    out
}

/// The client of a queue.
struct Reader {
    tls: ClientConnection,
    socket: std::net::TcpStream,
}

/// Returns a queue over TLS, and its client.
async fn pair(totals: &Arc<SendQueueTotals>) -> (SendQueue, Reader) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (writer, _) = listener.accept().unwrap();
    writer.set_nonblocking(true).unwrap();
    let writer = TcpStream::from_std(writer).unwrap();
    writer.writable().await.unwrap();
    let (server, tls) = sides(&rustls::version::TLS13);
    let queue = SendQueue::new(Some(writer), 64 << 20, totals.clone());
    (queue.with_tls(TlsSession::new(server)), Reader { tls, socket })
}

/// Flushes the queue, ends TLS and the socket, and returns the bytes that the client has received.
async fn read_all(queue: &SendQueue, mut reader: Reader) -> Vec<u8> {
    let read = tokio::task::spawn_blocking(move || {
        let mut records = Vec::new();
        reader.socket.read_to_end(&mut records).unwrap();
        let mut out = read(&mut reader.tls, &records);
        reader.tls.reader().read_to_end(&mut out).expect("a close_notify alert at the end");
        out
    });
    std::future::poll_fn(|cx| queue.poll_flush(cx)).await;
    queue.close_tls();
    queue.close_tls();
    std::future::poll_fn(|cx| queue.poll_flush(cx)).await;
    socket2::SockRef::from(queue.socket().unwrap()).shutdown(std::net::Shutdown::Write).unwrap();
    read.await.unwrap()
}

/// Returns bytes that differ by position.
fn numbered(length: usize) -> Bytes {
    (0..length).map(|position| (position % 251) as u8).collect()
}

#[tokio::test]
async fn every_client_gets_every_frame_in_order_over_tls() {
    let large = numbered(3 * TASK_ENCRYPTS_BYTES);
    let short = Bytes::from_static(b"for all");
    for (frame, mut uring) in
        [(&short, None), (&short, UringSender::new()), (&large, None), (&large, UringSender::new())]
    {
        let totals = Arc::<SendQueueTotals>::default();
        let (mut queues, mut readers) = (Vec::new(), Vec::new());
        for _ in 0..MAX_SOCKETS + 6 {
            let (queue, reader) = pair(&totals).await;
            queues.push(queue);
            readers.push(reader);
        }
        // Two sockets are full, one queue has pending bytes, and one is closed.
        let filler = numbered(TASK_ENCRYPTS_BYTES - 1);
        let mut fillers = 0;
        while queues[3].blocked_since().is_none() || queues[4].blocked_since().is_none() {
            send_to_all(&[&queues[3], &queues[4]], &filler, &mut uring);
            fillers += 1;
        }
        assert!(queues[3].pending_bytes() > 0);
        queues[7].push(Bytes::from_static(b"before "));
        queues[9].close(CloseReason { close: CloseCode::Forbidden, cause: "kicked" }, "bye");
        for _ in 0..3 {
            let all: Vec<&SendQueue> = queues.iter().collect();
            send_to_all(&all, frame, &mut uring);
        }
        assert_eq!(totals.bytes(), queues.iter().map(SendQueue::pending_bytes).sum::<usize>());
        for (index, (queue, reader)) in queues.iter().zip(readers).enumerate() {
            let expected = match index {
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
async fn an_evicted_client_gets_whole_frames_and_the_close_frame_over_tls() {
    let (queue, reader) = pair(&Arc::default()).await;
    let text = "x".repeat(50_000);
    let frame = framing::text(&text);
    let mut frames = 0;
    while queue.pending_bytes() < 3 * frame.len() {
        queue.push(frame.clone());
        queue.flush();
        frames += 1;
    }
    queue.evict(CloseReason { close: CloseCode::Forbidden, cause: "kicked" }, "bye");
    assert!(queue.pending_bytes() < 3 * frame.len(), "what is not encrypted is discarded");
    let got = read_all(&queue, reader).await;
    let close = framing::close(CloseCode::Forbidden, "bye");
    let whole = got.strip_suffix(&close[..]).expect("the close frame comes last");
    assert!(whole.len() % frame.len() == 0 && whole == frame.repeat(whole.len() / frame.len()));
    assert!(whole.len() < frames * frame.len(), "something was discarded");
}

#[tokio::test]
async fn a_lost_connection_keeps_nothing() {
    let totals = Arc::<SendQueueTotals>::default();
    let (queue, reader) = pair(&totals).await;
    while queue.blocked_since().is_none() {
        queue.send(&numbered(1000));
    }
    assert!(totals.bytes() > 0);
    drop(reader);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !queue.is_disconnected() && Instant::now() < deadline {
        std::future::poll_fn(|cx| queue.poll_flush(cx)).await;
        queue.send(&numbered(1000));
    }
    assert!(queue.is_disconnected() && queue.is_drained());
    assert_eq!((totals.bytes(), totals.waiting()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn records_in_any_parts_are_decrypted(
        lengths in prop::collection::vec(0_usize..40_000, 1..5),
        cuts in prop::collection::vec(1_usize..30_000, 1..20),
        tls12: bool,
    ) {
        let version = if tls12 { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
        let (server, mut client) = sides(version);
        let queue = SendQueue::new(None, 100, Arc::default()).with_tls(TlsSession::new(server));
        let (mut sent, mut records) = (Vec::new(), Vec::new());
        for length in lengths {
            let bytes = numbered(length);
            client.writer().write_all(&bytes).unwrap();
            while client.wants_write() {
                client.write_tls(&mut records).unwrap();
            }
            sent.extend_from_slice(&bytes);
        }
        client.send_close_notify();
        client.write_tls(&mut records).unwrap();
        let mut into = vec![0; 30_000 + MAX_RECORD_BYTES];
        let (mut got, mut rest, mut cuts) = (Vec::new(), &records[..], cuts.into_iter().cycle());
        let end = loop {
            let (part, more) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            rest = more;
            match queue.decrypt(part, &mut into).unwrap() {
                Decrypted::Bytes(count) => got.extend_from_slice(&into[..count]),
                end @ Decrypted::End => break end,
            }
        };
        prop_assert_eq!(end, Decrypted::End);
        prop_assert!(rest.is_empty() && got == sent);
    }
}

#[test]
fn a_record_that_was_changed_is_refused_with_an_alert() {
    let (server, mut client) = sides(&rustls::version::TLS13);
    let queue = SendQueue::new(None, 100, Arc::default()).with_tls(TlsSession::new(server));
    client.writer().write_all(b"hello").unwrap();
    let mut records = Vec::new();
    client.write_tls(&mut records).unwrap();
    *records.last_mut().unwrap() ^= 1;
    assert!(queue.decrypt(&records, &mut vec![0; MAX_RECORD_BYTES * 2]).is_err());
    assert!(queue.pending_bytes() > 0, "the alert");
}
