//! `--exec`: runs a command for each new message that the run did not send itself, one after the
//! other. Each line that the command prints is sent as a reply.
//!
//! - [`bot`]: the front end's side: what waits, what is handled, and the replies.
//! - [`command`]: runs the command once, with its time limit.
//! - [`answer`]: cuts what a command prints into replies.
//! - [`environment`]: the variables that the command gets.
//! - [`handled`]: the read positions that a cursor file may hold.
//! - [`ids`]: message ids that say which run sent a message, and how many replies led to it.
//! - [`loop_guard`]: ends conversations of programs that answer each other.

mod answer;
pub mod bot;
mod command;
pub mod environment;
mod handled;
pub mod ids;
mod loop_guard;
