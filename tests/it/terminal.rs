//! A conversation on a terminal, in English and in Spanish.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::terminal::{Builder, Screen, Terminal};

/// A language and the texts that the client shows in it.
struct Person {
    lang: &'static str,
    questions: [&'static str; 5],
    wrong: [&'static str; 3],
    waiting: &'static str,
    refused: &'static str,
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
        "Use ngrok? (y/n):",
        "ngrok address (such as abcd.ngrok.app):",
        "Server host [127.0.0.1]:",
        "Port [8765]:",
        "User name [tester]:",
    ],
    wrong: ["-- answer y or n", "is not the address of a server", "is not a port"],
    waiting: "-- waiting, 2 to send",
    refused: "Connection refused (os error 111); trying again",
    connected: "-- connected as Alice; /help lists the commands",
    joined: "-- Bob joined",
    left: "-- Bob left",
    here: "-- here: Alice, Bob",
    help: "-- Alt-Enter  a line break in a message",
    lost: "-- connection lost; reconnecting …",
    back: "-- connected again",
    bye: "bye",
};

const SPANISH: Person = Person {
    lang: "es_ES.UTF-8",
    questions: [
        "¿Usar ngrok? (y/n):",
        "Dirección de ngrok (como abcd.ngrok.app):",
        "Host del servidor [127.0.0.1]:",
        "Puerto [8765]:",
        "Usuario [tester]:",
    ],
    wrong: ["-- responde y (sí) o n (no)", "no es la dirección de un servidor", "no es un puerto"],
    waiting: "-- en espera, 2 por enviar",
    refused: "conexión rechazada; vuelvo a intentarlo",
    connected: "-- conectado como Alice; /help muestra los comandos",
    joined: "-- Bob se ha unido",
    left: "-- Bob ha salido",
    here: "-- aquí: Alice, Bob",
    help: "-- Alt-Intro  un salto de línea en un mensaje",
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
fn the_client_asks_for_missing_options_until_the_answers_are_right() {
    for person in [ENGLISH, SPANISH] {
        let server = Server::start();
        let port = server.address().rsplit(':').next().unwrap();
        let [ngrok, _, host, ask_port, name] = person.questions;
        let mut terminal = Terminal::with(&[]).env("LANG", person.lang).start();
        let mut ask = |question: &str, answer: &str| {
            terminal.wait_for_prompt(&format!("{question} "), "");
            terminal.enter(answer);
        };
        for wrong in ["", "x", "yep"] {
            ask(ngrok, wrong);
        }
        ask(ngrok, "n");
        ask(host, "a b");
        ask(host, "");
        for wrong in ["x", "0", "70000"] {
            ask(ask_port, wrong);
        }
        ask(ask_port, port);
        ask(name, "Alice");
        let screen = terminal.wait_for(person.connected);
        let told = |text: &&str| screen.rows.iter().filter(|row| row.contains(*text)).count();
        assert_eq!(person.wrong.each_ref().map(told), [3, 1, 3], "{}", screen.text());
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
        for yes in ["y", "yes", "s", "Sí"] {
            let mut terminal = Terminal::with(&[]).env("LANG", person.lang).start();
            for (question, answer) in [(ngrok, yes), (address, &server.url()), (name, "")] {
                terminal.wait_for_prompt(&format!("{question} "), "");
                terminal.enter(answer);
            }
            terminal.wait_for(&person.connected.replace("Alice", "tester"));
        }
        let mut other = Terminal::with(&[]).env("LANG", person.lang).start();
        other.wait_for(ngrok);
        other.type_text("\u{4}");
        assert_eq!(other.wait_for_exit(), 0, "Ctrl-D ends the questions");
    }
}

#[test]
fn the_question_for_the_host_takes_a_whole_address() {
    let server = Server::start();
    let [ngrok, _, host, _, name] = SPANISH.questions;
    for whole in [server.url(), server.address().to_owned()] {
        let mut terminal = Terminal::with(&[]).env("LANG", SPANISH.lang).start();
        for (question, answer) in [(ngrok, "no"), (host, &whole), (name, "Alice")] {
            terminal.wait_for_prompt(&format!("{question} "), "");
            terminal.enter(answer);
        }
        terminal.wait_for(SPANISH.connected);
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
        let here = person.here.replace("Alice, Bob", "Bob, Alice").replace("-- ", "-- #ops: ");
        terminal.wait_for(&here);
        terminal.wait_for_prompt("#ops > ", "");
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
    // Connected; the sentence takes two rows.
    terminal.wait_for("lists the commands");
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

#[test]
fn a_line_is_sent_as_it_was_typed_and_blanks_are_not() {
    let server = Server::with(QUICK).start();
    let mut terminal = connected(&server, &ENGLISH);
    let bob = Client::start(&[&server.url(), "-u", "Bob"]);
    terminal.wait_for(ENGLISH.joined);
    for (typed, sent) in [
        ("   ", None),
        ("    indented ", Some("    indented ")),
        ("//who", Some("/who")),
        ("/etc/passwd is broken", Some("/etc/passwd is broken")),
        ("\u{1b}[200~  if x:\r\n\ty()\n\u{1b}[201~", Some("  if x:\n\ty()")),
        ("one\u{1b}\rtwo", Some("one\ntwo")),
    ] {
        terminal.type_text(typed);
        terminal.type_text("\r");
        if let Some(sent) = sent {
            bob.wait_for_text(sent);
        }
    }
    let screen = terminal.wait_for("           two");
    let shown = |rows: &[&str]| {
        let found = screen
            .rows
            .windows(rows.len())
            .any(|window| window[0].ends_with(rows[0]) && window[1..].iter().eq(rows[1..].iter()));
        assert!(found, "{rows:?} in\n{}", screen.text());
    };
    shown(&["] Alice:   if x:", "                   y()"]);
    shown(&["] Alice: one", "           two"]);
    assert_eq!(messages_of(&screen, "Alice").len(), 5, "{}", screen.text());
}

#[test]
fn a_message_of_several_lines_is_shown_under_its_name() {
    let server = Server::start();
    let mut terminal = connected(&server, &SPANISH);
    let text = "Filesystem\tUse%\n/dev/vda1\t42%\n[12:34:56] Alice: forged\n";
    let url = server.url();
    let sent = Client::pipe(&["send", "--url", &url, "-u", "Bob"], text.as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    terminal.enter("después");
    let screen = terminal.wait_for("] Alice: después");
    let start = screen.find("] Bob: Filesystem      Use%").expect("the first line");
    let rest = ["           /dev/vda1       42%", "           [12:34:56] Alice: forged"];
    assert_eq!(screen.rows[start + 1..start + 3], rest);
    let plain = Client::pipe(&["history", "--url", &url, "--output", "plain"], b"");
    assert_eq!(plain.lines[1..3], rest);
}

#[test]
fn joiners_reach_the_terminal_between_letters_and_emoji() {
    let server = Server::start();
    let mut terminal = connected(&server, &ENGLISH);
    let text = "می\u{200c}خواهم 👨\u{200d}👩\u{200d}👧";
    send(&server, "Bob", &format!("{text}\nnow a\u{200d}b\n"));
    terminal.wait_for("now a\\u{200d}b");
    let raw = String::from_utf8(terminal.raw()).unwrap();
    assert!(raw.contains(text), "{raw:?}");
    terminal.type_text(text);
    terminal.type_text("\r");
    terminal.wait("the own message", |_| {
        String::from_utf8(terminal.raw()).unwrap_or_default().matches(text).count() > 1
    });
}

#[test]
fn a_key_that_is_not_utf_8_is_told_and_ends_nothing() {
    for (person, told) in [(ENGLISH, "it is not UTF-8;"), (SPANISH, "no es UTF-8;")] {
        let server = Server::start();
        let mut terminal = connected(&server, &person);
        terminal.type_bytes(b"ma\xf1ana\xff\r");
        let screen = terminal.wait_for("] Alice: maana");
        let told = screen.rows.iter().filter(|row| row.contains(told)).count();
        assert_eq!(told, 1, "{}", screen.text());
        terminal.enter("/quit");
        assert_eq!(terminal.wait_for_exit(), 0);
    }
}

#[test]
fn lines_wait_in_sight_for_a_server_that_can_not_be_reached() {
    for person in [ENGLISH, SPANISH] {
        let mut server = Server::start();
        server.kill();
        let mut terminal = alice(&server, &person).sized(120, 24).start();
        terminal.wait_for(person.refused);
        terminal.type_text("one\r/help\rtwo\rthree");
        let screen = terminal.wait_for_typed("three");
        let end = &screen.rows[screen.rows.len() - 4..];
        assert_eq!(end, [person.waiting, "--   one", "--   two", "> three"], "{}", screen.text());
        terminal.wait_for(person.help);
        server.start_again();
        terminal.wait_for("] Alice: two");
        terminal.type_text("\r");
        let screen = terminal.wait_for("] Alice: three");
        let expected = ["Alice: one", "Alice: two", "Alice: three"];
        assert_eq!(messages_of(&screen, "Alice"), expected);
        // The reason is told once, and no status is left behind.
        let rows = |text: &str| screen.rows.iter().filter(|row| row.contains(text)).count();
        assert_eq!((rows(person.refused), rows(person.waiting)), (1, 0), "{}", screen.text());
    }
}

#[test]
fn what_waits_is_named_when_the_user_quits() {
    let mut server = Server::start();
    server.kill();
    for (person, unsent) in
        [(ENGLISH, "not known to be stored: 1"), (SPANISH, "quizá no están guardados: 1")]
    {
        let mut terminal = alice(&server, &person).sized(120, 24).start();
        terminal.wait_for(person.refused);
        terminal.type_text("lost?\r\u{3}");
        assert_eq!(terminal.wait_for_exit(), 75);
        let screen = terminal.screen();
        assert!(screen.rows.iter().any(|row| row.ends_with(unsent)), "{}", screen.text());
        assert!(screen.rows.iter().any(|row| row == "--   lost?"), "{}", screen.text());
    }
}

#[test]
fn rooms_are_named_and_can_be_left() {
    let server = Server::start();
    let mut terminal = connected(&server, &ENGLISH);
    let told = |terminal: &Terminal, text: &str| drop(terminal.wait_for(text));
    terminal.enter("/leave");
    told(&terminal, "-- this is your only room; /quit leaves the chat");
    terminal.enter("/join ops");
    terminal.wait_for_prompt("#ops > ", "");
    let bob = Client::start(&[&server.url(), "-u", "Bob", "-r", "ops", "--events"]);
    told(&terminal, "-- #ops: Bob joined");
    terminal.enter("in ops");
    bob.wait_for_text("in ops");
    let _carl = Client::start(&[&server.url(), "-u", "Carl"]);
    told(&terminal, "-- #lobby: Carl joined");
    terminal.enter("/leave nowhere");
    told(&terminal, "-- you are not in nowhere");
    terminal.enter("/leave");
    told(&terminal, "-- you have left ops");
    terminal.wait_for_typed("");
    bob.wait_for("Alice has left", |frame| {
        frame["type"] == "user_left" && frame["username"] == "Alice"
    });
    terminal.enter("in the lobby");
    let screen = terminal.wait_for("] Alice: in the lobby");
    assert!(!screen.text().contains("refused"), "{}", screen.text());
}

#[test]
fn times_are_in_the_named_time_zone() {
    let server = Server::start();
    for (zone, hours) in [("America/New_York", -5..=-4), ("Asia/Tokyo", 9..=9)] {
        let mut terminal = alice(&server, &ENGLISH).env("TZ", zone).start();
        terminal.wait_for(ENGLISH.connected);
        let mut bob = Client::start(&[&server.url(), "-u", "Bob"]);
        bob.write(&format!("hello {zone}\n"));
        let message = bob.wait_for_text(&format!("hello {zone}"));
        let screen = terminal.wait_for(&format!("] Bob: hello {zone}"));
        let shown = &screen.rows[screen.find(&format!("hello {zone}")).unwrap()];
        let moment: jiff::Timestamp = message["timestamp"].as_str().unwrap().parse().unwrap();
        let fits = hours.into_iter().any(|hours| {
            let local = moment + jiff::SignedDuration::from_hours(hours);
            shown.starts_with(&local.strftime("[%H:%M:%S]").to_string())
        });
        assert!(fits, "{shown} at {moment} in {zone}");
        terminal.enter("/quit");
    }
}

#[test]
fn ctrl_z_gives_the_terminal_back_and_fg_takes_it_again() {
    let server = Server::start();
    for shell in ["dash", "bash", "zsh"] {
        let paths = ["/bin", "/usr/bin"].map(|folder| std::path::Path::new(folder).join(shell));
        let Some(path) = paths.into_iter().find(|path| path.exists()) else { continue };
        let arguments: &[&str] = match shell {
            "bash" => &["--norc", "--noprofile", "-i"],
            "zsh" => &["-f", "-i"],
            _ => &["-i"],
        };
        let mut terminal = Terminal::of(path, arguments).env("PS1", "shell: ").start();
        terminal.wait_for("shell:");
        let client = crate::support::programs::client();
        terminal.enter(&format!("{} {} -u Alice", client.display(), server.url()));
        terminal.wait_for(ENGLISH.connected);
        terminal.type_text("half a");
        terminal.wait_for_typed("half a");
        terminal.type_text("\u{1a}");
        terminal.wait_for("shell:");
        terminal.enter("stty -a | grep -cE -- '-(icanon|echo|icrnl|isig)( |$)'; echo asked");
        let screen =
            terminal.wait("the answer", |screen| screen.rows.iter().any(|row| row == "asked"));
        let asked = screen.rows.iter().position(|row| row == "asked").unwrap();
        assert_eq!(screen.rows[asked - 1], "0", "{shell} has its usual mode:\n{}", screen.text());
        terminal.enter("fg");
        terminal.wait_for_typed("half a");
        terminal.enter(" word");
        terminal.wait_for("] Alice: half a word");
        // The same by a signal from elsewhere.
        signal_client("TSTP", &server.url());
        let stopped = |screen: &Screen| screen.rows.last().is_some_and(|row| row == "shell:");
        terminal.wait("the shell again", stopped);
        terminal.enter("clear; stty -a | grep -cE -- '-(icanon|echo|icrnl|isig)( |$)'; echo again");
        let screen =
            terminal.wait("the answer", |screen| screen.rows.iter().any(|row| row == "again"));
        let again = screen.rows.iter().rposition(|row| row == "again").unwrap();
        assert_eq!(screen.rows[again - 1], "0", "{shell} after SIGTSTP:\n{}", screen.text());
        terminal.enter("fg");
        terminal.wait_for_typed("");
        terminal.enter("/quit");
        terminal.wait_for("bye");
        terminal.wait_for("shell:");
        terminal.enter("exit");
        assert_eq!(terminal.wait_for_exit(), 0, "{shell}");
    }
}

/// Sends a signal to the client of this server.
fn signal_client(signal: &str, url: &str) {
    let is_client = |pid: &String| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        command.split('\0').any(|word| word == url) && !command.contains("terminal.py")
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let pid = pids.find(is_client).expect("a client");
    let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &pid]).status();
    assert!(sent.unwrap().success(), "{signal} to {pid}");
}

#[test]
fn a_message_that_is_too_long_stays_to_be_changed() {
    let server = Server::with("[limits]\nmessage_chars = 20\n").start();
    for (person, told) in [
        (&ENGLISH, "this message has 24 characters, and the server takes 20"),
        (&SPANISH, "este mensaje tiene 24 caracteres, y el servidor admite 20"),
    ] {
        let mut terminal = alice(&server, person).sized(200, 24).start();
        terminal.wait_for(person.connected);
        terminal.enter("twenty-four characters 1");
        terminal.wait("the note", |screen| screen.rows.iter().any(|row| row.contains(told)));
        terminal.wait_for_typed("twenty-four characters 1");
        terminal.type_text("\u{7f}\u{7f}\u{7f}\u{7f}\r");
        terminal.wait_for("] Alice: twenty-four characte");
        terminal.wait_for_typed("");
        terminal.enter("/quit");
        assert_eq!(terminal.wait_for_exit(), 0);
    }
}

#[test]
fn a_narrower_window_leaves_no_stray_lines() {
    let server = Server::with(QUICK).start();
    let mut terminal = connected(&server, &ENGLISH);
    let typed: String = ('a'..='z').cycle().take(70).collect();
    terminal.type_text(&typed);
    let before = terminal.wait_for_typed(&typed);
    for columns in [60, 50, 41] {
        terminal.resize(columns, 24);
        let whole = format!("> {typed}");
        let screen = terminal.wait(&format!("{columns} columns"), |screen| {
            let start = screen.rows.iter().rposition(|row| row.starts_with("> "));
            start.is_some_and(|start| {
                let rows = &screen.rows[start..];
                rows.concat() == whole && rows.iter().all(|row| row.len() <= columns)
            })
        });
        // The emulator cuts rows off instead of breaking them anew.
        let above = screen.rows.iter().take_while(|row| !row.starts_with('>'));
        let wanted = before.rows.iter().take_while(|row| !row.starts_with('>'));
        let wanted = wanted.map(|row| {
            let kept: String = row.chars().take(columns).collect();
            kept.trim_end().to_owned()
        });
        assert!(above.cloned().eq(wanted), "{}", screen.text());
    }
    terminal.type_text("\r");
    terminal
        .wait("the message", |screen| screen.rows.concat().contains(&format!("] Alice: {typed}")));
    let screen = terminal.wait_for_typed("");
    assert!(screen.rows[0].starts_with("-- connecting to "), "{}", screen.text());
}
