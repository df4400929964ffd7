//! Keys that the server gives as somebody's and that are not.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secure_chat::crypto::fingerprint;
use serde_json::Value;

use super::insider::{Insider, keys_of};
use super::proxy::Proxy;
use super::{EVIDENCE, IDENTITY, ROOM};
use crate::e2e::member::Member;
use crate::support::client::Finished;
use crate::support::eventually;
use crate::support::server::Server;

/// Ana, who has opened the room, and Bob, whose keys are on the server.
struct Scene {
    server: Server,
    ana: Member,
    proxy: Proxy,
    bob: Member,
}

fn scene() -> Scene {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let ana = Member::new(&server, "ana").through(&proxy.url());
    let bob = Member::new(&server, "bob");
    drop(bob.wait_outside(ROOM));
    ana.run_ok(&["room", "create", ROOM]);
    Scene { server, ana, proxy, bob }
}

impl Scene {
    /// Ana adds Bob, for whom the server hands out these keys.
    fn ana_adds_bob_with(&self, users: Value) -> Finished {
        self.proxy.lie_to_client(move |mut frame| {
            if frame["type"] == "e2e_keys" && frame.get("users").is_some() {
                frame["users"] = users.clone();
            }
            vec![frame]
        });
        self.ana.run(&["room", "add", ROOM, "bob"])
    }

    /// The digits that Bob sees for himself and Ana.
    fn bobs_digits(&self) -> String {
        let [ana, bob] = [&self.ana, &self.bob].map(|member| Insider::of(member).user_key());
        fingerprint::of_users(("bob", &bob), ("ana", &ana))
    }

    fn commits(&self) -> usize {
        let frames = self.proxy.client_frames();
        frames.iter().filter(|frame| frame["kind"] == "commit").count()
    }
}

/// The keys of another Bob, who is known to another server.
fn keys_of_another_bob() -> (Server, Member, Value) {
    let server = Server::start();
    let other = Member::new(&server, "bob");
    drop(other.wait_outside(ROOM));
    let keys = keys_of(&server, "bob");
    (server, other, keys)
}

#[test]
fn another_key_for_a_known_user_ends_with_78_and_adds_nobody() {
    let scene = scene();
    // Ana knows Bob from another room.
    scene.ana.run_ok(&["room", "create", "+known", "--add", "bob"]);
    let (_server, _other, keys) = keys_of_another_bob();
    let before = scene.commits();
    let refused = scene.ana_adds_bob_with(keys);
    assert_eq!(refused.code, IDENTITY, "{refused:?}");
    assert!(refused.errors.contains("bob's key is not the one pinned on"), "{refused:?}");
    assert_eq!(scene.commits(), before, "no commit was sent");
}

#[test]
fn another_key_for_an_unknown_user_is_told_and_the_digits_show_it() {
    let scene = scene();
    let (_server, _other, keys) = keys_of_another_bob();
    let added = scene.ana_adds_bob_with(keys);
    assert_eq!(added.code, Some(0), "{added:?}");
    assert!(added.errors.contains("seen for the first time"), "{added:?}");
    // Bob himself is let in by nobody, and his digits are others.
    scene.proxy.lie_to_client(|frame| vec![frame]);
    let digits = scene.ana.run_ok(&["verify", "bob"]).lines.join(" ");
    let bobs = scene.bobs_digits();
    assert_ne!(digits, bobs);
    let verified = scene.ana.run(&["verify", "bob", "--code", &bobs]);
    assert_eq!(verified.code, IDENTITY, "{verified:?}");
    let shut_out = scene.bob.pipe("hola\n", &["-r", ROOM, "--timeout", "2s"]);
    assert_eq!(shut_out.code, Some(75), "{shut_out:?}");
}

