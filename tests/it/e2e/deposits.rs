//! Key packages, welcomes and ratchet trees: from one device over the server to another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::device::{Device, commit, device_id, opaque, register, sha256, tree};
use crate::access::TOKENS;
use crate::support::server::Server;
use crate::support::{Mode, in_both_modes};

in_both_modes!(
    a_key_package_is_given_to_one_adder,
    a_welcome_waits_until_the_device_has_handled_it,
    a_welcome_to_a_room_that_the_token_does_not_cover_is_not_sent,
    sixty_four_devices_are_added_at_once,
    a_large_tree_goes_up_and_comes_down_in_parts,
    a_commit_needs_its_tree_and_a_lost_one_is_asked_for,
    hostile_frames_are_answered_and_leave_nothing,
);

async fn put(device: &mut Device, number: u8, packages: &[&str], last: Option<&str>) -> u64 {
    let packages: Vec<String> = packages.iter().map(|package| opaque(package)).collect();
    let mut frame = json!({"type": "e2e_keys_put", "device": device_id(number), "cert": opaque("cert"),
        "key_packages": packages});
    if let Some(last) = last {
        frame["last_resort"] = opaque(last).into();
    }
    device.wire.send(frame).await;
    device.wire.next_of("e2e_keys").await["left"].as_u64().unwrap()
}

async fn get(device: &mut Device, users: &[&str]) -> Value {
    device.wire.send(json!({"type": "e2e_keys_get", "room": "+ops", "users": users})).await;
    device.wire.next().await
}

async fn a_key_package_is_given_to_one_adder(mode: Mode) {
    let mut server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    let mut bob = Device::enter(server.endpoint(), "bob", "lobby").await;
    bob.wire.next_of("encryption_key").await;
    let none = get(&mut ana, &["bob"]).await;
    assert_eq!(
        (&none["code"], &none["temporary"]),
        (&json!("no_key_package"), &json!(true)),
        "{none}"
    );
    assert_eq!(none["room"], "+ops");
    assert_eq!(put(&mut bob, 0, &["one", "two"], Some("last")).await, 2);
    let first = get(&mut ana, &["bob"]).await;
    let device = &first["users"]["bob"][0];
    assert_eq!(first["room"], "+ops");
    assert_eq!(
        (&device["device"], &device["cert"], &device["key_package"], device.get("last_resort")),
        (&json!(device_id(0)), &json!(opaque("cert")), &json!(opaque("one")), None)
    );
    // After a kill the used one does not come back.
    server.kill();
    server.start_again();
    let bob = Device::enter(server.endpoint(), "bob", "lobby").await;
    assert_eq!(bob.welcome["e2e"], json!({"v": 1, "key_packages": 1}));
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    assert_eq!(get(&mut ana, &["bob"]).await["users"]["bob"][0]["key_package"], opaque("two"));
    for _ in 0..2 {
        let last = get(&mut ana, &["bob"]).await;
        let device = &last["users"]["bob"][0];
        assert_eq!(
            (&device["key_package"], &device["last_resort"]),
            (&json!(opaque("last")), &json!(true))
        );
    }
    // Sixty users' key packages in a minute, and no more: 3 are taken, and one was not there.
    let many = ["bob", "x", "y", "z"];
    for _ in 0..14 {
        assert_eq!(get(&mut ana, &many).await["code"], "no_key_package");
    }
    assert_eq!(get(&mut ana, &many).await["code"], "rate_limited");
}

