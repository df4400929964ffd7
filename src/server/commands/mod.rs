//! The command line of `chat-server`: one file per command.

mod args;
mod backup;
mod backup_key;
mod check;
mod ctl;
mod events;
mod main;
mod output;
mod rekey;
mod restore;
mod tail;
mod token;

pub use main::main;
