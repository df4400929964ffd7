//! Access tokens in the `Authorization` header of the HTTP upgrade.

use serde_json::json;

use super::{TOKENS, entered, refusal, refused};
use crate::support::in_both_modes;
use crate::support::server::Server;
use crate::support::{Mode, wire::Wire};

in_both_modes!(
    a_client_without_a_token_in_its_register_is_known_by_the_header,
    the_header_of_a_proxy_is_ignored_in_open_mode_and_beside_a_token,
);

async fn a_client_without_a_token_in_its_register_is_known_by_the_header(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let token = server.token("ana", &["--room", "ops"]);
    let bearer = |token: &str| {
        server.endpoint().without_tokens().header("authorization", &format!("Bearer {token}"))
    };
    let register = json!({"type": "register", "username": "whoever"});
    let mut basic = Wire::connect(bearer(&token)).await;
    basic.send(register.clone()).await;
    let key = basic.next_of("encryption_key").await;
    assert_eq!(key["room"], "ops", "the room of the token");
    assert_eq!(basic.next_of("user_list").await["users"], json!(["ana"]));
    let mut wrong = Wire::connect(bearer("sct_wrong")).await;
    wrong.send(register.clone()).await;
    assert_eq!(refusal(wrong).await, refused("unauthorized", 4001));
    let mut none = Wire::connect(server.endpoint().without_tokens()).await;
    none.send(register).await;
    assert_eq!(refusal(none).await, refused("unauthorized", 4001));
}

async fn the_header_of_a_proxy_is_ignored_in_open_mode_and_beside_a_token(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let token = server.token("ana", &[]);
    // "proxy:password"
    let header = |endpoint: crate::support::endpoint::Endpoint| {
        endpoint.header("authorization", "Basic cHJveHk6cGFzc3dvcmQ=")
    };
    drop(entered(header(server.endpoint()), &token, "lobby").await);
    let open = Server::start();
    drop(Wire::register(header(open.endpoint()), "ana").await);
}