async fn a_welcome_waits_until_the_device_has_handled_it(mode: Mode) {
    let mut server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    let mut bob = Device::register(server.endpoint(), register("bob", 1, &["lobby"])).await;
    put(&mut bob, 1, &["one"], None).await;
    let mut other = Device::register(server.endpoint(), register("bob", 2, &["lobby"])).await;
    put(&mut other, 2, &["one"], None).await;
    drop(other);
    let to = json!([["bob", device_id(1)], ["bob", device_id(2)], ["nobody", device_id(1)]]);
    ana.upload("+ops", &tree("c1")).await;
    let welcomes = json!([{"to": to, "content": opaque("come in")}]);
    ana.wire.send(commit("+ops", "c1", 0, welcomes)).await;
    assert_eq!(ana.answer().await, Ok(1));
    let expected = json!({"type": "e2e_welcome", "room": "+ops", "seq": 1, "content": opaque("come in"),
        "tree": sha256(&tree("c1"))});
    assert_eq!(bob.wire.next_of("e2e_welcome").await, expected, "live");
    server.kill();
    server.start_again();
    for device in [1, 2] {
        let mut bob = Device::register(server.endpoint(), register("bob", device, &["+ops"])).await;
        assert_eq!(bob.wire.next_of("e2e_welcome").await, expected, "device {device} registers");
        bob.wire
            .send(json!({"type": "e2e_blob_get", "room": "+ops", "sha256": sha256(&tree("c1"))}))
            .await;
        let blob = bob.wire.next_of("e2e_blob").await;
        assert_eq!((&blob["content"], &blob["parts"]), (&json!(opaque(&tree("c1"))), &json!(1)));
        if device == 1 {
            bob.wire.send(json!({"type": "e2e_welcome_done", "room": "+ops", "seq": 1})).await;
            // The answer to this comes after it.
            put(&mut bob, 1, &[], None).await;
        }
    }
    for (device, is_told) in [(1, false), (2, true)] {
        let mut bob = Device::register(server.endpoint(), register("bob", device, &["+ops"])).await;
        bob.wire.send(json!({"type": "history", "room": "+ops"})).await;
        let mut told = false;
        loop {
            let frame = bob.wire.next().await;
            told |= frame["type"] == "e2e_welcome";
            if frame["type"] == "history" {
                break;
            }
        }
        assert_eq!(told, is_told, "device {device}");
    }
}

async fn a_welcome_to_a_room_that_the_token_does_not_cover_is_not_sent(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let mut ana = register("ana", 0, &["+ops"]);
    ana["access_token"] = server.token("ana", &["--room", "+ops"]).into();
    let mut ana = Device::register(server.endpoint(), ana).await;
    let mut elsewhere = register("bob", 1, &["dev"]);
    elsewhere["access_token"] = server.token("bob", &["--room", "dev"]).into();
    let mut bob = Device::register(server.endpoint(), elsewhere.clone()).await;
    put(&mut bob, 1, &["one"], None).await;
    ana.upload("+ops", &tree("c1")).await;
    let welcomes = json!([{"to": [["bob", device_id(1)]], "content": opaque("come in")}]);
    ana.wire.send(commit("+ops", "c1", 0, welcomes)).await;
    assert_eq!(ana.answer().await, Ok(1));
    // Neither live nor at `register`: the answer to a later request comes first.
    let mut again = Device::register(server.endpoint(), elsewhere).await;
    for device in [&mut bob, &mut again] {
        device.wire.send(json!({"type": "history", "room": "dev"})).await;
        loop {
            let frame = device.wire.next().await;
            assert_ne!(frame["type"], "e2e_welcome", "{frame}");
            if frame["type"] == "history" {
                break;
            }
        }
    }
    // A token that covers the room finds it waiting.
    let mut covered = register("bob", 1, &["+ops"]);
    covered["access_token"] = server.token("bob", &["--room", "+ops"]).into();
    let mut covered = Device::register(server.endpoint(), covered).await;
    assert_eq!(covered.wire.next_of("e2e_welcome").await["room"], "+ops");
}

async fn upload_bytes(device: &mut Device, bytes: &[u8]) -> String {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let parts: Vec<&[u8]> = bytes.chunks(40 * 1024).collect();
    for (part, content) in parts.iter().enumerate() {
        let frame = json!({"type": "e2e_blob", "room": "+ops", "sha256": hash, "part": part,
            "parts": parts.len(), "content": STANDARD.encode(content)});
        device.wire.send(frame).await;
    }
    hash
}

