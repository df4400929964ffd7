//! Several people in one room: in browsers, on a terminal, in a pipe.

use crate::page::person::{Person, stored};
use crate::support::browser::{Browser, Window};
use crate::support::server::Server;
use crate::support::terminal::Terminal;

/// Limits that no quick test reaches.
const FAST: &str = "[limits]\nrate_messages = 1000000\nrate_bytes = 1000000000\n";

#[test]
fn two_browsers_and_a_terminal_see_the_same_also_across_a_kill_of_the_server() {
    let mut server = Server::with(FAST).start();
    let browser = Browser::start();
    let india = Window { zone: "Asia/Kolkata", ..Window::DESKTOP };
    let ana = Person::signed_in(&browser, &server, "Ana", &india);
    let spanish = Window { language: "es-MX", ..Window::PHONE };
    let eva = Person::signed_in(&browser, &server, "Eva", &spanish);
    ana.wait_for_line("-- Eva joined");
    let mut terminal =
        Terminal::with(&[&server.url(), "-u", "Bob"]).sized(80, 100).env("TZ", "XYZ-5:30").start();
    terminal.wait_for("-- connected as Bob; /help lists the commands");
    ana.wait_for_line("-- Bob joined");
    eva.wait_for_line("-- Bob se ha unido");
    assert_eq!(eva.evaluate("document.documentElement.lang"), "es");
    assert_eq!(ana.evaluate("document.documentElement.lang"), "en");

    // The line is the terminal's, to the second and in the same time zone.
    ana.say("Hola Bob!");
    let shown = ana.wait_for_line("Ana: Hola Bob!");
    let screen = terminal.wait_for("] Ana: Hola Bob!");
    assert!(screen.rows.contains(&shown), "{shown}\n{}", screen.text());
    assert_eq!(ana.evaluate("document.querySelector('#text').value"), "", "it was sent");

    // All speak at once, and the server is killed in the middle; keys change, too.
    for number in 1..=30 {
        ana.say(&format!("ana {number}"));
        terminal.enter(&format!("bob {number}"));
        eva.say(&format!("eva {number}"));
        match number {
            10 => {
                server.run_ok(&["ctl", "rotate"]);
            }
            15 => server.kill(),
            20 => server.start_again(),
            _ => {}
        }
    }
    for name in ["ana", "bob", "eva"] {
        let end = format!("{name} 30");
        ana.wait_for_line(&end);
        eva.wait_for_line(&end);
        terminal.wait("the last lines", |screen| {
            screen.messages().iter().any(|message| message.ends_with(&end))
        });
    }
    let stored = stored(&server);
    assert_eq!(stored.len(), 91, "nothing is lost and nothing is doubled");
    for name in ["Ana", "Bob", "Eva"] {
        let prefix = format!("{name}: {} ", name.to_lowercase());
        let numbers = stored.iter().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok());
        assert_eq!(numbers.collect::<Vec<u32>>(), (1..=30).collect::<Vec<u32>>(), "{name}");
    }
    ana.wait_for_messages(&stored);
    eva.wait_for_messages(&stored);
    terminal.wait("Bob sees all", |screen| screen.messages() == stored);
    // A page that is loaded again shows the same.
    ana.reload();
    ana.wait_for_messages(&stored);
    ana.assert_layout();
    eva.assert_layout();

    // A deleted text is gone from what is shown and from what is kept.
    ana.wait_for("the text is kept", || ana.keeps("eva 7").then_some(()));
    let seq = 1 + stored.iter().position(|line| line == "Eva: eva 7").unwrap();
    server.run_ok(&["ctl", "delete", "lobby", &seq.to_string()]);
    for person in [&ana, &eva] {
        person.wait_for("it is gone", || {
            let shown = person.messages().contains(&"Eva: eva 7".to_owned());
            (!shown && !person.keeps("\"eva 7\"")).then_some(())
        });
    }
    assert_eq!(ana.messages().len(), 90);

    // The store is lost: what was read before stays, and the hole is told.
    server.kill();
    std::fs::remove_dir_all(server.state().join("history")).unwrap();
    server.start_again();
    ana.wait_for_line("-- messages are missing here: the server's store was lost or restored");
    eva.wait_for_line("-- aquí faltan mensajes: el almacén del servidor se perdió o se restauró");
    ana.say("anew");
    ana.wait_for_line("Ana: anew");
    eva.wait_for_line("Ana: anew");
    assert_eq!(ana.messages().len(), 91);
}
