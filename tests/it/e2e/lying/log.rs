//! A log that is not the same for all members, or not the one that was: replayed, turned round, cut and altered entries.

use serde_json::{Value, json};

use super::proxy::{Proxy, Way, retold};
use super::{AnaAndBob, EVIDENCE, ROOM, ends_with_evidence, messages};
use crate::e2e::member::{Member, open_room};
use crate::support::server::Server;

#[test]
fn a_message_that_comes_again_is_not_shown_and_ends_with_79() {
    let mut room = AnaAndBob::new();
    let mut first = None;
    room.proxy.lie_to_client(retold(ROOM, move |entry| {
        let again = first.get_or_insert_with(|| entry.clone()).clone();
        // Its own base is the newest commit still, so nothing but the content tells.
        if again == entry { vec![entry] } else { vec![again, entry] }
    }));
    room.ana_says("one\n");
    room.listener.wait_for_text("one");
    room.ana_says("two\n");
    let ended = room.bob_ends("the server replayed a message");
    assert_eq!(ended.texts().iter().filter(|text| *text == "one").count(), 1, "{ended:?}");
}

#[test]
fn two_messages_that_were_swapped_are_shown_once_and_end_with_79_at_the_next() {
    let mut room = AnaAndBob::new();
    let mut held = Vec::new();
    room.proxy.lie_to_client(retold(ROOM, move |entry| {
        held.insert(0, entry);
        if held.len() == 1 { Vec::new() } else { std::mem::take(&mut held) }
    }));
    room.ana_says("one\ntwo\n");
    room.listener.wait_for_text("one");
    room.proxy.lie_to_client(|frame| vec![frame]);
    room.ana_says("three\n");
    let ended = room.bob_ends("were shown different records of +ops");
    assert_eq!(ended.texts(), ["ready", "two", "one", "three"]);
}

#[test]
fn a_message_that_was_left_out_is_told_as_missing_and_ends_with_79_at_the_next() {
    let mut room = AnaAndBob::new();
    let mut count = 0;
    room.proxy.lie_to_client(retold(ROOM, move |entry| {
        count += 1;
        if count == 2 { Vec::new() } else { vec![entry] }
    }));
    room.ana_says("one\ntwo\nthree\n");
    room.listener.wait_for_text("three");
    let missing = room.listener.wait_for("the hole", |frame| frame["type"] == "missing");
    assert_eq!(
        (&missing["from"], &missing["first"], &missing["last"]),
        (&json!("ana"), &json!(3), &json!(3))
    );
    room.ana_says("four\n");
    let ended = room.bob_ends("were shown different records of +ops");
    assert!(!ended.texts().contains(&"two".to_owned()), "{ended:?}");
}

