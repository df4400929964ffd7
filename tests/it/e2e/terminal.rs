//! End-to-end rooms on a terminal, in English and in Spanish.

use std::time::Duration;

use secure_chat::protocol::RoomName;

use super::member::{Member, open_room};
use crate::support::server::Server;
use crate::support::terminal::{Builder, Screen, Terminal};

const ROOM: &str = "+ops";
const LOBBY: &str = "lobby";

/// A language and the texts that the client shows in it.
#[derive(Clone, Copy)]
struct Person {
    lang: &'static str,
    marked: &'static str,
    waiting: &'static str,
    let_in: &'static str,
    added: &'static str,
    removed: &'static str,
    members: &'static str,
    here: &'static str,
    no_device: &'static str,
    question: &'static str,
    known: &'static str,
    code: &'static str,
    no_keys: &'static str,
}

const ENGLISH: Person = Person {
    lang: "C.UTF-8",
    marked: "-- +ops is end-to-end encrypted: only the devices of its members can read it;",
    waiting: "-- waiting to be let into +ops; an admin of the room runs: chat-client room",
    let_in: "-- let into +ops; members: ana, bob",
    added: "-- +ops: ana added eve",
    removed: "chat-client: bob is not in +ops (any more); ask an admin of the room",
    members: "-- +ops: members: ana, bob, eve",
    here: "-- +ops: here: bob",
    no_device: "-- +ops is an end-to-end room, which needs this device's keys; to enter it,",
    question: "Does ana see the same digits? (y/n): ",
    known: "chat-client: ana's key counts as verified from now on",
    code: "a camera reads the same digits from the code",
    no_keys: "chat-client: no key of carl was seen yet; one is seen when carl is in a room",
};

const SPANISH: Person = Person {
    lang: "es_ES.UTF-8",
    marked: "-- +ops está cifrada de extremo a extremo: solo la leen los dispositivos de sus",
    waiting: "-- a la espera de entrar en +ops; quien administra la sala ejecuta: chat-client",
    let_in: "-- ya estás en +ops; miembros: ana, bob",
    added: "-- +ops: ana ha añadido a eve",
    removed: "chat-client: bob no está (o ya no está) en +ops; pide a quien administra la sala",
    members: "-- +ops: miembros: ana, bob, eve",
    here: "-- +ops: aquí: bob",
    no_device: "-- +ops es una sala cifrada de extremo a extremo y necesita las claves de este",
    question: "¿Ve ana las mismas cifras? (y/n): ",
    known: "chat-client: la clave de ana vale como verificada desde ahora",
    code: "una cámara lee las mismas cifras en el código",
    no_keys: "chat-client: aún no se ha visto ninguna clave de carl; se ve cuando carl está en",
};

/// A client of this user on a terminal.
fn on_terminal(member: &Member, person: Person, arguments: &[&str]) -> Builder {
    let command = member.command(arguments);
    let arguments: Vec<&str> = command.get_args().map(|word| word.to_str().unwrap()).collect();
    let mut builder = Terminal::with(&arguments);
    for (name, value) in command.get_envs() {
        let value = value.map(|value| value.to_str().unwrap());
        builder = builder.env(name.to_str().unwrap(), value.unwrap_or_default());
    }
    builder.env("LANG", person.lang)
}

fn has(screen: &Screen, beginning: &str) -> bool {
    screen.rows.iter().any(|row| row.starts_with(beginning))
}

fn wait_for_row(terminal: &Terminal, beginning: &str) {
    terminal
        .wait(&format!("a row that begins with {beginning:?}"), |screen| has(screen, beginning));
}

#[test]
fn a_user_waits_is_let_in_talks_and_is_removed() {
    for person in [ENGLISH, SPANISH] {
        let server = Server::start();
        let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
        let eve = Member::new(&server, "eve");
        let mut terminal = on_terminal(&bob, person, &["-r", ROOM]).start();
        wait_for_row(&terminal, person.marked);
        wait_for_row(&terminal, person.waiting);
        terminal.wait_for_prompt("+ops > ", "");
        // What is typed now is sent as soon as the device is in the room.
        terminal.enter("typed early");
        ana.run_ok(&["room", "create", ROOM, "--add", "bob"]);
        wait_for_row(&terminal, person.let_in);
        terminal.wait_for("] bob: typed early");
        ana.send(ROOM, "hola");
        terminal.wait_for("] ana: hola");
        let _eve = eve.wait_outside(ROOM);
        ana.run_ok(&["room", "add", ROOM, "eve"]);
        wait_for_row(&terminal, person.added);
        terminal.enter("/who");
        wait_for_row(&terminal, person.members);
        wait_for_row(&terminal, person.here);
        // The archive has it; nothing can be decrypted twice.
        terminal.enter("/history 1");
        terminal.wait("the last message again", |screen| {
            screen.messages() == ["bob: typed early", "ana: hola", "ana: hola"]
        });
        terminal.enter("/history");
        terminal.wait("both messages again", |screen| {
            screen.messages()[3..] == ["bob: typed early", "ana: hola"]
        });
        assert!(!terminal.screen().text().contains('{'), "{}", terminal.screen().text());
        ana.run_ok(&["room", "remove", ROOM, "bob"]);
        assert_eq!(terminal.wait_for_exit(), 77);
        wait_for_row(&terminal, person.removed);
    }
}

