//! Policies: access, rights, rate limits, origins and backoff. Pure functions and values; time is
//! an argument.

#[cfg(feature = "server")]
pub(crate) mod access;
#[cfg(feature = "server")]
pub(crate) mod auth_throttle;
#[cfg(feature = "client")]
pub(crate) mod backoff;
#[cfg(feature = "server")]
pub(crate) mod client_network;
#[cfg(feature = "server")]
pub(crate) mod confusable_names;
#[cfg(feature = "server")]
pub(crate) mod log_limit;
#[cfg(feature = "server")]
pub(crate) mod origin;
#[cfg(feature = "server")]
pub(crate) mod rate;
#[cfg(feature = "server")]
pub mod rights;