#[test]
fn a_message_with_another_name_id_kind_or_base_is_not_shown_and_ends_with_79_and_another_time_is_not_believed()
 {
    type Alter = fn(&mut Value);
    let other_record = "were shown different records of +ops";
    let cases: [(&str, Alter, &str); 6] = [
        ("name", |entry| entry["username"] = "bob".into(), other_record),
        ("device", |entry| entry["device"] = "aaaaaaaaaaaaaaaa".into(), other_record),
        ("id", |entry| entry["id"] = "other".into(), other_record),
        ("kind", |entry| entry["kind"] = "commit".into(), "was written after the change at"),
        ("base", |entry| entry["base"] = 1.into(), "was written after the change at #1"),
        ("time", |entry| entry["timestamp"] = "2001-01-01T00:00:00.000000Z".into(), ""),
    ];
    let server = Server::start();
    let ana = Member::new(&server, "ana");
    let proxies: Vec<Proxy> = cases.iter().map(|_| Proxy::before(&server)).collect();
    let members: Vec<Member> = (cases.iter().zip(&proxies))
        .map(|((name, ..), proxy)| Member::new(&server, name).through(&proxy.url()))
        .collect();
    let listeners = open_room(ROOM, &ana, &members.iter().collect::<Vec<_>>());
    for ((_, alter, ..), proxy) in cases.iter().zip(&proxies) {
        let (alter, mut is_first) = (*alter, true);
        proxy.lie_to_client(move |mut entry| {
            if entry["kind"] == "message" && std::mem::take(&mut is_first) {
                alter(&mut entry);
            }
            vec![entry]
        });
    }
    // A member can have sent such an entry, but the next message shows that the others were told something else.
    for text in ["hola\n", "hola again\n"] {
        let said = ana.pipe(text, &["-r", ROOM, "--quiet"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    for ((name, _, words), mut listener) in cases.iter().zip(listeners) {
        if words.is_empty() {
            let shown = listener.wait_for_text("hola");
            assert_ne!(&shown["timestamp"].as_str().unwrap()[..4], "2001", "{shown}");
            continue;
        }
        let ended = ends_with_evidence(&mut listener, words);
        assert!(!ended.texts().contains(&"hola".to_owned()), "{ended:?}");
        let is_told = ended.lines.iter().any(|line| line.contains("unreadable"));
        assert_eq!(is_told, *name != "base", "{ended:?}");
    }
}

#[test]
fn an_author_whose_entry_is_given_to_somebody_else_ends_with_79() {
    let AnaAndBob { server: _server, bob, proxy, listener, .. } = AnaAndBob::new();
    drop(listener);
    proxy.lie_to_client(|mut frame| {
        if frame["username"] == "bob" && frame["kind"] == "message" {
            frame["username"] = "ana".into();
        }
        vec![frame]
    });
    let said = bob.pipe("two\n", &["-r", ROOM]);
    assert_eq!(said.code, EVIDENCE, "{said:?}");
    assert!(said.errors.contains("is from ana, and it is from bob's device here"), "{said:?}");
}

#[test]
fn a_message_that_was_stored_and_refused_at_once_is_shown_once_and_sent_once() {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let ana = Member::new(&server, "ana").through(&proxy.url());
    let bob = Member::new(&server, "bob");
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    // The ack becomes a refusal that names the commit on which the message was based, which is no reason.
    let mut lies = 0;
    proxy.lie_to_client(move |mut frame| {
        if frame["type"] == "ack" && lies == 0 {
            lies += 1;
            frame = json!({"type": "error", "code": "stale_base", "room": ROOM, "id": frame["id"],
                "base": 2, "temporary": true, "message": "stale"});
        }
        vec![frame]
    });
    let said = ana.pipe("once\n", &["-r", ROOM, "--timeout", "10s"]);
    assert_eq!((said.code, said.texts()), (Some(0), vec!["once".to_owned()]), "{said:?}");
    ana.send(ROOM, "the end");
    listener.wait_for_text("the end");
    let texts: Vec<_> = listener.frames().iter().map(|frame| frame["content"].clone()).collect();
    assert_eq!(texts, ["once", "the end"]);
}

#[test]
fn endless_refusals_as_stale_end_with_75_and_few_frames() {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let ana = Member::new(&server, "ana").through(&proxy.url());
    ana.run_ok(&["room", "create", ROOM]);
    proxy.lie(|way, frame| match way {
        Way::ToServer if frame["type"] == "chat_message" => vec![(
            Way::ToClient,
            json!({"type": "error", "code": "stale_base", "room": ROOM, "id": frame["id"],
                "base": frame["base"].as_u64().unwrap() + 1, "temporary": true, "message": "stale"}),
        )],
        _ => vec![(way, frame)],
    });
    let before = proxy.client_frames().len();
    let said = ana.pipe("hola\n", &["-r", ROOM, "--timeout", "3s"]);
    assert_eq!(said.code, Some(75), "{said:?}");
    assert!(said.errors.contains("line 1"), "{said:?}");
    let frames = proxy.client_frames().len() - before;
    assert!(frames < 40, "{frames} frames in three seconds");
}

#[test]
fn a_log_that_ends_earlier_than_it_did_is_evidence() {
    let room = AnaAndBob::new();
    room.ana_says("one\ntwo\n");
    room.listener.wait_for_text("two");
    let AnaAndBob { server: _server, bob, proxy, listener, .. } = room;
    drop(listener);
    proxy.lie_to_client(|mut frame| {
        if frame["type"] == "welcome" {
            frame["rooms"][ROOM]["seq"] = 1.into();
        }
        vec![frame]
    });
    let said = bob.pipe("hola\n", &["-r", ROOM]);
    assert_eq!(said.code, EVIDENCE, "{said:?}");
    assert!(said.errors.contains("ends at #1, and this device has read #"), "{said:?}");
    assert_eq!(messages(&proxy.client_frames()), 0, "nothing was said to it");
}

#[test]
fn a_reader_who_is_called_a_writer_is_told_what_it_was_not_sent() {
    let AnaAndBob { server, ana, bob, proxy, listener } = AnaAndBob::new();
    drop(listener);
    let mut count = 0;
    proxy.lie_to_client(move |mut frame| {
        if frame["type"] == "welcome" {
            frame["e2e"]["write_only"] = json!([ROOM]);
        }
        let is_second = frame["type"] == "chat_message" && frame["kind"] == "message" && {
            count += 1;
            count == 2
        };
        if is_second { Vec::new() } else { vec![frame] }
    });
    let mut listener = bob.listen(ROOM);
    ana.send(ROOM, "one");
    listener.wait_for_text("one");
    ana.send(ROOM, "two");
    ana.send(ROOM, "three");
    listener.wait_for_text("three");
    let gap = listener.wait_for("the gap", |line| line["type"] == "gap");
    assert_eq!(gap["next"].as_u64().unwrap() - gap["after"].as_u64().unwrap(), 2, "{gap}");
    assert_eq!(gap["reason"], "write_only");
    // A change of the group can't be kept back so: everything after it speaks of it.
    proxy.lie_to_client(retold(ROOM, |entry| match entry["kind"] == "commit" {
        true => Vec::new(),
        false => vec![entry],
    }));
    let eve = Member::new(&server, "eve");
    let _waiting = eve.wait_outside(ROOM);
    ana.run_ok(&["room", "add", ROOM, "eve"]);
    ana.send(ROOM, "four");
    ends_with_evidence(&mut listener, "was written after the change at");
}

#[test]
fn a_message_that_was_deleted_before_its_device_read_it_is_not_sent_for_ever() {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let (ana, bob) =
        (Member::new(&server, "ana").through(&proxy.url()), Member::new(&server, "bob"));
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    // Ana's client learns that her message is stored, and ends before it comes back.
    proxy.lie_to_client(|frame| match frame["kind"] == "message" {
        true => Vec::new(),
        false => vec![frame],
    });
    ana.send(ROOM, "a secret");
    let secret = listener.wait_for_text("a secret");
    proxy.lie_to_client(|frame| vec![frame]);
    server.run_ok(&["ctl", "delete", ROOM, &secret["seq"].to_string()]);
    for _ in 0..3 {
        ana.send(ROOM, "hola");
    }
    let is_sent = |frame: &&Value| frame["type"] == "chat_message" && frame["id"] == secret["id"];
    assert_eq!(
        proxy.client_frames().iter().filter(is_sent).count(),
        2,
        "once more, to learn of it"
    );
}
