//! A peer for protocol test suites: it dials as clients dial and says back whatever it hears, through
//! the handshake, the limits and the reading that the pipe and the terminal use. Only with the
//! feature `faults`.

use crate::conversation::client::server_url::ServerUrl;
use crate::net::client_connection::Incoming;
use crate::net::dial::Dialer;
use crate::net::tls_client::TrustOptions;

/// Runs the cases from the first to the `last` of a test server, a connection each, and has it
/// write its report.
pub async fn run(server: &str, last: u32) -> Result<(), String> {
    for case in 1..=last {
        echo(&format!("{server}/runCase?case={case}&agent=chat-client")).await?;
    }
    echo(&format!("{server}/updateReports?agent=chat-client")).await
}

async fn echo(url: &str) -> Result<(), String> {
    let dialer = Dialer::new(ServerUrl::parse(url)?, &TrustOptions::default())
        .map_err(|error| error.to_string())?;
    let mut call = dialer.dial().await.map_err(|error| error.to_string())?;
    loop {
        let said = match call.next().await {
            Incoming::Text(text) => call.send(text.as_str().to_owned()).await,
            Incoming::Binary(bytes) => call.send_binary(bytes).await,
            Incoming::Heartbeat => true,
            Incoming::Closed(..)
            | Incoming::TooLarge(_)
            | Incoming::Invalid(_)
            | Incoming::Lost => false,
        };
        if !said {
            call.close().await;
            return Ok(());
        }
    }
}
