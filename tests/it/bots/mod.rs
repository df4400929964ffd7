//! Bots: the examples of docs/bots.md, and `--exec`.

mod backlog;
mod command;
mod examples;
mod loops;
mod resume;
pub mod support;