#[test]
fn another_room_is_entered_only_with_the_keys_of_a_device() {
    for person in [ENGLISH, SPANISH] {
        let server = Server::start();
        let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
        let listeners = open_room(ROOM, &ana, &[&bob]);
        let mut without = on_terminal(&bob, person, &["-r", LOBBY]).start();
        without.wait_for_prompt("> ", "");
        without.enter("/join +ops");
        wait_for_row(&without, person.no_device);
        without.wait_for_prompt("> ", "");
        let mut with = on_terminal(&ana, person, &["-r", LOBBY, "-r", "+other"]).start();
        with.wait_for_prompt("> ", "");
        with.enter("/join +ops");
        wait_for_row(&with, person.marked);
        with.wait_for_prompt("+ops > ", "");
        with.enter("from the terminal");
        with.wait_for("] ana: from the terminal");
        listeners[0].wait_for_text("from the terminal");
        // A message of the room that is not the current one names it.
        with.enter("/join lobby");
        with.wait_for_prompt("> ", "");
        bob.send(ROOM, "hola");
        with.wait_for("] +ops bob: hola");
    }
}

#[test]
fn two_users_compare_digits_or_a_code() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let _listeners = open_room(ROOM, &ana, &[&bob]);
    let digits = ana.run_ok(&["verify", "bob"]).lines;
    assert_eq!(digits.len(), 2, "without a terminal only digits: {digits:?}");
    let blocks = |screen: &Screen| {
        let is_drawn = |row: &&String| row.chars().filter(|c| "█▀▄".contains(*c)).count() >= 7;
        screen.rows.iter().filter(is_drawn).count()
    };
    for person in [ENGLISH, SPANISH] {
        let verify = || on_terminal(&bob, person, &["verify", "ana"]);
        let mut terminal = verify().start();
        let screen = terminal.wait_for(person.question.trim_end());
        assert!(digits.iter().all(|line| screen.rows.contains(line)), "{}", screen.text());
        assert!(blocks(&screen) >= 14 && has(&screen, person.code), "{}", screen.text());
        assert!(screen.rows.len() <= 24, "it fits the window: {}", screen.text());
        terminal.enter("n");
        assert_eq!(terminal.wait_for_exit(), 0);
        assert!(!has(&terminal.screen(), person.known));
        // Where no code can be read, there are digits alone.
        for builder in
            [verify().env("NO_COLOR", "1"), verify().env("TERM", "dumb"), verify().sized(36, 24)]
        {
            let mut plain = builder.start();
            let screen = plain.wait_for("(y/n):");
            assert!(digits[0].starts_with(&screen.rows[1]) || screen.rows.contains(&digits[0]));
            assert_eq!(blocks(&screen), 0, "{}", screen.text());
            plain.enter("n");
            assert_eq!(plain.wait_for_exit(), 0);
        }
        let unknown = on_terminal(&bob, person, &["verify", "carl"]).start();
        assert_ne!(unknown.wait_for_exit(), 0);
        wait_for_row(&unknown, person.no_keys);
        let mut terminal = verify().start();
        terminal.wait_for(person.question.trim_end());
        terminal.enter("y");
        assert_eq!(terminal.wait_for_exit(), 0);
        wait_for_row(&terminal, person.known);
    }
    let members = bob.run_ok(&["room", "members", ROOM]);
    assert!(members.lines.iter().any(|line| line.contains("\"verified\"")), "{members:?}");
}

#[test]
fn direct_messages_that_were_left_go_on_when_they_are_entered_again() {
    let server = Server::start();
    let (ana, bob) = (Member::new(&server, "ana"), Member::new(&server, "bob"));
    let mut terminal = on_terminal(&ana, ENGLISH, &["-r", "@bob", "-r", LOBBY]).start();
    wait_for_row(&terminal, "-- bob has no keys on this server yet; waiting");
    terminal.enter("/leave");
    wait_for_row(&terminal, "-- you have left");
    // The time passes at which the client would have asked for his keys again.
    std::thread::sleep(Duration::from_secs(3));
    terminal.enter(&format!("/join {}", RoomName::direct_of("ana", "bob")));
    let waiting = bob.start(&["-r", "@ana", "--listen"]);
    terminal.enter("hola");
    waiting.wait_for_text("hola");
}
