//! A server that keeps back everything new, or shows two halves of the members two different rooms.

use serde_json::Value;

use super::{AnaAndBob, ROOM, ends_with_evidence};
use crate::e2e::device::Device;
use crate::e2e::member::Member;
use crate::support::eventually;
use crate::support::server::Server;

/// The digits of `room check`.
fn digits(member: &Member) -> String {
    member.run_ok(&["room", "check", ROOM]).lines.concat()
}

/// Another device of this member, which comes into the room by itself and says this.
fn new_device_says(member: &Member, server: &Server, folder: &tempfile::TempDir, text: &str) {
    let home = folder.path().join(&member.name);
    member.run_ok(&["device", "add", "--out", home.to_str().unwrap()]);
    Member::at(server, &member.name, &home).send(ROOM, text);
}

/// The room ends here for the client.
fn frozen_at(last: u64) -> impl FnMut(Value) -> Vec<Value> + Send + 'static {
    move |mut frame| {
        let is_newer = frame["type"] == "chat_message" && frame["seq"].as_u64() > Some(last);
        if frame["type"] == "welcome" {
            frame["rooms"][ROOM]["seq"] = last.into();
        }
        if is_newer { Vec::new() } else { vec![frame] }
    }
}

/// The word for the epoch of the server's log of the room.
fn epoch(server: &Server) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let spy = runtime.block_on(Device::enter(server, "spy", ROOM));
    spy.welcome["rooms"][ROOM]["epoch"].clone()
}

#[test]
fn a_frozen_room_looks_quiet_and_the_digits_differ_after_the_next_commit() {
    let room = AnaAndBob::new();
    assert_eq!(digits(&room.ana), digits(&room.bob));
    let last = room.newest_message()["seq"].as_u64().unwrap();
    room.proxy.lie_to_client(frozen_at(last));
    // The digits are those of the members and their keys, not of what was said.
    room.ana_says("unheard\n");
    assert_eq!(digits(&room.ana), digits(&room.bob));
    let folder = tempfile::tempdir().unwrap();
    new_device_says(&room.ana, &room.server, &folder, "from a new device");
    let frozen = digits(&room.bob);
    assert_ne!(digits(&room.ana), frozen);
    // Nothing else can show it to Bob.
    assert_eq!(room.listener.frames().len(), 1, "{:?}", room.listener.lines());
    room.proxy.lie_to_client(|frame| vec![frame]);
    room.ana_says("at last\n");
    room.listener.wait_for_text("at last");
    let seen: Vec<_> = room.listener.frames().iter().map(|line| line["content"].clone()).collect();
    assert_eq!(seen, ["ready", "unheard", "from a new device", "at last"]);
    assert_eq!(digits(&room.ana), digits(&room.bob));
}

#[test]
fn halves_that_were_shown_two_commits_never_read_each_other_and_their_digits_differ() {
    // Either both commits have the same place, or there is a message more before one of them.
    for before in ["", "before\n"] {
        let AnaAndBob { server, ana, bob, proxy, listener } = AnaAndBob::new();
        drop(listener);
        let other = Server::copy_of(&server);
        proxy.redirect(&other);
        let folder = tempfile::tempdir().unwrap();
        new_device_says(&bob, &other, &folder, "from bob's half");
        let read = bob.run_ok(&["-r", ROOM, "--since", "all", "--timeout", "1s"]);
        assert!(read.texts().contains(&"from bob's half".to_owned()), "{read:?}");
        let said = ana.pipe(before, &["-r", ROOM]);
        assert_eq!(said.code, Some(0), "{said:?}");
        new_device_says(&ana, &server, &folder, "from ana's half");
        let said = ana.pipe("one\ntwo\n", &["-r", ROOM]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(!said.texts().contains(&"from bob's half".to_owned()), "{said:?}");
        assert_ne!(digits(&ana), digits(&bob));
        // The halves are joined again, and the server says that it is the log which Bob has read.
        proxy.redirect(&server);
        let epoch = epoch(&server);
        proxy.lie(move |way, mut frame| {
            if let Some(position) = frame["resume"].get_mut(ROOM) {
                position["epoch"] = epoch.clone();
            }
            vec![(way, frame)]
        });
        let mut listener = bob.listen(ROOM);
        if before.is_empty() {
            // A member could have sent what can't be read, so it is told under its name.
            let told = || listener.frames().into_iter().find(|line| line["type"] == "unreadable");
            eventually("it is told", || {
                ana.send(ROOM, "three");
                told().is_some()
            });
            let told = told().unwrap();
            assert_eq!(told["username"], "ana", "{told}");
            let shown = listener.frames();
            assert!(shown.iter().all(|line| line["type"] != "chat_message"), "{shown:?}");
            continue;
        }
        let ended = ends_with_evidence(&mut listener, "was written after the change at");
        assert!(!format!("{ended:?}").contains("two"), "{ended:?}");
    }
}
