//! The bus between the nodes of a cluster, as a trait, so that tests run several nodes in one process.
//!
//! It promises little: a message arrives once, late, or never. Messages of one sender on one subject arrive
//! in their order as a rule. What needs more counts, and asks again.

use bytes::Bytes;

use super::inbox::InboxSender;

/// The longest payload. NATS allows 1 MiB unless its operator sets less.
pub const MAX_PAYLOAD_BYTES: usize = 512 * 1024;

/// A connection to the bus.
pub trait Bus: Send + Sync {
    /// Whether the connection stands now.
    fn is_connected(&self) -> bool;

    /// Sends a message to all subscribers of the subject, this node included. Never waits, and a success does
    /// not mean that anybody got it.
    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError>;

    /// From now on, puts every message of this subject into the inbox, as long as the bus exists.
    fn subscribe(&self, subject: &str, inbox: InboxSender);
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// There is no connection.
    #[error("the bus between the nodes is not connected; check the servers of [cluster]")]
    Disconnected,
    /// Too much waits to be sent.
    #[error("the bus between the nodes is too slow: {0} bytes wait; try again")]
    Full(usize),
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`].
    #[error(
        "the message between the nodes has {0} bytes, and more than {MAX_PAYLOAD_BYTES} are not sent"
    )]
    TooLong(usize),
}
