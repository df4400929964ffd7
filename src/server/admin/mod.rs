//! The tools of operators: the admin socket, metrics and health, the status line, and reload.

mod delete;
pub mod execute;
pub mod health_watch;
pub mod metrics;
pub mod reload;
pub mod request;
pub mod socket;
pub mod status;
pub mod thread;
