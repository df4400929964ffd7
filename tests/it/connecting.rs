//! How the client connects: which answers end a run, which addresses and proxies it uses, and what it says.

use std::time::{Duration, Instant};

use crate::support::certificates::certificates;
use crate::support::client::{Client, command};
use crate::support::eventually;
use crate::support::front::Front;
use crate::support::server::Server;

/// An HTTP answer without a body.
fn answer(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Answers of things between the client and the server that pass once the server is there again.
fn passing_answers() -> Vec<Vec<u8>> {
    let statuses = ["404 Not Found", "301 Moved", "400 Bad Request", "407 Auth", "421 Misdirected"];
    let statuses = statuses.map(|status| answer(status, "Location: /\r\n").into_bytes());
    let garbage = [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"\x15\x03\x03\x00\x02\x02\x46", b""];
    statuses.into_iter().chain(garbage.map(<[u8]>::to_vec)).collect()
}

#[test]
fn once_registered_no_answer_of_a_tunnel_ends_a_sender_or_a_listener() {
    let server = Server::start();
    std::thread::scope(|scope| {
        for (number, wrong) in passing_answers().into_iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                let front = Front::before(server.address());
                let (url, room) = (format!("ws://{}", front.address()), format!("room-{number}"));
                let usual = [&url[..], "-r", &room];
                let listener =
                    Client::start(&[&usual[..], &["--listen", "--events", "-u", "ear"]].concat());
                let mut sender = Client::start(&[&usual[..], &["--timeout", "60s"]].concat());
                listener.wait_for("its own arrival", |frame| frame["type"] == "user_joined");
                sender.write("one\n");
                listener.wait_for_text("one");
                front.answer(&wrong);
                front.cut();
                sender.write("two\n");
                eventually("both meet the answer", || front.requests().len() >= 2);
                front.pass();
                listener.wait_for_text("two");
                let ended = sender.finish(Duration::from_secs(30));
                assert_eq!(ended.code, Some(0), "{}", ended.errors);
                let history = Client::pipe(&["history", "--url", &server.url(), "-r", &room], b"");
                assert_eq!(history.texts(), ["one", "two"]);
            });
        }
    });
}

#[test]
fn once_registered_401_and_403_end_a_run() {
    let server = Server::start();
    for (before, status) in ["401 Unauthorized", "403 Forbidden"].into_iter().enumerate() {
        let front = Front::before(server.address());
        let mut listener = Client::start(&[&format!("ws://{}", front.address()), "--listen"]);
        eventually("it is registered", || server.event_count("session_opened") > before);
        front.answer(answer(status, ""));
        front.cut();
        let ended = listener.wait_for_exit(Duration::from_secs(20));
        assert_eq!(ended.code, Some(77), "{status}: {}", ended.errors);
    }
}

#[test]
fn at_first_a_wrong_answer_ends_the_run_and_names_the_next_step() {
    let chat = "chat-instance: x\r\n";
    for (answer, code, words) in [
        (answer("404 Not Found", ""), 76, &["not a chat server", "404"][..]),
        (answer("403 Forbidden", ""), 77, &["refuses", "403"]),
        (
            answer("308 Permanent Redirect", "Location: https://chat.example/\r\n"),
            76,
            &["redirects", "308", "https://chat.example/"],
        ),
        (answer("426 Upgrade Required", chat), 76, &["does not pass on Upgrade", "docs/proxy.md"]),
        ("SSH-2.0-OpenSSH_9.2\r\n".into(), 76, &["not a chat server"]),
        ("\u{15}\u{3}\u{3}\0\u{2}\u{2}F".into(), 76, &["expects TLS", "wss://127.0.0.1"]),
    ] {
        let front = Front::answering(&answer);
        let ended = Client::pipe(&[&format!("ws://{}", front.address())], b"x\n");
        assert_eq!(ended.code, Some(code), "{answer}: {}", ended.errors);
        for word in words {
            assert!(ended.errors.contains(word), "{word}: {}", ended.errors);
        }
        assert_eq!(front.requests().len(), 1, "one attempt");
    }
}

