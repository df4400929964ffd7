//! Floor 5: the client. [`pipe`] is the scriptable one, [`terminal`] the one for people.

mod args;
mod cursor_file;
#[cfg(feature = "faults")]
pub mod echo;
mod exec;
mod exit;
mod input;
mod local_time;
mod main;
mod messages;
mod options;
mod output;
mod pipe;
mod terminal;

pub use main::main;
