//! A client on a terminal that can't connect.

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
