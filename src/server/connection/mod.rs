//! A client connection, from `accept` to the end of its session.

pub mod accept;
#[cfg(feature = "faults")]
pub mod echo;
mod lifecycle;
mod register;
mod resume;
pub mod session;
pub mod upgrade;
