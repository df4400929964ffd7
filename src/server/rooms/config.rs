//! The part of the configuration that the hub uses.

use std::time::Duration;

use crate::protocol::frame::Limits;

/// The hub's settings. A reload replaces them as a whole.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// The age at which a room's key is replaced; `None`: never.
    pub rotate_every: Option<Duration>,
    /// How long the previous key is still accepted.
    pub grace: Duration,
    /// A room with more members than this does not announce joins and leaves.
    pub presence_members: usize,
    /// How many rooms may exist.
    pub max_rooms: u64,
    /// The bound of each session's send queue, in bytes.
    pub outbound_bytes: usize,
    /// The limits that `welcome` reports to a full client.
    pub limits: Limits,
    /// Whether an acked message survives a power loss.
    pub durable: bool,
    /// Whether numbers are left out in the log of a room.
    pub leaves_out_numbers: bool,
}
