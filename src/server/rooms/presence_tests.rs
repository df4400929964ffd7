//! The hub of a node, and what its members are told about the members on other nodes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::command::RoomEntry;
use super::config::HubConfig;
use super::elsewhere::{ElsewhereChange, MembersNews, RoomNews};
use super::hub::Hub;
use super::peer::{DeliveryOptions, Peer};
use super::presence_changes::PresenceChanges;
use crate::conversation::server::registration::Dialect;
use crate::net::send_queue::SendQueue;
use crate::protocol::frame::Limits;
use crate::protocol::{RoomName, SessionId, UserName};
use crate::server::client_info::ClientInfo;
use crate::server::node_id::NodeId;
use crate::store::{OpenedStore, Retention, open_memory};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

struct World {
    hub: Hub,
    store: OpenedStore,
    changes: PresenceChanges,
}

/// A member, and the end of its connection.
struct Member {
    peer: Arc<Peer>,
    client: TcpStream,
    read: Vec<u8>,
}

fn world(presence_members: usize, is_cluster: bool) -> World {
    let age = Duration::from_secs(60);
    let store = open_memory(Retention { messages: 10, age, max_bytes: None });
    let limits = Limits {
        message_chars: 100,
        rate_messages: 100,
        rate_per_ms: 100,
        unacked: 64,
        frame_bytes: 65_536,
        rate_bytes: 65_536,
        ping_interval_ms: 1000,
    };
    let config = HubConfig {
        rotate_every: None,
        grace: Duration::ZERO,
        presence_members,
        max_rooms: 10,
        outbound_bytes: 1 << 20,
        limits,
        leaves_out_numbers: false,
        durable: false,
    };
    let (deletions, access, counters) = Default::default();
    let hub = Hub::new(config, store.reader.clone(), deletions, access, counters);
    let changes = PresenceChanges::default();
    let hub = if is_cluster { hub.in_cluster(changes.clone()) } else { hub };
    World { hub, store, changes }
}

impl World {
    async fn enter(&mut self, user: &str) -> Member {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let peer = Arc::new(Peer::new(
            SessionId::fresh(),
            UserName::clean(user),
            None,
            Dialect::Full,
            DeliveryOptions { echo: true, presence: true, device: None, key_packages: 0 },
            ClientInfo { address: [127, 0, 0, 1].into(), confidential: true, is_proxy: false },
            Arc::new(SendQueue::new(Some(server), 1 << 20, Arc::default())),
        ));
        let opening = self.hub.openings.open(&RoomName::lobby());
        assert!(opening.read(&self.store.reader).await);
        let entry = RoomEntry { room: RoomName::lobby(), resuming: false, opening: Some(opening) };
        let (answer, answered) = oneshot::channel();
        self.hub.enter(&peer, vec![entry], answer);
        assert!(answered.await.unwrap().is_ok());
        Member { peer, client, read: Vec::new() }
    }

    fn tell(&mut self, node: NodeId, total: u64, members: MembersNews) {
        let news = RoomNews { room: RoomName::lobby(), total, members };
        self.hub.announce_elsewhere(vec![ElsewhereChange::Room(node, news)]);
        self.hub.flush_pending_presence();
    }
}

impl Member {
    /// The frames about presence that came: `+name`, `-name`, `[names] total`.
    async fn told(&mut self, world: &mut World) -> Vec<String> {
        // What the member sees last, so that everything before it has come.
        let (session, lobby) = (self.peer.session.to_string(), RoomName::lobby());
        world.hub.send_user_list(&self.peer, &RoomName::parse("nowhere").unwrap());
        world.hub.send_user_list(&self.peer, &lobby);
        let mut told = Vec::new();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut is_last = false;
        loop {
            while let Some(frame) = self.take_frame() {
                let name = frame["username"].as_str().unwrap_or_default();
                match frame["type"].as_str() {
                    Some("user_joined") => told.push(format!("+{name}")),
                    Some("user_left") => told.push(format!("-{name}")),
                    Some("error") => is_last = true,
                    Some("user_list") => {
                        let users = frame["users"].as_array().unwrap();
                        let mut users: Vec<_> = users.iter().filter_map(Value::as_str).collect();
                        users.sort_unstable();
                        let total = frame["total"].as_u64().map(|total| format!(" {total}"));
                        told.push(format!("[{}]{}", users.join(" "), total.unwrap_or_default()));
                        if is_last {
                            return told;
                        }
                    }
                    _ => {}
                }
            }
            let read = tokio::time::timeout_at(deadline, self.client.read_buf(&mut self.read));
            assert!(read.await.expect("frames in time").unwrap() > 0, "{session} was closed");
        }
    }

