//! Keeps the access file of a node the same as the access list of the cluster, and knows how long it has not
//! been possible.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::credentials::shared_access::{SharedAccess, SharedValue};
use crate::crypto::secrets::Secrets;

/// Without the access list of the cluster for so long, a node lets nobody in.
pub const CLOSE_AFTER: Duration = Duration::from_secs(5);
/// The list may be unreachable for this long before the server counts as unhealthy, in open mode too.
const MAX_UNREACHED: Duration = Duration::from_secs(8);
/// After so long, it ends its sessions, because their access may have been revoked.
pub const END_AFTER: Duration = Duration::from_secs(30);

/// The access list of the cluster, as this node sees it.
pub struct AccessSync {
    shared: SharedAccess,
    value: Arc<dyn SharedValue>,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// When the file and the shared list were last the same.
    synced_at: Instant,
    /// The same, without the time in which the process did not run.
    healthy_at: Instant,
    problem: Option<String>,
    isolation: Isolation,
}

/// How a node is restricted while it can't reach the access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// Everything: it reaches the list, or did so a moment ago.
    None,
    /// It lets nobody in.
    Closed,
    /// It has no sessions either.
    Ended,
}

impl Isolation {
    /// After so long without the list.
    pub fn after(time: Duration) -> Self {
        match time {
            time if time >= END_AFTER => Isolation::Ended,
            time if time >= CLOSE_AFTER => Isolation::Closed,
            _ => Isolation::None,
        }
    }
}

impl AccessSync {
    /// For the access file of this node; nobody is let in before the first [`sync`](Self::sync).
    pub(crate) fn new(secrets: &Secrets, value: Arc<dyn SharedValue>, path: PathBuf) -> Self {
        let (synced_at, healthy_at) = (Instant::now(), Instant::now());
        let isolation = Isolation::None;
        let state = State { synced_at, healthy_at, problem: None, isolation };
        AccessSync { shared: SharedAccess::new(secrets), value, path, state: Mutex::new(state) }
    }

    /// Makes both the same; on a thread that may wait. Returns why that is not possible.
    pub fn sync(&self) -> Option<String> {
        let problem = self.shared.sync(&self.path, self.value.as_ref()).err();
        let problem = problem.map(|error| error.to_string());
        let mut state = self.state.lock();
        if problem.is_none() {
            state.synced_at = Instant::now();
            state.healthy_at = state.synced_at;
        }
        state.problem = problem.clone();
        problem
    }

    /// Notes that the list did not answer in time.
    pub fn is_late(&self) {
        let problem = "the cluster's access list does not answer";
        self.state.lock().problem = Some(problem.to_owned());
    }

    /// Why the last try was not possible.
    pub fn problem(&self) -> Option<String> {
        self.state.lock().problem.clone()
    }

    /// How long the list can't be reached, if it is longer than the engine takes to elect a leader.
    pub fn unreached_for(&self, now: Instant) -> Option<Duration> {
        let time = now.saturating_duration_since(self.state.lock().healthy_at);
        (time > MAX_UNREACHED).then_some(time)
    }

    /// Does not count a pause until now, in which the process did not run. It counts for the restriction.
    pub fn leave_out(&self, pause: Duration, now: Instant) {
        let mut state = self.state.lock();
        state.healthy_at = (state.healthy_at + pause).min(now);
    }

    /// The new restriction, if it has changed since the last call.
    pub fn take_change(&self, now: Instant) -> Option<Isolation> {
        let mut state = self.state.lock();
        let isolation = Isolation::after(now.saturating_duration_since(state.synced_at));
        let before = std::mem::replace(&mut state.isolation, isolation);
        (isolation != before).then_some(isolation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::shared_access::Away;

    #[test]
    fn a_node_without_the_list_first_lets_nobody_in_and_then_ends_its_sessions() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("access.json");
        let sync = AccessSync::new(&[7; 32].into(), Arc::new(Away), path);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(sync.sync().is_some_and(|problem| problem.contains("no connection")));
        assert_eq!(sync.take_change(after(4)), None);
        assert_eq!(sync.take_change(after(6)), Some(Isolation::Closed));
        assert_eq!(sync.take_change(after(20)), None);
        assert_eq!(sync.take_change(after(31)), Some(Isolation::Ended));
        assert_eq!(sync.take_change(after(60)), None);
        assert_eq!(sync.unreached_for(after(60)), Some(after(60) - sync.state.lock().healthy_at));
        sync.leave_out(Duration::from_secs(58), after(60));
        assert_eq!(sync.unreached_for(after(60)), None);
        sync.state.lock().synced_at = after(61);
        assert_eq!(sync.take_change(after(62)), Some(Isolation::None));
    }
}