#[test]
fn at_first_a_passing_answer_is_tried_again_until_the_timeout() {
    for status in
        ["408 Timeout", "421 Misdirected", "425 Early", "429 Many", "502 Bad", "530 ngrok"]
    {
        let front = Front::answering(answer(status, ""));
        let url = format!("ws://{}", front.address());
        let ended = Client::pipe(&[&url, "--timeout", "1s"], b"x\n");
        assert_eq!(ended.code, Some(69), "{status}: {}", ended.errors);
        assert!(ended.errors.contains("trying again"), "{}", ended.errors);
        assert!(front.requests().len() > 1, "{status}");
    }
}

#[test]
fn retry_after_is_heeded() {
    let front = Front::answering(answer("503 Busy", "Retry-After: 2\r\n"));
    let url = format!("ws://{}", front.address());
    let _client = Client::start(&[&url, "--timeout", "60s", "-l"]);
    eventually("two attempts", || front.requests().len() >= 2);
    let requests = front.requests();
    let pause = requests[1].at - requests[0].at;
    assert!(pause >= Duration::from_secs(2), "{pause:?}");
}

#[test]
fn the_scheme_that_a_port_expects_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let pair = certificates(folder.path());
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let config = format!("[listen.tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    let server = Server::with(&config).start();
    let nginx = crate::support::nginx::Nginx::in_front_of(server.address(), &[&pair]);
    for address in [server.address(), &nginx.address(0)] {
        let ended = Client::pipe(&[&format!("ws://{address}")], b"x\n");
        assert_eq!(ended.code, Some(76), "{}", ended.errors);
        let hint = format!("write wss://{address}");
        assert!(ended.errors.contains(&hint), "{}", ended.errors);
    }
    let plain = Server::start();
    let ended = Client::pipe(&[&format!("wss://{}", plain.address())], b"x\n");
    assert_eq!(ended.code, Some(76), "{}", ended.errors);
    let hint = format!("write ws://{}", plain.address());
    assert!(ended.errors.contains(&hint), "{}", ended.errors);
}

#[test]
fn a_proxy_without_the_upgrade_headers_is_told_apart_from_a_wrong_server() {
    let server = Server::start();
    let request = "GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n";
    for (rest, missing) in [
        ("", "Upgrade, Connection"),
        ("Connection: close\r\n", "Upgrade, Connection"),
        ("Connection: upgrade\r\n", "Upgrade"),
        ("Upgrade: websocket\r\n", "Connection"),
    ] {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(crate::support::TIMEOUT)).unwrap();
        stream.write_all(format!("{request}{rest}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let lower = answer.to_lowercase();
        assert!(lower.contains("\r\nchat-instance: "), "{rest}: {answer}");
        let header = format!("\r\nchat-missing: {}\r\n", missing.to_lowercase());
        assert!(lower.contains(&header), "{rest}: {answer}");
        // The client, in front of which a proxy does the same.
        let front = Front::answering(&answer);
        let ended = Client::pipe(&[&format!("ws://{}", front.address())], b"x\n");
        assert_eq!(ended.code, Some(76), "{}", ended.errors);
        let hint = format!("does not pass on {missing}; docs/proxy.md");
        assert!(ended.errors.contains(&hint), "{}", ended.errors);
    }
}

/// A server of the full protocol that does something with each session right after its `register`.
struct FakeServer {
    url: String,
    sessions: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

/// What a fake server sends after the `welcome`, and how it ends.
#[derive(Clone, Copy)]
enum Then {
    /// It drops the connection without any answer to `register`.
    DropUnanswered,
    /// It drops the connection.
    Drop,
    /// It closes the connection with this code.
    Close(u16),
    /// It answers each `history` with a page that is empty and has more.
    EmptyPages,
    /// It refuses the session with megabytes of control characters and a secret.
    LongError,
}

impl FakeServer {
    fn start(then: Then) -> FakeServer {
        let sessions = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let counter = sessions.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(session(stream, then, counter.clone()));
                }
            });
        });
        FakeServer { url, sessions }
    }

    fn sessions(&self) -> usize {
        self.sessions.load(std::sync::atomic::Ordering::Relaxed)
    }
}

