//! Rights, limits and access: rules that hold whatever the frames look like. Pure: time is an argument.

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod auth_throttle;
#[cfg(feature = "client")]
pub mod backoff;
#[cfg(feature = "server")]
pub mod client_network;
#[cfg(feature = "server")]
pub mod origin;
#[cfg(feature = "server")]
pub mod rate;
#[cfg(feature = "server")]
pub mod rights;