    /// The next whole text frame (RFC 6455, section 5.2).
    fn take_frame(&mut self) -> Option<Value> {
        let (start, length) = match *self.read.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes(self.read.get(2..4)?.try_into().ok()?))),
            length => (2, usize::from(length)),
        };
        let frame = self.read.get(start..start + length)?;
        let value = serde_json::from_slice(frame).unwrap();
        self.read.drain(..start + length);
        Some(value)
    }
}

fn users(names: &str) -> Vec<UserName> {
    names.split_whitespace().map(UserName::clean).collect()
}

#[tokio::test]
async fn members_on_other_nodes_are_listed_and_announced() {
    let mut world = world(5, true);
    world.tell(A, 2, MembersNews::All(users("bob eve")));
    let mut ana = world.enter("ana").await;
    assert_eq!(ana.told(&mut world).await, ["+ana", "[ana bob eve]", "[ana bob eve]"]);
    let change = MembersNews::Changed { joined: users("dan"), left: users("bob") };
    world.tell(A, 2, change);
    world.tell(B, 1, MembersNews::All(users("zoe")));
    assert_eq!(ana.told(&mut world).await, ["-bob", "+dan", "+zoe", "[ana dan eve zoe]"]);
    // A node is gone: its members leave together.
    world.hub.announce_elsewhere(vec![ElsewhereChange::Gone(A)]);
    world.hub.flush_pending_presence();
    assert_eq!(ana.told(&mut world).await, ["-dan", "-eve", "[ana zoe]"]);
    world.hub.announce_elsewhere(vec![ElsewhereChange::OnlyIn(B, HashSet::new())]);
    world.hub.flush_pending_presence();
    assert_eq!(ana.told(&mut world).await, ["-zoe", "[ana]"]);

    // What the other nodes are told.
    let told = world.changes.take();
    assert_eq!((told.len(), &told[0].joined, &told[0].left), (1, &users("ana"), &vec![]));
    world.hub.quit(ana.peer.clone());
    assert_eq!(world.changes.take()[0].left, users("ana"));
}

#[tokio::test]
async fn in_a_crowd_over_all_nodes_only_the_total_is_told() {
    let mut world = world(3, true);
    let mut ana = world.enter("ana").await;
    assert_eq!(ana.told(&mut world).await, ["+ana", "[ana]", "[ana]"]);
    world.tell(A, 1000, MembersNews::Unnamed);
    world.tell(B, 2, MembersNews::All(users("eve zoe")));
    assert_eq!(ana.told(&mut world).await, ["[ana eve zoe] 1003"]);
    // Nobody is announced here either.
    let mut bob = world.enter("bob").await;
    assert_eq!(ana.told(&mut world).await, ["[ana bob eve] 1004"]);
    let told = bob.told(&mut world).await;
    assert_eq!(told[0], "+bob");
    world.hub.quit(bob.peer.clone());
    assert_eq!(ana.told(&mut world).await, ["[ana eve zoe] 1003"]);
}

#[tokio::test]
async fn a_single_node_notes_and_lists_nothing_more() {
    let mut world = world(3, false);
    let mut ana = world.enter("ana").await;
    world.tell(A, 2, MembersNews::All(users("bob eve")));
    assert_eq!(ana.told(&mut world).await, ["+ana", "[ana]", "[ana]"]);
    assert_eq!(world.changes.take(), []);
    assert!(Instant::now() >= ana.peer.since);
}
