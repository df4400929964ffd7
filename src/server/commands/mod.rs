//! The command line of `chat-server`.

mod args;
pub mod ctl;
mod main;
mod token;

pub use main::main;
