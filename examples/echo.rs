//! Both ends for WebSocket test suites, with the handshake, limits and reading of the two programs:
//!
//! `cargo run --features faults --example echo -- serve 16777216` prints its address and says back
//! messages up to so many bytes; `… -- dial ws://127.0.0.1:9001 301` runs so many cases of a server.

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
        _ => return Err("serve BYTES, or dial SERVER CASES".into()),
    }
    Ok(())
}
