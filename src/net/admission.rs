//! Connection limits: a total, a limit per client network, and which connection is evicted when the
//! total is reached.
//!
//! A connection that has not registered costs a client nothing to hold, and one that is kept open between
//! two HTTP requests can be opened anew. So when the total is reached, the one of these that has waited
//! longest is evicted (like `MaxStartups` of sshd). Registered sessions, and connections whose request is
//! being answered, are never evicted for a new connection. Permits are guards: dropping one frees its slot.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::task::AbortHandle;

use crate::policy::client_network::ClientNetwork;

/// The connections of the server.
#[derive(Default)]
pub struct Admission {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    next_permit_id: u64,
    /// Connections that were evicted since the start.
    evicted: u64,
    by_network: HashMap<ClientNetwork, usize>,
    /// Connections that have not registered, in the order in which they began to wait.
    unregistered: BTreeMap<u64, Slot>,
}

/// A connection that has not registered.
#[derive(Default)]
struct Slot {
    /// Aborts the connection's task.
    task: Option<AbortHandle>,
    /// Whether an HTTP request of an admitted client is being answered.
    is_busy: bool,
}

/// The slot of one connection; dropping it frees the slot.
pub struct ConnectionPermit {
    admission: Arc<Admission>,
    permit_id: u64,
    /// The key of its [`Slot`]: [`Self::permit_id`] until it has been idle between two requests.
    key: u64,
    network: Option<ClientNetwork>,
}

impl Admission {
    /// Admits a connection if there are fewer than `max`, or if an unregistered one can be evicted.
    pub fn admit(self: &Arc<Self>, max: usize) -> Option<ConnectionPermit> {
        let mut counts = self.lock();
        if counts.total >= max && !counts.evict_oldest_unregistered() {
            return None;
        }
        counts.total += 1;
        let permit_id = counts.next_permit_id;
        counts.next_permit_id += 1;
        counts.unregistered.insert(permit_id, Slot::default());
        drop(counts);
        let admission = self.clone();
        Some(ConnectionPermit { admission, permit_id, key: permit_id, network: None })
    }

    /// Evicts the connection that has waited longest without being registered or answered; returns whether
    /// there was one.
    pub fn evict_oldest_unregistered(&self) -> bool {
        self.lock().evict_oldest_unregistered()
    }

    /// The number of connections.
    pub fn count(&self) -> usize {
        self.lock().total
    }

    /// Connections that were evicted before they registered, since the start.
    pub fn evicted(&self) -> u64 {
        self.lock().evicted
    }

