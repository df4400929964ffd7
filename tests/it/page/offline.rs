//! Without a network, and without a server.

use crate::page::person::{Person, stored};
use crate::support::browser::{Browser, Window};
use crate::support::client::Client;
use crate::support::front::Front;
use crate::support::server::Server;

#[test]
fn what_is_written_offline_is_kept_and_sent_once_and_reading_works_without_a_server() {
    let mut server = Server::start();
    let network = Front::before(server.address());
    let browser = Browser::start();
    let address = format!("http://{}/", network.address());
    let ana = Person::open_address(&browser, &address, &Window::PHONE);
    ana.click("#keep");
    ana.sign_in("Ana");
    ana.say("before");
    ana.wait_for_line("Ana: before");
    ana.wait_until("navigator.serviceWorker.ready.then(() => true)");

    // Offline: what she writes waits, also over a reload.
    ana.set_offline(true);
    network.cut();
    ana.wait_until_disconnected();
    ana.say("offline 1");
    ana.say("offline 2");
    ana.wait_for_outgoing("offline 2");
    ana.assert_layout();
    ana.reload();
    ana.wait_for_line("Ana: before");
    ana.wait_for_outgoing("offline 1");
    ana.say("offline 3");
    ana.wait_for_outgoing("offline 3");
    assert_eq!(stored(&server), ["Ana: before"]);
    let sent = Client::pipe(&[&server.url(), "-u", "Bob", "send", "meanwhile"], b"");
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    ana.set_offline(false);
    ana.wait_until_connected();
    let mut lines =
        ["Ana: before", "Bob: meanwhile", "Ana: offline 1", "Ana: offline 2", "Ana: offline 3"]
            .map(str::to_owned)
            .to_vec();
    ana.wait_for_messages(&lines);
    assert_eq!(stored(&server), lines);

    ana.wait_for("the last message is kept", || {
        let items = ana.kept()["databases"]["secure-chat/items"].to_string();
        items.contains("offline 3").then_some(())
    });

    // The server is down: the page is there, with the last messages, and says so.
    server.kill();
    ana.reload();
    ana.wait_for_messages(&lines);
    ana.wait_until_disconnected();
    ana.say("while it is down");
    ana.wait_for_outgoing("while it is down");
    // A second tab of the same browser does not send it, too.
    let twin = Person::from(browser.open_in(Some(ana.context()), &address, &Window::PHONE));
    twin.wait_for_line("Ana: offline 3");
    server.start_again();
    ana.wait_for_line("Ana: while it is down");
    ana.wait_until_connected();
    twin.wait_until_connected();
    ana.say("after");
    ana.wait_for_line("Ana: after");
    lines.extend(["Ana: while it is down", "Ana: after"].map(str::to_owned));
    assert_eq!(stored(&server), lines);
    for tab in [&ana, &twin] {
        tab.wait_for_messages(&lines);
    }
}
