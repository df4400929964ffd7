//! What an operator asks and tells a running server.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::server::Server;
use crate::support::wire::Wire;

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
