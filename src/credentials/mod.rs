//! Secrets on disk: the access file (hashes of access tokens) and the at-rest key.

pub(crate) mod access_file;
pub mod at_rest_key;
pub(crate) mod ban_record;
pub(crate) mod durable_file;
pub(crate) mod private_file;
#[allow(dead_code)]
pub(crate) mod shared_access;
