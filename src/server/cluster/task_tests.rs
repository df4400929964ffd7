//! Several nodes in one process, over a bus that tests control.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::bus::Bus;
use super::fake_bus::{FakeBus, FakeNetwork};
use super::handle::{Cluster, OrderFromNode};
use super::settings::{Links, Settings};
use super::task;
use crate::protocol::{RoomName, UserName};
use crate::server::rooms::elsewhere::Elsewhere;
use crate::server::rooms::presence_changes::PresenceChanges;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

struct Node {
    bus: Arc<FakeBus>,
    cluster: Cluster,
    presence: PresenceChanges,
    elsewhere: Arc<parking_lot::Mutex<Elsewhere>>,
    orders: Option<mpsc::Receiver<OrderFromNode>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(network: &FakeNetwork, name: &str) -> Node {
    start_with(network, name, [7; 32])
}

fn start_with(network: &FakeNetwork, name: &str, secret: [u8; 32]) -> Node {
    let bus = network.connect();
    let presence = PresenceChanges::default();
    let elsewhere = Arc::<parking_lot::Mutex<Elsewhere>>::default();
    let (to_orders, orders) = mpsc::channel(8);
    let told = elsewhere.clone();
    let links = Links {
        sessions: Box::new(|| 3),
        presence: presence.clone(),
        to_hub: Box::new(move |changes, _permit| {
            for change in changes {
                told.lock().apply(change);
            }
        }),
        orders: to_orders,
    };
    let settings = Settings {
        prefix: "chat".into(),
        name: name.into(),
        secret: Zeroizing::new(secret),
        presence_members: 100,
    };
    let stop = CancellationToken::new();
    let (cluster, task) = task::start(bus.clone(), settings, links, stop.clone());
    Node { bus, cluster, presence, elsewhere, orders: Some(orders), stop, task }
}

impl Node {
    fn others(&self) -> Vec<String> {
        self.cluster.view().nodes.into_iter().map(|node| node.name).collect()
    }

    fn users(&self) -> Vec<String> {
        let elsewhere = self.elsewhere.lock();
        let mut users: Vec<_> =
            elsewhere.users(&RoomName::lobby()).map(UserName::to_string).collect();
        users.sort();
        users
    }

    /// Answers each order with the order itself and the name of this node.
    fn answer_orders(&mut self) {
        let (mut orders, name) = (self.orders.take().unwrap(), self.cluster.name().to_owned());
        tokio::spawn(async move {
            while let Some(order) = orders.recv().await {
                let answer = json!({"of": name, "uid": order.uid, "request": order.request});
                let _ = order.answer.send(Ok(answer));
            }
        });
    }
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn three_nodes(network: &FakeNetwork) -> [Node; 3] {
    let nodes = ["a", "b", "c"].map(|name| start(network, name));
    for node in &nodes {
        eventually("every node knows the two others", || node.others().len() == 2).await;
    }
    nodes
}

#[tokio::test]
async fn an_order_reaches_every_node_and_a_silent_one_is_named() {
    let network = FakeNetwork::default();
    let [a, mut b, mut c] = three_nodes(&network).await;
    b.answer_orders();
    c.answer_orders();
    let request = json!({"verb": "kick", "user": "ana"});
    let answer =
        |name: &str| (name.to_owned(), Ok(json!({"of": name, "uid": 7, "request": request})));
    let began = Instant::now();
    let gathered = a.cluster.order(Some(7), request.clone()).await;
    assert_eq!(gathered.answers, [answer("b"), answer("c")]);
    assert_eq!(gathered.unanswered, Vec::<String>::new());
    assert!(began.elapsed() < Duration::from_millis(900), "it did not wait for the time limit");

    c.bus.cut_off(true);
    let began = Instant::now();
    let gathered = a.cluster.order(Some(7), request.clone()).await;
    assert_eq!(gathered.answers, [answer("b")]);
    assert_eq!(gathered.unanswered, ["c"]);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    // A node that is cut off itself does not wait.
    let gathered = c.cluster.order(None, request).await;
    assert_eq!((gathered.answers.len(), gathered.unanswered), (0, vec!["a".into(), "b".into()]));
}

#[tokio::test]
async fn only_nodes_with_the_secret_take_part_and_nothing_is_done_twice() {
    let network = FakeNetwork::default();
    let (a, mut b) = (start(&network, "a"), start(&network, "b"));
    let stranger = start_with(&network, "stranger", [8; 32]);
    eventually("the two know each other", || a.others() == ["b"] && b.others() == ["a"]).await;
    let mut orders = b.orders.take().unwrap();
    let carried_out = tokio::spawn(async move {
        let mut requests = Vec::<Value>::new();
        while let Ok(Some(order)) =
            tokio::time::timeout(Duration::from_millis(500), orders.recv()).await
        {
            requests.push(order.request);
            let _ = order.answer.send(Ok(json!({})));
        }
        requests
    });
    stranger.cluster.order(None, json!("from a stranger")).await;
    a.cluster.order(None, json!("rotate")).await;
    for (subject, payload) in network.log() {
        assert!(!payload.windows(6).any(|part| part == b"rotate"), "{subject} is readable");
        for other in ["chat.ctl", "chat.n", "chat.p", &subject] {
            network.inject(other, payload.clone());
        }
    }
    network.inject("chat.ctl", bytes::Bytes::from_static(b"{}"));
    assert_eq!(carried_out.await.unwrap(), [json!("rotate")]);
    assert!(stranger.others().is_empty());
}

#[tokio::test]
async fn presence_crosses_the_nodes_and_a_lost_message_is_asked_for() {
    let network = FakeNetwork::default();
    let [a, b, c] = three_nodes(&network).await;
    let lobby = RoomName::lobby();
    let [ana, bob, eve] = ["ana", "bob", "eve"].map(UserName::clean);
    a.presence.joined(&lobby, &ana);
    b.presence.joined(&lobby, &bob);
    eventually("c knows ana and bob", || c.users() == ["ana", "bob"]).await;
    eventually("b knows ana", || b.users() == ["ana"]).await;

    // The message about eve is lost; the next one shows that.
    network.drop_next("chat.p", 1);
    a.presence.joined(&lobby, &eve);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(c.users(), ["ana", "bob"]);
    a.presence.left(&lobby, &ana);
    eventually("c knows bob and eve", || c.users() == ["bob", "eve"]).await;

    // A new node asks for everybody.
    let d = start(&network, "d");
    eventually("d knows bob and eve", || d.users() == ["bob", "eve"]).await;

    // A node that ends takes its members along.
    a.stop.cancel();
    a.task.await.unwrap();
    eventually("eve is gone", || c.users() == ["bob"] && d.users() == ["bob"]).await;
    assert_eq!(b.others(), ["c", "d"]);
    assert!(b.bus.is_connected());
}
