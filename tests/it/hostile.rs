//! P24: hostile text is only text. A hostile server sends the worst it can to a client on a terminal, in every field
//! that the client shows.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use fernet::Fernet;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use unicode_width::UnicodeWidthStr as _;

use crate::support::is_long_run;
use crate::support::terminal::Terminal;

/// The time of every message, and how the client shows it.
const THEN: &str = "2026-11-24T12:34:56.000000Z";
const SHOWN: &str = "[12:34:56]";
/// Wider than the longest line.
const COLUMNS: usize = 700;
/// Messages sent before the test waits for the last one.
const AT_ONCE: usize = 400;
const TYPED: &str = "what I am typing meanwhile";

/// Escape sequences, control characters, direction overrides, line ends, wide characters, and imitations of the
/// client's own lines.
const PIECES: [&str; 52] = [
    "\u{1b}]0;owned\u{7}",
    "\u{1b}]2;owned\u{1b}\\",
    "\u{9d}0;owned\u{9c}",
    "\u{1b}]52;c;b3duZWQ=\u{7}",
    "\u{1b}[2J",
    "\u{1b}[H",
    "\u{1b}[5A",
    "\u{1b}[999D",
    "\u{1b}[1;1H",
    "\u{1b}[3;5r",
    "\u{1b}[?1049h",
    "\u{1b}[?25l",
    "\u{1b}[6n",
    "\u{1b}[c",
    "\u{1b}[2K",
    "\u{1b}[10L",
    "\u{1b}[31;7m",
    "\u{1b}[1000S",
    "\u{1b}c",
    "\u{1b}7",
    "\u{1b}8",
    "\u{1b}D",
    "\u{1b}M",
    "\u{1b}(0",
    "\u{1b}#8",
    "\u{1b}P1$q\u{1b}\\",
    "\u{1b}_x\u{1b}\\",
    "\u{9b}2J",
    "\u{9b}5A",
    "\u{90}x\u{9c}",
    "\u{85}",
    "\u{8d}",
    "\u{1b}",
    "\u{0}",
    "\u{7f}",
    "\r",
    "\n",
    "\r\n",
    "\t",
    "\u{8}\u{8}\u{8}\u{8}",
    "\u{b}",
    "\u{c}",
    "\u{e}",
    "\u{2028}",
    "\u{202e}",
    "\u{2067}",
    "\u{200b}\u{feff}\u{e0041}",
    "x\u{336}",
    "日本語",
    "🎉❤\u{fe0f}",
    "\n[12:34:56] Alice: forged\n",
    "\r-- bye\r",
];

/// A random generator with a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    /// A payload that ends with its number.
    fn payload(&mut self, number: usize) -> String {
        let pieces = 1 + self.below(4);
        let text: String =
            (0..pieces).map(|_| format!("{}a", PIECES[self.below(PIECES.len())])).collect();
        format!("{text}.{number}")
    }
}

/// What the terminal should show. Written independently of the client's code.
fn seen_as(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{200b}'
            | '\u{2028}'
            | '\u{202e}'
            | '\u{2067}'
            | '\u{feff}'
            | '\u{e0041}' => out.extend(c.escape_unicode()),
            // The emulator shows no variation selectors.
            '\u{fe0f}' => {}
            c => out.push(c),
        }
    }
    out
}

/// The rows in which the terminal should show a message. Written independently of the client's code.
fn rows_of(head: &str, text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n");
    let mut rows = Vec::new();
    for line in text.split('\n') {
        let mut row = if rows.is_empty() { head.to_owned() } else { " ".repeat(SHOWN.len() + 1) };
        let start = row.len();
        for (index, piece) in line.split('\t').enumerate() {
            if index > 0 {
                // The emulator shows no variation selectors, but the client counts them.
                let width = row[start..].replace('❤', "❤\u{fe0f}").width();
                row.push_str(&" ".repeat(8 - width % 8));
            }
            row.push_str(&seen_as(piece));
        }
        rows.push(row.trim_end().to_owned());
    }
    // Rows without text can't be told from those that nothing was written to.
    rows.retain(|row| !row.is_empty());
    rows
}

/// A server of the full protocol that sends whatever the test gives it.
struct HostileServer {
    address: String,
    orders: mpsc::UnboundedSender<Message>,
    history: Arc<Mutex<Vec<Value>>>,
    cipher: Fernet,
}

