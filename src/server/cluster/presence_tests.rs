//! Two to four nodes over a bus that loses, repeats, delays and reorders: once it is quiet, every node knows
//! who is where.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::local_presence::LocalPresence;
use super::presence_wire::PresenceMessage;
use super::remote_presence::{Outcome, RemotePresence};
use crate::protocol::{RoomName, UserName};
use crate::server::node_id::NodeId;
use crate::server::rooms::elsewhere::Elsewhere;
use crate::server::rooms::presence_changes::PresenceChanges;

/// A room with more members than this on one node is a crowd.
const MAX_NAMES: usize = 3;
const ROOMS: usize = 3;
const USERS: usize = 4;

struct Node {
    id: NodeId,
    members: Vec<(RoomName, UserName)>,
    changes: PresenceChanges,
    local: LocalPresence,
    remote: RemotePresence,
    elsewhere: Elsewhere,
    /// What was announced, added up; only for rooms that never were a crowd elsewhere.
    announced: BTreeMap<(RoomName, UserName), i64>,
}

struct Message {
    from: usize,
    to: usize,
    text: String,
}

struct World {
    nodes: Vec<Node>,
    on_the_way: Vec<Message>,
    now: Instant,
    /// Whether a node with a room that was a crowd makes announcements incomplete.
    had_crowd: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Join { node: usize, room: usize, user: usize },
    Leave { node: usize, member: usize },
    Tell { node: usize },
    Deliver { which: usize },
    Lose { which: usize },
    Repeat { which: usize },
    Beat { node: usize },
    Restart { node: usize },
    Wait { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let any = || 0..64usize;
    prop_oneof![
        6 => (any(), any(), any()).prop_map(|(node, room, user)| Step::Join { node, room, user }),
        5 => (any(), any()).prop_map(|(node, member)| Step::Leave { node, member }),
        6 => any().prop_map(|node| Step::Tell { node }),
        12 => any().prop_map(|which| Step::Deliver { which }),
        3 => any().prop_map(|which| Step::Lose { which }),
        2 => any().prop_map(|which| Step::Repeat { which }),
        3 => any().prop_map(|node| Step::Beat { node }),
        1 => any().prop_map(|node| Step::Restart { node }),
        3 => (0..1500u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

fn room(index: usize) -> RoomName {
    RoomName::parse(&format!("room-{}", index % ROOMS)).unwrap()
}

impl Node {
    fn new(id: u64) -> Self {
        Node {
            id: NodeId(id),
            members: Vec::new(),
            changes: PresenceChanges::default(),
            local: LocalPresence::new(MAX_NAMES),
            remote: RemotePresence::default(),
            elsewhere: Elsewhere::default(),
            announced: BTreeMap::new(),
        }
    }
}

impl World {
    fn new(nodes: usize) -> Self {
        let mut world = World {
            nodes: (0..nodes).map(|index| Node::new(index as u64 + 1)).collect(),
            on_the_way: Vec::new(),
            now: Instant::now(),
            had_crowd: false,
        };
        (0..nodes).for_each(|node| world.greet(node));
        world
    }

    /// The node and the others hear of each other.
    fn greet(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            if other != node {
                for (a, b) in [(node, other), (other, node)] {
                    let id = self.nodes[b].id;
                    let outcome = self.nodes[a].remote.came(id, self.now);
                    self.carry_out(a, outcome);
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: &PresenceMessage) {
        let text = serde_json::to_string(message).unwrap();
        self.on_the_way.push(Message { from, to, text });
    }

    fn publish(&mut self, from: usize, message: &PresenceMessage) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            self.send(from, to, message);
        }
    }

    fn carry_out(&mut self, node: usize, outcome: Outcome) {
        for change in outcome.changes {
            for told in self.nodes[node].elsewhere.apply(change) {
                let joined = told.joined.iter().map(|user| (user, 1));
                let left = told.left.iter().map(|user| (user, -1));
                for (user, sessions) in joined.chain(left) {
                    let key = (told.room.clone(), user.clone());
                    *self.nodes[node].announced.entry(key).or_default() += sessions;
                }
            }
        }
        for (to, ask) in outcome.asks {
            if let Some(to) = self.nodes.iter().position(|other| other.id == to) {
                self.send(node, to, &PresenceMessage::Ask(ask));
            }
        }
    }

    fn tell(&mut self, node: usize) {
        let now = self.now;
        let Node { local, changes, .. } = &mut self.nodes[node];
        let mut messages = local.update(changes.take(), now);
        messages.extend(local.due(now));
        for message in messages {
            self.publish(node, &PresenceMessage::Changes(message));
        }
    }

    fn deliver(&mut self, message: &Message, from: NodeId) {
        let (to, now) = (message.to, self.now);
        match serde_json::from_str(&message.text).unwrap() {
            PresenceMessage::Changes(changes) => {
                let outcome = self.nodes[to].remote.changes(from, changes, now);
                self.carry_out(to, outcome);
            }
            PresenceMessage::State(state) => {
                let outcome = self.nodes[to].remote.state(from, state, now);
                self.carry_out(to, outcome);
            }
            PresenceMessage::Ask(ask) => {
                for state in self.nodes[to].local.answer(ask) {
                    self.send(to, message.from, &PresenceMessage::State(state));
                }
            }
        }
    }

    fn beat(&mut self, node: usize) {
        let (id, counter) = (self.nodes[node].id, self.nodes[node].local.counter());
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.nodes[other].remote.counted(id, counter, self.now);
            let outcome = self.nodes[other].remote.tick(self.now);
            self.carry_out(other, outcome);
        }
    }

    fn run(&mut self, step: Step) {
        let count = self.nodes.len();
        let on_the_way = self.on_the_way.len();
        match step {
            Step::Join { node, room: index, user } => {
                let member = (room(index), UserName::clean(&format!("user-{}", user % USERS)));
                let node = &mut self.nodes[node % count];
                node.changes.joined(&member.0, &member.1);
                node.members.push(member);
                for index in 0..ROOMS {
                    let here = node.members.iter().filter(|(name, _)| *name == room(index)).count();
                    self.had_crowd |= here > MAX_NAMES;
                }
            }
            Step::Leave { node, member } => {
                let node = &mut self.nodes[node % count];
                if !node.members.is_empty() {
                    let member = node.members.swap_remove(member % node.members.len());
                    node.changes.left(&member.0, &member.1);
                }
            }
            Step::Tell { node } => self.tell(node % count),
            Step::Wait { millis } => self.now += Duration::from_millis(millis),
            Step::Beat { node } => self.beat(node % count),
            Step::Deliver { which } if on_the_way > 0 => {
                let message = self.on_the_way.swap_remove(which % on_the_way);
                let from = self.nodes[message.from].id;
                self.deliver(&message, from);
            }
            Step::Lose { which } if on_the_way > 0 => {
                self.on_the_way.swap_remove(which % on_the_way);
            }
            Step::Repeat { which } if on_the_way > 0 => {
                let Message { from, to, text } = &self.on_the_way[which % on_the_way];
                let again = Message { from: *from, to: *to, text: text.clone() };
                self.on_the_way.push(again);
            }
            Step::Restart { node } => {
                let node = node % count;
                let gone = self.nodes[node].id;
                // What a node sent before it ended never counts as sent by its next run.
                self.on_the_way.retain(|message| message.from != node && message.to != node);
                self.nodes[node] = Node::new(gone.0 + 100);
                for other in (0..count).filter(|other| *other != node) {
                    let outcome = self.nodes[other].remote.gone(gone);
                    self.carry_out(other, outcome);
                }
                self.greet(node);
            }
            Step::Deliver { .. } | Step::Lose { .. } | Step::Repeat { .. } => {}
        }
    }

    /// The bus is quiet: everything arrives, and time passes.
    fn settle(&mut self) {
        for _ in 0..6 {
            for node in 0..self.nodes.len() {
                self.tell(node);
                self.beat(node);
            }
            while !self.on_the_way.is_empty() {
                let message = self.on_the_way.remove(0);
                let from = self.nodes[message.from].id;
                self.deliver(&message, from);
            }
            self.now += Duration::from_secs(3);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for node in &self.nodes {
            for index in 0..ROOMS {
                let room = room(index);
                let mut total = 0;
                let mut names = Vec::new();
                for other in self.nodes.iter().filter(|other| other.id != node.id) {
                    let members = other.members.iter().filter(|(name, _)| *name == room);
                    let members: Vec<_> = members.map(|(_, user)| user.clone()).collect();
                    total += members.len();
                    if members.len() <= MAX_NAMES {
                        names.extend(members);
                    }
                }
                let mut known: Vec<_> = node.elsewhere.users(&room).cloned().collect();
                known.sort();
                names.sort();
                prop_assert_eq!(node.elsewhere.total(&room), total, "{} in {}", node.id, &room);
                prop_assert_eq!(&known, &names, "{} in {}", node.id, &room);
                if !self.had_crowd {
                    let announced = |user: &UserName| {
                        let key = (room.clone(), user.clone());
                        node.announced.get(&key).copied().unwrap_or(0)
                    };
                    for user in (0..USERS).map(|user| UserName::clean(&format!("user-{user}"))) {
                        let here = names.iter().filter(|name| **name == user).count() as i64;
                        prop_assert_eq!(announced(&user), here, "{} of {}", &room, user);
                    }
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_node_knows_who_is_where_once_the_bus_is_quiet(
        nodes in 2..5usize,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new(nodes);
        for step in steps {
            world.run(step);
        }
        world.settle();
        world.check()?;
    }
}
