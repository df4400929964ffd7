//! The browser of these tests sees what no page may do.

use std::net::TcpListener;

use crate::browser::Site;
use crate::support::browser::{Browser, Window};

/// A page that does all of it.
const WRONG: &str = "<!doctype html><title>wrong</title>
    <meta http-equiv='Content-Security-Policy' content=\"style-src 'none'\">
    <body style='color: red'><p>text</p>
    <script>
    fetch('http://127.0.0.1:9/elsewhere').catch(() => {});
    canary('inline');
    alert('a question');
    setTimeout(() => { throw new Error('thrown') });
    Promise.reject(new Error('rejected'));
    console.log('a line', 7);
    </script>";

#[test]
fn the_browser_sees_what_no_page_may_do() {
    let site = Site::serve(TcpListener::bind("127.0.0.1:0").unwrap(), WRONG.into());
    let (browser, quiet) = (Browser::start(), Browser::start());
    let tab = browser.open_address(&format!("{}/", site.origin), &Window::PHONE);
    let expected = [
        "Content-Security-Policy: style-src-attr",
        "a request to another server: http://127.0.0.1:9/elsewhere",
        "a script of a message ran: inline",
        "a dialog: a question",
        "an exception was not caught: Error: thrown",
        "an exception was not caught: Error: rejected",
    ];
    tab.wait_for(&format!("{expected:#?}"), || {
        let found = browser.violations();
        let has = |word: &&str| found.iter().any(|one| one.starts_with(*word));
        expected.iter().all(has).then_some(())
    });
    assert!(tab.console().contains(&"log: a line 7".to_owned()), "{:#?}", tab.console());
    assert!(!tab.accessibility_violations().is_empty(), "no language is set");
    browser.forgive();

    // The words that the other tests use.
    let page = "<!doctype html><html lang=en><title>fine</title>
        <meta name=viewport content='width=device-width'><main><h1>fine</h1>
        <textarea aria-label=Text></textarea><button>Say</button></main>
        <script>document.querySelector('button').onclick = () => document.title = 'clicked'</script>";
    let site = Site::serve(TcpListener::bind("127.0.0.1:0").unwrap(), page.into());
    let window = Window { dark: true, language: "es", zone: "Asia/Kolkata", ..Window::PHONE };
    let tab = quiet.open_address(&format!("{}/", site.origin), &window);
    assert_eq!(tab.accessibility_violations(), Vec::<String>::new());
    assert_eq!(tab.evaluate("navigator.language"), "es");
    assert_eq!(tab.evaluate("new Date().getTimezoneOffset()"), -330);
    assert_eq!(tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches"), true);
    assert_eq!(tab.evaluate("innerWidth"), 390);
    assert_eq!(tab.evaluate("matchMedia('(pointer: fine)').matches"), true);
    tab.press("Tab");
    tab.type_keys("Hola");
    tab.press("Shift+Enter");
    tab.insert("Bob!");
    assert_eq!(tab.evaluate("document.querySelector('textarea').value"), "Hola\nBob!");
    tab.click("button");
    tab.wait_until("document.title === 'clicked'");
    tab.set_hidden(true);
    tab.set_hidden(false);
    tab.set_offline(true);
    assert_eq!(tab.evaluate("navigator.onLine"), false);
    assert_eq!(tab.evaluate("fetch('/').then(() => 'sent', () => 'offline')"), "offline");
    tab.set_offline(false);
    assert_eq!(tab.evaluate("fetch('/').then(() => 'sent', () => 'offline')"), "sent");
    let folder = tempfile::tempdir().unwrap();
    tab.screenshot(&folder.path().join("page.png"));
    assert!(folder.path().join("page.png").metadata().unwrap().len() > 1000);
}
