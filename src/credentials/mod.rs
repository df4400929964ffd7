//! Secrets on disk: the access file (hashes of access tokens) and the at-rest key.

pub mod access_file;
pub mod at_rest_key;
pub(crate) mod durable_file;
