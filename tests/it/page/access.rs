//! Sign in and out: by name, by access token, by an invitation.

use serde_json::json;

use crate::page::person::Person;
use crate::support::browser::{Browser, Window};
use crate::support::client::Client;
use crate::support::server::Server;

const TOKENS: &str = "[auth]\nmode = \"token\"\n[log]\nlevel = \"trace\"\n";

/// Whether a word was in the URL, a header or the body of any HTTP request.
fn is_in_requests(person: &Person, word: &str) -> bool {
    let events = person.events();
    assert!(events.iter().any(|event| event.method == "Network.webSocketCreated"));
    events.iter().any(|event| {
        let request = &event.params["request"];
        let sent = match event.method.as_str() {
            "Network.requestWillBeSent" => {
                json!([request["url"], request["headers"], request["postData"]])
            }
            "Network.webSocketCreated" => event.params["url"].clone(),
            "Network.webSocketWillSendHandshakeRequest" => request.clone(),
            _ => return false,
        };
        sent.to_string().contains(word)
    })
}

#[test]
fn an_invitation_or_a_token_signs_in_and_stays_secret() {
    let server = Server::with(TOKENS).start();
    let token = server.token("ana", &["--room", "ops", "--room", "dev"]);
    let browser = Browser::start();

    // A wrong token is told, and the right one goes in after it.
    let ana = Person::open(&browser, &server, &Window::DESKTOP);
    ana.wait_for_sign_in();
    assert_eq!(ana.evaluate("document.querySelector('#token').type"), "password");
    for wrong in ["sct_wrong", "x y", &format!("{}x", &token[..token.len() - 1])] {
        ana.enter_token(wrong);
        ana.wait_for_problem();
    }
    ana.enter_token(&token);
    ana.wait_until_connected();
    ana.say("by token");
    ana.wait_for_line("ana: by token");
    assert!(!is_in_requests(&ana, &token[4..]));

    // The invitation signs in at once, and its fragment is gone from the address and the history.
    let made = server.run(&["invite", "--user", "bob", "--room", "ops", "--url", &server.url()]);
    let line = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let secret = line.split('#').nth(1).unwrap();
    let bob = Person::open_address(&browser, &line, &Window::PHONE);
    bob.wait_for_sign_in();
    // Nobody is signed in by a link alone, and the fragment is gone before that.
    assert_eq!(bob.evaluate("location.hash"), "");
    bob.press("Enter");
    bob.wait_until_connected();
    assert_eq!(bob.evaluate("location.href"), format!("http://{}/?room=ops", server.address()));
    let history = bob.call("Page.getNavigationHistory", json!({}));
    let mut entries = history["entries"].as_array().unwrap().iter();
    assert!(entries.all(|entry| !entry["url"].to_string().contains(&secret[4..])), "{history}");
    assert!(!is_in_requests(&bob, &secret[4..]));
    assert!(!bob.kept()["caches"].to_string().contains(&secret[4..]));
    assert_eq!(bob.evaluate("document.referrer"), "");
    bob.say("by invitation");
    let line = bob.wait_for_line("by invitation");
    // As on the terminal, the name of a user with a token is marked.
    ana.wait_for_line(&line[11..]);
    // A reload needs no token again.
    bob.reload();
    bob.wait_until_connected();
    bob.wait_for_line("by invitation");

    // Revoked while signed in: told, and the page asks again.
    server.run_ok(&["token", "revoke", &server.token_id("bob")]);
    bob.wait_for_sign_in();
    bob.wait_for_problem();
    assert!(!bob.keeps(&secret[4..]), "a token that is revoked is not kept");

    // Sign-out leaves nothing.
    ana.wait_for("something is kept", || ana.keeps("by token").then_some(()));
    ana.click("#sign-out");
    ana.wait_for_sign_in();
    ana.wait_for("nothing is kept", || {
        let kept = ana.kept();
        let texts = ["by token", "by invitation", &token[4..], "ana"];
        let kept = json!([kept["local"], kept["session"], kept["databases"]]).to_string();
        texts.iter().all(|text| !kept.contains(text)).then_some(())
    });
    ana.reload();
    ana.wait_for_sign_in();
    assert!(!ana.text().contains("by token"));

    let log = server.log_lines().join("\n");
    for secret in [&token[4..], &secret[4..], "by token", "by invitation"] {
        assert!(!log.contains(secret), "in the server log: {secret}");
    }

    // A banned user is told.
    server.run_ok(&["ctl", "ban", "ana"]);
    ana.enter_token(&token);
    ana.wait_for_problem();
}

