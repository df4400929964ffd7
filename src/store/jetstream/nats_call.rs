//! One call to the engine over the connection: a request with one answer, or with several.
//!
//! async-nats keeps what is published while it is disconnected, and sends it later. So nothing is published
//! without a connection, and a call ends at once when the connection it was made on ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::nats_error::{ApiError, CallError};

/// The connection. A clone is the same connection.
#[derive(Clone)]
pub(super) struct Caller {
    pub handle: Handle,
    pub client: Client,
    /// How often the connection ended so far.
    pub disconnects: watch::Receiver<u64>,
    /// What the connection's server complained about last.
    pub last_error: Arc<LastError>,
}

/// The last error that the engine's server told about the connection.
#[derive(Default)]
pub(super) struct LastError(Mutex<Option<String>>);

impl LastError {
    pub(super) fn set(&self, text: String) {
        *self.0.lock() = Some(text);
    }

    /// Takes it out if it says that something is forbidden.
    fn take_forbidden(&self) -> Option<String> {
        let is_forbidden = |text: &String| text.to_lowercase().contains("permissions violation");
        self.0.lock().take().filter(is_forbidden)
    }
}

impl Caller {
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Runs `call` until it ends, the connection ends, or the time is over.
    pub(super) fn run<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let mut disconnects = self.disconnects.clone();
        disconnects.mark_unchanged();
        if !self.is_connected() {
            return Err(CallError::Disconnected);
        }
        self.handle.block_on(async {
            tokio::select! {
                // An answer that is there counts, also if the connection has ended since.
                biased;
                outcome = call => outcome,
                _ = disconnects.changed() => Err(CallError::Lost),
                // An answer to something forbidden never comes, but the server complains.
                () = tokio::time::sleep(limit) => Err(match self.last_error.take_forbidden() {
                    Some(reason) => CallError::Forbidden(reason),
                    None => CallError::Timeout(limit),
                }),
            }
        })
    }

    /// Sends a request and waits for its one answer.
    pub(super) fn ask(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Message, CallError> {
        let mut request = async_nats::Request::new().payload(payload).timeout(None);
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        self.run(limit, async {
            self.client.send_request(subject.to_owned(), request).await.map_err(|error| {
                use async_nats::RequestErrorKind as Kind;
                match error.kind() {
                    Kind::NoResponders => CallError::NoResponders,
                    Kind::TimedOut => CallError::Timeout(limit),
                    Kind::InvalidSubject | Kind::MaxPayloadExceeded => {
                        CallError::NotSent(error.to_string())
                    }
                    Kind::Other => CallError::Lost,
                }
            })
        })
    }

    /// Asks JetStream's API (`$JS.API.…`) and reads its JSON answer.
    pub(super) fn api<T: DeserializeOwned>(
        &self,
        subject: &str,
        request: &serde_json::Value,
        limit: Duration,
    ) -> Result<T, ApiError> {
        let payload = if request.is_null() { String::new() } else { request.to_string() };
        let subject = format!("$JS.API.{subject}");
        let answer = self.ask(&subject, HeaderMap::new(), payload.into(), limit);
        ApiError::parse(&answer.map_err(ApiError::Call)?.payload)
    }

    /// Subscribes to an inbox of its own.
    pub(super) async fn inbox(&self, subject: String) -> Result<Subscriber, CallError> {
        self.client.subscribe(subject).await.map_err(|_| CallError::Lost)
    }

    /// Publishes with a subject for answers.
    pub(super) async fn send(
        &self,
        subject: String,
        reply: Option<String>,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), CallError> {
        let sent = match reply {
            Some(reply) => {
                let client = &self.client;
                client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
            None => self.client.publish_with_headers(subject, headers, payload).await,
        };
        sent.map_err(|error| match error.kind() {
            async_nats::client::PublishErrorKind::Send => CallError::Lost,
            _ => CallError::NotSent(error.to_string()),
        })
    }
}

/// The next message of an inbox.
pub(super) async fn next(inbox: &mut Subscriber) -> Result<Message, CallError> {
    let message = inbox.next().await.ok_or(CallError::Lost)?;
    match message.status {
        Some(StatusCode::NO_RESPONDERS) => Err(CallError::NoResponders),
        _ => Ok(message),
    }
}

/// The value of a header.
pub(super) fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get_last(name).map(|value| value.as_str())
}