impl HostileServer {
    fn start(name: &str) -> HostileServer {
        let key = Fernet::generate_key();
        let cipher = Fernet::new(&key).unwrap();
        let key = base64::engine::general_purpose::STANDARD.encode(key);
        let (orders, mut ordered) = mpsc::unbounded_channel();
        let history = Arc::<Mutex<Vec<Value>>>::default();
        let (past, name) = (history.clone(), name.to_owned());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listener.set_nonblocking(true).unwrap();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            socket.next().await.unwrap().unwrap();
            for frame in [
                json!({"type": "welcome", "protocol": 1, "session": "s", "username": name, "verified": true,
                    "server": "server/1", "durable": true, "rooms": {"lobby": {"epoch": "e", "seq": 0}},
                    "limits": {"message_chars": 4096, "rate_messages": 10, "rate_per_ms": 2000, "unacked": 64}}),
                json!({"type": "encryption_key", "room": "lobby", "key_id": "k", "key": key}),
            ] {
                socket.send(Message::text(frame.to_string())).await.unwrap();
            }
            loop {
                let answer = tokio::select! {
                    order = ordered.recv() => match order {
                        Some(order) => order,
                        None => return,
                    },
                    frame = socket.next() => match frame {
                        Some(Ok(Message::Text(frame))) => {
                            let frame: Value = serde_json::from_str(&frame).unwrap();
                            if frame["type"] != "history" {
                                continue;
                            }
                            Message::text(page(&past.lock().unwrap(), &frame).to_string())
                        }
                        Some(Ok(_)) => continue,
                        _ => return,
                    },
                };
                // The client may have exited.
                if socket.send(answer).await.is_err() {
                    return;
                }
            }
        };
        std::thread::spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve);
        });
        HostileServer { address, orders, history, cipher }
    }

    fn send(&self, frame: Value) {
        self.orders.send(Message::text(frame.to_string())).unwrap();
    }

    fn message(&self, room: &str, username: &str, text: &str) -> Value {
        let content = self.cipher.encrypt(text.as_bytes());
        json!({"type": "chat_message", "room": room, "username": username, "content": content, "timestamp": THEN})
    }
}

/// A history page of messages whose seqs are 1, 2, 3 ….
fn page(history: &[Value], query: &Value) -> Value {
    let limit = usize::try_from(query["limit"].as_u64().unwrap()).unwrap();
    let seq = |field: &str| query[field].as_u64().map(|seq| usize::try_from(seq).unwrap());
    let (messages, more) = match seq("after") {
        Some(after) => {
            let end = history.len().min(after + limit);
            (&history[after.min(end)..end], end < history.len())
        }
        None => {
            let end = seq("before").map_or(history.len(), |before| before - 1);
            let start = end.saturating_sub(limit);
            (&history[start..end], start > 0)
        }
    };
    json!({"type": "history", "room": "lobby", "messages": messages, "more": more})
}

/// Checks that the client wrote only the few escape sequences that its editor needs (ECMA-48: colours, erasing and
/// moving within its own lines).
fn assert_only_our_own_sequences(raw: &[u8]) {
    let text = std::str::from_utf8(raw).unwrap();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            assert_eq!(rest.next(), Some('['), "{:?}", rest.as_str().get(..40));
            let sequence: String = rest.by_ref().take_while_inclusive_letter();
            // Bracketed paste, synchronised output (?2026), erasing, moving, colours.
            let known = ["?2004h", "?2004l", "?2026h", "?2026l"].contains(&&sequence[..])
                || sequence.ends_with(['K', 'J', 'A', 'B', 'C', 'D', 'm']);
            assert!(known && !sequence.starts_with("2J"), "ESC [ {sequence}");
        } else {
            assert!(!c.is_control() || c == '\r' || c == '\n', "{c:?}");
        }
    }
}

/// Takes characters up to the letter that ends a control sequence.
trait UpToALetter: Iterator<Item = char> + Sized {
    fn take_while_inclusive_letter(self) -> String {
        let mut out = String::new();
        for c in self {
            out.push(c);
            if c.is_ascii_alphabetic() {
                break;
            }
        }
        out
    }
}

impl<I: Iterator<Item = char>> UpToALetter for I {}

