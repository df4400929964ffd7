//! The members of rooms on other nodes of the cluster, as the hub knows them.
//!
//! The hub applies what each node tells, and announces to its own members what changed. A node tells the names
//! of a room, or only how many there are if the room is a crowd there.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::protocol::{RoomName, UserName};
use crate::server::node_id::NodeId;

/// What a node tells about one of its rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomNews {
    /// The room.
    pub room: RoomName,
    /// The sessions in it on that node, after this.
    pub total: u64,
    /// Which.
    pub members: MembersNews,
}

/// Which sessions are in a room; one name per session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersNews {
    /// All of them.
    All(Vec<UserName>),
    /// The difference to what was told before.
    Changed {
        /// Those that joined.
        joined: Vec<UserName>,
        /// Those that left.
        left: Vec<UserName>,
    },
    /// Too many to name them.
    Unnamed,
}

/// What another node tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElsewhereChange {
    /// News of a room.
    Room(NodeId, RoomNews),
    /// The node has members in these rooms and in no other.
    OnlyIn(NodeId, HashSet<RoomName>),
    /// The node is gone, with all its members.
    Gone(NodeId),
}

/// What the members of a room on this node have to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The room.
    pub room: RoomName,
    /// The users that joined; one entry per session.
    pub joined: Vec<UserName>,
    /// The users that left.
    pub left: Vec<UserName>,
}

/// Everybody who is in a room on another node.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// By room, then by node.
    rooms: HashMap<RoomName, HashMap<NodeId, Part>>,
}

/// The members of one room on one node.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    total: u64,
    /// Sessions per name; `None` if the names are not told.
    names: Option<Names>,
}

type Names = BTreeMap<UserName, u32>;

impl Elsewhere {
    /// Takes what a node tells, and returns what has to be announced.
    pub fn apply(&mut self, change: ElsewhereChange) -> Vec<Announcement> {
        match change {
            ElsewhereChange::Room(node, news) => self.apply_news(node, news).into_iter().collect(),
            ElsewhereChange::OnlyIn(node, rooms) => self.remove(node, |room| !rooms.contains(room)),
            ElsewhereChange::Gone(node) => self.remove(node, |_| true),
        }
    }

    /// The sessions in a room on other nodes.
    pub fn total(&self, room: &RoomName) -> usize {
        let parts = self.rooms.get(room).into_iter().flat_map(HashMap::values);
        parts.map(|part| usize::try_from(part.total).unwrap_or(usize::MAX)).sum()
    }

    /// Their users, as far as they are named; one entry per session.
    pub fn users<'a>(&'a self, room: &RoomName) -> impl Iterator<Item = &'a UserName> {
        let parts = self.rooms.get(room).into_iter().flat_map(HashMap::values);
        let names = parts.filter_map(|part| part.names.as_ref()).flatten();
        names.flat_map(|(name, count)| std::iter::repeat_n(name, *count as usize))
    }

    fn apply_news(&mut self, node: NodeId, news: RoomNews) -> Option<Announcement> {
        let RoomNews { room, total, members } = news;
        let known = self.rooms.get_mut(&room).and_then(|parts| parts.remove(&node));
        // A room that was not there had no members, so their names were known.
        let known = known.unwrap_or_else(|| Part { total: 0, names: Some(Names::new()) });
        let names = match (members, &known.names) {
            (MembersNews::All(users), _) => Some(counted(users)),
            (MembersNews::Changed { joined, left }, Some(names)) => {
                Some(changed(names.clone(), joined, left))
            }
            (MembersNews::Changed { .. }, None) | (MembersNews::Unnamed, _) => None,
        };
        let (joined, left) = match (&known.names, &names) {
            (Some(before), Some(after)) => (surplus(after, before), surplus(before, after)),
            _ => Default::default(),
        };
        if total > 0 {
            let parts = self.rooms.entry(room.clone()).or_default();
            parts.insert(node, Part { total, names });
        } else if self.rooms.get(&room).is_some_and(HashMap::is_empty) {
            self.rooms.remove(&room);
        }
        (!joined.is_empty() || !left.is_empty()).then_some(Announcement { room, joined, left })
    }

    /// Removes the members that a node has in some rooms.
    fn remove(&mut self, node: NodeId, is_meant: impl Fn(&RoomName) -> bool) -> Vec<Announcement> {
        let mut announcements = Vec::new();
        self.rooms.retain(|room, parts| {
            if is_meant(room)
                && let Some(Part { names: Some(names), .. }) = parts.remove(&node)
            {
                let left = surplus(&names, &Names::new());
                announcements.push(Announcement { room: room.clone(), joined: Vec::new(), left });
            }
            !parts.is_empty()
        });
        announcements
    }
}

