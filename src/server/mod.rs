//! The server.
//!
//! From the bottom up: `rooms` (hub, members, log writer); `context` and `authenticator`;
//! `access_watch`, `http` (requests without a WebSocket), `connection` (one client connection) and `admin` (operators); `run` (build,
//! serve, drain); `commands` (the command line). Nothing imports upwards.

mod access_sync;
mod access_watch;
mod activity;
mod admin;
mod audit;
mod authenticator;
mod authorization;
mod ban_schedule;
mod client_info;
mod cluster;
mod cluster_link;
mod commands;
pub mod connection;
mod context;
mod counters;
mod disk_watch;
mod engine_findings;
mod error;
mod exit_code;
#[cfg(feature = "faults")]
mod faulty_store;
mod http;
mod http_meters;
mod listeners;
mod node_id;
mod open_cluster;
mod open_store;
mod page;
mod rates;
mod refusal_log;
mod reload_state;
mod rooms;
mod run;
#[cfg(feature = "faults")]
mod tailed_store;
mod tls_warnings;
mod tree_uploads;
mod user_meters;

pub use commands::main;
