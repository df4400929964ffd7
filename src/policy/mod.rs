//! Rights, limits and access: rules that hold whatever the frames look like. Pure: time is an argument.

pub mod access;
pub mod auth_throttle;
pub mod backoff;
pub mod client_network;
pub mod origin;
pub mod rate;
pub mod rights;