fn counted(users: Vec<UserName>) -> Names {
    changed(Names::new(), users, Vec::new())
}

fn changed(mut names: Names, joined: Vec<UserName>, left: Vec<UserName>) -> Names {
    for user in joined {
        *names.entry(user).or_default() += 1;
    }
    for user in left {
        if let Some(count) = names.get_mut(&user) {
            *count = count.saturating_sub(1);
        }
    }
    names.retain(|_, count| *count > 0);
    names
}

/// The users of which `names` has more sessions than `others`, one entry per session more.
fn surplus(names: &Names, others: &Names) -> Vec<UserName> {
    let more = |(name, count): (&UserName, &u32)| {
        let more = count.saturating_sub(others.get(name).copied().unwrap_or(0));
        std::iter::repeat_n(name.clone(), more as usize)
    };
    names.iter().flat_map(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn users(names: &str) -> Vec<UserName> {
        names.split_whitespace().map(UserName::clean).collect()
    }

    fn news(total: u64, members: MembersNews) -> RoomNews {
        RoomNews { room: RoomName::lobby(), total, members }
    }

    fn all(names: &str) -> RoomNews {
        let users = users(names);
        news(users.len() as u64, MembersNews::All(users))
    }

    fn told(announcements: Vec<Announcement>) -> (String, String) {
        let join = |users: Vec<UserName>| {
            users.iter().map(UserName::to_string).collect::<Vec<_>>().join(" ")
        };
        assert!(announcements.len() <= 1, "{announcements:?}");
        let of = announcements.into_iter().next();
        of.map_or_else(Default::default, |of| (join(of.joined), join(of.left)))
    }

    fn pair(joined: &str, left: &str) -> (String, String) {
        (joined.to_owned(), left.to_owned())
    }

    #[test]
    fn what_changed_is_announced_and_told_twice_only_once() {
        let mut elsewhere = Elsewhere::default();
        let mut apply = |node, news| told(elsewhere.apply(ElsewhereChange::Room(node, news)));
        assert_eq!(apply(A, all("ana ana bob")), pair("ana ana bob", ""));
        assert_eq!(apply(A, all("ana ana bob")), pair("", ""));
        let change = MembersNews::Changed { joined: users("eve"), left: users("ana") };
        assert_eq!(apply(A, news(3, change)), pair("eve", "ana"));
        assert_eq!(apply(B, all("ana")), pair("ana", ""));
        assert_eq!(elsewhere.total(&RoomName::lobby()), 4);
        let mut names: Vec<_> = elsewhere.users(&RoomName::lobby()).cloned().collect();
        names.sort();
        assert_eq!(names, users("ana ana bob eve"));
        let gone = elsewhere.apply(ElsewhereChange::Gone(A));
        assert_eq!(told(gone), pair("", "ana bob eve"));
        let only = ElsewhereChange::OnlyIn(B, HashSet::new());
        assert_eq!(told(elsewhere.apply(only)), pair("", "ana"));
        assert!(elsewhere.rooms.is_empty());
    }

    #[test]
    fn a_crowd_is_counted_and_its_members_neither_come_nor_leave() {
        let mut elsewhere = Elsewhere::default();
        let mut apply = |news| told(elsewhere.apply(ElsewhereChange::Room(A, news)));
        assert_eq!(apply(all("ana")), pair("ana", ""));
        assert_eq!(apply(news(1000, MembersNews::Unnamed)), pair("", ""));
        assert_eq!(apply(all("ana bob")), pair("", ""));
        assert_eq!(apply(news(1000, MembersNews::Unnamed)), pair("", ""));
        assert_eq!(elsewhere.total(&RoomName::lobby()), 1000);
        assert_eq!(elsewhere.users(&RoomName::lobby()).count(), 0);
        assert_eq!(told(elsewhere.apply(ElsewhereChange::Gone(A))), pair("", ""));
        assert!(elsewhere.rooms.is_empty());
    }
}
