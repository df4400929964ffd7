//! The bus over core NATS.
//!
//! async-nats keeps what is published without a connection and sends it later, so nothing is published while
//! there is none. After a new connection it subscribes again by itself; what was published meanwhile is lost,
//! which the counters of the heartbeats show.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::bus::{Bus, BusError, MAX_PAYLOAD_BYTES};
use super::inbox::InboxSender;

/// What may wait to be handed to the client.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// How long the client may take for one message, or for a subscription.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a failed subscription is tried again.
const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// The bus over a connection that others use too.
pub struct NatsBus {
    client: Client,
    handle: Handle,
    queue: mpsc::UnboundedSender<(String, Bytes)>,
    /// The bytes in `queue`.
    waiting: Arc<AtomicUsize>,
}

impl NatsBus {
    /// A bus over this connection. Its tasks run on `handle` and end when the bus is dropped.
    pub fn new(client: Client, handle: Handle) -> Self {
        let (queue, mut queued) = mpsc::unbounded_channel::<(String, Bytes)>();
        let waiting = Arc::<AtomicUsize>::default();
        let (publisher, counted) = (client.clone(), waiting.clone());
        handle.spawn(async move {
            while let Some((subject, payload)) = queued.recv().await {
                counted.fetch_sub(subject.len() + payload.len(), Ordering::Relaxed);
                if publisher.connection_state() == State::Connected {
                    // A message that is not sent is lost, as the trait allows.
                    let sent = publisher.publish(subject, payload);
                    let _ = tokio::time::timeout(CLIENT_TIMEOUT, sent).await;
                }
            }
        });
        NatsBus { client, handle, queue, waiting }
    }
}

impl Bus for NatsBus {
    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        if !self.is_connected() {
            return Err(BusError::Disconnected);
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(BusError::TooLong(payload.len()));
        }
        let size = subject.len() + payload.len();
        let before = self.waiting.fetch_add(size, Ordering::Relaxed);
        if before + size > MAX_WAITING_BYTES {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            return Err(BusError::Full(before));
        }
        self.queue.send((subject.to_owned(), payload)).map_err(|_| BusError::Disconnected)
    }

    fn subscribe(&self, subject: &str, inbox: InboxSender) {
        let (client, subject, queue) =
            (self.client.clone(), subject.to_owned(), self.queue.clone());
        // It must not keep the publishing task.
        let ended = queue.downgrade();
        drop(queue);
        self.handle.spawn(async move {
            while ended.upgrade().is_some() {
                let subscribed = client.subscribe(subject.clone());
                let Ok(Ok(mut messages)) = tokio::time::timeout(CLIENT_TIMEOUT, subscribed).await
                else {
                    tokio::time::sleep(SUBSCRIBE_PAUSE).await;
                    continue;
                };
                loop {
                    match tokio::time::timeout(CLIENT_TIMEOUT, messages.next()).await {
                        Ok(Some(message)) => inbox.push(&message.subject, message.payload),
                        Ok(None) => break,
                        Err(_) if ended.upgrade().is_none() => return,
                        Err(_) => {}
                    }
                }
            }
        });
    }
}
