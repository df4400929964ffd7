//! What a bot missed: it is new where the bot comes back by itself or by a cursor file, and not where
//! `--since` asks for it.

use super::support::{Files, bot, say, wait_until_said};
use crate::support::eventually;
use crate::support::server::Server;

const ECHO: &str = "cat >/dev/null; echo \"$CHAT_SEQ:$CHAT_REPLAY\"";

#[test]
fn a_question_during_a_lost_connection_is_answered_once() {
    let mut server = Server::start();
    let bot = bot(&server, ECHO, &[]);
    // A stopped client cannot reconnect before the question is asked.
    bot.signal("STOP");
    server.kill();
    server.start_again();
    say(&server, "ann", "while away\n");
    bot.signal("CONT");
    wait_until_said(&server, &bot, "bot", &["1:1"]);
    say(&server, "ann", "live\n");
    wait_until_said(&server, &bot, "bot", &["1:1", "3:"]);
}

#[test]
fn the_past_that_since_asks_for_is_printed_and_not_answered() {
    let server = Server::start();
    say(&server, "ann", "old\nolder\n");
    let bot = bot(&server, ECHO, &["--since", "all"]);
    bot.wait_for_text("older");
    say(&server, "ann", "new\n");
    wait_until_said(&server, &bot, "bot", &["3:"]);
}

#[test]
fn a_cursor_hands_over_every_message_at_least_once_and_no_reply_of_the_bot() {
    let server = Server::start();
    let files = Files::new();
    let (cursor, seqs) = (files.path("cursor"), files.path("seqs"));
    let hold = files.path("hold");
    files.make("hold1");
    files.make("hold2");
    let command = format!(
        "cat >/dev/null; echo \"$CHAT_SEQ:$CHAT_REPLAY\" >>{seqs}; while [ -e {hold}$CHAT_SEQ ]; do sleep 0.05; done; echo ok"
    );
    let first = bot(&server, &command, &["--cursor", &cursor]);
    say(&server, "ann", "one\ntwo\n");
    files.remove("hold1");
    wait_until_said(&server, &first, "bot", &["ok"]);
    // The reply is the third message, and the bot is killed before the second one is handled.
    eventually("the first message is handled, and only that", || {
        files.lines("cursor").concat().contains(r#""seq":1"#) && files.lines("seqs").len() == 2
    });
    first.signal("KILL");
    say(&server, "ann", "while away\n");
    files.remove("hold2");
    let second = bot(&server, &command, &["--cursor", &cursor]);
    wait_until_said(&server, &second, "bot", &["ok", "ok", "ok"]);
    assert_eq!(files.lines("seqs"), ["1:", "2:", "2:1", "4:1"], "{}", second.errors());
}
