//! The outcome of the last reload, for the answers to operators and for the service manager.

use std::time::Instant;

use parking_lot::Mutex;

use super::audit::Operator;
use crate::protocol::Timestamp;

/// The keys that a successful reload names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedKeys {
    /// The keys in force whose value is another than at the start.
    pub changed: Vec<String>,
    /// The keys whose new value takes effect at the next start.
    pub restart_needed: Vec<String>,
}

/// Remembers the last reload. Before the first one, it is as after a successful one.
#[derive(Debug, Default)]
pub struct ReloadState(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    error: Option<String>,
    restart_needed: Vec<String>,
    last: Option<LastReload>,
}

/// When the last reload was, and who caused it.
#[derive(Clone, Copy, Debug)]
pub struct LastReload {
    /// By the monotonic clock and by the wall clock.
    pub at: (Instant, Timestamp),
    /// The operator.
    pub by: Operator,
}

impl ReloadState {
    /// Notes a reload and its outcome: the keys, or the error.
    pub fn set(&self, reload: LastReload, outcome: Result<AppliedKeys, String>) {
        let mut state = self.0.lock();
        state.last = Some(reload);
        match outcome {
            Ok(keys) => {
                (state.error, state.restart_needed) = (None, keys.restart_needed);
            }
            Err(error) => state.error = Some(error),
        }
    }

    /// Why the last reload failed; `None` if it did not.
    pub fn error(&self) -> Option<String> {
        self.0.lock().error.clone()
    }

    /// When the last reload was, whatever its outcome, and who caused it.
    pub fn last(&self) -> Option<LastReload> {
        self.0.lock().last
    }

    /// The keys that wait for the next start, by the last successful reload.
    pub fn restart_needed(&self) -> Vec<String> {
        self.0.lock().restart_needed.clone()
    }
}
