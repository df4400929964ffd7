//! Requests over HTTP beside the WebSocket: send a message, read a room, list the rooms.
//!
//! `door` decides about a request: its origin, its path, its access and its rate (`caller`). Then `send`,
//! `read` or `list` answers it, from the same room log as the sessions. `answer` has the form of every
//! answer and refusal.
//!
//! A request that follows a room becomes a session (`follow_request`). Every other is none: it is in no
//! list of users and gets no key, so it appears nowhere but in the messages that it sends.

pub mod answer;
pub mod caller;
pub mod door;
pub mod follow_request;
mod list;
pub mod origin;
mod read;
mod send;
