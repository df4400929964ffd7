//! The command line of `chat-server`: one file per command.

mod args;
mod backup;
mod backup_key;
mod ban_args;
mod ban_output;
mod check;
mod ctl;
mod invite;
mod invite_address;
mod main;
mod output;
mod qr_code;
mod rekey;
mod restore;
mod token;

pub use main::main;
