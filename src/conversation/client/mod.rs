//! The client's side of the conversation, pure: what a frame from the server means, what is owed
//! to whom, and in which order things go out. Time is an argument, nothing here reads or writes.
//!
//! [`conversation::Conversation`] is the whole of it: ask it for the `register`, give it every
//! frame that comes, and send what [`conversation::Conversation::next_frame`] says.

pub mod backfill;
pub mod conversation;
pub mod event;
pub mod line_splitter;
pub mod outbox;
pub mod read_positions;
mod receive;
pub mod server_url;
pub mod since;
