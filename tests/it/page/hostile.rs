//! Ten thousand messages that try to be more than text, and the way back through all of them.

use std::collections::BTreeSet;

use serde_json::json;

use crate::page::payloads::{NAMES, mark, messages};
use crate::page::person::Person;
use crate::support::browser::{Browser, Window};
use crate::support::server::Server;
use crate::support::wire::Wire;

/// Limits that no quick test reaches.
const FAST: &str = "[limits]\nrate_messages = 1000000\nrate_bytes = 1000000000\n";

const COUNT: usize = 10_000;
/// The most elements that the document has, however long the history is.
const MAX_ELEMENTS: u64 = 20_000;

/// What is wrong with the page, after whatever it shows.
const WRONG: &str = "(() => {
    const wrong = [];
    const log = document.querySelector('#log');
    for (const bad of log.querySelectorAll('script, style, iframe, object, embed, img, svg, form, input, link, meta, base, template'))
        wrong.push(`an element: ${bad.outerHTML.slice(0, 200)}`);
    for (const one of log.querySelectorAll('*'))
        for (const {name, value} of one.attributes)
            if (name.startsWith('on') || name === 'srcdoc' || (name === 'href' && !/^https?:/.test(value)))
                wrong.push(`an attribute: ${name}=${value.slice(0, 200)}`);
    if (document.querySelectorAll('base, meta[http-equiv=refresh]').length) wrong.push('base or refresh');
    if (({}).content !== undefined || ({}).polluted !== undefined) wrong.push('a prototype');
    if (log.scrollWidth > log.clientWidth) wrong.push(`the log is ${log.scrollWidth} wide`);
    return wrong;
})()";

fn assert_unharmed(person: &Person) {
    assert_eq!(person.evaluate(WRONG), json!([]));
    person.assert_layout();
    let elements = person.evaluate("document.querySelectorAll('*').length").as_u64().unwrap();
    assert!(elements < MAX_ELEMENTS, "{elements} elements");
}

/// The numbers of the messages that are in the document.
fn shown(person: &Person) -> BTreeSet<usize> {
    let numbers = person.evaluate(
        "[...document.querySelectorAll('#log [data-seq]')].map(line => Number(/end of (\\d+)\\s*$/.exec(line.textContent)?.[1] ?? -1))",
    );
    let numbers = numbers.as_array().unwrap().iter();
    numbers.filter_map(|number| number.as_i64()?.try_into().ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_messages_stay_text_and_can_be_read_back_to_the_first() {
    let server = Server::with(FAST).start();
    let browser = Browser::start();
    let ana = Person::signed_in(&browser, &server, "ana", &Window::PHONE);
    let title = ana.evaluate("document.title");

    // Live, from people with names of all kinds.
    let texts = messages(COUNT);
    let (mut wire, _) = Wire::full(&server, "eve", "lobby").await;
    let mut unacked = 0;
    for (number, text) in texts.iter().enumerate() {
        wire.send_chat_in("lobby", &format!("id-{number}"), text).await;
        unacked += 1;
        while unacked >= 64 {
            wire.next_of("ack").await;
            unacked -= 1;
        }
    }
    for name in NAMES {
        let (mut wire, _) = Wire::full(&server, name, "lobby").await;
        wire.send_chat_and_wait("lobby", "pose", "-- ana left").await;
    }
    let (mut bob, _) = Wire::full(&server, "bob", "lobby").await;
    bob.send_chat_and_wait("lobby", "end", "the end").await;
    ana.wait_for_line("bob: the end");
    assert_unharmed(&ana);
    assert_eq!(ana.evaluate("document.title"), title);

    // From the history: each is seen on the way back to the first.
    ana.reload();
    ana.wait_for_line("bob: the end");
    let mut seen = BTreeSet::new();
    let mut rounds = 0;
    while !seen.contains(&0) {
        ana.evaluate("document.querySelector('#log').scrollTop = 0");
        let before = seen.len();
        ana.wait_for(&format!("older messages than {:?}", seen.first()), || {
            seen.extend(shown(&ana));
            (seen.len() > before).then_some(())
        });
        rounds += 1;
        if rounds % 8 == 0 {
            assert_unharmed(&ana);
        }
    }
    assert_unharmed(&ana);
    let missing: Vec<usize> = (0..COUNT).filter(|number| !seen.contains(number)).collect();
    assert!(missing.is_empty(), "{missing:?} after {rounds} rounds");
    let first = format!("canary(0)</script> {}", mark(0));
    assert!(ana.text().contains(&first), "{}", ana.describe());

    // Back to the newest.
    ana.click("#newest");
    ana.wait_for_line("bob: the end");
    assert_unharmed(&ana);
    assert_eq!(ana.evaluate("document.title"), title);
    ana.say("<img src=x onerror=canary('own')>");
    ana.wait_for_line("ana: <img src=x onerror=canary('own')>");
}
