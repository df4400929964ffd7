//! A server that lies. The server and its log are the real ones; a proxy before the clients of one member, or a member
//! made from the library, does what an honest one does not. The clients are real, and each test is named after what
//! they must do.

mod acks;
mod canary;
mod commits;
mod confidential;
mod halves;
mod insider;
mod invitations;
mod keys;
mod log;
mod noise;
pub mod proxy;

use proxy::Proxy;
use serde_json::Value;

use super::member::{Member, open_room};
use crate::support::TIMEOUT;
use crate::support::client::{Client, Finished};
use crate::support::server::Server;

const ROOM: &str = "+ops";

/// The exit code of a client to which the server showed what no honest server shows.
const EVIDENCE: Option<i32> = Some(79);
/// The exit code of a client that met a key that it does not trust.
const IDENTITY: Option<i32> = Some(78);

/// Ana and Bob in a room. Bob listens through a proxy, and was shown "ready".
struct AnaAndBob {
    server: Server,
    ana: Member,
    bob: Member,
    proxy: Proxy,
    listener: Client,
}

impl AnaAndBob {
    fn new() -> Self {
        let server = Server::start();
        let proxy = Proxy::before(&server);
        let ana = Member::new(&server, "ana");
        let bob = Member::new(&server, "bob").through(&proxy.url());
        let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
        // Bob renews his keys at once; a lie begins after that.
        proxy.wait_for_server("Bob's own commit", |frame| {
            frame["kind"] == "commit" && frame["username"] == "bob"
        });
        let room = AnaAndBob { server, ana, bob, proxy, listener };
        room.ana_says("ready\n");
        room.listener.wait_for_text("ready");
        room
    }

    /// Ana says these lines in one run, so none of them was written after another one was read.
    fn ana_says(&self, text: &str) {
        let said = self.ana.pipe(text, &["-r", ROOM, "--quiet"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    /// The newest message that came from the server for Bob.
    fn newest_message(&self) -> Value {
        let frames = self.proxy.server_frames();
        frames.into_iter().rfind(|frame| frame["kind"] == "message").expect("a message")
    }

    /// Waits until Bob's listener ends because of evidence with these words, and gives what it printed.
    fn bob_ends(&mut self, words: &str) -> Finished {
        ends_with_evidence(&mut self.listener, words)
    }
}

/// Waits until a client ends because of evidence with these words.
fn ends_with_evidence(client: &mut Client, words: &str) -> Finished {
    let ended = client.wait_for_exit(TIMEOUT);
    assert_eq!(ended.code, EVIDENCE, "{ended:?}");
    assert!(ended.errors.contains(words), "{words}: {ended:?}");
    ended
}

/// How many of these frames of a client say something in a room; commits do not.
fn messages(frames: &[Value]) -> usize {
    let is_message = |frame: &&Value| frame["type"] == "chat_message" && frame["kind"] != "commit";
    frames.iter().filter(is_message).count()
}

/// Whether the client's process has ended.
fn has_ended(client: &Client) -> bool {
    std::fs::metadata(format!("/proc/{}/exe", client.pid())).is_err()
}
