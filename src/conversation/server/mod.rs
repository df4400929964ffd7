//! The server's side: the first frame of a session, and the requests after it.

pub mod registration;
pub mod request;
