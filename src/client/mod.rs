//! The client: one [`driver`] of the connection, and three front ends on it: [`pipe`] (with `--exec`),
//! [`history`] and [`terminal`].

mod access_token_file;
mod args;
mod blanks;
mod commands;
mod connection;
mod cursor_file;
mod display;
mod driver;
#[cfg(feature = "faults")]
pub mod echo;
mod end_to_end;
mod end_to_end_args;
mod end_to_end_options;
mod exec;
mod exit_code;
mod failure;
mod history;
mod input;
mod local_time;
mod main;
mod messages;
mod now;
mod options;
mod output;
mod pipe;
mod progress;
mod random;
mod retry_report;
mod room_names;
mod runtime;
mod server_errors;
mod sink;
mod spanish;
mod spanish_end_to_end;
mod spanish_groups;
mod standstill;
mod terminal;

pub use main::main;
