//! Floor 5: the server. [`run`] is its table of contents.

mod accept;
mod admin;
mod admission;
mod answer;
mod args;
mod context;
mod ctl;
#[cfg(feature = "faults")]
pub mod echo;
mod exit;
mod fault;
mod front;
mod gate;
mod hub;
mod link;
mod main;
mod metrics;
mod peer;
mod reload;
mod run;
mod scribe;
mod session;
mod token;

pub use main::main;
