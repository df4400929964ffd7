//! Policies: access, rights, rate limits, origins, networks, backoff and reconnects. Pure functions and
//! values; time is an argument.

#[cfg(feature = "server")]
pub(crate) mod access;
#[cfg(feature = "server")]
pub(crate) mod auth_throttle;
#[cfg(feature = "client")]
pub(crate) mod backoff;
#[cfg(feature = "server")]
pub(crate) mod ban_term;
#[cfg(feature = "server")]
pub(crate) mod bans;
#[cfg(feature = "server")]
pub(crate) mod client_network;
#[cfg(feature = "client")]
pub mod commit_rules;
#[cfg(all(test, feature = "client"))]
mod commit_rules_tests;
#[cfg(feature = "server")]
pub(crate) mod confusable_names;
#[cfg(feature = "server")]
pub(crate) mod heavy_hitters;
pub(crate) mod ip_network;
#[cfg(feature = "server")]
pub(crate) mod log_limit;
#[cfg(feature = "server")]
pub(crate) mod origin;
#[cfg(feature = "client")]
pub mod pins;
#[cfg(feature = "server")]
pub(crate) mod rate;
#[cfg(feature = "server")]
pub(crate) mod recent_activity;
#[cfg(feature = "client")]
pub(crate) mod reconnect;
#[cfg(feature = "server")]
pub mod rights;
#[cfg(feature = "client")]
pub mod sender_record;
#[cfg(feature = "client")]
pub mod upkeep;
