//! The pipe: lines in, messages out, across reconnects, until every line is known to be stored.
//!
//! [`run`] is the loop; [`lines`] brings standard input into the outbox; [`frames`] is the effect of
//! each frame from the server; [`progress`] says when the run gives up.

mod frames;
mod lines;
mod progress;
mod run;

pub use run::run;
