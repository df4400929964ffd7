//! Who may connect: a count in all, a count by address, and who goes first when it is full.
//!
//! Connections that have not registered are the ones a stranger can hold for nothing, so when all
//! places are taken the oldest of those makes room (as sshd does with MaxStartups). Registered
//! sessions are never put out for a newcomer. ReadPositions are guards: dropping one frees it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::policy::client_network::ClientNetwork;

/// All connections.
#[derive(Default)]
pub struct Admission {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    next_permit_id: u64,
    by_address: HashMap<ClientNetwork, usize>,
    /// Not registered yet, oldest first; the handle ends the connection's task.
    waiting: BTreeMap<u64, Option<AbortHandle>>,
}

/// One connection's place.
pub struct ConnectionPermit {
    admission: Arc<Admission>,
    permit_id: u64,
    address: Option<ClientNetwork>,
}

impl Admission {
    /// A place for one more, if there are fewer than `most`, or someone unregistered can go.
    pub fn enter(self: &Arc<Self>, most: usize) -> Option<ConnectionPermit> {
        let mut counts = self.lock();
        if counts.all >= most && !counts.evict_oldest_unregistered() {
            return None;
        }
        counts.all += 1;
        let permit_id = counts.next_permit_id;
        counts.next_permit_id += 1;
        counts.waiting.insert(permit_id, None);
        drop(counts);
        Some(ConnectionPermit { admission: self.clone(), permit_id, address: None })
    }

    /// Ends the oldest connection that has not registered; says whether there was one.
    pub fn evict_oldest_unregistered(&self) -> bool {
        self.lock().evict_oldest_unregistered()
    }

    /// Connections in all.
    pub fn count(&self) -> usize {
        self.lock().all
    }

    /// The task of a connection, so that it can be put out while it waits.
    pub fn task(&self, permit_id: u64, task: AbortHandle) {
        if let Some(slot) = self.lock().waiting.get_mut(&permit_id) {
            *slot = Some(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn evict_oldest_unregistered(&mut self) -> bool {
        let oldest =
            self.waiting.iter().find(|(_, task)| task.is_some()).map(|(permit_id, _)| *permit_id);
        let Some(permit_id) = oldest else { return false };
        if let Some(Some(task)) = self.waiting.remove(&permit_id) {
            task.abort();
        }
        true
    }
}

impl ConnectionPermit {
    /// The number to give [`Admission::task`].
    pub fn permit_id(&self) -> u64 {
        self.permit_id
    }

    /// Counts it under an address; `false` if there are `most` already.
    pub fn count_address(&mut self, address: IpAddr, most: usize) -> bool {
        if self.address.is_some() {
            return true;
        }
        let address = ClientNetwork::of(address);
        let mut counts = self.admission.lock();
        let count = counts.by_address.entry(address).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        self.address = Some(address);
        true
    }

    /// It has registered: from now on it is not put out.
    pub fn registered(&self) {
        self.admission.lock().waiting.remove(&self.permit_id);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.all -= 1;
        counts.waiting.remove(&self.permit_id);
        if let Some(address) = self.address
            && let Some(count) = counts.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_frees_its_place_and_its_address() {
        let admission = Arc::new(Admission::default());
        let here = IpAddr::from([127, 0, 0, 1]);
        let mut first = admission.enter(1).unwrap();
        assert!(first.count_address(here, 1));
        assert!(admission.enter(1).is_none());
        let mut second = admission.enter(2).unwrap();
        assert!(!second.count_address(here, 1));
        drop(first);
        assert!(second.count_address(here, 1));
        assert_eq!(admission.count(), 1);
    }

    #[tokio::test]
    async fn the_oldest_unregistered_makes_room() {
        let admission = Arc::new(Admission::default());
        let mut tasks = Vec::new();
        for registered in [true, false, false] {
            let seat = admission.enter(3).unwrap();
            let permit_id = seat.permit_id();
            if registered {
                seat.registered();
            }
            let task = tokio::spawn(async move {
                let _seat = seat;
                std::future::pending::<()>().await;
            });
            admission.task(permit_id, task.abort_handle());
            tasks.push(task);
        }
        let _fourth = admission.enter(3).expect("somebody makes room");
        assert!(tasks.remove(1).await.unwrap_err().is_cancelled());
        assert!(!tasks[0].is_finished());
    }
}
