//! The command line of `chat-server`: one file per command.

mod answers;
mod args;
mod backup;
mod backup_key;
mod ban_args;
mod ban_output;
mod check;
mod cluster_line;
mod ctl;
mod events;
mod export;
mod import;
mod invite;
mod invite_address;
mod log_args;
mod main;
mod output;
mod rekey;
mod restore;
mod status_screen;
mod table;
mod tail;
mod token;
mod transfer_args;
mod units;
mod wrapping;

pub use main::main;
