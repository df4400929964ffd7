//! The server's side of the protocol: the first frame of a session, and the requests after it.

pub mod registration;
pub mod request;
