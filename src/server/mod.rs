//! The server. [`run`] is its table of contents.

mod admin;
mod authenticator;
mod client_info;
mod commands;
pub mod connection;
mod context;
mod error;
mod rooms;
mod run;

pub use commands::main;
