//! The tools of operators: the admin socket, metrics and health, the status line, and reload.

mod ask;
pub mod bans;
mod delete;
pub mod engine_watch;
pub mod everywhere;
pub mod execute;
pub mod health_watch;
mod listening;
pub mod log_level;
pub mod metrics;
pub mod node_orders;
pub mod reload;
pub mod request;
mod rooms;
pub mod sessions;
pub mod socket;
pub mod status;
mod status_cluster;
mod status_collect;
mod status_report;
pub mod tail;
pub mod thread;
mod top;
