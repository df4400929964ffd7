//! Secrets on disk: the access file (hashes of access tokens), the at-rest key and the secret of a cluster.

pub(crate) mod access_file;
pub mod at_rest_key;
pub(crate) mod ban_record;
pub mod cluster_secret;
pub(crate) mod durable_file;
pub(crate) mod private_file;
pub(crate) mod shared_access;
