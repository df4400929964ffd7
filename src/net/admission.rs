//! Who may connect: a count in all, a count by address, and who goes first when it is full.
//!
//! Connections that have not registered are the ones a stranger can hold for nothing, so when all
//! places are taken the oldest of those makes room (as sshd does with MaxStartups). Registered
//! sessions are never put out for a newcomer. Places are guards: dropping one frees it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::policy::client_network::Neighbourhood;

/// All connections.
#[derive(Default)]
pub struct Admission {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    next_ticket: u64,
    by_address: HashMap<Neighbourhood, usize>,
    /// Not registered yet, oldest first; the handle ends the connection's task.
    waiting: BTreeMap<u64, Option<AbortHandle>>,
}

/// One connection's place.
pub struct Seat {
    admission: Arc<Admission>,
    ticket: u64,
    address: Option<Neighbourhood>,
}

impl Admission {
    /// A place for one more, if there are fewer than `most`, or someone unregistered can go.
    pub fn enter(self: &Arc<Self>, most: usize) -> Option<Seat> {
        let mut counts = self.lock();
        if counts.all >= most && !counts.put_out_oldest() {
            return None;
        }
        counts.all += 1;
        let ticket = counts.next_ticket;
        counts.next_ticket += 1;
        counts.waiting.insert(ticket, None);
        drop(counts);
        Some(Seat { admission: self.clone(), ticket, address: None })
    }

    /// Ends the oldest connection that has not registered; says whether there was one.
    pub fn put_out_oldest(&self) -> bool {
        self.lock().put_out_oldest()
    }

    /// Connections in all.
    pub fn count(&self) -> usize {
        self.lock().all
    }

    /// The task of a connection, so that it can be put out while it waits.
    pub fn task(&self, ticket: u64, task: AbortHandle) {
        if let Some(slot) = self.lock().waiting.get_mut(&ticket) {
            *slot = Some(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn put_out_oldest(&mut self) -> bool {
        let oldest =
            self.waiting.iter().find(|(_, task)| task.is_some()).map(|(ticket, _)| *ticket);
        let Some(ticket) = oldest else { return false };
        if let Some(Some(task)) = self.waiting.remove(&ticket) {
            task.abort();
        }
        true
    }
}

impl Seat {
    /// The number to give [`Admission::task`].
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// Counts it under an address; `false` if there are `most` already.
    pub fn count_address(&mut self, address: IpAddr, most: usize) -> bool {
        if self.address.is_some() {
            return true;
        }
        let address = Neighbourhood::of(address);
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
        self.admission.lock().waiting.remove(&self.ticket);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.all -= 1;
        counts.waiting.remove(&self.ticket);
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
            let ticket = seat.ticket();
            if registered {
                seat.registered();
            }
            let task = tokio::spawn(async move {
                let _seat = seat;
                std::future::pending::<()>().await;
            });
            admission.task(ticket, task.abort_handle());
            tasks.push(task);
        }
        let _fourth = admission.enter(3).expect("somebody makes room");
        assert!(tasks.remove(1).await.unwrap_err().is_cancelled());
        assert!(!tasks[0].is_finished());
    }
}
