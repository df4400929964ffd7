//! The access file, and users declared in the configuration.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::{TOKENS, entered, refusal, refused, register};
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::stall::Stall;
use crate::support::wire::Wire;
use crate::support::{Mode, TIMEOUT, eventually, in_both_modes};

in_both_modes!(
    an_unusable_access_file_admits_no_user,
    an_unusable_access_file_keeps_bans_and_blocks_declared_users,
    users_can_be_declared_in_the_configuration_and_reloaded,
);

async fn an_unusable_access_file_admits_no_user(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let token = server.token("ana", &[]);
    let mut session = entered(&server, &token, "lobby").await;
    let path = server.state().join("access.json");
    let good = std::fs::read(&path).unwrap();
    let (unauthorized, unavailable) =
        (refused("unauthorized", 4001), refused("storage_failed", 1013));
    for (number, (content, mode)) in
        [(&good[..], 0o640), (b"", 0o600), (b"{\"tokens\":[", 0o600), (b"[]", 0o600)]
            .into_iter()
            .enumerate()
    {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        eventually("the server reads it", || server.event_count("access_unreadable") > number);
        // Nothing is known about any access token, so none counts as a guess: five are free.
        for guess in ["a", "b", "c", "d", "e", "f", &token] {
            assert_eq!(refusal(register(&server, guess, &["lobby"]).await).await, unavailable);
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    // An unusable file evicts no session; a missing file does.
    session.send(json!({"type": "who", "room": "lobby"})).await;
    session.next_of("user_list").await;
    std::fs::write(&path, &good).unwrap();
    eventually("the server reads the good file", || server.event_count("access_reread") > 4);
    drop(entered(&server, &token, "lobby").await);
    let token = server.token("bob", &[]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(session.until_closed().await.0, 4001);
    assert_eq!(refusal(register(&server, &token, &["lobby"]).await).await, unauthorized);
    // An empty or missing list admits no user.
    std::fs::write(&path, "{}").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    server.run_ok(&["ctl", "reload"]);
    assert_eq!(refusal(register(&server, &token, &["lobby"]).await).await, unauthorized);
    let without_file = Server::with(TOKENS).mode(mode).start();
    assert_eq!(refusal(register(&without_file, &token, &["lobby"]).await).await, unauthorized);
}

async fn an_unusable_access_file_keeps_bans_and_blocks_declared_users(mode: Mode) {
    let mut server = Server::with(TOKENS).mode(mode).start();
    let printed = server.run_ok(&["token", "add", "--user", "ana", "--room", "ops", "--declare"]);
    let (token, table) = printed.split_once('\n').unwrap();
    std::fs::write(server.config_file(), format!("{TOKENS}{table}")).unwrap();
    server.run_ok(&["ctl", "reload"]);
    let wire = entered(&server, token, "ops").await;
    server.run_ok(&["ctl", "ban", "ana"]);
    assert_eq!(wire.until_closed().await.0, 4003);
    let path = server.state().join("access.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    server.run_ok(&["ctl", "reload"]);
    server.wait_for_event("access_unreadable");
    let unavailable = refused("storage_failed", 1013);
    assert_eq!(refusal(register(&server, token, &["ops"]).await).await, unavailable);
    server.stop();
    server.start_again();
    assert_eq!(refusal(register(&server, token, &["ops"]).await).await, unavailable);
    // A folder in place of the file can't be read either.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    server.run_ok(&["ctl", "reload"]);
    assert_eq!(refusal(register(&server, token, &["ops"]).await).await, unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_wait_for_an_access_file_that_cannot_be_read() {
    let server = Server::with(TOKENS).start();
    let token = server.token("ana", &[]);
    let path = server.state().join("access.json");
    let set_mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o644);
    eventually("the server reads it", || server.event_count("access_unreadable") > 0);
    let arguments = ["send", "hola", "--url", &server.url()];
    let client = Client::start_with(&arguments, &[("CHAT_ACCESS_TOKEN", &token)]);
    eventually("the client is refused", || server.event_count("register_refused") > 0);
    set_mode(0o600);
    let finished = client.finish(TIMEOUT);
    assert_eq!(finished.code, Some(0), "{}", finished.errors);
}

async fn users_can_be_declared_in_the_configuration_and_reloaded(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let printed = server.run_ok(&["token", "add", "--user", "ana", "--room", "ops", "--declare"]);
    let (token, table) = printed.split_once('\n').unwrap();
    let reload = |text: String| {
        std::fs::write(server.config_file(), text).unwrap();
        server.run_ok(&["ctl", "reload"])
    };
    reload(format!("{TOKENS}{table}"));
    let wire = entered(&server, token, "ops").await;
    reload(format!("{TOKENS}{}", table.replace("member", "reader")));
    assert_eq!(wire.until_closed().await.0, 1012, "the client reconnects with its new rights");
    let wire = entered(&server, token, "ops").await;
    let broken = format!("{TOKENS}{}", table.replace("member", "king"));
    std::fs::write(server.config_file(), broken).unwrap();
    let output = server.run(&["ctl", "reload"]);
    assert_eq!(output.status.code(), Some(1), "the server refuses and gives the reason");
    assert!(String::from_utf8_lossy(&output.stderr).contains("auth.users"));
    reload(TOKENS.to_owned());
    assert_eq!(wire.until_closed().await.0, 4001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_in_place_of_the_access_file_is_refused_and_holds_nothing_up() {
    let mut server = Server::with(TOKENS).start();
    let token = server.token("ana", &[]);
    let mut session = entered(&server, &token, "lobby").await;
    let path = server.state().join("access.json");
    let kept = server.state().join("kept");
    std::fs::rename(&path, &kept).unwrap();
    make_pipe(&path);
    let unreadable = server.wait_for_event("access_unreadable");
    assert!(unreadable["reason"].as_str().unwrap().contains("not a regular file"), "{unreadable}");
    let unavailable = refused("storage_failed", 1013);
    assert_eq!(refusal(register(&server, &token, &["lobby"]).await).await, unavailable);
    session.send(json!({"type": "who", "room": "lobby"})).await;
    session.next_of("user_list").await;
    server.run_ok(&["ctl", "reload"]);
    let add = ["token", "add", "--user", "bob"];
    let commands: [(&[&str], i32); 4] =
        [(&["ctl", "ban", "bob"], 1), (&["ctl", "bans"], 1), (&["token", "list"], 74), (&add, 74)];
    for (command, code) in commands {
        let output = server.run(command);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {errors}");
        assert!(errors.contains("access.json: not a regular file"), "{command:?}: {errors}");
    }
    std::fs::rename(&kept, &path).unwrap();
    eventually("the server reads the file", || server.event_count("access_reread") > 1);
    drop(entered(&server, &token, "lobby").await);
    // The same for the file that is locked.
    std::fs::remove_file(server.state().join("access.lock")).unwrap();
    make_pipe(&server.state().join("access.lock"));
    let output = server.run(&add);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("access.lock: not a regular file"), "{errors}");
    std::fs::remove_file(&path).unwrap();
    make_pipe(&path);
    assert_eq!(server.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_access_file_gives_up_while_its_lock_is_held() {
    let server = Server::with(TOKENS).start();
    server.token("ana", &[]);
    let lock = std::fs::File::create(server.state().join("access.lock")).unwrap();
    lock.lock().unwrap();
    for command in [&["ctl", "ban", "eve"][..], &["token", "add", "--user", "bob"]] {
        let output = server.run(command);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command:?}");
        assert!(errors.contains("another command is changing"), "{command:?}: {errors}");
        assert!(errors.contains("access.json"), "{command:?}: {errors}");
    }
    drop(lock);
    assert_eq!(server.run_ok(&["ctl", "bans", "--json"]).matches("eve").count(), 0);
    server.run_ok(&["ctl", "ban", "eve"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_banned_that_names_no_user_bans_nobody() {
    let server = Server::with("[limits]\nrate_messages = 1000\n").start();
    let path = server.state().join("access.json");
    std::fs::write(&path, r#"{"banned": ["@@@", "", "eve"]}"#).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    server.run_ok(&["ctl", "reload"]);
    server.wait_for_event("ban_ignored");
    let mut wire = Wire::connect(&server).await;
    wire.send(json!({"type": "register", "protocol": 1, "username": "Anónimo"})).await;
    wire.next_of("welcome").await;
    let mut wire = Wire::connect(&server).await;
    wire.send(json!({"type": "register", "protocol": 1, "username": "eve"})).await;
    assert_eq!(refusal(wire).await, refused("forbidden", 4003));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unusable_access_file_may_hold_bans_so_open_mode_admits_no_user_either() {
    let server = Server::start();
    let register = async |user: &str| {
        let mut wire = Wire::connect(&server).await;
        wire.send(json!({"type": "register", "protocol": 1, "username": user})).await;
        wire
    };
    // Without a file there is no ban.
    let mut session = register("ana").await;
    session.next_of("welcome").await;
    server.run_ok(&["ctl", "ban", "eve"]);
    let path = server.state().join("access.json");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, "{").unwrap();
    server.wait_for_event("access_unreadable");
    for user in ["eve", "bob"] {
        assert_eq!(refusal(register(user).await).await, refused("storage_failed", 1013), "{user}");
    }
    session.send(json!({"type": "who", "room": "lobby"})).await;
    session.next_of("user_list").await;
    std::fs::write(&path, good).unwrap();
    server.run_ok(&["ctl", "reload"]);
    assert_eq!(refusal(register("eve").await).await, refused("forbidden", 4003));
    register("bob").await.next_of("welcome").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_refuses_a_configuration_that_is_a_pipe() {
    let mut server = Server::with(TOKENS).start();
    std::fs::remove_file(server.config_file()).unwrap();
    make_pipe(&server.config_file());
    server.signal("HUP");
    let failed = server.wait_for_event("reload_failed");
    assert!(failed["reason"].as_str().unwrap().contains("is a pipe"), "{failed}");
    assert_eq!(server.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_file_that_takes_too_long_to_read_stops_only_registering() {
    let test = "an_access_file_that_takes_too_long_to_read_stops_only_registering";
    let Some(stall) = Stall::at("access_read", test) else { return };
    let mut server = Server::with(TOKENS).stalling_at(&stall).start();
    let token = server.token("ana", &[]);
    let mut session = entered(&server, &token, "lobby").await;
    stall.begin();
    server.run_ok(&["ctl", "reload"]);
    let unavailable = refused("storage_failed", 1013);
    assert_eq!(refusal(register(&server, &token, &["lobby"]).await).await, unavailable);
    session.send(json!({"type": "who", "room": "lobby"})).await;
    session.next_of("user_list").await;
    stall.end();
    eventually("the file is read again", || server.event_count("access_reread") > 0);
    drop(entered(&server, &token, "lobby").await);
    stall.begin();
    server.run_ok(&["ctl", "reload"]);
    assert_eq!(server.stop().code(), Some(0));
}

fn make_pipe(path: &std::path::Path) {
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(path).status();
    assert!(made.unwrap().success(), "{}", path.display());
}
