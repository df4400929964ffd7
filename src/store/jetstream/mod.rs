//! The store of the room log on NATS JetStream, for several servers that share their rooms.

mod checks;
mod engine;
mod monitor;
mod names;
mod nats;
mod nats_call;
mod nats_connect;
mod nats_error;
mod nats_follow;
mod nats_publish;
mod nats_read;
mod prepare;
mod reach;
mod stream_config;

#[cfg(test)]
mod nats_tests;

pub use checks::{Assurance, Mismatch};
pub use nats_connect::{Credentials, EngineAddress, EngineTls};
pub use reach::{ClusterError, ClusterPlan, ReachedEngine, Waiting, reach};
