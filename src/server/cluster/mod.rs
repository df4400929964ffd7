//! What crosses the nodes of a cluster besides messages: heartbeats, orders of operators, presence, access.
//!
//! From the bottom up: `inbox`, `bus` and its implementation `nats_bus`; `envelope` (sealing); the state
//! machines without I/O `absent`, `heartbeat`, `engine_link`, `orders`, `gatherings`, `local_presence` and
//! `remote_presence` (over `presence_wire`); `node_log`; `handle` (what the server uses), `settings` and `task` (what
//! connects all of them).

mod absent;
pub mod bus;
mod engine_link;
mod envelope;
#[cfg(test)]
mod fake_bus;
mod gatherings;
pub mod handle;
mod heartbeat;
mod inbox;
mod local_presence;
pub mod nats_bus;
mod node_log;
pub mod orders;
#[cfg(test)]
mod presence_tests;
mod presence_wire;
mod remote_presence;
pub mod settings;
pub mod task;
#[cfg(test)]
mod task_tests;
