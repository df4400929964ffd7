//! A client connection, from `accept` to the end of its session.
//!
//! In the order of a connection's life: `accept` (admission, TLS), `upgrade` (HTTP), `lifecycle`
//! (the steps after that), `register` (the first frame), `session` (the loop over the client's
//! frames), `submit` (chat messages) and `resume` (history and replay). `follow` is the session of an
//! HTTP request that follows a room.

pub mod accept;
#[cfg(feature = "faults")]
pub mod echo;
mod end_to_end;
mod enter;
mod follow;
mod lifecycle;
mod register;
mod resume;
mod session;
mod submit;
pub mod unregistered;
mod upgrade;
