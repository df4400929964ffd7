//! The client's side of the protocol. [`conversation::Conversation`] decides the effect of each
//! frame and the order in which messages are sent; its documentation gives the order of calls.
//!
//! The rest of the folder reads what users write: addresses, `--since`, and lines of input. Nothing
//! here does I/O, and time is an argument.

pub mod backfill;
pub mod conversation;
pub mod end_to_end;
pub mod event;
mod holes;
mod json_text;
pub mod line_splitter;
pub mod outbox;
pub mod proxy_settings;
pub mod read_positions;
mod receive;
mod receive_page;
mod register;
mod rooms;
pub mod sealed_frame;
pub mod server_url;
