//! Policies: access, rights, rate limits, origins and backoff. Pure functions and values; time is
//! an argument.

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod auth_throttle;
#[cfg(feature = "client")]
pub mod backoff;
#[cfg(feature = "server")]
pub mod client_network;
#[cfg(feature = "server")]
pub mod confusable_names;
#[cfg(feature = "server")]
pub mod log_limit;
#[cfg(feature = "server")]
pub mod origin;
#[cfg(feature = "server")]
pub mod rate;
#[cfg(feature = "server")]
pub mod rights;
