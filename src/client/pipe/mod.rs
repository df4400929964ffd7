//! The pipe: lines in, messages out, across reconnects, until every line is known to be stored.
//!
//! [`run`] is the loop; [`lines`] brings standard input into the outbox; [`frames`] is the effect of
//! each frame from the server; [`unstored`] names the lines that are not known to be stored at the end.

mod frames;
mod lines;
mod run;
mod unstored;

pub use run::run;
