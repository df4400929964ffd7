//! No key leaves over an unencrypted connection beyond loopback, nor through a proxy that doesn't vouch for its
//! client's encryption.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::server::Server;
use crate::support::{Mode, TIMEOUT, eventually, in_both_modes};

in_both_modes!(
    a_key_leaves_only_over_encryption_or_loopback,
    allow_plaintext_sends_keys_unencrypted,
);

/// Registers through a proxy that adds `headers`, and gives the whole answer.
async fn register_through_proxy(server: &Server, headers: &[u8]) -> String {
    let endpoint = server.endpoint();
    let mut stream = endpoint.stream().await.expect("a connection");
    let request = "GET / HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let token = endpoint.tokens.map(|tokens| tokens.of("Ana")).unwrap_or_default();
    let register = format!(r#"{{"type":"register","username":"Ana","access_token":"{token}"}}"#);
    // A masked text frame (RFC 6455, section 5.2) with a mask of zeros, then a masked close frame.
    assert!(register.len() < 126, "its length fits one byte");
    let head = [0x81, 0x80 | register.len() as u8, 0, 0, 0, 0];
    let close = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
    let all = [request.as_bytes(), headers, b"\r\n", &head, register.as_bytes(), &close].concat();
    stream.write_all(&all).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut answer)).await.expect("an end").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// With TLS too: the proxy's headers are about its client's connection, not about its own connection to the server.
async fn a_key_leaves_only_over_encryption_or_loopback(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    for (headers, let_in) in [
        (&b""[..], true),
        (b"X-Forwarded-For: 127.0.0.1\r\n", true),
        (b"X-Forwarded-For: 203.0.113.7\r\n", false),
        (b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\n", false),
        (b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n", true),
        // Entries before the proxy's own do not count, because the client can forge them.
        (b"X-Forwarded-For: 127.0.0.1, 203.0.113.7\r\nX-Forwarded-Proto: https, http\r\n", false),
        (b"X-Forwarded-For: 2001:db8::1\r\n", false),
        (b"X-Forwarded-For: 203.0.113.7:4711\r\n", false),
        // Neither do entries that are not text or no address: they hide no later entry and don't count as loopback.
        (b"X-Forwarded-For: \xff, 203.0.113.7\r\n", false),
        (b"X-Forwarded-For: 127.0.0.1, \xff\r\n", false),
        (b"X-Forwarded-For: 127.0.0.1, unknown\r\n", false),
        // The proxy gives the protocol and no client address.
        (b"X-Forwarded-Proto: http\r\n", false),
        (b"X-Forwarded-Proto: https\r\n", true),
        (b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n", true),
    ] {
        let answer = register_through_proxy(&server, headers).await;
        let headers = headers.escape_ascii();
        assert!(answer.starts_with("HTTP/1.1 101"), "{headers}: {answer}");
        assert_eq!(answer.contains("encryption_key"), let_in, "{headers}: {answer}");
        assert_eq!(answer.contains("plaintext_refused"), !let_in, "{headers}: {answer}");
    }
    eventually("each refusal is in the log", || server.event_count("register_refused") == 9);
}

async fn allow_plaintext_sends_keys_unencrypted(mode: Mode) {
    let server = Server::with("[listen]\nallow_plaintext = true\n").mode(mode).start();
    let answer = register_through_proxy(&server, b"X-Forwarded-For: 203.0.113.7\r\n").await;
    assert!(answer.contains("encryption_key"), "{answer}");
}
