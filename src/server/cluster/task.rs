//! The task that connects this server with the other nodes of its cluster.
//!
//! It owns the heartbeats, the orders under way and the presence of both sides, and handles one message after
//! the other. What belongs to the hub goes there in order; the orders of other nodes go to the admin code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::bus::{Bus, BusError};
use super::engine_link::{self, EngineLink};
use super::envelope::{Incoming, Outgoing, Refused};
use super::gatherings::Gatherings;
use super::handle::{
    AbsentView, Cluster, MAX_WAITING_ORDERS, NodeView, OrderFromNode, OrderToSend, View,
};
use super::heartbeat::{self, Beat, NodeChange, Nodes};
use super::inbox::{Delivery, Inbox, inbox};
use super::local_presence::LocalPresence;
use super::node_log::NodeLog;
use super::orders::{self, AnswerPart, NodeResult, Order};
use super::presence_wire::PresenceMessage;
use super::remote_presence::{self, Outcome, RemotePresence};
use super::settings::{Links, Settings, Subjects};
use crate::server::node_id::NodeId;
use crate::sys::clock::wall_clock;

/// What may wait of heartbeats, orders and answers.
const CONTROL_BYTES: usize = 32 * 1024 * 1024;
/// What may wait of messages about presence.
const PRESENCE_BYTES: usize = 32 * 1024 * 1024;
/// How long joins and leaves are gathered before the other nodes are told.
const GATHER_INTERVAL: Duration = Duration::from_millis(100);
/// Lists of changes that may wait for the hub.
const MAX_WAITING_CHANGES: usize = 64;
/// How long the admin code may take for an order of another node.
const EXECUTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Orders of other nodes that are carried out at the same time; more are refused.
const MAX_EXECUTING: usize = 64;

/// Starts the task, which ends after `stop` and says goodbye.
pub fn start(
    bus: Arc<dyn Bus>,
    settings: Settings,
    links: Links,
    stop: CancellationToken,
) -> (Cluster, JoinHandle<()>) {
    let id = NodeId::random();
    let (orders, orders_to_send) = mpsc::channel(MAX_WAITING_ORDERS);
    let engine = EngineLink::new(Instant::now());
    let (nodes, absent) = Default::default();
    let view = Arc::new(Mutex::new(View { nodes, absent, is_connected: false, engine }));
    let cluster = Cluster { name: settings.name.clone(), orders, view: view.clone() };
    let subjects = Subjects::new(&settings.prefix);
    let (to_control, control) = inbox(CONTROL_BYTES);
    let (to_presence, presence) = inbox(PRESENCE_BYTES);
    for subject in [subjects.beats.clone(), subjects.orders.clone(), subjects.orders_of(id)] {
        bus.subscribe(&subject, to_control.clone());
    }
    for subject in [subjects.presence.clone(), subjects.presence_of(id)] {
        bus.subscribe(&subject, to_presence.clone());
    }
    let task = Task {
        id,
        started: wall_clock().micros(),
        nodes: Nodes::new(id, settings.name.clone()),
        outgoing: Outgoing::new(&settings.secrets, id),
        control_incoming: Incoming::new(&settings.secrets),
        presence_incoming: Incoming::new(&settings.secrets),
        local: LocalPresence::new(settings.presence_members),
        remote: RemotePresence::default(),
        gatherings: Gatherings::default(),
        executing: JoinSet::new(),
        hub_permits: Arc::new(Semaphore::new(MAX_WAITING_CHANGES)),
        log: NodeLog::new(links.counters.clone(), Instant::now()),
        name: settings.name,
        bus,
        subjects,
        links,
        view,
    };
    let running = task.run(control, presence, orders_to_send, stop);
    (cluster, tokio::spawn(running))
}

struct Task {
    id: NodeId,
    name: String,
    started: i64,
    bus: Arc<dyn Bus>,
    subjects: Subjects,
    links: Links,
    view: Arc<Mutex<View>>,
    nodes: Nodes,
    outgoing: Outgoing,
    control_incoming: Incoming,
    presence_incoming: Incoming,
    local: LocalPresence,
    remote: RemotePresence,
    gatherings: Gatherings,
    /// Orders that are carried out here: where the answer goes, and the answer.
    executing: JoinSet<(NodeId, u64, NodeResult)>,
    hub_permits: Arc<Semaphore>,
    log: NodeLog,
}