#[test]
fn the_keyboard_is_enough_from_sign_in_to_a_sent_message() {
    let server = Server::start();
    let browser = Browser::start();
    let ana = Person::open(&browser, &server, &Window::DESKTOP);
    ana.wait_until("document.activeElement?.id === 'name'");
    ana.type_keys("Ana");
    ana.press("Enter");
    ana.wait_until_connected();
    ana.wait_until("document.activeElement?.id === 'text'");
    ana.type_keys("one");
    ana.press("Shift+Enter");
    ana.type_keys("two");
    ana.press("Enter");
    ana.wait_for_line("two");
    let read = Client::pipe(&["history", "--url", &server.url(), "--since", "all"], b"");
    assert_eq!(read.texts(), ["one\ntwo"]);

    // Tab completes names, round and back; without a name it goes on to the next control.
    let bobs = ["Bob", "Bobby"].map(|name| Client::start(&[&server.url(), "-u", name]));
    ana.wait_for_line("-- Bob joined");
    ana.wait_for_line("-- Bobby joined");
    let typed = "document.querySelector('#text').value";
    ana.type_keys("bo");
    ana.press("Tab");
    assert_eq!(ana.evaluate(typed), "Bob: ");
    ana.press("Tab");
    assert_eq!(ana.evaluate(typed), "Bobby: ");
    ana.press("Shift+Tab");
    assert_eq!(ana.evaluate(typed), "Bob: ");
    ana.type_keys("hi bo");
    ana.press("Tab");
    assert!(ana.evaluate(typed).as_str().unwrap().starts_with("Bob: hi Bob"));
    assert!(!ana.evaluate(typed).as_str().unwrap()[5..].contains(':'));
    ana.press("Enter");
    ana.wait_until(&format!("{typed} === ''"));
    ana.press("Tab");
    ana.wait_until("document.activeElement?.id !== 'text'");
    ana.press("Shift+Tab");
    ana.wait_until("document.activeElement?.id === 'text'");
    drop(bobs);
    ana.wait_for_line("-- Bobby left");

    // Every control that the mouse has, the Tab key reaches.
    let reached = ana.evaluate(
        "[...document.querySelectorAll('button, input, select, a[href], [tabindex], textarea')]
            .filter(one => one.checkVisibility() && one.tabIndex < 0 && !one.disabled && one.tabIndex !== 0)
            .map(one => one.outerHTML.slice(0, 100))",
    );
    assert_eq!(reached, json!([]));
}

#[test]
fn an_end_to_end_room_in_the_address_is_told() {
    let server = Server::with("").start();
    let browser = Browser::start();
    let spanish = Window { language: "es-MX", ..Window::DESKTOP };
    for (window, told) in [
        (&Window::DESKTOP, "this room is end-to-end encrypted; open it with chat-client"),
        (&spanish, "esta sala está cifrada de extremo a extremo; ábrela con chat-client"),
    ] {
        for query in ["?room=%2Bops", "?room=+ops"] {
            let address = format!("http://{}/{query}", server.address());
            let person = Person::open_address(&browser, &address, window);
            person.sign_in("ana");
            let notice = person.evaluate("document.querySelector('#notice').innerText");
            assert!(notice.as_str().unwrap().contains(told), "{query}: {notice}");
        }
    }
}
