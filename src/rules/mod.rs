//! Floor 1: rules that hold whatever the frames look like. Pure: time is an argument.

pub mod access;
pub mod address;
pub mod backoff;
pub mod fernet_token;
pub mod keyring;
pub mod origin;
pub mod penalty;
pub mod rate;
pub mod rights;
