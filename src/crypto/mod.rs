//! Fernet tokens and the key rings of server and client. Pure: time is an argument.

#[cfg(feature = "client")]
pub mod client_keys;
pub mod fernet_token;
#[cfg(feature = "server")]
pub mod key_ring;