#[test]
fn a_key_package_that_does_not_fit_its_certificate_is_evidence_and_adds_nobody() {
    let scene = scene();
    let keys = keys_of(&scene.server, "bob");
    let bobs = &keys["bob"][0];
    let certificate = STANDARD.decode(bobs["cert"].as_str().unwrap()).unwrap();
    let package = STANDARD.decode(bobs["key_package"].as_str().unwrap()).unwrap();
    let mut mallory = Insider::stranger("mallory");
    let forged = mallory.key_package_under(&certificate).content;
    let mut bent = package.clone();
    let last = bent.len() - 1;
    bent[last] ^= 1;
    let mut carol = Insider::stranger("carol");
    let own = carol.certificate();
    let foreign = carol.key_package_under(&own).content;
    for (what, content, words) in [
        ("own keys under Bob's certificate", forged, "is not signed by bob"),
        ("a changed signature", bent, "is not signed by bob"),
        ("cut", package[..package.len() / 2].to_vec(), "is not signed by bob"),
        ("another user's", foreign, "the server gave a key package of carol's device"),
        ("nothing", Vec::new(), "is not signed by bob"),
    ] {
        let mut users = keys.clone();
        users["bob"][0]["key_package"] = STANDARD.encode(content).into();
        let before = scene.commits();
        let refused = scene.ana_adds_bob_with(users);
        assert_eq!(refused.code, EVIDENCE, "{what}: {refused:?}");
        assert!(refused.errors.contains(words), "{what}: {refused:?}");
        assert_eq!(scene.commits(), before, "{what}: no commit was sent");
    }
}

/// The key packages that the server hands out for Bob, until it has none left but the one of last resort.
fn key_packages(server: &Server) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let keys = keys_of(server, "bob");
        let is_last = keys["bob"][0]["last_resort"] == true;
        all.push(keys);
        if is_last {
            return all;
        }
    }
}

#[test]
fn one_key_package_for_two_adders_opens_one_room_and_the_other_lets_him_in_by_another_one() {
    let scene = scene();
    let dev_proxy = Proxy::before(&scene.server);
    let carol = Member::new(&scene.server, "carol").through(&dev_proxy.url());
    carol.run_ok(&["room", "create", "+dev"]);
    let keys = keys_of(&scene.server, "bob");
    let added = scene.ana_adds_bob_with(keys.clone());
    assert_eq!(added.code, Some(0), "{added:?}");
    let bob = scene.bob.start(&["-r", ROOM, "-r", "+dev", "--listen"]);
    eventually("he is in the first room", || bob.errors().contains("let into +ops; members"));
    dev_proxy.lie_to_client(move |mut frame| {
        if frame["type"] == "e2e_keys" && frame.get("users").is_some() {
            frame["users"] = keys.clone();
        }
        vec![frame]
    });
    carol.run_ok(&["room", "add", "+dev", "bob"]);
    eventually("it is told", || bob.errors().contains("chat-client room remove +dev --device"));
    assert!(!bob.errors().contains("let into +dev; members"), "{}", bob.errors());
    carol.send("+dev", "not for bob yet");
    // With an honest answer she lets him in.
    dev_proxy.lie_to_client(|frame| vec![frame]);
    carol.run_ok(&["room", "remove", "+dev", "bob"]);
    carol.run_ok(&["room", "add", "+dev", "bob"]);
    eventually("he is in the second room", || bob.errors().contains("let into +dev; members"));
    carol.send("+dev", "for bob");
    bob.wait_for_text("for bob");
    assert!(!bob.lines().concat().contains("not for bob yet"), "{:?}", bob.lines());
}

#[test]
fn the_key_package_of_last_resort_for_every_adder_opens_every_room() {
    let scene = scene();
    let keys = key_packages(&scene.server).pop().unwrap();
    for room in [ROOM, "+dev"] {
        let keys = keys.clone();
        scene.proxy.lie_to_client(move |mut frame| {
            if frame["type"] == "e2e_keys" && frame.get("users").is_some() {
                frame["users"] = keys.clone();
            }
            vec![frame]
        });
        scene.ana.run_ok(&["room", "create", room, "--add", "bob"]);
    }
    let bob = scene.bob.start(&["-r", ROOM, "-r", "+dev", "--listen"]);
    for room in [ROOM, "+dev"] {
        eventually("he is in", || bob.errors().contains(&format!("let into {room}; members")));
        scene.ana.send(room, &format!("said in {room}"));
        bob.wait_for_text(&format!("said in {room}"));
    }
}

#[test]
fn an_expired_key_package_adds_nobody_and_ends_with_75() {
    let scene = scene();
    let mut keys = keys_of(&scene.server, "bob");
    let old = Insider::of(&scene.bob).key_package_made(Duration::from_hours(30 * 24));
    keys["bob"][0]["key_package"] = STANDARD.encode(old).into();
    let before = scene.commits();
    let refused = scene.ana_adds_bob_with(keys);
    assert_eq!(refused.code, Some(75), "{refused:?}");
    let words = "bob can't be added: the keys of this user's devices have expired";
    assert!(refused.errors.contains(words), "{refused:?}");
    assert_eq!(scene.commits(), before, "no commit was sent");
}