async fn session(
    stream: tokio::net::TcpStream,
    then: Then,
    counter: std::sync::Arc<std::sync::atomic::AtomicUsize>,
) -> Option<()> {
    use futures_util::{SinkExt as _, StreamExt as _};
    use serde_json::json;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;
    let mut socket = tokio_tungstenite::accept_async(stream).await.ok()?;
    socket.next().await?.ok()?;
    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    if matches!(then, Then::DropUnanswered) {
        return None;
    }
    let welcome = json!({"type": "welcome", "protocol": 1, "session": "s", "username": "x",
        "verified": false, "server": "fake/1", "rooms": {"lobby": {"epoch": "e", "seq": 9}},
        "limits": {"message_chars": 9, "rate_messages": 9, "rate_per_ms": 9, "unacked": 9}});
    socket.send(Message::text(welcome.to_string())).await.ok()?;
    match then {
        Then::DropUnanswered | Then::Drop => return None,
        Then::Close(code) => {
            let close = CloseFrame { code: code.into(), reason: "".into() };
            socket.send(Message::Close(Some(close))).await.ok()?;
        }
        Then::LongError => {
            let text =
                format!("\u{1b}]0;owned\u{7} wss://bob:s3cr3t@host {}", "\u{9b}".repeat(3_000_000));
            let error = json!({"type": "error", "code": "forbidden", "message": text});
            socket.send(Message::text(error.to_string())).await.ok()?;
            let close = CloseFrame { code: 4003.into(), reason: "".into() };
            socket.send(Message::Close(Some(close))).await.ok()?;
        }
        Then::EmptyPages => {
            let page = json!({"type": "history", "room": "lobby", "messages": [], "more": true});
            while let Some(Ok(frame)) = socket.next().await {
                if frame.to_text().is_ok_and(|text| text.contains("\"history\"")) {
                    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    socket.send(Message::text(page.to_string())).await.ok()?;
                }
            }
        }
    }
    while let Some(Ok(_)) = socket.next().await {}
    Some(())
}

#[test]
fn a_server_that_ends_each_session_at_once_is_asked_ever_more_slowly() {
    for then in [Then::DropUnanswered, Then::Drop, Then::Close(1011), Then::Close(1013)] {
        let server = FakeServer::start(then);
        let client = Client::start(&[&server.url, "--listen"]);
        eventually("a session", || server.sessions() >= 1);
        let first = Instant::now();
        // With pauses that never grow there would be about 48 sessions.
        std::thread::sleep(Duration::from_secs(6));
        let told = client.errors().matches("ends each connection soon").count();
        assert!(told <= 1, "{}", client.errors());
        let sessions = server.sessions();
        assert!((2..=26).contains(&sessions), "{sessions} in {:?}", first.elapsed());
    }
}

