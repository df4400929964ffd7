//! Secure Chat: a chat that scripts and people share.
//!
//! The library behind the two programs `chat-server` and `chat-client`. It is laid out in floors,
//! and a file imports only from strictly lower ones; `docs/architecture.md` is the map.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod client;
pub mod config;
pub mod conversation;
pub mod credentials;
pub mod crypto;
pub mod net;
pub mod policy;
pub mod protocol;
pub mod server;
pub mod store;
pub mod sys;
