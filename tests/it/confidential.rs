//! No key leaves over an unencrypted connection from outside.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::SOON;
use crate::support::server::Server;

/// Everything a client gets that comes by a proxy which adds `headers`, up to the end.
fn register_through_proxy(server: &Server, headers: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    stream.write_all(&[request.as_bytes(), headers, b"\r\n"].concat()).unwrap();
    let register = br#"{"type":"register","username":"Ana"}"#;
    // A masked text frame (RFC 6455, section 5.2) whose mask is nought, then a masked close.
    let mut frames = vec![0x81, 0x80 | register.len() as u8, 0, 0, 0, 0];
    frames.extend_from_slice(register);
    frames.extend_from_slice(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
    stream.write_all(&frames).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_key_leaves_only_where_the_way_is_encrypted_or_stays_on_this_machine() {
    let server = Server::start();
    for (headers, let_in) in [
        (&b""[..], true),
        (b"X-Forwarded-For: 127.0.0.1\r\n", true),
        (b"X-Forwarded-For: 203.0.113.7\r\n", false),
        (b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\n", false),
        (b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n", true),
        // What a stranger puts in front of the proxy's own word does not count.
        (b"X-Forwarded-For: 127.0.0.1, 203.0.113.7\r\nX-Forwarded-Proto: https, http\r\n", false),
        (b"X-Forwarded-For: 2001:db8::1\r\n", false),
        (b"X-Forwarded-For: 203.0.113.7:4711\r\n", false),
        // Nor does what is no text at all, or no address, hide the proxy's word or stand for this machine.
        (b"X-Forwarded-For: \xff, 203.0.113.7\r\n", false),
        (b"X-Forwarded-For: 127.0.0.1, \xff\r\n", false),
        (b"X-Forwarded-For: 127.0.0.1, unknown\r\n", false),
        // The proxy says that it was not encrypted, and not for whom.
        (b"X-Forwarded-Proto: http\r\n", false),
        (b"X-Forwarded-Proto: https\r\n", true),
        (b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n", true),
    ] {
        let answer = register_through_proxy(&server, headers);
        let headers = headers.escape_ascii();
        assert!(answer.starts_with("HTTP/1.1 101"), "{headers}: {answer}");
        assert_eq!(answer.contains("encryption_key"), let_in, "{headers}: {answer}");
        assert_eq!(answer.contains("plaintext_refused"), !let_in, "{headers}: {answer}");
    }
    crate::support::eventually("each refusal is in the log", || {
        server.count("register_refused") == 9
    });
}

#[test]
fn an_operator_may_allow_it_in_so_many_words() {
    let server = Server::with("[listen]\nallow_plaintext = true\n").start();
    let answer = register_through_proxy(&server, b"X-Forwarded-For: 203.0.113.7\r\n");
    assert!(answer.contains("encryption_key"), "{answer}");
}
