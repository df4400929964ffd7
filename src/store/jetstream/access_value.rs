//! The access list of the cluster: a key of its key-value bucket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::engine::Engine;
use crate::credentials::shared_access::{SharedValue, ValueError};

/// The key.
const KEY: &str = "access";
/// How long one request may take.
const LIMIT: Duration = Duration::from_millis(900);

/// The value under the key.
pub(super) struct AccessValue(pub(super) Arc<dyn Engine>);

impl SharedValue for AccessValue {
    fn read(&self) -> Result<Option<(Bytes, u64)>, ValueError> {
        self.0.value(KEY, LIMIT).map_err(|error| ValueError(error.to_string()))
    }

    fn replace(&self, value: Bytes, revision: u64) -> Result<Option<u64>, ValueError> {
        let replaced = self.0.set_value(KEY, value, revision, LIMIT);
        replaced.map_err(|error| ValueError(error.to_string()))
    }
}
