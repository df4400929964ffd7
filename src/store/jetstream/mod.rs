//! The store of the room log on NATS JetStream, for several servers that share their rooms.
//!
//! A room is a subject in one of a few streams; the number of a message is its number in the stream. Every server
//! appends to every stream, follows all of them, and reads pages by direct get. What it keeps in memory of a stream is in
//! `log_state`. The engine is behind a trait, so that unit tests have one that delays, forgets and repeats; the real
//! one is in the files `nats*`.
//!
//! Order of calls: [`reach`] waits for the engine, makes the streams and checks everything; then [`open_cluster`].

mod access_value;
mod append;
mod checks;
mod cluster;
mod cluster_plan;
mod commit_record;
mod commits;
mod copies;
mod deletion;
mod deposits;
mod e2e_append;
mod e2e_upkeep;
mod engine;
mod epoch;
mod import;
mod inspect;
mod janitor;
mod log_state;
mod monitor;
mod names;
mod nats;
mod nats_call;
mod nats_change;
mod nats_connect;
mod nats_error;
mod nats_follow;
mod nats_publish;
mod nats_read;
#[cfg(test)]
mod nats_tests;
mod open;
mod prepare;
mod publish;
mod reach;
mod reader;
mod record;
mod scan;
mod stream_config;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use checks::{Assurance, Mismatch};
pub use cluster_plan::{ClusterError, ClusterPlan};
pub use inspect::{EngineInspector, Inspection};
pub use nats_connect::{Credentials, EngineAddress, EngineTls};
pub use reach::{ReachedEngine, Waiting, open_cluster, reach};
