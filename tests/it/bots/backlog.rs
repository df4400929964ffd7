//! A command that is slower than the messages come.

use std::time::{Duration, Instant};

use super::support::{FAST, Files, bot, said_by, say};
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::python::BasicServer;
use crate::support::server::Server;

/// More than wait for the command.
const MANY: usize = 600;

/// Waits until `done` holds. The command runs many times, which takes a while on a busy machine.
fn in_the_end(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn numbers() -> Vec<String> {
    (1..=MANY).map(|number| number.to_string()).collect()
}

#[test]
fn a_backlog_stays_on_the_server_and_every_message_is_answered_once_in_order() {
    let server = Server::with(FAST).start();
    let files = Files::new();
    let hold = files.make("hold");
    let command = format!(
        "while [ -e {hold} ]; do sleep 0.05; done; read -r _; echo \"$CHAT_SEQ $CHAT_USERNAME\""
    );
    let bot = bot(&server, &command, &["--timeout", "2s"]);
    say(&server, "ann", &(numbers().join("\n") + "\n"));
    eventually("the backlog is told", || bot.errors().contains("stay on the server"));
    files.remove("hold");
    let expected: Vec<String> = (1..=MANY).map(|number| format!("{number} ann")).collect();
    in_the_end("every message is answered", || said_by(&server, "bot").len() >= MANY);
    let replies = said_by(&server, "bot");
    assert!(replies == expected, "{} replies; {}; {replies:?}", replies.len(), bot.errors());
    assert_eq!(bot.errors().matches("stay on the server").count(), 1, "{}", bot.errors());
    assert_eq!(server.event_count("session_closed"), server.event_count("session_opened") - 1);
    let printed = bot.frames();
    let printed = printed.iter().filter(|frame| frame["username"] == "ann");
    let printed: Vec<u64> = printed
        .filter_map(|frame| frame["seq"].as_u64())
        .filter(|seq| *seq <= MANY as u64)
        .collect();
    assert_eq!(printed, (1..=MANY as u64).collect::<Vec<_>>(), "each message is printed once");
}

#[test]
fn a_backlog_survives_a_restart_of_the_server() {
    let mut server = Server::with(FAST).start();
    let files = Files::new();
    let hold = files.make("hold");
    let command = format!(
        "while [ -e {hold} ]; do sleep 0.05; done; read -r _; echo \"$CHAT_SEQ\" >>{}",
        files.path("seqs")
    );
    let bot = bot(&server, &command, &[]);
    say(&server, "ann", &(numbers().join("\n") + "\n"));
    eventually("the backlog is told", || bot.errors().contains("stay on the server"));
    server.kill();
    server.start_again();
    say(&server, "ann", "last\n");
    files.remove("hold");
    in_the_end("every message is handled", || files.lines("seqs").len() > MANY);
    let expected: Vec<String> = (1..=MANY + 1).map(|number| number.to_string()).collect();
    assert_eq!(files.lines("seqs"), expected, "{}", bot.errors());
}

#[test]
fn a_backlog_above_the_bound_is_dropped_and_told_on_a_basic_server() {
    let server = BasicServer::start("1000000", "2");
    let files = Files::new();
    let hold = files.make("hold");
    let command = format!(
        "while [ -e {hold} ]; do sleep 0.05; done; read -r _; echo x >>{}",
        files.path("runs")
    );
    let bot = Client::start(&[server.url(), "-u", "bot", "-l", "--events", "--exec", &command]);
    bot.wait_for("its own arrival", |frame| frame["type"] == "user_joined");
    let sent = Client::pipe(&[server.url(), "-u", "ann"], (numbers().join("\n") + "\n").as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    eventually("the loss is told", || bot.errors().contains("this server keeps none"));
    bot.wait_for_text(&MANY.to_string());
    files.remove("hold");
    let count = |text: &str| {
        let lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
        let line = lines.iter().find(|line| line.contains("messages were dropped"))?.clone();
        line.split(' ').find_map(|word| word.parse::<usize>().ok())
    };
    in_the_end("the number is told", || count(&bot.errors()).is_some());
    let dropped = count(&bot.errors()).unwrap();
    in_the_end("the others are handled", || files.lines("runs").len() + dropped == MANY);
}