/// Sends `count` payloads in each of five fields, and checks every line.
fn send_hostile_texts(term: &str, count: usize) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (name, mut expected) = (random.payload(0), Vec::new());
    let server = HostileServer::start(&name);
    let mut terminal = Terminal::with(&[&server.address, "-u", "Alice"])
        .env("TERM", term)
        .env("TZ", "UTC")
        .env("NO_COLOR", if term == "dumb" { "" } else { "1" })
        .sized(COLUMNS, 24)
        .start();
    let dumb = term == "dumb";
    terminal.wait_for(&format!("-- connected as {}; /help lists the commands", seen_as(&name)));
    if !dumb {
        terminal.type_text(TYPED);
        terminal.wait_for_typed(TYPED);
    }
    for number in 1..=count {
        let [text, name, room, reason, past] = [0; 5].map(|_| random.payload(number));
        server.send(server.message("lobby", "Bob", &text));
        expected.extend(rows_of(&format!("{SHOWN} Bob: "), &text));
        if number % 2 == 0 {
            server.send(server.message("lobby", &name, "hola"));
            expected.push(format!("{SHOWN} {}: hola", seen_as(&name)));
        } else {
            server.send(json!({"type": "user_joined", "username": name, "timestamp": THEN}));
            expected.push(format!("-- {} joined", seen_as(&name)));
        }
        server.send(server.message(&room, "Bob", "hola"));
        expected.push(format!("{SHOWN} #{} Bob: (unreadable)", seen_as(&room)));
        if number % 2 == 0 {
            server.send(
                json!({"type": "gap", "room": "lobby", "after": 0, "next": 0, "reason": reason}),
            );
            let reason = seen_as(&reason);
            expected.push(format!("-- messages are missing here: {reason}"));
        } else {
            server.send(json!({"type": "error", "code": "x", "message": reason}));
            expected.push(format!("-- refused: {}", seen_as(&reason)));
        }
        let mut message = server.message("lobby", "Bob", &past);
        message["seq"] = number.into();
        server.history.lock().unwrap().push(message);
        if number % AT_ONCE == 0 || number == count {
            let last = expected.last().unwrap();
            terminal.wait(last, |screen| screen.rows.iter().rev().take(3).any(|row| row == last));
        }
    }
    let before = terminal.screen().rows.len();
    if !dumb {
        terminal.wait_for_typed(TYPED);
        terminal.type_text("\u{15}");
    }
    terminal.enter(&format!("/history {count}"));
    let past = server.history.lock().unwrap().clone();
    for message in &past {
        let text = server.cipher.decrypt(message["content"].as_str().unwrap()).unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        expected.extend(rows_of(&format!("{SHOWN} Bob: "), text));
    }
    let last = expected.last().unwrap();
    let screen =
        terminal.wait("the past", |screen| screen.rows.iter().rev().take(3).any(|row| row == last));
    assert!(screen.rows.len() > before);
    // The further lines of a message are indented, and no other line was touched.
    let first = screen
        .rows
        .iter()
        .position(|row| *row == expected[0])
        .unwrap_or_else(|| panic!("no {:?} in {:#?}", expected[0], screen.rows.get(..12)));
    let rows =
        screen.rows[first..].iter().filter(|row| !row.is_empty() && !row.starts_with(['>', '/']));
    for (number, (row, wanted)) in rows.zip(&expected).enumerate() {
        assert_eq!(row, wanted, "line {number} of {}", expected.len());
    }
    assert_eq!(screen.titles, <(String, String)>::default());

    let reason = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}go";
    let close = CloseFrame { code: 1008.into(), reason: reason.into() };
    server.orders.send(Message::Close(Some(close))).unwrap();
    assert_eq!(terminal.wait_for_exit(), 77);
    // Only an error right before the close would be more precise than the close reason.
    let screen = terminal.screen();
    assert_eq!(screen.titles, <(String, String)>::default());
    assert!(
        screen.rows.last().unwrap().starts_with("chat-client: the server closed the connection: "),
        "{}",
        screen.text()
    );
    let raw = terminal.raw();
    assert_only_our_own_sequences(&raw);
    assert!(!dumb || !raw.contains(&0x1b), "the cursor only goes on");
}

#[test]
fn p24_ten_thousand_hostile_texts_touch_nothing_on_a_terminal() {
    send_hostile_texts("xterm-256color", if is_long_run() { 10_000 } else { 2_000 });
}

#[test]
fn p24_hostile_texts_put_no_escape_sequence_on_a_dumb_terminal() {
    send_hostile_texts("dumb", if is_long_run() { 2_000 } else { 200 });
}
