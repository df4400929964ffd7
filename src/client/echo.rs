//! A peer for protocol test suites: it connects as the clients do and sends every frame back,
//! through the same handshake, limits and reading. Only with the feature `faults`.

use tokio_tungstenite::tungstenite::Message;

use crate::conversation::client::server_url::ServerUrl;
use crate::net::client_connection::Incoming;
use crate::net::dial::Dialer;
use crate::net::tls_client::TrustOptions;

/// Runs the cases 1 to `last` of a test server, one connection per case, and has it write its report.
pub async fn run(server: &str, last: u32) -> Result<(), String> {
    for case in 1..=last {
        echo(&format!("{server}/runCase?case={case}&agent=chat-client")).await?;
    }
    echo(&format!("{server}/updateReports?agent=chat-client")).await
}

async fn echo(url: &str) -> Result<(), String> {
    let dialer = Dialer::new(ServerUrl::parse(url)?, &TrustOptions::default())
        .map_err(|error| error.to_string())?;
    let mut connection = dialer.dial().await.map_err(|error| error.to_string())?;
    loop {
        let open = match connection.next().await {
            Incoming::Text(text) => connection.send(Message::Text(text)).await,
            Incoming::Binary(bytes) => connection.send(Message::Binary(bytes)).await,
            Incoming::Heartbeat => true,
            Incoming::Closed(..)
            | Incoming::TooLarge(_)
            | Incoming::Invalid(_)
            | Incoming::Lost => false,
        };
        if !open {
            connection.close().await;
            return Ok(());
        }
    }
}
