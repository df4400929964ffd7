//! Access tokens: only a valid one admits, a name belongs to one user, and guessing is throttled.

use serde_json::{Value, json};

use super::{TOKENS, entered, refusal, refused, register};
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Mode, in_both_modes};

in_both_modes!(
    without_a_valid_access_token_no_key_is_sent,
    a_verified_name_can_be_neither_taken_nor_imitated,
    guessing_throttles_only_the_guesser,
);

async fn without_a_valid_access_token_no_key_is_sent(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let ended = server.token("old", &["--expires", "1ms"]);
    let ana = server.token("ana", &["--room", "ops"]);
    let refused_without_token = async |frame: Value| {
        let mut wire = Wire::connect(server.endpoint().without_tokens()).await;
        wire.send(frame).await;
        refusal(wire).await
    };
    let unauthorized = refused("unauthorized", 4001);
    assert_eq!(
        refused_without_token(json!({"type": "register", "username": "Ana"})).await,
        unauthorized
    );
    assert_eq!(
        refused_without_token(json!({"type": "register", "access_token": ""})).await,
        unauthorized
    );
    assert_eq!(
        refused_without_token(json!({"type": "register", "access_token": format!("{ana}x")})).await,
        unauthorized
    );
    assert_eq!(refusal(register(&server, &ended, &["lobby"]).await).await, unauthorized);
    assert_eq!(refusal(register(&server, &ana, &["dev"]).await).await, refused("forbidden", 4003));
    // Every refusal reads the same, whatever the name and however close the guess.
    let mut answers = Vec::new();
    for (user, guess) in [("ana", &ended[..]), ("ana", &ana[1..]), ("old", "sct_x"), ("eve", "x")] {
        let mut wire = Wire::connect(server.endpoint().bound_to("127.0.0.7")).await;
        wire.send(json!({"type": "register", "username": user, "access_token": guess})).await;
        answers.push(wire.until_closed().await);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // A basic client can send an access token; it gets a room of the token, and the proven name.
    let mut basic = Wire::connect(&server).await;
    basic.send(json!({"type": "register", "username": "Bob", "access_token": ana})).await;
    let list = basic.next_of("user_list").await;
    assert_eq!((&list["users"], &list["room"]), (&json!(["ana"]), &json!("ops")));
    basic.send_chat("hola").await;
    let frame = basic.next_of("chat_message").await;
    assert_eq!((&frame["username"], &frame["verified"]), (&json!("ana"), &json!(true)));
    let log = server.log_lines().join("\n");
    assert!(!log.contains(&ana) && !log.contains("sct_"), "an access token is in the log");
}

async fn a_verified_name_can_be_neither_taken_nor_imitated(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let ana = server.token("ana", &[]);
    let bob = server.token("bob", &[]);
    for imitation in ["ANA", "аnа", "a na", "ａｎａ"] {
        let output = server.run(&["token", "add", "--user", imitation]);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{imitation}: {printed}");
        assert!(printed.contains("told apart"), "{printed}");
    }
    let _first = entered(&server, &ana, "lobby").await;
    let rounds = if mode == Mode::Open { 100 } else { 10 };
    for _ in 0..rounds {
        let claims = (0..100).map(|_| async {
            let mut wire = Wire::connect(&server).await;
            let claim = json!({"type": "register", "protocol": 1, "username": "ana",
                "access_token": bob, "presence": false});
            wire.send(claim).await;
            wire.next_of("welcome").await["username"].as_str().unwrap().to_owned()
        });
        let names = futures_util::future::join_all(claims).await;
        assert!(names.iter().all(|name| name == "bob"), "{names:?}");
    }
}

async fn guessing_throttles_only_the_guesser(mode: Mode) {
    let proxies = "[listen]\ntrusted_proxies = [\"127.0.0.8/32\"]\n";
    let server = Server::with(&format!("{TOKENS}{proxies}")).mode(mode).start();
    let token = server.token("ana", &[]);
    let proxy = server.endpoint().bound_to("127.0.0.8");
    let by_proxy = |client: &str| {
        let endpoint = proxy.clone().header("x-forwarded-proto", "https");
        endpoint.header("x-forwarded-for", client)
    };
    let directly = server.endpoint().bound_to("127.0.0.9");
    // A guesser, and other clients that come the same way.
    let cases = [
        (10_000, directly, vec![server.endpoint()]),
        (5_000, by_proxy("203.0.113.9"), vec![by_proxy("203.0.113.10"), proxy.clone()]),
    ];
    for (guesses, guesser, others) in cases {
        let guesses = if mode == Mode::Open { guesses } else { guesses / 5 };
        let (mut compared, mut memory) = (0, 0);
        for number in 1..=guesses {
            match refusal(register(&guesser, &format!("sct_{number}"), &[]).await).await {
                outcome if outcome == refused("unauthorized", 4001) => compared += 1,
                outcome => assert_eq!(outcome, refused("rate_limited", 1013)),
            }
            if number % 250 == 0 {
                for other in &others {
                    drop(entered(other, &token, "lobby").await);
                }
            }
            if number == guesses / 10 {
                memory = server.resident_bytes();
            }
        }
        let grown = server.resident_bytes().saturating_sub(memory);
        assert!(grown < 4 * 1024 * 1024, "{grown} bytes more");
        assert!((5..30).contains(&compared), "{compared} guesses were even looked at");
    }
    // A proxy that doesn't name its client is not throttled for it.
    for number in 0..20 {
        let outcome = refusal(register(&proxy, &format!("sct_{number}"), &[]).await).await;
        assert_eq!(outcome, refused("unauthorized", 4001));
    }
    drop(entered(&proxy, &token, "lobby").await);
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
                        .map(|name| server.run(&["token", "add", "--user", name]).status.success())
                        .collect::<Vec<bool>>()
                })
            })
            .collect();
        operators.into_iter().flat_map(|operator| operator.join().unwrap()).collect()
    });
    let list = server.run_ok(&["token", "list", "--json"]);
    let users: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(users.len(), 20, "each spelling was tried 20 times: {users:?}");
    assert!(users.iter().all(|row| row["user"] == users[0]["user"]), "{users:?}");
    assert_eq!(made.iter().filter(|made| **made).count(), users.len(), "nothing is lost");
    server.run_ok(&["ctl", "ban", "ANA"]);
    assert_eq!(server.run(&["ctl", "unban", "bob"]).status.code(), Some(1), "not banned");
    server.run_ok(&["ctl", "unban", "аnа"]);
    assert_eq!(server.run(&["ctl", "unban", "ANA"]).status.code(), Some(1), "the ban is lifted");
}

