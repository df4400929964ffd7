//! Only who belongs: access tokens, rights at every verb, and leaving that means leaving (P23).

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::server::Server;
use crate::support::wire::Wire;

const TOKENS: &str = "[auth]\nmode = \"token\"\n[limits]\nrate_messages = 100000\n";

/// Registers with the full protocol; gives the connection whatever came of it.
async fn register(server: &Server, token: &str, rooms: &[&str]) -> Wire {
    let mut wire = Wire::connect(server.address()).await;
    wire.send(json!({"type": "register", "protocol": 1, "username": "whoever",
        "access_token": token, "rooms": rooms, "presence": false}))
        .await;
    wire
}

/// The same, where it must be let in.
async fn entered(server: &Server, token: &str, room: &str) -> Wire {
    let mut wire = register(server, token, &[room]).await;
    wire.next_of("welcome").await;
    wire.next_of("encryption_key").await;
    wire
}

/// How a `register` that must fail was answered: code and closing code, and that no key came.
async fn refusal(wire: Wire) -> (String, u16) {
    let (close, before) = wire.until_closed().await;
    assert!(before.iter().all(|frame| frame["type"] != "encryption_key"), "a key left: {before:?}");
    (before[0]["code"].as_str().unwrap().to_owned(), close)
}

fn refused(code: &str, close: u16) -> (String, u16) {
    (code.to_owned(), close)
}

#[tokio::test]
async fn without_a_valid_token_no_key_leaves() {
    let server = Server::with(TOKENS).start();
    let ended = server.token("old", &["--expires", "1ms"]);
    let ana = server.token("ana", &["--room", "ops"]);
    let bare = async |frame: Value| {
        let mut wire = Wire::connect(server.address()).await;
        wire.send(frame).await;
        refusal(wire).await
    };
    let stranger = refused("unauthorized", 4001);
    assert_eq!(bare(json!({"type": "register", "username": "Ana"})).await, stranger);
    assert_eq!(bare(json!({"type": "register", "access_token": ""})).await, stranger);
    assert_eq!(
        bare(json!({"type": "register", "access_token": format!("{ana}x")})).await,
        stranger
    );
    assert_eq!(refusal(register(&server, &ended, &["lobby"]).await).await, stranger);
    assert_eq!(refusal(register(&server, &ana, &["dev"]).await).await, refused("forbidden", 4003));
    // A basic client can bring one too; it gets the room it has, and the name that is proven.
    let mut basic = Wire::connect(server.address()).await;
    basic.send(json!({"type": "register", "username": "Bob", "access_token": ana})).await;
    let list = basic.next_of("user_list").await;
    assert_eq!((&list["users"], &list["room"]), (&json!(["ana"]), &json!("ops")));
    basic.say("hola").await;
    let said = basic.next_of("chat_message").await;
    assert_eq!((&said["username"], &said["verified"]), (&json!("ana"), &json!(true)));
    let log = server.log_lines().join("\n");
    assert!(!log.contains(&ana) && !log.contains("sct_"), "an access token is in the log");
}

