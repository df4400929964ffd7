//! What is shown around the messages: rooms, unread counts, notices; and whether everybody can use it.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use crate::page::person::Person;
use crate::support::browser::{Browser, Window};
use crate::support::client::Client;
use crate::support::front::Front;
use crate::support::server::Server;

/// Limits that no quick test reaches.
const FAST: &str = "[limits]\nrate_messages = 1000000\nrate_bytes = 1000000000\n";

const PHONE: Window = Window::PHONE;
const DESKTOP: Window = Window::DESKTOP;
const VIEWS: [Window; 4] =
    [DESKTOP, Window { dark: true, ..DESKTOP }, PHONE, Window { dark: true, ..PHONE }];

fn send(server: &Server, arguments: &[&str]) {
    let sent = Client::pipe(&[&[server.url().as_str()], arguments].concat(), b"");
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
}

#[test]
fn axe_finds_nothing_and_the_page_can_be_installed() {
    let server = Server::with(FAST).start();
    let browser = Browser::start();
    let network = Front::before(server.address());
    // Only a page in the browser's own context can be installed.
    let ana = browser.open_in(None, &format!("http://{}/", network.address()), &DESKTOP);
    let person = Person::from(ana);
    let check = |what: &str| {
        for window in VIEWS {
            person.resize(&window);
            let found = person.accessibility_violations();
            assert!(
                found.is_empty(),
                "{what}, {:?}, dark: {}: {found:#?}",
                window.size,
                window.dark
            );
        }
    };
    person.wait_for_sign_in();
    check("sign in");
    person.sign_in("Ana");
    check("an empty room");
    send(&server, &["-u", "Bob", "send", "Hola Ana! https://chat.example/ is a link"]);
    person.wait_for_line("is a link");
    person.say("Hola Bob!");
    person.wait_for_line("Ana: Hola Bob!");
    check("a conversation");
    person.set_offline(true);
    network.cut();
    person.wait_until_disconnected();
    person.say("waits");
    person.wait_for_outgoing("waits");
    check("offline");
    person.set_offline(false);
    person.wait_until_connected();

    let manifest = person.call("Page.getAppManifest", json!({}));
    assert_eq!(manifest["errors"], json!([]), "{manifest}");
    assert!(manifest["data"].as_str().unwrap().contains("\"icons\""));
    person.wait_until("navigator.serviceWorker.ready.then(() => true)");
    person.wait_for("it can be installed", || {
        let errors = person.call("Page.getInstallabilityErrors", json!({}));
        (errors["installabilityErrors"] == json!([])).then_some(())
    });
}

#[test]
fn other_rooms_and_hidden_pages_count_what_is_unread() {
    let server = Server::with(FAST).start();
    let browser = Browser::start();
    let ana = Person::signed_in(&browser, &server, "Ana", &DESKTOP);
    browser.allow_notifications(&ana);
    ana.join("ops");
    ana.wait_until_connected();
    ana.say("in ops");
    ana.wait_for_line("Ana: in ops");
    // What comes in the room that is not shown is counted.
    for number in 1..=3 {
        send(&server, &["-u", "Bob", "-r", "lobby", "send", &format!("lobby {number}")]);
    }
    ana.wait_until("/3/.test(document.querySelector('#rooms [data-room=lobby]').innerText)");
    ana.wait_until("/3/.test(document.title)");
    assert!(!ana.messages().iter().any(|line| line.contains("lobby")), "it is in another room");
    ana.click("#rooms [data-room=lobby]");
    ana.wait_for_line("Bob: lobby 3");
    ana.wait_until("!/3/.test(document.querySelector('#rooms [data-room=lobby]').innerText)");
    ana.wait_until("!/[0-9]/.test(document.title)");

    // A page that is hidden counts, and tells on request.
    ana.click("#notify");
    ana.set_hidden(true);
    send(&server, &["-u", "Bob", "-r", "lobby", "send", "are you there?"]);
    ana.wait_until("/1/.test(document.title)");
    ana.wait_until("notified.length === 1");
    let told = ana.evaluate("notified");
    assert!(told.to_string().contains("Bob"), "{told}");
    ana.set_hidden(false);
    ana.wait_until("!/[0-9]/.test(document.title)");
    ana.say("yes");
    ana.wait_for_line("Ana: yes");
    assert_eq!(ana.evaluate("notified.length"), 1, "not of one's own");

    ana.click("#leave");
    ana.wait_until("!document.querySelector('#rooms [data-room=lobby]')");
}

