//! Secure Chat: a chat server with durable history, and a client for terminals and shell pipes.
//!
//! This library holds the code of the two programs `chat-server` and `chat-client`. Its modules form
//! layers, and a file imports only from strictly lower layers; `docs/dev/architecture.md` draws them.
//!
//! Each program has a Cargo feature, `server` and `client`, and both are on by default. A module
//! that only one program needs is compiled only with the feature of that program.

#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub(crate) mod config;
pub mod conversation;
#[cfg(feature = "server")]
pub mod credentials;
pub mod crypto;
#[cfg(feature = "client")]
pub mod mls;
pub mod net;
pub mod policy;
pub mod protocol;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod store;
pub(crate) mod sys;