impl Task {
    async fn run(
        mut self,
        mut control: Inbox,
        mut presence: Inbox,
        mut orders: mpsc::Receiver<OrderToSend>,
        stop: CancellationToken,
    ) {
        let mut beat = tokio::time::interval(heartbeat::INTERVAL);
        let mut tick = tokio::time::interval(remote_presence::LATENESS);
        let mut echo = tokio::time::interval(engine_link::ECHO_INTERVAL);
        // Where it had to wait for the hub, one is enough.
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        echo.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tell_at: Option<Instant> = None;
        let mut told = Instant::now();
        loop {
            let gathered = sleep_until(self.gatherings.next_deadline());
            let tell = sleep_until([tell_at, self.local.next_due()].into_iter().flatten().min());
            let changes = self.links.presence.clone();
            tokio::select! {
                () = stop.cancelled() => break,
                _ = beat.tick() => self.send_beat(false),
                _ = tick.tick() => self.tick().await,
                _ = echo.tick() => self.send_echo(),
                delivery = control.recv() => self.handle_control(delivery).await,
                delivery = presence.recv() => self.handle_presence(delivery).await,
                Some(order) = orders.recv() => self.send_order(order),
                () = changes.noted(), if tell_at.is_none() => {
                    tell_at = Some(told + GATHER_INTERVAL);
                }
                () = tell => {
                    if tell_at.take_if(|at| *at <= Instant::now()).is_some() {
                        told = Instant::now();
                    }
                    self.tell_presence();
                }
                Some(done) = self.executing.join_next() => if let Ok((to, order, result)) = done {
                    let subject = self.subjects.orders_of(to);
                    for part in orders::parts(order, &result) {
                        self.publish(&subject, &part);
                    }
                },
                () = gathered => self.gatherings.finish(Instant::now()),
            }
        }
        self.send_beat(true);
    }

    /// What is done every half second.
    async fn tick(&mut self) {
        let now = Instant::now();
        let changes = self.nodes.expire(now);
        self.follow_nodes(changes).await;
        let outcome = self.remote.tick(now);
        self.follow_presence(outcome).await;
        self.update_view();
        self.log.left_out();
    }

    fn update_view(&self) {
        let nodes = self.nodes.others().into_iter().map(|node| NodeView {
            id: node.id,
            name: node.beat.name.clone(),
            sessions: node.beat.sessions,
            heard: node.heard,
        });
        let now = Instant::now();
        let absent = self.nodes.absent().iter().map(|(name, absence)| AbsentView {
            name: name.to_owned(),
            reason: absence.reason(now),
            heard: absence.heard,
        });
        let (nodes, absent) = (nodes.collect(), absent.collect());
        let is_connected = self.bus.is_connected();
        let mut view = self.view.lock();
        *view = View { nodes, absent, is_connected, engine: view.engine };
    }

    fn send_beat(&mut self, bye: bool) {
        let beat = Beat {
            name: self.name.clone(),
            started: self.started,
            sessions: (self.links.sessions)(),
            presence: self.local.counter(),
            bye,
        };
        let subject = self.subjects.beats.clone();
        self.publish(&subject, &beat);
    }

    /// Sends this node itself a message over the engine, which shows that it answers.
    fn send_echo(&mut self) {
        let subject = self.subjects.orders_of(self.id);
        self.publish(&subject, &());
    }

    /// Sends a message; one that can't be sent is lost, as on the bus itself.
    fn publish(&mut self, subject: &str, message: &impl Serialize) {
        let Ok(body) = serde_json::to_vec(message) else { return };
        let sealed = self.outgoing.seal(subject, &body, wall_clock());
        match self.bus.publish(subject, sealed) {
            // The connection to the engine is logged elsewhere.
            Ok(()) | Err(BusError::Disconnected) => {}
            Err(error @ (BusError::Full(_) | BusError::TooLong(_))) => {
                self.log.lost(1, &error.to_string())
            }
        }
    }

    async fn handle_control(&mut self, delivery: Delivery) {
        let Some((subject, from, body)) = self.open(delivery, false) else { return };
        let now = Instant::now();
        if subject == self.subjects.beats {
            let Some(beat) = self.parse::<Beat>(&body) else { return };
            let presence = beat.presence;
            let changes = self.nodes.heard(from, beat, now);
            self.remote.counted(from, presence, now);
            self.follow_nodes(changes).await;
        } else if subject == self.subjects.orders {
            if let Some(order) = self.parse::<Order>(&body) {
                self.execute(from, order);
            }
        } else if let Some(part) = self.parse::<AnswerPart>(&body) {
            self.gatherings.part(from, part);
            self.gatherings.finish(now);
        }
    }

    async fn handle_presence(&mut self, delivery: Delivery) {
        let now = Instant::now();
        if let Delivery::Hole(lost) = delivery {
            self.log.lost(lost, &format!("{lost} messages came faster than they were handled"));
            let outcome = self.remote.lost(now);
            return self.follow_presence(outcome).await;
        }
        let Some((_, from, body)) = self.open(delivery, true) else { return };
        let Some(message) = self.parse::<PresenceMessage>(&body) else { return };
        let outcome = match message {
            PresenceMessage::Changes(changes) => self.remote.changes(from, changes, now),
            PresenceMessage::State(state) => self.remote.state(from, state, now),
            PresenceMessage::Ask(ask) => {
                let subject = self.subjects.presence_of(from);
                for state in self.local.answer(ask) {
                    self.publish(&subject, &PresenceMessage::State(state));
                }
                return;
            }
        };
        self.follow_presence(outcome).await;
    }

