//! The client's side of the conversation, pure: what a frame from the server means, what is owed
//! to whom, and in which order things go out. Time is an argument, nothing here reads or writes.
//!
//! [`conversation::Conversation`] is the whole of it: ask it for the `register`, give it every
//! frame that comes, and send what [`conversation::Conversation::next_frame`] says.

pub mod catchup;
pub mod conversation;
pub mod heard;
pub mod keys;
pub mod lines;
pub mod outbox;
pub mod places;
pub mod since;
pub mod target;
pub mod wire;
