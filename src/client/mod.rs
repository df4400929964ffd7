//! Floor 5: the client. [`pipe`] is the scriptable one, [`terminal`] the one for people.

mod args;
mod bot;
mod catalogue;
mod clock;
mod cursor;
#[cfg(feature = "faults")]
pub mod echo;
mod exit;
mod input;
mod main;
mod output;
mod pipe;
mod plan;
mod terminal;

pub use main::main;