#[tokio::test]
async fn a_name_proven_by_a_token_can_be_neither_taken_nor_imitated() {
    let server = Server::with(TOKENS).start();
    let ana = server.token("ana", &[]);
    let bob = server.token("bob", &[]);
    for imitation in ["ANA", "аnа", "a na", "ａｎａ"] {
        let output = server.verb(&["token", "add", "--user", imitation]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{imitation}: {said}");
        assert!(said.contains("told apart"), "{said}");
    }
    let _first = entered(&server, &ana, "lobby").await;
    for _ in 0..100 {
        let claims = (0..100).map(|_| async {
            let mut wire = Wire::connect(server.address()).await;
            let claim = json!({"type": "register", "protocol": 1, "username": "ana",
                "access_token": bob, "presence": false});
            wire.send(claim).await;
            wire.next_of("welcome").await["username"].as_str().unwrap().to_owned()
        });
        let names = futures_util::future::join_all(claims).await;
        assert!(names.iter().all(|name| name == "bob"), "{names:?}");
    }
}

#[tokio::test]
async fn p23_who_is_put_out_gets_nothing_more() {
    let server = Server::with(TOKENS).start();
    let ana = server.token("ana", &["--room", "ops"]);
    let mut stays = entered(&server, &ana, "ops").await;
    for (way, close) in [("revoke", 4001), ("kick", 4003), ("ban", 4003)] {
        let token = server.token(&format!("bob-{way}"), &["--room", "ops"]);
        let list = server.done(&["token", "list", "--json"]);
        let id = list
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .find(|row| row["user"] == format!("bob-{way}"))
            .unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let goes = entered(&server, &token, "ops").await;
        stays.say_in("ops", &format!("before-{way}"), "before").await;
        stays.next_of("ack").await;
        match way {
            "revoke" => server.done(&["token", "revoke", &id]),
            "kick" => server.done(&["ctl", "kick", "BOB-kick"]),
            _ => server.done(&["ctl", "ban", "bob-ban"]),
        };
        // From here on it is acknowledged: a later key, and what is said under it, go to others only.
        let key = stays.next_of("encryption_key").await;
        stays.say_in("ops", &format!("after-{way}"), "after").await;
        let frame = loop {
            let frame = stays.next_of("chat_message").await;
            if stays.read(&frame) == "after" {
                break frame;
            }
        };
        assert_eq!(frame["key_id"], key["key_id"], "the room's key was replaced");
        let (closed, got) = goes.until_closed().await;
        assert_eq!(closed, close, "{way}");
        assert!(got.iter().all(|frame| frame["type"] != "encryption_key"), "{way}: {got:?}");
        let heard = got.iter().filter(|frame| frame["type"] == "chat_message").count();
        assert!(heard <= 1, "{way}: {got:?}");
        let again = register(&server, &token, &["ops"]).await;
        match way {
            "revoke" => assert_eq!(refusal(again).await, refused("unauthorized", 4001)),
            "kick" => drop(again),
            _ => assert_eq!(refusal(again).await, refused("forbidden", 4003)),
        }
    }
    server.done(&["ctl", "unban", "bob-ban"]);
}

#[tokio::test]
async fn leaving_a_room_replaces_its_key() {
    let server = Server::with("").start();
    let (mut stays, _) = Wire::full(server.address(), "ana", "ops").await;
    let (mut goes, _) = Wire::full(server.address(), "bob", "ops").await;
    goes.send(json!({"type": "leave", "room": "ops"})).await;
    goes.next_of("left").await;
    let key = stays.next_of("encryption_key").await;
    stays.say_in("ops", "1", "among us").await;
    assert_eq!(stays.next_of("chat_message").await["key_id"], key["key_id"]);
    goes.send(json!({"type": "dance"})).await;
    assert_eq!(goes.next().await["code"], "unknown_type", "nothing else came");
}

#[tokio::test]
async fn an_end_comes_by_itself() {
    let server = Server::with(TOKENS).start();
    let token = server.token("guest", &["--expires", "1500ms"]);
    let wire = entered(&server, &token, "lobby").await;
    assert_eq!(wire.until_closed().await.0, 4001);
}

#[tokio::test]
async fn a_file_that_does_not_serve_admits_nobody() {
    let server = Server::with(TOKENS).start();
    let token = server.token("ana", &[]);
    let mut inside = entered(&server, &token, "lobby").await;
    let path = server.state().join("access.json");
    let good = std::fs::read(&path).unwrap();
    for (number, (content, mode)) in
        [(&good[..], 0o640), (b"", 0o600), (b"{\"tokens\":[", 0o600), (b"[]", 0o600)]
            .into_iter()
            .enumerate()
    {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        eventually("it is seen", || server.count("access_unreadable") > number);
        let outcome = refusal(register(&server, &token, &["lobby"]).await).await;
        assert_eq!(outcome, refused("unauthorized", 4001));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    // Who is inside is not put out by a slip of an editor, but is by a file that is gone.
    inside.send(json!({"type": "who", "room": "lobby"})).await;
    inside.next_of("user_list").await;
    std::fs::write(&path, &good).unwrap();
    eventually("it is read", || server.count("access_reread") > 4);
    drop(entered(&server, &token, "lobby").await);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(inside.until_closed().await.0, 4001);
}

#[tokio::test]
async fn users_can_be_declared_in_the_configuration_and_reloaded() {
    let server = Server::with(TOKENS).start();
    let printed = server.done(&["token", "add", "--user", "ana", "--room", "ops", "--declare"]);
    let (token, table) = printed.split_once('\n').unwrap();
    let reload = |text: String| {
        std::fs::write(server.config_file(), text).unwrap();
        server.done(&["ctl", "reload"])
    };
    reload(format!("{TOKENS}{table}"));
    let wire = entered(&server, token, "ops").await;
    reload(format!("{TOKENS}{}", table.replace("member", "reader")));
    assert_eq!(wire.until_closed().await.0, 1012, "other rights: it comes back with them");
    let wire = entered(&server, token, "ops").await;
    let broken = format!("{TOKENS}{}", table.replace("member", "king"));
    std::fs::write(server.config_file(), broken).unwrap();
    let output = server.verb(&["ctl", "reload"]);
    assert_eq!(output.status.code(), Some(78), "ctl reads the same file");
    assert!(String::from_utf8_lossy(&output.stderr).contains("auth.users"));
    reload(TOKENS.to_owned());
    assert_eq!(wire.until_closed().await.0, 4001);
}

#[tokio::test]
async fn guessing_costs_the_guesser_alone() {
    let server =
        Server::with(&format!("{TOKENS}[listen]\ntrusted_proxies = [\"127.0.0.8/32\"]\n")).start();
    let token = server.token("ana", &[]);
    let mut compared = 0;
    let mut memory = 0;
    for number in 0..10_000 {
        let mut wire = Wire::try_connect_from("127.0.0.9", server.address()).await.unwrap();
        wire.send(json!({"type": "register", "access_token": format!("sct_{number}")})).await;
        match refusal(wire).await {
            outcome if outcome == refused("unauthorized", 4001) => compared += 1,
            outcome => assert_eq!(outcome, refused("rate_limited", 1013)),
        }
        if number % 250 == 249 {
            drop(entered(&server, &token, "lobby").await);
        }
        if number == 1_000 {
            memory = server.resident_bytes();
        }
    }
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes more");
    assert!((5..30).contains(&compared), "{compared} guesses were even looked at");
    // A proxy that does not say for whom it speaks is not shut out for one of them.
    for _ in 0..20 {
        let mut wire = Wire::try_connect_from("127.0.0.8", server.address()).await.unwrap();
        wire.send(json!({"type": "register", "access_token": "sct_x"})).await;
        assert_eq!(refusal(wire).await, refused("unauthorized", 4001));
    }
}

#[tokio::test]
async fn a_ban_in_open_mode_outlives_a_restart() {
    let mut server = Server::start();
    let bob = Wire::register(server.address(), "Bob").await;
    server.done(&["ctl", "ban", "bob"]);
    assert_eq!(bob.until_closed().await.0, 4003);
    let claim = async |server: &Server, name: &str| {
        let mut wire = Wire::connect(server.address()).await;
        wire.send(json!({"type": "register", "username": name})).await;
        wire
    };
    assert_eq!(refusal(claim(&server, "BOB").await).await, refused("forbidden", 4003));
    server.stop();
    server.again();
    assert_eq!(refusal(claim(&server, "Вob").await).await, refused("forbidden", 4003));
    server.done(&["ctl", "unban", "bob"]);
    Wire::register(server.address(), "Bob").await;
}

#[tokio::test]
async fn the_operator_sees_who_is_there() {
    let mut server = Server::start();
    let _ana = Wire::register(server.address(), "Ana").await;
    let (_bob, _) = Wire::full(server.address(), "bob", "ops").await;
    let ask = |verb: &str| -> Value {
        serde_json::from_str(&server.done(&["ctl", verb, "--json"])).unwrap()
    };
    let status = ask("status");
    assert_eq!((&status["sessions"], &status["rooms"]), (&json!(2), &json!(2)), "{status}");
    let sessions = ask("sessions");
    assert_eq!(sessions["sessions"][0]["user"], "Ana");
    assert_eq!(sessions["sessions"][1]["rooms"], json!(["ops"]));
    assert_eq!(ask("rooms")["rooms"][0]["room"], "lobby");
    let text = server.done(&["ctl", "sessions"]);
    assert!(text.lines().count() == 3 && text.contains("ops"), "{text}");
    let socket = server.state().parent().unwrap().join("run/admin.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    server.done(&["ctl", "drain"]);
    assert!(server.wait().success());
    assert!(!socket.exists());
    let output = server.verb(&["ctl", "status"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is it running"));
}

#[tokio::test]
async fn metrics_are_served_where_asked_for() {
    let server = Server::with("[admin]\nmetrics = \"127.0.0.1:0\"\n").start();
    let _ana = Wire::register(server.address(), "Ana").await;
    let address = server.wait_for_event("metrics")["address"].as_str().unwrap().to_owned();
    let get = async |path: &str| {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/").await.starts_with("HTTP/1.1 404"));
    assert!(get("/metrics").await.contains("\nchat_sessions 1\n"));
}

#[tokio::test]
async fn a_page_on_a_name_that_was_made_to_point_here_is_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start();
    let port = server.address().rsplit(':').next().unwrap();
    for (host, origin, status) in [
        (format!("localhost:{port}"), format!("http://localhost:{port}"), 101),
        (format!("evil.example:{port}"), format!("http://evil.example:{port}"), 403),
        (format!("localhost:{port}"), "https://evil.example".into(), 403),
    ] {
        let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head[9..], status.to_string().as_bytes(), "{host} {origin}");
    }
}

#[tokio::test]
async fn a_file_that_does_not_serve_forgets_no_ban_and_opens_to_no_declared_user() {
    let mut server = Server::with(TOKENS).start();
    let printed = server.done(&["token", "add", "--user", "ana", "--room", "ops", "--declare"]);
    let (token, table) = printed.split_once('\n').unwrap();
    std::fs::write(server.config_file(), format!("{TOKENS}{table}")).unwrap();
    server.done(&["ctl", "reload"]);
    let wire = entered(&server, token, "ops").await;
    server.done(&["ctl", "ban", "ana"]);
    assert_eq!(wire.until_closed().await.0, 4003);
    let path = server.state().join("access.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    server.done(&["ctl", "reload"]);
    server.wait_for_event("access_unreadable");
    let stranger = refused("unauthorized", 4001);
    assert_eq!(refusal(register(&server, token, &["ops"]).await).await, stranger);
    server.stop();
    server.again();
    assert_eq!(refusal(register(&server, token, &["ops"]).await).await, stranger);
    // Neither can it be read where a folder stands in its place.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    server.done(&["ctl", "reload"]);
    assert_eq!(refusal(register(&server, token, &["ops"]).await).await, stranger);
}

#[tokio::test]
async fn whoever_proves_nothing_is_out_when_access_tokens_are_wanted() {
    let server = Server::start();
    let wire = Wire::register(server.address(), "Ana").await;
    std::fs::write(server.config_file(), TOKENS).unwrap();
    server.done(&["ctl", "reload"]);
    let (close, got) = wire.until_closed().await;
    assert_eq!((close, got.len()), (4001, 0), "{got:?}");
}

#[tokio::test]
async fn who_is_revoked_while_away_has_no_key_that_is_still_used() {
    let server = Server::with(TOKENS).start();
    let (ana, bob) = (server.token("ana", &[]), server.token("bob", &["--room", "*"]));
    let mut stays = entered(&server, &ana, "lobby").await;
    drop(entered(&server, &bob, "lobby").await);
    eventually("bob is away", || server.count("session_closed") == 1);
    // Another's token changes nothing here.
    server.token("eve", &[]);
    let list = server.done(&["token", "list", "--json"]);
    let row = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let id = row.into_iter().find(|row| row["user"] == "bob").unwrap()["id"].clone();
    server.done(&["token", "revoke", id.as_str().unwrap()]);
    stays.send(json!({"type": "who", "room": "lobby"})).await;
    assert_eq!(stays.next().await["type"], "encryption_key");
    assert_eq!(stays.next().await["type"], "user_list");
}

#[tokio::test]
async fn a_hundred_operators_at_once_make_one_user() {
    let server = Server::with(TOKENS).start();
    let spellings = ["ana", "ANA", "аnа", "ａｎａ", "a na"];
    let made: Vec<bool> = std::thread::scope(|scope| {
        let server = &server;
        let operators: Vec<_> = (0..20)
            .map(|number| {
                scope.spawn(move || {
                    (0..5)
                        .map(|turn| spellings[(number + turn) % spellings.len()])
                        .map(|name| server.verb(&["token", "add", "--user", name]).status.success())
                        .collect::<Vec<bool>>()
                })
            })
            .collect();
        operators.into_iter().flat_map(|operator| operator.join().unwrap()).collect()
    });
    let list = server.done(&["token", "list", "--json"]);
    let users: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(users.len(), 20, "each spelling was asked for so often: {users:?}");
    assert!(users.iter().all(|row| row["user"] == users[0]["user"]), "{users:?}");
    assert_eq!(made.iter().filter(|made| **made).count(), users.len(), "nothing is lost");
    server.done(&["ctl", "ban", "ANA"]);
    assert_eq!(server.verb(&["ctl", "unban", "bob"]).status.code(), Some(1), "nobody banned that");
    server.done(&["ctl", "unban", "аnа"]);
    assert_eq!(server.verb(&["ctl", "unban", "ANA"]).status.code(), Some(1), "it is free again");
}
