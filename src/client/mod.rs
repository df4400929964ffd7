//! Floor 5: the client. [`pipe`] is the scriptable one.

mod args;
mod bot;
mod clock;
mod cursor;
mod exit;
mod input;
mod main;
mod output;
mod pipe;
mod plan;

pub use main::main;
