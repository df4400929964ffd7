//! The command line of `chat-server`: one file per command.

mod args;
mod check;
mod ctl;
mod main;
mod output;
mod rekey;
mod token;

pub use main::main;