#[test]
fn token_list_shows_rooms_and_ids() {
    let server = Server::with(TOKENS).start();
    for (user, words, rooms) in [
        ("ana", &[][..], json!(["lobby"])),
        ("bob", &["--room", "ops", "--room", "dev"], json!(["ops", "dev"])),
        ("eve", &["--room", "*", "--role", "reader"], json!(["*"])),
        // An admin's token is for every room, whatever it was made with.
        ("root", &["--room", "ops", "--role", "admin"], json!(["*"])),
    ] {
        let token = server.token(user, words);
        let list = server.run_ok(&["token", "list", "--json"]);
        let row: Value = serde_json::from_str(list.lines().last().unwrap()).unwrap();
        assert_eq!((&row["user"], &row["rooms"]), (&json!(user), &rooms));
        assert!(!list.contains(&token) && !list.contains("hash"), "{list}");
        let text = server.run_ok(&["token", "list"]);
        assert!(text.contains(row["id"].as_str().unwrap()), "{text}");
    }
}

#[test]
fn a_name_that_the_server_would_change_is_refused() {
    let server = Server::with(TOKENS).start();
    for command in
        [&["ctl", "kick"][..], &["ctl", "ban"], &["ctl", "unban"], &["token", "add", "--user"]]
    {
        for (name, suggested) in [("@@@", ""), (" eve!", "did you mean \"eve\"?")] {
            let output = server.run(&[command, &[name]].concat());
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{command:?} {name}: {printed}");
            assert!(
                printed.contains(suggested) && printed.contains("not a user name"),
                "{printed}"
            );
        }
    }
    let listed = server.run(&["token", "list"]);
    let printed = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(!printed.contains("banned"), "nobody was banned: {printed}");
}

#[tokio::test]
async fn a_rotated_token_keeps_its_rights_and_the_old_one_is_void() {
    let server = Server::with(TOKENS).start();
    let old = server.token("ana", &["--room", "ops", "--role", "writer", "--expires", "30d"]);
    let old_id = server.token_id("ana");
    let row = || -> Value {
        serde_json::from_str(server.run_ok(&["token", "list", "--json"]).trim()).unwrap()
    };
    let before = row();
    let session = register(&server, &old, &["ops"]).await;
    let output = server.run(&["token", "rotate", &old_id]);
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{notes}");
    let new = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let new_id = server.token_id("ana");
    assert!(new.starts_with("sct_") && new != old && new_id != old_id, "{new_id}");
    assert!(notes.contains(&format!("access token {new_id} replaces {old_id}")), "{notes}");
    assert!(notes.contains("it ended sessions: 1") && !notes.contains(&new), "{notes}");
    assert_eq!(session.until_closed().await.0, 4001);
    let unauthorized = refused("unauthorized", 4001);
    assert_eq!(refusal(register(&server, &old, &["ops"]).await).await, unauthorized);
    let mut ana = register(&server, &new, &["ops"]).await;
    assert_eq!(ana.next_of("welcome").await["username"], "ana");
    let after = row();
    for field in ["user", "rooms", "role", "expires", "expired", "in"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    // The access token is not in the log, and the act is there once.
    server.wait_for_event("audit");
    let audit: Vec<Value> =
        server.log().into_iter().filter(|line| line["event"] == "audit").collect();
    let rotated = audit.last().unwrap();
    assert_eq!((audit.len(), &rotated["action"]), (2, &json!("token_rotate")), "{audit:?}");
    assert_eq!((&rotated["token"], &rotated["replaces"]), (&json!(new_id), &json!(old_id)));
    assert!(!server.log_lines().join("\n").contains(&new));
    // What can't be replaced.
    server.token("eve", &["--expires", "1ms"]);
    let expired = server.token_id("eve");
    for (id, reason) in
        [("12345678", "there is no access token"), (&*expired, "has expired"), (&*new, "its id is")]
    {
        let output = server.run(&["token", "rotate", id]);
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{printed}");
        assert!(printed.contains(reason) && !printed.contains(&new), "{printed}");
    }
}
