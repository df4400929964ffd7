//! Cryptography: Fernet tokens, the room keys of server and client, and encryption at rest.
//!
//! Pure code: the current time and the keys are arguments, and nothing here does I/O.

#[cfg(feature = "server")]
pub mod age_file;
#[cfg(feature = "server")]
pub(crate) mod age_stream;
#[cfg(feature = "client")]
pub(crate) mod client_keys;
#[cfg(feature = "client")]
pub mod device_certificate;
pub mod fernet_token;
#[cfg(feature = "client")]
pub mod fingerprint;
#[cfg(feature = "server")]
pub(crate) mod key_ring;
#[cfg(feature = "client")]
pub mod record_chain;
pub mod sealer;
#[cfg(feature = "client")]
pub mod secret_key;
#[cfg(feature = "server")]
pub mod secrets;