    /// Sets the task of a connection, so that the connection can be evicted until it registers.
    pub fn set_task(&self, permit_id: u64, task: AbortHandle) {
        if let Some(slot) = self.lock().unregistered.get_mut(&permit_id) {
            slot.task = Some(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock()
    }
}

impl Counts {
    fn evict_oldest_unregistered(&mut self) -> bool {
        let oldest = self
            .unregistered
            .iter()
            .find(|(_, slot)| slot.task.is_some() && !slot.is_busy)
            .map(|(permit_id, _)| *permit_id);
        let Some(permit_id) = oldest else { return false };
        if let Some(Slot { task: Some(task), .. }) = self.unregistered.remove(&permit_id) {
            self.evicted += 1;
            task.abort();
        }
        true
    }
}

impl ConnectionPermit {
    /// The id for [`Admission::set_task`].
    pub fn permit_id(&self) -> u64 {
        self.permit_id
    }

    /// Counts the connection for its client network; returns false if `max` are counted already. A
    /// connection is counted only once.
    pub fn count_for_network(&mut self, address: IpAddr, max: usize) -> bool {
        if self.network.is_some() {
            return true;
        }
        let network = ClientNetwork::of(address);
        let mut counts = self.admission.lock();
        let count = counts.by_network.entry(network).or_default();
        if *count >= max {
            return false;
        }
        *count += 1;
        self.network = Some(network);
        true
    }

    /// Marks the connection as registered: it is no longer evicted.
    pub fn mark_registered(&self) {
        self.admission.lock().unregistered.remove(&self.key);
    }

    /// A request of an admitted client is being answered: the connection is not evicted.
    pub fn mark_busy(&self) {
        if let Some(slot) = self.admission.lock().unregistered.get_mut(&self.key) {
            slot.is_busy = true;
        }
    }

    /// The connection waits for a further request: it can be evicted, after those that wait already.
    pub fn mark_idle(&mut self) {
        let mut counts = self.admission.lock();
        let is_busy = counts.unregistered.get(&self.key).is_some_and(|slot| slot.is_busy);
        // A request that was refused is no reason to wait longer.
        let Some(mut slot) = is_busy.then(|| counts.unregistered.remove(&self.key)).flatten()
        else {
            return;
        };
        slot.is_busy = false;
        // `set_task` finds a slot without a task by the first key.
        if slot.task.is_some() {
            self.key = counts.next_permit_id;
            counts.next_permit_id += 1;
        }
        counts.unregistered.insert(self.key, slot);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.total -= 1;
        counts.unregistered.remove(&self.key);
        if let Some(network) = self.network
            && let Some(count) = counts.by_network.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_network.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_a_permit_frees_its_slot_and_its_network_count() {
        let admission = Arc::new(Admission::default());
        let address = IpAddr::from([127, 0, 0, 1]);
        let mut first = admission.admit(1).unwrap();
        assert!(first.count_for_network(address, 1));
        assert!(admission.admit(1).is_none());
        let mut second = admission.admit(2).unwrap();
        assert!(!second.count_for_network(address, 1));
        drop(first);
        assert!(second.count_for_network(address, 1));
        assert_eq!(admission.count(), 1);
    }

    #[tokio::test]
    async fn the_oldest_unregistered_connection_is_evicted_when_full() {
        let admission = Arc::new(Admission::default());
        let mut tasks = Vec::new();
        for registered in [true, false, false] {
            let permit = admission.admit(3).unwrap();
            let permit_id = permit.permit_id();
            if registered {
                permit.mark_registered();
            }
            let task = tokio::spawn(async move {
                let _permit = permit;
                std::future::pending::<()>().await;
            });
            admission.set_task(permit_id, task.abort_handle());
            tasks.push(task);
        }
        let _fourth = admission.admit(3).expect("an unregistered connection is evicted");
        assert!(tasks.remove(1).await.unwrap_err().is_cancelled());
        assert!(!tasks[0].is_finished());
        assert_eq!(admission.evicted(), 1);
    }
    #[tokio::test]
    async fn a_connection_between_two_requests_gives_way_and_a_busy_one_does_not() {
        let admission = Arc::new(Admission::default());
        let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        let mut permits: Vec<_> = (0..3).map(|_| admission.admit(3).unwrap()).collect();
        for (permit, task) in permits.iter().zip(&tasks) {
            admission.set_task(permit.permit_id(), task.abort_handle());
            permit.mark_busy();
        }
        assert!(admission.admit(3).is_none(), "all are busy");
        permits[1].mark_idle();
        permits[0].mark_idle();
        permits[0].mark_idle();
        permits[1].mark_busy();
        permits[1].mark_idle();
        assert!(admission.evict_oldest_unregistered());
        assert!(admission.evict_oldest_unregistered());
        assert!(!admission.evict_oldest_unregistered());
        let mut tasks = tasks.into_iter();
        assert!(tasks.next().unwrap().await.unwrap_err().is_cancelled());
        assert!(tasks.next().unwrap().await.unwrap_err().is_cancelled());
        assert!(!tasks.next().unwrap().is_finished());
        // One that was evicted meanwhile changes nothing, and frees its place when it ends.
        permits[0].mark_idle();
        assert!(!admission.evict_oldest_unregistered());
        permits.truncate(2);
        assert_eq!(admission.count(), 2);
        assert!(admission.admit(3).is_some());
    }

    #[test]
    fn a_connection_is_found_whose_task_is_set_after_its_first_request() {
        let admission = Arc::new(Admission::default());
        let mut permit = admission.admit(1).unwrap();
        permit.mark_busy();
        permit.mark_idle();
        assert!(!admission.evict_oldest_unregistered(), "its task is not known yet");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = runtime.spawn(async {});
        admission.set_task(permit.permit_id(), task.abort_handle());
        permit.mark_busy();
        permit.mark_idle();
        assert!(admission.evict_oldest_unregistered());
    }
}