/// The pictures that are looked at by eye, in `target/page`.
#[test]
#[ignore = "makes pictures for people"]
fn pictures() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("page");
    std::fs::create_dir_all(&folder).unwrap();
    let mut server = Server::with(FAST).start();
    let browser = Browser::start();
    let person = Person::open(&browser, &server, &DESKTOP);
    let shoot = |person: &Person, what: &str| {
        for window in VIEWS {
            person.resize(&window);
            let kind = if window.phone { "phone" } else { "desktop" };
            let scheme = if window.dark { "dark" } else { "light" };
            person.evaluate(
                "new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))",
            );
            person.screenshot(&folder.join(format!("{what}-{kind}-{scheme}.png")));
        }
        person.resize(&DESKTOP);
    };
    person.wait_for_sign_in();
    shoot(&person, "1-sign-in");
    person.sign_in("Ana");
    shoot(&person, "2-empty");
    let _members: Vec<Client> = (0..30)
        .map(|number| Client::start(&[&server.url(), "-u", &format!("member-{number:02}")]))
        .collect();
    person.wait_for_line("-- member-29 joined");
    for (name, text) in [
        ("Bob", "Hola Ana! Did the nightly build pass?"),
        (
            "deploy-bot.staging",
            "build 4711 passed: https://ci.example/builds/4711?branch=main&very=long&query=0123456789012345678901234567890123456789",
        ),
        ("Eva María Ñúñez-Fernández y Díaz", "¿Y las pruebas? — también ✅ 👩‍🚀"),
        (
            "Bob",
            "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
        ),
        (
            "mallory",
            "<script>alert(1)</script> \u{202e}gnp.exe \u{1b}[2J Z\u{336}\u{489}\u{30d}\u{31a}\u{336}\u{489}\u{30d}\u{31a}\u{336}\u{489}\u{30d}\u{31a}\u{336}\u{489}\u{30d}\u{31a}",
        ),
        (
            "\u{5d3}\u{5e0}\u{5d9}\u{5d0}\u{5dc}",
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd} Ana, 3 \u{5d4}\u{5d5}\u{5d3}\u{5e2}\u{5d5}\u{5ea}",
        ),
    ] {
        send(&server, &["-u", name, "send", text]);
    }
    person.say("First line of a longer message, which goes on for a while so that it has to be broken into several lines on a phone.\nSecond line.\n    indented");
    person.wait_for_line("indented");
    person.say("All here?");
    person.wait_for_line("All here?");
    shoot(&person, "3-conversation");
    for room in ["ops", "a-room-with-a-very-long-name-that-goes-on-and-on-and-on-to-64-ch"] {
        person.join(room);
    }
    for _ in 0..120 {
        send(&server, &["-u", "Bob", "send", "unread"]);
    }
    shoot(&person, "4-rooms");
    person.resize(&PHONE);
    person.click("#menu");
    person.screenshot(&folder.join("4-rooms-phone-open.png"));
    person.press("Escape");
    person.resize(&DESKTOP);
    person.click("#rooms [data-room=lobby]");
    server.kill();
    person.wait_until_disconnected();
    person.say("This waits until the server is back.");
    shoot(&person, "5-offline");
    server.start_again();
    person.wait_until_connected();
    person.fill("#text", &"x".repeat(5000));
    person.press("Enter");
    shoot(&person, "6-too-long");
    let secured = Server::with("[auth]\nmode = \"token\"\n").start();
    let person = Person::open(&browser, &secured, &DESKTOP);
    person.enter_token("sct_wrong");
    person.wait_for_problem();
    shoot(&person, "7-wrong-token");
}

/// How long it takes from opening the page to the first message on it.
#[test]
#[ignore = "measures"]
fn the_time_to_the_first_message() {
    let server = Server::start();
    let browser = Browser::start();
    let person = Person::signed_in(&browser, &server, "Ana", &DESKTOP);
    send(&server, &["-u", "Bob", "send", "the newest"]);
    person.wait_for_line("Bob: the newest");
    person.wait_until("navigator.serviceWorker.ready.then(() => true)");
    let source = "new MutationObserver((_, observer) => {
        if (!document.querySelector('#log')?.innerText.includes('the newest')) return;
        observer.disconnect();
        window.firstMessage = performance.now();
    }).observe(document, {childList: true, subtree: true, characterData: true})";
    person.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": source}));
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        person.reload();
        person.wait_until("window.firstMessage > 0");
        assert!(began.elapsed().as_secs() < 60);
        times.push(person.evaluate("window.firstMessage").as_f64().unwrap());
    }
    times.sort_by(f64::total_cmp);
    println!(
        "first message after {:.0} ms (median), {:.0} ms (slowest of {})",
        times[times.len() / 2],
        times[times.len() - 1],
        times.len()
    );
}