#[test]
fn empty_pages_without_end_are_a_protocol_error() {
    let server = FakeServer::start(Then::EmptyPages);
    for arguments in
        [&["history", "--url", &server.url][..], &[&server.url, "-l", "--since", "all"]]
    {
        let before = server.sessions();
        let mut client = Client::start(arguments);
        let ended = client.wait_for_exit(Duration::from_secs(20));
        assert_eq!(ended.code, Some(76), "{}", ended.errors);
        assert!(ended.errors.contains("no more of the history of lobby"), "{}", ended.errors);
        let requests = server.sessions() - before - 1;
        assert!(requests < 20, "{requests} requests");
    }
    let started = Instant::now();
    let ended = Client::pipe(&["history", "--url", &server.url, "--timeout", "1s"], b"");
    assert_eq!(ended.code, Some(75), "{}", ended.errors);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn no_error_text_is_long_or_shows_a_secret() {
    let server = FakeServer::start(Then::LongError);
    let ended = Client::pipe(&[&server.url], b"x\n");
    assert_eq!(ended.code, Some(77), "{}", ended.errors);
    assert!(ended.errors.contains("\\u{1b}]0;owned\\u{7} wss://***@host"), "{}", ended.errors);
    assert!(ended.errors.len() < 10_000, "{} bytes", ended.errors.len());
    for url in ["ws://bob:s3cr3t@host", "bob:s3cr3t@host:1", "ws://bob:s3/cr3t@host"] {
        let mut client = Client::start_with(&[], &[("CHAT_URL", url)]);
        let ended = client.wait_for_exit(Duration::from_secs(20));
        assert_eq!(ended.code, Some(2), "{}", ended.errors);
        assert!(!ended.errors.contains("cr3t"), "{}", ended.errors);
    }
}

/// A loopback address that answers nothing, because its queue of connections is full.
fn dead_address(address: &str) -> (std::net::TcpListener, Vec<std::net::TcpStream>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = address.parse().unwrap();
        let socket = tokio::net::TcpSocket::new_v6().unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut held = Vec::new();
        loop {
            let attempt = tokio::net::TcpStream::connect(address);
            match tokio::time::timeout(Duration::from_millis(300), attempt).await {
                Ok(stream) => held.push(stream.unwrap().into_std().unwrap()),
                Err(_) => return (listener.into_std().unwrap(), held),
            }
            assert!(held.len() < 64, "the queue is never full");
        }
    })
}

