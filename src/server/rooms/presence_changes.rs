//! Who joined and left the rooms of this node since the other nodes were told. Only in a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::protocol::{RoomName, UserName};

/// The difference that one room has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalChange {
    /// The room.
    pub room: RoomName,
    /// The users that joined; one entry per session.
    pub joined: Vec<UserName>,
    /// The users that left.
    pub left: Vec<UserName>,
}

/// Shared by the hub, which notes changes, and the task that tells them. A user that joined and left again
/// takes no place, so it never holds more than the memberships before and now.
#[derive(Clone, Default)]
pub struct PresenceChanges(Arc<Shared>);

#[derive(Default)]
struct Shared {
    rooms: Mutex<BTreeMap<RoomName, BTreeMap<UserName, i64>>>,
    noted: Notify,
}

impl PresenceChanges {
    /// A session has become a member.
    pub fn joined(&self, room: &RoomName, user: &UserName) {
        self.note(room, user, 1);
    }

    /// A session is no member any more.
    pub fn left(&self, room: &RoomName, user: &UserName) {
        self.note(room, user, -1);
    }

    /// Waits until something was noted since the last call. Cancel safe.
    pub async fn noted(&self) {
        self.0.noted.notified().await;
    }

    /// Takes what was noted.
    pub fn take(&self) -> Vec<LocalChange> {
        let rooms = std::mem::take(&mut *self.0.rooms.lock());
        let change = |(room, users): (RoomName, BTreeMap<UserName, i64>)| {
            let sessions = |sign: i64| {
                let some = |(user, net): (&UserName, &i64)| {
                    let count = usize::try_from(net * sign).unwrap_or(0);
                    std::iter::repeat_n(user.clone(), count)
                };
                users.iter().flat_map(some).collect()
            };
            LocalChange { room, joined: sessions(1), left: sessions(-1) }
        };
        rooms.into_iter().map(change).collect()
    }

    fn note(&self, room: &RoomName, user: &UserName, sessions: i64) {
        let mut rooms = self.0.rooms.lock();
        let users = rooms.entry(room.clone()).or_default();
        let net = users.entry(user.clone()).or_default();
        *net += sessions;
        if *net == 0 {
            users.remove(user);
            if users.is_empty() {
                rooms.remove(room);
            }
        }
        drop(rooms);
        self.0.noted.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_difference_is_told() {
        let changes = PresenceChanges::default();
        let (lobby, ops) = (RoomName::lobby(), RoomName::parse("ops").unwrap());
        let [ana, bob] = ["ana", "bob"].map(UserName::clean);
        changes.joined(&lobby, &ana);
        changes.joined(&lobby, &ana);
        changes.left(&lobby, &bob);
        changes.joined(&ops, &bob);
        changes.left(&ops, &bob);
        let joined = vec![ana.clone(), ana];
        assert_eq!(changes.take(), [LocalChange { room: lobby, joined, left: vec![bob] }]);
        assert_eq!(changes.take(), []);
    }
}
