//! An echo server for WebSocket test suites: `cargo run --features faults --example echo -- 16777216`
//! prints its address and echoes messages up to so many bytes.

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let frame_bytes =
        std::env::args().nth(1).and_then(|bytes| bytes.parse().ok()).unwrap_or(65_536);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    secure_chat::server::echo::serve(listener, frame_bytes).await;
    Ok(())
}
