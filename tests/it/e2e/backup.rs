//! A backup of a history that has end-to-end rooms, and its restore.

use serde_json::json;

use super::device::{Device, commit, device_id, opaque, register, sha256, tree};
use crate::support::server::Server;
use crate::support::{Mode, in_both_modes};

in_both_modes!(a_restored_server_keeps_the_rule_and_the_deposits);

async fn a_restored_server_keeps_the_rule_and_the_deposits(mode: Mode) {
    let mut server = Server::with("").mode(mode).start();
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("chat.backup").display().to_string();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    let mut bob = Device::register(server.endpoint(), register("bob", 1, &["+ops"])).await;
    let put = json!({"type": "e2e_keys_put", "device": device_id(1), "cert": opaque("cert"),
        "key_packages": [opaque("one")], "last_resort": opaque("last")});
    bob.wire.send(put).await;
    bob.wire.next_of("e2e_keys").await;
    ana.upload("+ops", &tree("c1")).await;
    let welcomes = json!([{"to": [["bob", device_id(1)]], "content": opaque("come in")}]);
    let first = commit("+ops", "c1", 0, welcomes);
    ana.wire.send(first.clone()).await;
    assert_eq!(ana.answer().await, Ok(1));
    assert_eq!(ana.say_and_wait("+ops", "m1", 1, "hola").await, 2);
    server.run_ok(&["backup", &backup]);
    assert_eq!(ana.commit_and_wait("+ops", "c2", 1).await, 3);
    server.kill();
    server.run_ok(&["restore", &backup, "--replace"]);
    server.start_again();

    let mut bob = Device::register(server.endpoint(), register("bob", 1, &["+ops"])).await;
    // One that was in the backup may have been given out since.
    assert_eq!(bob.welcome["e2e"]["key_packages"], 0);
    let welcome = bob.wire.next_of("e2e_welcome").await;
    assert_eq!((&welcome["seq"], &welcome["content"]), (&json!(1), &json!(opaque("come in"))));
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    ana.wire.send(first).await;
    assert_eq!(ana.answer().await, Ok(1), "what is in the backup is acked");
    ana.say("+ops", "m2", 3, "after the second commit").await;
    assert_eq!(ana.answer().await, Err(("stale_base".into(), Some(1))), "it is lost");
    ana.wire.send(json!({"type": "e2e_info", "room": "+ops"})).await;
    let info = ana.wire.next_of("e2e_info").await;
    assert_eq!((&info["seq"], &info["tree"]), (&json!(1), &json!(sha256(&tree("c1")))));
    ana.wire.send(json!({"type": "e2e_keys_get", "room": "+ops", "users": ["bob"]})).await;
    let keys = ana.wire.next_of("e2e_keys").await;
    assert_eq!(keys["users"]["bob"][0]["key_package"], opaque("last"));
    assert_eq!(ana.commit_and_wait("+ops", "c3", 1).await, 3);
}
