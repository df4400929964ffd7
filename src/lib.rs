//! Secure Chat: a chat that scripts and people share.
//!
//! The library behind the two programs `chat-server` and `chat-client`. It is laid out in floors,
//! and a file imports only from strictly lower ones; `docs/architecture.md` is the map.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod client;
pub mod doors;
pub mod host;
pub mod rules;
pub mod server;
pub mod talk;
pub mod words;
