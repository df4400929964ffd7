//! Echo server and echo client for WebSocket test suites such as Autobahn. They use the handshake,
//! limits and framing of `chat-server` and `chat-client`.
//!
//! `cargo run --features faults --example echo -- serve 16777216` prints its address and echoes
//! messages of up to that many bytes. `cargo run --features faults --example echo -- dial
//! ws://127.0.0.1:9001 301` runs the cases 1 to 301 of the test suite at that address.

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", bytes] => {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            secure_chat::server::connection::echo::serve(listener, bytes.parse()?).await;
        }
        ["dial", server, last] => secure_chat::client::echo::run(server, last.parse()?).await?,
        _ => return Err("usage: echo serve MAX_BYTES | echo dial SERVER LAST_CASE".into()),
    }
    Ok(())
}
