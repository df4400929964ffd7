//! No key leaves over an unencrypted connection from outside.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::SOON;
use crate::support::server::Server;

/// Everything a client gets that comes by a proxy which adds `headers`, up to the end.
fn register_through_proxy(server: &Server, headers: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
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
        ("", true),
        ("X-Forwarded-For: 127.0.0.1\r\n", true),
        ("X-Forwarded-For: 203.0.113.7\r\n", false),
        ("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\n", false),
        ("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n", true),
        // What a stranger puts in front of the proxy's own word does not count.
        ("X-Forwarded-For: 127.0.0.1, 203.0.113.7\r\nX-Forwarded-Proto: https, http\r\n", false),
        ("X-Forwarded-For: 2001:db8::1\r\n", false),
    ] {
        let answer = register_through_proxy(&server, headers);
        assert!(answer.starts_with("HTTP/1.1 101"), "{headers:?}: {answer}");
        assert_eq!(answer.contains("encryption_key"), let_in, "{headers:?}: {answer}");
        assert_eq!(answer.contains("plaintext_refused"), !let_in, "{headers:?}: {answer}");
    }
    crate::support::eventually("each refusal is in the log", || {
        server.count("register_refused") == 4
    });
}

#[test]
fn an_operator_may_allow_it_in_so_many_words() {
    let server = Server::with("[listen]\nallow_plaintext = true\n").start();
    let answer = register_through_proxy(&server, "X-Forwarded-For: 203.0.113.7\r\n");
    assert!(answer.contains("encryption_key"), "{answer}");
}
