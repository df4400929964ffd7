//! Policies: access, rights, rate limits, origins and backoff. Pure functions and values; time is
//! an argument.

pub mod access;
pub mod auth_throttle;
pub mod backoff;
pub mod client_network;
pub mod confusable_names;
pub mod origin;
pub mod rate;
pub mod rights;