#[test]
fn a_dead_address_beside_a_live_one_costs_less_than_a_second() {
    let server = Server::start();
    let port = server.address().rsplit(':').next().unwrap();
    // The system tries IPv6 first.
    let _dead = dead_address(&format!("[::1]:{port}"));
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "::1 chat.test\n127.0.0.1 chat.test\n").unwrap();
    let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    let started = Instant::now();
    let output = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(&hosts)
        .arg(command().get_program())
        .args(["send", "--timeout", "15s", "--url", &format!("ws://chat.test:{port}"), "hola"])
        .env("USER", "tester")
        .output()
        .unwrap();
    let (took, errors) = (started.elapsed(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    assert!(took < Duration::from_secs(5), "{took:?}: {errors}");
}

/// The client with these variables, the rest of the environment clean, and a line to send.
fn send_with(variables: &[(&str, &str)], arguments: &[&str]) -> crate::support::client::Finished {
    let arguments = [arguments, &["--timeout", "3s", "-u", "tester"]].concat();
    let mut client = Client::start_with(&arguments, variables);
    client.write("hola\n");
    client.finish(Duration::from_secs(20))
}

#[test]
fn a_proxy_connects_to_names_that_only_it_can_resolve() {
    let folder = tempfile::tempdir().unwrap();
    let pair = certificates(folder.path());
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let config = format!("[listen.tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    let (secured, plain) = (Server::with(&config).start(), Server::start());
    let proxy = Front::proxy(secured.address(), Some(("bob", "s3/cr3t")));
    let plain_proxy = Front::proxy(plain.address(), None);
    let with_credentials = |scheme: &str| format!("{scheme}://bob:s3%2Fcr3t@{}", proxy.address());
    let open = |scheme: &str| format!("{scheme}://{}", plain_proxy.address());
    for (variable, value, url, front, head) in [
        (
            "HTTPS_PROXY",
            with_credentials("http"),
            "wss://chat.invalid",
            &proxy,
            "CONNECT chat.invalid:443 HTTP/1.1\r\nHost: chat.invalid:443\r\n",
        ),
        (
            "https_proxy",
            with_credentials("socks5h"),
            "bücher.invalid:9000",
            &proxy,
            "xn--bcher-kva.invalid:9000",
        ),
        (
            "ALL_PROXY",
            open("http"),
            "ws://[2001:db8::7]:81",
            &plain_proxy,
            "CONNECT [2001:db8::7]:81 HTTP/1.1\r\n",
        ),
        ("all_proxy", open("socks5h"), "ws://chat.invalid", &plain_proxy, "chat.invalid:80"),
        ("ALL_PROXY", open("socks5"), "ws://192.0.2.7", &plain_proxy, "192.0.2.7:80"),
    ] {
        let before = front.requests().len();
        let sent = send_with(&[(variable, &value)], &[url, "--insecure"]);
        assert_eq!(sent.code, Some(0), "{variable}={value}: {}", sent.errors);
        assert_eq!(sent.texts(), ["hola"]);
        let requests = front.requests();
        assert_eq!(requests.len(), before + 1, "one connection");
        assert!(requests[before].head.starts_with(head), "{requests:?}");
    }
}

#[test]
fn what_a_proxy_refuses_is_told_without_its_password() {
    let proxy = Front::proxy("127.0.0.1:1", Some(("bob", "right")));
    let wrong = |scheme: &str| format!("{scheme}://bob:s3cr3t@{}", proxy.address());
    let forbidding = Front::answering(answer("403 Forbidden", ""));
    let no_proxy = Front::answering("SSH-2.0-OpenSSH_9.2\r\n");
    let busy = Front::answering(answer("503 Busy", ""));
    let of = |front: &Front| format!("http://bob:s3cr3t@{}", front.address());
    for (value, code, words) in [
        (wrong("http"), 69, &["user name and password", "into ALL_PROXY"][..]),
        (wrong("socks5h"), 69, &["user name and password", "into ALL_PROXY"]),
        (of(&forbidding), 69, &["HTTP status 403", "(ALL_PROXY)"]),
        (of(&no_proxy), 69, &["not HTTP"]),
        (of(&busy), 69, &["HTTP status 503", "trying again"]),
        ("http://bob:s3cr3t@127.0.0.1:1".into(), 69, &["refused", "trying again"]),
        ("https://bob:s3cr3t@127.0.0.1:1".into(), 2, &["ALL_PROXY: ", "socks5h://HOST:PORT"]),
        ("http://bob:s3cr3t@".into(), 2, &["ALL_PROXY: "]),
    ] {
        let ended = send_with(&[("ALL_PROXY", &value)], &["ws://chat.invalid"]);
        assert_eq!(ended.code, Some(code), "{value}: {}", ended.errors);
        for word in words {
            assert!(ended.errors.contains(word), "{value}: {word}: {}", ended.errors);
        }
        assert!(!ended.errors.contains("cr3t"), "{}", ended.errors);
    }
    // This machine, and what the user excepts, is reached directly.
    let server = Server::start();
    let unused = [("ALL_PROXY", "http://127.0.0.1:1")];
    assert_eq!(send_with(&unused, &[&server.url()]).code, Some(0));
    let excepted = [unused[0], ("NO_PROXY", "other, invalid")];
    let ended = send_with(&excepted, &["ws://chat.invalid"]);
    assert!(ended.errors.contains("can't find ws://chat.invalid: "), "{}", ended.errors);
}

#[test]
fn a_client_that_names_no_room_goes_to_the_one_of_its_token() {
    let server = Server::with("[auth]\nmode = \"token\"\n").start();
    let token = server.token("ci", &["--room", "ops"]);
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let cursor = cursor.to_str().unwrap();
    let url = server.url();
    let run = |arguments: &[&str], input: &str| {
        let arguments = [&[&url[..]], arguments].concat();
        let mut client = Client::start_with(&arguments, &[("CHAT_ACCESS_TOKEN", &token)]);
        client.write(input);
        client.finish(Duration::from_secs(20))
    };
    let sent = run(&[], "uno\ndos\n");
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    assert_eq!(sent.texts(), ["uno", "dos"]);
    assert!(sent.lines.iter().all(|line| line.contains(r#""room":"ops""#)), "{:?}", sent.lines);
    let first = run(&["--listen", "--since", "all", "--cursor", cursor, "-n", "1"], "");
    assert_eq!(first.texts(), ["uno"]);
    // The position in the cursor file is that of the token's room.
    run(&[], "tres\n");
    let listener = Client::start_with(
        &[&url, "--listen", "--cursor", cursor],
        &[("CHAT_ACCESS_TOKEN", &token)],
    );
    listener.wait_for_text("tres");
    // A room that the token does not cover is still refused.
    let refused = run(&["-r", "lobby"], "x\n");
    assert_eq!(refused.code, Some(77), "{}", refused.errors);
}

#[test]
fn the_certificate_of_the_page_is_trusted_by_file_and_by_fingerprint() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/connecting.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("runs it, with another name -->\n```sh\n").unwrap();
    let recipe = rest.split("```").next().unwrap().replace("chat.example", "localhost");
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("sh")
        .args(["-euc", &recipe])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // As openssl prints it, with its label.
    let fingerprint = String::from_utf8(made.stdout).unwrap();
    assert!(fingerprint.contains("Fingerprint="), "{fingerprint}");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    let config = format!("[listen]\ntls = {{ certificate = {certificate:?}, key = {key:?} }}\n");
    let server = Server::with(&config).start();
    let port = server.address().rsplit(':').next().unwrap();
    let by_name = format!("wss://localhost:{port}");
    for trust in [
        &["--ca-file", &certificate][..],
        &["--pin", &fingerprint],
        &["--pin", fingerprint.trim().rsplit('=').next().unwrap()],
    ] {
        let sent = Client::pipe(&[&[&by_name[..]], trust].concat(), b"hola\n");
        assert_eq!(sent.code, Some(0), "{trust:?}: {}", sent.errors);
    }
    // The file proves the name, too.
    let by_address = format!("wss://127.0.0.1:{port}");
    let wrong = Client::pipe(&[&by_address, "--ca-file", &certificate], b"hola\n");
    assert_eq!(wrong.code, Some(69), "{}", wrong.errors);
    assert!(wrong.errors.contains("is for localhost, not for 127.0.0.1"), "{}", wrong.errors);
}

#[test]
fn an_address_in_a_file_is_read_before_each_connection() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("address");
    let name = file.to_str().unwrap();
    let mut server = Server::start();
    let (first, second) = (Front::before(server.address()), Front::before(server.address()));
    let mut sender = Client::start(&["--url-file", name, "--timeout", "60s"]);
    sender.write("one\n");
    // A tunnel has no file while it has no address.
    eventually("the missing file is told", || sender.errors().contains("address: No such file"));
    std::fs::write(&file, format!("ws://{}\n", first.address())).unwrap();
    sender.wait_for_text("one");
    std::fs::write(&file, format!("ws://{}\n", second.address())).unwrap();
    first.answer(answer("404 Not Found", ""));
    first.cut();
    sender.write("two\n");
    sender.wait_for_text("two");
    assert_eq!(first.requests().len(), 0, "the old address is not used");
    let ended = sender.finish(Duration::from_secs(20));
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    // In the environment, and not beside another address.
    let mut client = Client::start_with(&["history"], &[("CHAT_URL_FILE", name)]);
    assert_eq!(client.wait_for_exit(Duration::from_secs(20)).texts(), ["one", "two"]);
    let both = Client::pipe(&["--url-file", name, "history", "--url", &server.url()], b"");
    assert_eq!(both.code, Some(2), "{}", both.errors);
    // A pinned certificate is one of TLS.
    let pin = "00".repeat(32);
    let pinned = Client::pipe(&["--url-file", name, "--pin", &pin, "--timeout", "1s"], b"x\n");
    assert_eq!(pinned.code, Some(69), "{}", pinned.errors);
    assert!(pinned.errors.contains("--pin names one"), "{}", pinned.errors);
    // A FIFO has no end, so it is not waited for.
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let refused = Client::pipe(&["--url-file", fifo.to_str().unwrap(), "--timeout", "1s"], b"x\n");
    assert_eq!(refused.code, Some(69), "{}", refused.errors);
    assert!(refused.errors.contains("is not a regular file"), "{}", refused.errors);
    server.stop();
}
