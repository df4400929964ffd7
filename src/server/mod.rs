//! Floor 5: the server. [`run`] is its table of contents.

mod accept;
mod admission;
mod args;
mod context;
#[cfg(feature = "faults")]
pub mod echo;
mod exit;
mod fault;
mod front;
mod hub;
mod link;
mod main;
mod peer;
mod reload;
mod run;
mod scribe;
mod session;

pub use main::main;
