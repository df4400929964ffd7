//! Connecting to the engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerInfo};
use tokio::runtime::Handle;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::nats::NatsEngine;
use super::nats_call::{Caller, LastError};
use super::nats_change::ServerChange;

/// How long one attempt to connect to one server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the client library asks whether the connection still stands. After two unanswered questions it
/// connects anew.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// The longest time between two attempts to connect again.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// Commands, a message each, that wait for the connection's task.
const MAX_QUEUED_COMMANDS: usize = 256;

/// Where the engine is, and how to prove who we are.
#[derive(Clone, Debug)]
pub struct EngineAddress {
    /// `nats://host:port` or `tls://host:port`.
    pub servers: Vec<String>,
    /// What proves who we are; nothing for an engine that asks for nothing.
    pub credentials: Option<Credentials>,
    /// TLS, in addition to what the addresses and the engine ask for.
    pub tls: Option<EngineTls>,
    /// The name of this node in the engine's list of connections.
    pub node: String,
}

/// PEM files for TLS to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineTls {
    /// The authority that signed the engine's certificates; `None` trusts the system's authorities.
    pub ca: Option<PathBuf>,
    /// Our certificate chain and our private key, for an engine that asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What proves to the engine who we are. `{:?}` does not show it.
#[derive(Clone)]
pub struct Credentials(Form);

#[derive(Clone)]
enum Form {
    /// A file of `nsc`, with a JWT and a seed.
    File(Zeroizing<String>),
    /// The seed of an nkey.
    Seed(Zeroizing<String>),
    Password {
        user: String,
        password: Zeroizing<String>,
    },
}

impl Credentials {
    /// Reads the text of a credentials file: a file of `nsc`, the seed of a user's nkey (`SU…`), or
    /// `user:password`, each alone in it. `None` if it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.contains("-----BEGIN NATS USER JWT-----") && text.contains("NKEY SEED") {
            return Some(Credentials(Form::File(Zeroizing::new(text.to_owned()))));
        }
        if text.lines().count() != 1 {
            return None;
        }
        if text.len() == 58 && text.starts_with("SU") {
            return Some(Credentials(Form::Seed(Zeroizing::new(text.to_owned()))));
        }
        let (user, password) = text.split_once(':')?;
        let password = Zeroizing::new(password.to_owned());
        let is_complete = !user.is_empty() && !password.is_empty();
        is_complete.then(|| Credentials(Form::Password { user: user.to_owned(), password }))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConnectFailure {
    /// Somebody answers, and does not accept our credentials.
    NotAccepted,
    /// The credentials, an address or a TLS file can't be used.
    Unusable(String),
    /// Nobody answers.
    Unreachable(String),
}

/// Connects to the first server that answers. Afterwards, the client library connects again whenever the
/// connection ends.
pub(super) fn connect(
    address: &EngineAddress,
    bucket: &str,
    handle: &Handle,
    limit: Duration,
) -> Result<NatsEngine, ConnectFailure> {
    let (lost, disconnects) = watch::channel(0u64);
    let last_error = Arc::new(LastError::default());
    let change = Arc::new(ServerChange::default());
    let options = options(address, lost, last_error.clone(), change.clone())?;
    let client = handle.block_on(async {
        match tokio::time::timeout(limit, options.connect(&address.servers[..])).await {
            Err(_) => Err(ConnectFailure::Unreachable("no answer in time".into())),
            Ok(Err(error)) => Err(failure(&error)),
            Ok(Ok(client)) => Ok(client),
        }
    })?;
    let caller = Caller { handle: handle.clone(), client, disconnects, last_error };
    Ok(NatsEngine { caller, bucket: bucket.to_owned(), change })
}

fn options(
    address: &EngineAddress,
    lost: watch::Sender<u64>,
    last_error: Arc<LastError>,
    change: Arc<ServerChange>,
) -> Result<ConnectOptions, ConnectFailure> {
    let mut options = ConnectOptions::new()
        .name(&address.node)
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .request_timeout(None)
        .client_capacity(MAX_QUEUED_COMMANDS)
        .reconnect_delay_callback(|attempts| match attempts {
            0 | 1 => Duration::ZERO,
            _ => MAX_RECONNECT_PAUSE.min(Duration::from_millis(20) * attempts as u32),
        })
        .reconnect_to_server_callback(move |servers, left| {
            std::future::ready(change.choose(&servers, &left))
        })
        .event_callback(move |event| {
            match event {
                Event::Disconnected | Event::Closed => lost.send_modify(|count| *count += 1),
                Event::ServerError(error) => {
                    last_error.set(error.to_string());
                }
                _ => {}
            }
            std::future::ready(())
        });
    options = match &address.credentials {
        None => options,
        Some(Credentials(Form::File(text))) => options.credentials(text).map_err(|_| {
            ConnectFailure::Unusable("the credentials file has no valid JWT and seed".into())
        })?,
        Some(Credentials(Form::Seed(seed))) => options.nkey(seed.to_string()),
        Some(Credentials(Form::Password { user, password })) => {
            options.user_and_password(user.clone(), password.to_string())
        }
    };
    if let Some(tls) = &address.tls {
        options = options.require_tls(true);
        if let Some(ca) = &tls.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &tls.identity {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
    }
    Ok(options)
}

fn failure(error: &async_nats::ConnectError) -> ConnectFailure {
    let text = std::error::Error::source(error)
        .map_or_else(|| error.kind().to_string(), ToString::to_string);
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            ConnectFailure::NotAccepted
        }
        ConnectErrorKind::ServerParse => ConnectFailure::Unusable(text),
        // The engine's name may be there a moment later.
        ConnectErrorKind::Dns
        | ConnectErrorKind::Io
        | ConnectErrorKind::Tls
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::MaxReconnects => ConnectFailure::Unreachable(text),
    }
}

/// What the server of the connection says about itself.
pub(super) fn server_info(client: &Client) -> ServerInfo {
    client.server_info()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_credentials_is_recognised_and_nothing_is_shown() {
        let seed = format!("SU{}", "A".repeat(56));
        let file = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let form = |text: &str| match Credentials::parse(text).map(|it| it.0) {
            Some(Form::File(_)) => "file",
            Some(Form::Seed(_)) => "seed",
            Some(Form::Password { .. }) => "password",
            None => "none",
        };
        assert_eq!(form(&file), "file");
        assert_eq!(form(&format!("{seed}\n")), "seed");
        assert_eq!(form("chat:s3cret:with:colons\n"), "password");
        for text in ["", "chat", "chat:", ":s3cret", "a:b\nc:d"] {
            assert_eq!(form(text), "none", "{text}");
        }
        let shown = format!("{:?}", Credentials::parse("chat:s3cret"));
        assert!(!shown.contains("s3cret") && !shown.contains("chat"), "{shown}");
    }
}