    /// Opens a message of another node.
    fn open(&mut self, delivery: Delivery, is_presence: bool) -> Option<(String, NodeId, Vec<u8>)> {
        let (subject, payload) = match delivery {
            Delivery::Message { subject, payload } => (subject, payload),
            Delivery::Hole(lost) => {
                self.log.lost(lost, &format!("{lost} messages came faster than they were handled"));
                return None;
            }
        };
        let incoming = match is_presence {
            true => &mut self.presence_incoming,
            false => &mut self.control_incoming,
        };
        match incoming.open(&subject, &payload, wall_clock()) {
            Ok(opened) if opened.from == self.id => {
                self.view.lock().engine.heard(Instant::now());
                None
            }
            Ok(opened) => Some((subject, opened.from, opened.body)),
            Err(refused) => {
                self.log.refused(refused);
                if let Refused::Skewed(skew) = refused {
                    self.note_skewed(&subject, &payload, skew);
                }
                None
            }
        }
    }

    /// A message was refused for its time. If it is a heartbeat, operators are told which node's clock is wrong.
    fn note_skewed(&mut self, subject: &str, payload: &[u8], skew: Duration) {
        if subject != self.subjects.beats {
            return;
        }
        let opened = self.control_incoming.open_skewed(subject, payload);
        let beat = |body: &[u8]| serde_json::from_slice::<Beat>(body).ok();
        if let Some((from, beat)) =
            opened.and_then(|opened| Some((opened.from, beat(&opened.body)?)))
            && self.nodes.skewed(from, &beat, skew, Instant::now())
        {
            self.log.skewed(&beat.name, skew);
            self.update_view();
            // So that it learns of this node, too.
            self.send_beat(false);
        }
    }

    fn parse<T: DeserializeOwned>(&mut self, body: &[u8]) -> Option<T> {
        let parsed = serde_json::from_slice(body);
        if parsed.is_err() {
            // Not the error itself, which may quote names.
            self.log.lost(1, "a message can't be read; the servers may have different versions");
        }
        parsed.ok()
    }

    async fn follow_nodes(&mut self, changes: Vec<NodeChange>) {
        let is_changed = !changes.is_empty();
        for change in changes {
            self.log.change(&change);
            let outcome = match change {
                NodeChange::Came(id, _) => {
                    // So that it knows this node at once.
                    self.send_beat(false);
                    self.remote.came(id, Instant::now())
                }
                NodeChange::Gone(id, ..) => self.remote.gone(id),
                NodeChange::NameTaken(_) => continue,
            };
            self.follow_presence(outcome).await;
        }
        if is_changed {
            self.update_view();
        }
    }

    async fn follow_presence(&mut self, outcome: Outcome) {
        for (node, ask) in outcome.asks {
            let subject = self.subjects.presence_of(node);
            self.publish(&subject, &PresenceMessage::Ask(ask));
        }
        if !outcome.changes.is_empty()
            && let Ok(permit) = self.hub_permits.clone().acquire_owned().await
        {
            (self.links.to_hub)(outcome.changes, permit);
        }
    }

    fn tell_presence(&mut self) {
        let now = Instant::now();
        let mut messages = self.local.update(self.links.presence.take(), now);
        messages.extend(self.local.due(now));
        let subject = self.subjects.presence.clone();
        for message in messages {
            self.publish(&subject, &PresenceMessage::Changes(message));
        }
    }

    fn send_order(&mut self, order: OrderToSend) {
        let OrderToSend { uid, request, answer } = order;
        let now = Instant::now();
        let reach = self.view.lock().engine.reach(self.bus.is_connected(), now);
        let order = self.gatherings.begin(&self.nodes, reach, answer, now);
        let subject = self.subjects.orders.clone();
        self.publish(&subject, &Order { order, uid, request });
        self.gatherings.finish(now);
    }

    fn execute(&mut self, from: NodeId, order: Order) {
        let Order { order, uid, request } = order;
        let (answer, answered) = oneshot::channel();
        let from_node = OrderFromNode { node: from, uid, request, answer };
        let is_refused =
            self.executing.len() >= MAX_EXECUTING || self.links.orders.try_send(from_node).is_err();
        self.executing.spawn(async move {
            let answered = match is_refused {
                true => None,
                false => {
                    tokio::time::timeout(EXECUTE_TIMEOUT, answered).await.ok().and_then(Result::ok)
                }
            };
            let busy = || Err("it is too busy to carry out the request; try again".to_owned());
            (from, order, answered.unwrap_or_else(busy))
        });
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
