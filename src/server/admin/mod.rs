//! What operators reach: the admin socket, metrics and health, and reload.

pub mod metrics;
pub mod reload;
pub mod socket;