/// A tree of 400 devices, and a commit, a welcome and a group info that do not fit in one frame.
async fn sixty_four_devices_are_added_at_once(mode: Mode) {
    let limits = "[limits]\nrate_bytes = 16777216\nrate_messages = 1000\n";
    let server = Server::with(limits).mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    let mut bob = Device::register(server.endpoint(), register("bob", 1, &["+ops"])).await;
    put(&mut bob, 1, &["one"], None).await;
    let (welcome, info, tree) = (vec![1; 90_000], vec![2; 38_000], vec![3; 400_000]);
    let to: Vec<_> = (0..64).map(|number| json!([format!("user{number}"), device_id(0)])).collect();
    let to: Vec<_> = to.into_iter().chain([json!(["bob", device_id(1)])]).collect();
    let mut frame = commit("+ops", "c1", 0, json!([]));
    frame["content"] = "A".repeat(44 * 1024).into();
    frame["tree"] = upload_bytes(&mut ana, &tree).await.into();
    frame["info_sha256"] = upload_bytes(&mut ana, &info).await.into();
    let both = frame.clone();
    frame.as_object_mut().unwrap().remove("info");
    let hash = sha256("not there");
    frame["welcomes"] = json!([{"to": to, "sha256": hash}]);
    ana.wire.send(both).await;
    assert_eq!(ana.answer().await.unwrap_err().0, "bad_frame", "info twice");
    ana.wire.send(frame.clone()).await;
    assert_eq!(ana.answer().await.unwrap_err().0, "no_tree", "the welcome is not there");
    frame["welcomes"][0]["sha256"] = upload_bytes(&mut ana, &[4; 100_000]).await.into();
    ana.wire.send(frame.clone()).await;
    assert_eq!(ana.answer().await.unwrap_err().0, "message_too_long", "both together");
    frame["welcomes"][0]["sha256"] = upload_bytes(&mut ana, &welcome).await.into();
    ana.wire.send(frame.clone()).await;
    assert_eq!(ana.answer().await, Ok(1));
    let told = bob.wire.next_of("e2e_welcome").await;
    assert_eq!(told["content"], STANDARD.encode(&welcome));
    let mut again = Device::register(server.endpoint(), register("bob", 1, &["+ops"])).await;
    assert_eq!(again.wire.next_of("e2e_welcome").await, told);
    again.wire.send(json!({"type": "e2e_info", "room": "+ops"})).await;
    assert_eq!(again.wire.next_of("e2e_info").await["info"], STANDARD.encode(&info));
    // Sent again after its uploads are gone, it is acked.
    for number in 0..3 {
        upload_bytes(&mut ana, &vec![10 + number; 500_000]).await;
    }
    ana.wire.send(frame).await;
    assert_eq!(ana.answer().await, Ok(1));
}

async fn a_large_tree_goes_up_and_comes_down_in_parts(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    let bytes: Vec<u8> = (0..400_000_u32).map(|number| (number * 7 % 251) as u8).collect();
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let parts: Vec<&[u8]> = bytes.chunks(40 * 1024).collect();
    for (part, content) in parts.iter().enumerate() {
        ana.wire
            .send(json!({"type": "e2e_blob", "room": "+ops", "sha256": hash, "part": part,
                "parts": parts.len(), "content": STANDARD.encode(content)}))
            .await;
    }
    let mut frame = commit("+ops", "c1", 0, json!([]));
    frame["tree"] = hash.as_str().into();
    ana.wire.send(frame).await;
    assert_eq!(ana.answer().await, Ok(1));
    let mut bob = Device::enter(server.endpoint(), "bob", "+ops").await;
    bob.wire.send(json!({"type": "e2e_info", "room": "+ops"})).await;
    let info = bob.wire.next_of("e2e_info").await;
    let expected = json!({"type": "e2e_info", "room": "+ops", "seq": 1, "info": opaque("info of c1"), "tree": hash});
    assert_eq!(info, expected);
    bob.wire.send(json!({"type": "e2e_blob_get", "room": "+ops", "sha256": hash})).await;
    let mut came = Vec::new();
    while came.len() < bytes.len() {
        let blob = bob.wire.next_of("e2e_blob").await;
        assert_eq!(blob["part"].as_u64().unwrap() as usize * 40 * 1024, came.len());
        came.extend(STANDARD.decode(blob["content"].as_str().unwrap()).unwrap());
    }
    assert!(came == bytes);
}

async fn a_commit_needs_its_tree_and_a_lost_one_is_asked_for(mode: Mode) {
    let mut server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    ana.wire.send(commit("+ops", "c1", 0, json!([]))).await;
    assert_eq!(ana.answer().await, Err(("no_tree".into(), None)));
    // Only its own user's upload counts.
    let mut bob = Device::enter(server.endpoint(), "bob", "+ops").await;
    bob.upload("+ops", &tree("c1")).await;
    bob.say_and_wait("+ops", "m", 0, "the upload was read").await;
    ana.wire.send(commit("+ops", "c1", 0, json!([]))).await;
    assert_eq!(ana.answer().await, Err(("no_tree".into(), None)));
    assert_eq!(ana.commit_and_wait("+ops", "c1", 0).await, 2);
    server.kill();
    server.start_again();
    // What was uploaded is gone, and a commit that is known needs it no more.
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    ana.wire.send(commit("+ops", "c1", 0, json!([]))).await;
    assert_eq!(ana.answer().await, Ok(2));
    for frame in [
        json!({"type": "e2e_blob_get", "room": "+ops", "sha256": sha256("another")}),
        json!({"type": "e2e_blob_get", "room": "+ops", "sha256": "ff"}),
        json!({"type": "e2e_info", "room": "+dev"}),
    ] {
        ana.wire.send(frame.clone()).await;
        let code = ana.answer().await.unwrap_err().0;
        let expected = match frame["type"] == "e2e_info" {
            true => "not_in_room",
            false if frame["sha256"] == "ff" => "bad_frame",
            false => "no_tree",
        };
        assert_eq!(code, expected, "{frame}");
    }
}

