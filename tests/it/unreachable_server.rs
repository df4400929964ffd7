//! A client on a terminal that can't connect.

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::terminal::Terminal;

#[test]
fn without_a_server_the_client_names_the_next_step() {
    for (lang, hint) in [
        ("C.UTF-8", "Name another by: chat-client"),
        ("es_ES.UTF-8", "Para nombrar otro: chat-client"),
    ] {
        for term in ["xterm", "dumb"] {
            let terminal = Terminal::with(&["127.0.0.1:1", "-u", "Alice", "--timeout", "1s"])
                .env("LANG", lang)
                .env("TERM", term)
                .sized(200, 10)
                .start();
            assert_eq!(terminal.wait_for_exit(), 69);
            let screen = terminal.screen();
            let has_hint = |row: &&String| row.contains("127.0.0.1:1: ") && row.contains(hint);
            assert_eq!(screen.rows.iter().filter(has_hint).count(), 1, "{}", screen.text());
        }
    }
}

#[test]
fn a_server_that_refuses_for_now_is_quoted() {
    let server = Server::with("[limits]\nrooms = 1\n").start();
    assert_eq!(Client::pipe(&[&server.url(), "-r", "one"], b"x\n").code, Some(0));
    for (lang, told, end) in [
        ("C.UTF-8", "(rooms_full); trying again", "(rooms_full); gave up after 2s"),
        ("es_ES.UTF-8", "(rooms_full); vuelvo a intentarlo", "(rooms_full); abandonado tras 2s"),
    ] {
        let url = server.url();
        let terminal = Terminal::with(&[&url, "-u", "Alice", "-r", "new", "--timeout", "2s"])
            .env("LANG", lang)
            .sized(250, 10)
            .start();
        assert_eq!(terminal.wait_for_exit(), 69);
        let text = terminal.screen().text();
        assert!(text.contains(told) && text.contains(end), "{text}");
    }
}
