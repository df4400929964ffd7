//! Cryptography: Fernet tokens, the room keys of server and client, and encryption at rest.
//!
//! Pure code: the current time and the keys are arguments, and nothing here does I/O.

pub mod client_keys;
pub mod fernet_token;
pub mod key_ring;
pub mod sealer;
