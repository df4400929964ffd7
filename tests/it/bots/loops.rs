//! Bots that answer each other.

use super::support::{bot_named, said, say};
use crate::support::eventually;
use crate::support::server::Server;

#[test]
fn two_bots_that_answer_each_other_stop() {
    let server = Server::with(super::support::FAST).start();
    let one = bot_named("one", &server, "cat >/dev/null; echo again", &[]);
    let two = bot_named("two", &server, "cat >/dev/null; echo again", &[]);
    say(&server, "ann", "go\n");
    eventually("the loop is told", || {
        one.errors().contains("loop guard") && two.errors().contains("loop guard")
    });
    // Each of the two first replies is followed by at most nine more.
    let count = said(&server).len();
    assert_eq!(count, 1 + 2 * 10, "{:?}", said(&server));
    // They still answer people.
    say(&server, "ann", "go\n");
    eventually("answers to a person", || said(&server).len() > count + 2);
}