async fn hostile_frames_are_answered_and_leave_nothing(mode: Mode) {
    let server =
        Server::with("[limits]\nrate_messages = 1000\nrate_bytes = 100000000\n").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    let id = device_id(0);
    let big = "A".repeat(7000);
    let eleven: Vec<String> = (0..11).map(|_| opaque("x")).collect();
    let hash = sha256("x");
    let part = |part: i64, parts: i64, content: &str| json!({"type": "e2e_blob", "room": "+ops", "sha256": hash, "part": part, "parts": parts, "content": content});
    for (frame, code) in [
        (json!({"type": "e2e_keys_put"}), "bad_frame"),
        (json!({"type": "e2e_keys_put", "device": device_id(7), "cert": opaque("c")}), "bad_frame"),
        (json!({"type": "e2e_keys_put", "device": "K7", "cert": opaque("c")}), "bad_frame"),
        (json!({"type": "e2e_keys_put", "device": id, "cert": "…"}), "bad_frame"),
        (json!({"type": "e2e_keys_put", "device": id, "cert": big}), "bad_frame"),
        (
            json!({"type": "e2e_keys_put", "device": id, "cert": opaque("c"), "key_packages": [big]}),
            "bad_frame",
        ),
        (
            json!({"type": "e2e_keys_put", "device": id, "cert": opaque("c"), "key_packages": eleven}),
            "bad_frame",
        ),
        (
            json!({"type": "e2e_keys_put", "device": id, "cert": opaque("c"), "last_resort": ""}),
            "empty_message",
        ),
        (json!({"type": "e2e_keys_get", "room": "+ops", "users": []}), "bad_frame"),
        (
            json!({"type": "e2e_keys_get", "room": "+ops", "users": ["a", "b", "c", "d", "e"]}),
            "bad_frame",
        ),
        (json!({"type": "e2e_keys_get", "room": "ops", "users": ["a"]}), "bad_frame"),
        (json!({"type": "e2e_keys_get", "room": "+dev", "users": ["a"]}), "not_in_room"),
        (json!({"type": "e2e_info", "room": "+"}), "bad_room"),
        (json!({"type": "e2e_welcome_done", "room": "+ops", "seq": -1}), "bad_frame"),
        (part(0, 0, ""), "bad_frame"),
        (part(1, 2, &opaque("x")), "bad_frame"),
        (part(-1, 2, &opaque("x")), "bad_frame"),
        (part(0, 1 << 40, &opaque("x")), "bad_frame"),
        (part(0, 1000, &opaque("x")), "bad_frame"),
        (part(0, 1, &opaque("y")), "bad_frame"),
        (part(0, 1, "?"), "bad_frame"),
        (
            commit("+ops", "c", 0, json!([{"to": [["bob", "k"]], "content": opaque("w")}])),
            "bad_frame",
        ),
        (commit("+ops", "c", 0, json!([{"to": [["bob"]], "content": opaque("w")}])), "bad_frame"),
        (
            commit(
                "+ops",
                "c",
                0,
                json!([{"to": vec![["bob", &id]; 300], "content": opaque("w")}]),
            ),
            "bad_frame",
        ),
        (commit("+ops", "c", 0, json!([{"to": [], "content": ""}])), "empty_message"),
    ] {
        ana.wire.send(frame.clone()).await;
        assert_eq!(ana.answer().await.unwrap_err().0, code, "{:.300}", frame.to_string());
    }
    assert_eq!(ana.say_and_wait("+ops", "m", 0, "the session goes on").await, 1);
    // Without `e2e` in register these frames are refused, whatever they hold.
    let (mut plain, _) = crate::support::wire::Wire::full(server.endpoint(), "eve", "lobby").await;
    plain.send(json!({"type": "e2e_keys_put", "device": id, "cert": opaque("c")})).await;
    assert_eq!(plain.next_error().await, "e2e_only");
    let mut basic = crate::support::wire::Wire::register(server.endpoint(), "old").await;
    basic.send(json!({"type": "e2e_info", "room": "+ops"})).await;
    assert_eq!(basic.next_error().await, "unknown_type");
}
