//! A conversation on a terminal, in English and in Spanish.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::terminal::{Builder, Screen, Terminal};

/// A language and the texts that the client shows in it.
struct Person {
    lang: &'static str,
    questions: [&'static str; 5],
    yes: &'static str,
    connected: &'static str,
    joined: &'static str,
    left: &'static str,
    here: &'static str,
    help: &'static str,
    lost: &'static str,
    back: &'static str,
    bye: &'static str,
}

const ENGLISH: Person = Person {
    lang: "C.UTF-8",
    questions: [
        "Is the server behind ngrok? [y/N]",
        "Its address (such as abcd.ngrok.app):",
        "Host [127.0.0.1]:",
        "Port [8765]:",
        "Your name [tester]:",
    ],
    yes: "y",
    connected: "-- connected as Alice; /help lists the commands",
    joined: "-- Bob joined",
    left: "-- Bob left",
    here: "-- here: Alice, Bob",
    help: "-- /quit or exit  leave",
    lost: "-- connection lost; reconnecting …",
    back: "-- connected again",
    bye: "bye",
};

const SPANISH: Person = Person {
    lang: "es_ES.UTF-8",
    questions: [
        "¿Está el servidor detrás de ngrok? [s/N]",
        "Su dirección (como abcd.ngrok.app):",
        "Servidor [127.0.0.1]:",
        "Puerto [8765]:",
        "Tu nombre [tester]:",
    ],
    yes: "sí",
    connected: "-- conectado como Alice; /help muestra los comandos",
    joined: "-- Bob se ha unido",
    left: "-- Bob ha salido",
    here: "-- aquí: Alice, Bob",
    help: "-- /quit o exit  salir",
    lost: "-- conexión perdida; vuelvo a conectar …",
    back: "-- conectado de nuevo",
    bye: "adiós",
};

/// Limits that no quick test reaches.
const QUICK: &str = "[limits]\nrate_messages = 100000\nrate_bytes = 100000000\n";

fn alice(server: &Server, person: &Person) -> Builder {
    Terminal::with(&[&server.url(), "-u", "Alice"]).env("LANG", person.lang)
}

/// A terminal on which Alice is connected.
fn connected(server: &Server, person: &Person) -> Terminal {
    let terminal = alice(server, person).start();
    terminal.wait_for(person.connected);
    terminal.wait_for_typed("");
    terminal
}

fn send(server: &Server, name: &str, lines: &str) {
    let sent = Client::pipe(&[&server.url(), "-u", name], lines.as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
}

fn numbered(count: usize) -> (String, Vec<String>) {
    let lines: String = (1..=count).map(|number| format!("line {number}\n")).collect();
    (lines, (1..=count).map(|number| format!("Bob: line {number}")).collect())
}

fn messages_of(screen: &Screen, name: &str) -> Vec<String> {
    let prefix = format!("{name}: ");
    let all = screen.messages().into_iter().filter(|message| message.starts_with(&prefix));
    all.map(str::to_owned).collect()
}

#[test]
fn the_client_asks_for_missing_options() {
    for person in [ENGLISH, SPANISH] {
        let server = Server::start();
        let port = server.address().rsplit(':').next().unwrap();
        let [ngrok, _, host, ask_port, name] = person.questions;
        let mut terminal = Terminal::with(&[]).env("LANG", person.lang).start();
        for (question, answer) in [(ngrok, ""), (host, ""), (ask_port, port), (name, "Alice")] {
            terminal.wait_for(question);
            terminal.enter(answer);
        }
        terminal.wait_for(person.connected);
        terminal.wait_for_typed("");
        // Answers to questions are not in the editor's history.
        terminal.type_text("\u{1b}[A");
        terminal.enter("Hola Bob!");
        terminal.wait_for("] Alice: Hola Bob!");
    }
}

#[test]
fn the_client_asks_for_the_ngrok_address_and_proposes_the_login_name() {
    for person in [ENGLISH, SPANISH] {
        let server = Server::start();
        let [ngrok, address, _, _, name] = person.questions;
        let mut terminal = Terminal::with(&[]).env("LANG", person.lang).start();
        for (question, answer) in [(ngrok, person.yes), (address, &server.url()), (name, "")] {
            terminal.wait_for(question);
            terminal.enter(answer);
        }
        terminal.wait_for(&person.connected.replace("Alice", "tester"));
        let mut other = Terminal::with(&[]).env("LANG", person.lang).start();
        other.wait_for(ngrok);
        other.type_text("\u{4}");
        assert_eq!(other.wait_for_exit(), 0, "who would rather not is not kept");
    }
}

#[test]
fn joins_messages_and_leaves_are_shown() {
    for person in [ENGLISH, SPANISH] {
        let server = Server::start();
        let mut terminal = alice(&server, &person).env("TZ", "XYZ-5:30").start();
        terminal.wait_for(person.connected);
        let mut bob = Client::start(&[&server.url(), "-u", "Bob"]);
        terminal.wait_for(person.joined);
        terminal.enter("/who");
        terminal.wait_for(person.here);
        bob.write("Hola Alice!\n");
        let message = bob.wait_for_text("Hola Alice!");
        let screen = terminal.wait_for("] Bob: Hola Alice!");
        let moment: jiff::Timestamp = message["timestamp"].as_str().unwrap().parse().unwrap();
        let local = moment + Duration::from_secs(5 * 3600 + 30 * 60);
        let local = local.strftime("[%H:%M:%S] Bob: Hola Alice!").to_string();
        assert_eq!(screen.rows[screen.find("Hola Alice!").unwrap()], local);
        terminal.enter("Hola Bob!");
        let screen = terminal.wait_for("] Alice: Hola Bob!");
        assert_eq!(screen.rows.iter().filter(|row| row.contains("Hola Bob!")).count(), 1);
        bob.wait_for_text("Hola Bob!");
        drop(bob);
        terminal.wait_for(person.left);
        terminal.enter("/help");
        terminal.wait_for(person.help);
        terminal.enter("/nonsense");
        terminal.wait("it knows no such command", |screen| {
            screen.rows.iter().any(|row| row.starts_with("-- /nonsense "))
        });
        terminal.enter("/quit");
        assert_eq!(terminal.wait_for_exit(), 0);
        terminal.wait_for(person.bye);
    }
}

#[test]
fn a_joined_room_can_be_read_before_sending_to_it() {
    for person in [ENGLISH, SPANISH] {
        let server = Server::start();
        let mut bob = Client::start(&[&server.url(), "-u", "Bob", "-r", "ops"]);
        bob.write("said before\n");
        bob.wait_for_text("said before");
        let mut terminal = connected(&server, &person);
        terminal.enter("/join ops");
        terminal.wait_for(&person.here.replace("Alice, Bob", "Bob, Alice"));
        terminal.enter("/history");
        terminal.wait_for("] Bob: said before");
        bob.write("and now\n");
        terminal.wait_for("] Bob: and now");
        let screen = terminal.screen();
        let refused = |row: &String| row.contains("refused") || row.contains("rechazado");
        assert!(!screen.rows.iter().any(refused), "{}", screen.text());
    }
}

#[test]
fn commands_and_keys_quit_after_sending_everything() {
    let server = Server::start();
    for quit in ["/quit\r", "exit\r", "/exit\r", "\u{4}", "\u{3}"] {
        let mut terminal = connected(&server, &ENGLISH);
        terminal.type_text(&format!("last words\r{quit}"));
        assert_eq!(terminal.wait_for_exit(), 0, "{quit:?}");
        terminal.wait_for("bye");
        let history = Client::pipe(&["history", "--url", &server.url(), "-n", "1"], b"");
        assert_eq!(history.texts(), ["last words"], "said before leaving by {quit:?}");
    }
}

#[test]
fn typed_text_stays_whole_while_messages_arrive() {
    for person in [ENGLISH, SPANISH] {
        let server = Server::with(QUICK).start();
        let mut terminal = connected(&server, &person);
        let typed = "¿Quién dijo eso? 日本 🎉 – nobody disturbs this line";
        let mut bob = Client::start(&[&server.url(), "-u", "Bob"]);
        let (_, expected) = numbered(50);
        let mut lines = expected.iter().map(|line| line.strip_prefix("Bob: ").unwrap());
        for (at, key) in typed.char_indices() {
            // Messages and keys arrive in every order.
            lines.next().into_iter().for_each(|line| bob.write(&format!("{line}\n")));
            terminal.type_text(&key.to_string());
            terminal.wait_for_typed(&typed[..at + key.len_utf8()]);
        }
        lines.for_each(|line| bob.write(&format!("{line}\n")));
        let screen = terminal.wait("50 messages", |screen| messages_of(screen, "Bob").len() == 50);
        assert_eq!(messages_of(&screen, "Bob"), expected);
        terminal.wait_for_typed(typed);
        terminal.type_text("\r");
        bob.wait_for_text(typed);
        let screen = terminal.wait_for(&format!("] Alice: {typed}"));
        assert_eq!(messages_of(&screen, "Bob"), expected, "{}", screen.text());
    }
}

#[test]
fn lines_entered_in_a_burst_are_sent_and_shown_in_order() {
    let server = Server::with(QUICK).start();
    let mut terminal = connected(&server, &ENGLISH);
    let (lines, expected) = numbered(50);
    let mut bob = Client::start(&[&server.url(), "-u", "Bob"]);
    bob.write(&lines);
    let own: Vec<String> = (1..=30).map(|number| format!("mine {number}")).collect();
    terminal.type_text(&own.iter().map(|line| format!("{line}\r")).collect::<String>());
    let own: Vec<String> = own.iter().map(|line| format!("Alice: {line}")).collect();
    let screen = terminal.wait("all messages", |screen| {
        messages_of(screen, "Bob").len() >= 50 && messages_of(screen, "Alice").len() >= 30
    });
    assert_eq!(messages_of(&screen, "Bob"), expected);
    assert_eq!(messages_of(&screen, "Alice"), own);
    // Only whole lines, and no echo of the typed text.
    let screen = terminal.wait_for_typed("");
    for row in &screen.rows[..screen.rows.len() - 1] {
        assert!(row.starts_with("-- ") || row.starts_with('['), "{row:?} in\n{}", screen.text());
    }
}

#[test]
fn earlier_lines_are_recalled_and_names_and_commands_completed() {
    let server = Server::start();
    let mut terminal = connected(&server, &SPANISH);
    let _zoe = Client::start(&[&server.url(), "-u", "Zoë-María"]);
    terminal.wait_for("-- Zoë-María se ha unido");
    terminal.enter("first");
    terminal.enter("second");
    terminal.wait_for("] Alice: second");
    terminal.type_text("\u{1b}[A");
    terminal.wait_for_typed("second");
    terminal.type_text("\u{1b}[A");
    terminal.wait_for_typed("first");
    terminal.type_text("\u{15}hola Zo\t");
    terminal.wait_for_typed("hola Zoë-María");
    terminal.type_text("\u{15}/wh\t");
    terminal.wait_for_typed("/who");
    terminal.type_text("\r");
    terminal.wait_for("-- aquí: Alice, Zoë-María");
}

#[test]
fn a_server_restart_loses_no_typed_text() {
    for person in [ENGLISH, SPANISH] {
        let mut server = Server::start();
        let mut terminal = connected(&server, &person);
        terminal.type_text("half a thou");
        terminal.wait_for_typed("half a thou");
        server.kill();
        terminal.wait_for(person.lost);
        terminal.wait_for_typed("half a thou");
        terminal.type_text("ght\rand another\r");
        terminal.type_text("still typing");
        terminal.wait_for_typed("still typing");
        server.start_again();
        terminal.wait_for(person.back);
        terminal.wait_for("] Alice: and another");
        let screen = terminal.wait_for_typed("still typing");
        assert_eq!(messages_of(&screen, "Alice"), ["Alice: half a thought", "Alice: and another"]);
    }
}

#[test]
fn resizing_the_window_keeps_typed_text() {
    let server = Server::with(QUICK).start();
    let mut terminal = connected(&server, &ENGLISH);
    let typed = "one two three four five six seven";
    terminal.type_text(typed);
    terminal.wait_for_typed(typed);
    terminal.resize(120, 40);
    send(&server, "Bob", "after it grew\n");
    terminal.wait_for("] Bob: after it grew");
    terminal.wait_for_typed(typed);
    terminal.resize(60, 12);
    send(&server, "Bob", "after it shrank\n");
    terminal.wait_for("] Bob: after it shrank");
    terminal.wait_for_typed(typed);
    terminal.type_text("\r");
    terminal.wait_for(&format!("] Alice: {typed}"));
}

#[test]
fn a_line_longer_than_the_window_is_shown_and_erased_whole() {
    let server = Server::with(QUICK).start();
    let mut terminal = alice(&server, &ENGLISH).sized(30, 20).start();
    terminal.wait_for_typed("");
    // Wide characters that do not fit in the last column, and a row that is exactly full.
    let lines = [
        "日本語の文字は二つの欄を使います。日本語の文字は二つ",
        "aaaaaaaaaabbbbbbbbbbcccccccc",
        "🎉a🎉a🎉a🎉a🎉a🎉a🎉a🎉a🎉a🎉a🎉a",
    ];
    for (number, line) in lines.iter().enumerate() {
        terminal.type_text(line);
        send(&server, "Bob", &format!("meanwhile {number}\n"));
        terminal.wait_for(&format!("] Bob: meanwhile {number}"));
        terminal.type_text("\r");
        let begin: String = line.chars().take(3).collect();
        terminal.wait("it is shown", |screen| {
            screen.rows.iter().any(|row| row.contains(&format!("] Alice: {begin}")))
        });
        send(&server, "Bob", &format!("next {number}\n"));
        terminal.wait_for(&format!("] Bob: next {number}"));
        let screen = terminal.wait_for_typed("");
        let start = screen.rows.iter().rposition(|row| row.contains("] Alice: ")).unwrap();
        let own = screen.rows[start..].iter().take_while(|row| !row.starts_with("-- "));
        let shown = own.map(String::as_str).collect::<String>();
        assert!(shown.ends_with(&format!("] Alice: {line}")), "{}", screen.text());
        let above = &screen.rows[start - 1];
        assert!(above.starts_with("-- Bob "), "the typed line is gone:\n{}", screen.text());
    }
}

#[test]
fn no_color_turns_colours_off() {
    let server = Server::start();
    let coloured = |raw: &[u8]| raw.windows(3).any(|bytes| bytes == b"\x1b[3");
    for (value, expected) in [(None, true), (Some(""), true), (Some("1"), false)] {
        let builder = alice(&server, &ENGLISH);
        let mut terminal = match value {
            Some(value) => builder.env("NO_COLOR", value).start(),
            None => builder.start(),
        };
        terminal.wait_for(ENGLISH.connected);
        terminal.enter("hola");
        terminal.wait_for("] Alice: hola");
        assert_eq!(coloured(&terminal.raw()), expected, "NO_COLOR={value:?}");
    }
}

#[test]
fn a_dumb_terminal_gets_no_escape_sequences() {
    let server = Server::start();
    let mut terminal = alice(&server, &ENGLISH).env("TERM", "dumb").start();
    terminal.wait_for(ENGLISH.connected);
    terminal.enter("hola");
    terminal.wait_for("] Alice: hola");
    send(&server, "Bob", "¿qué tal?\n");
    terminal.wait_for("] Bob: ¿qué tal?");
    terminal.enter("/quit");
    assert_eq!(terminal.wait_for_exit(), 0);
    assert!(!terminal.raw().contains(&0x1b), "{}", String::from_utf8_lossy(&terminal.raw()));
}

#[test]
fn a_window_that_is_closed_ends_the_conversation() {
    let server = Server::start();
    let mut terminal = connected(&server, &ENGLISH);
    let mut bob = Client::start(&[&server.url(), "-u", "Bob", "--events"]);
    // Bob must have joined to receive the message.
    terminal.wait_for(ENGLISH.joined);
    terminal.enter("goodbye");
    bob.wait_for_text("goodbye");
    terminal.hang_up();
    bob.wait_for("Alice has left", |frame| {
        frame["type"] == "user_left" && frame["username"] == "Alice"
    });
    assert_eq!(terminal.wait_for_exit(), 0);
    bob.end_input();
}
