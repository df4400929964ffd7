//! A conversation that never begins.

use crate::support::terminal::Terminal;

#[test]
fn where_no_server_is_it_says_so_and_what_to_do() {
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
            assert_eq!(terminal.ended(), 69);
            let seen = terminal.seen();
            let told = |row: &&String| row.contains("127.0.0.1:1: ") && row.contains(hint);
            assert_eq!(seen.rows.iter().filter(told).count(), 1, "{}", seen.text());
        }
    }
}
