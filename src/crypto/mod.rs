//! Fernet tokens and the key rings of server and client. Pure: time is an argument.

pub mod client_keys;
pub mod fernet_token;
pub mod key_ring;
