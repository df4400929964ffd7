//! The server's side of the protocol: the first frame of a session, the requests after it, and requests
//! over HTTP.

pub mod e2e_request;
pub mod opaque_message;
pub mod posted_message;
pub mod registration;
pub mod request;
pub mod room_query;
mod webhook;
