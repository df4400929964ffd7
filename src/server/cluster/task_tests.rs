//! Several nodes in one process, over a bus that tests control.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::bus::Bus;
use super::engine_link::Reach;
use super::fake_bus::{FakeBus, FakeNetwork};
use super::handle::{Cluster, OrderFromNode};
use super::nats_bus::NatsBus;
use super::settings::{Links, Settings};
use super::task;
use crate::protocol::{RoomName, UserName};
use crate::server::rooms::elsewhere::Elsewhere;
use crate::server::rooms::presence_changes::PresenceChanges;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

struct Node {
    bus: Option<Arc<FakeBus>>,
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
    Node { bus: Some(bus.clone()), ..start_on(bus, name, secret) }
}

fn start_on(bus: Arc<dyn Bus>, name: &str, secret: [u8; 32]) -> Node {
    let presence = PresenceChanges::default();
    let elsewhere = Arc::<parking_lot::Mutex<Elsewhere>>::default();
    let (to_orders, orders) = mpsc::channel(8);
    let told = elsewhere.clone();
    let links = Links {
        counters: Default::default(),
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
        secrets: secret.into(),
        presence_members: 100,
    };
    let stop = CancellationToken::new();
    let (cluster, task) = task::start(bus, settings, links, stop.clone());
    Node { bus: None, cluster, presence, elsewhere, orders: Some(orders), stop, task }
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

    /// Waits until this node reckons that it knows all others.
    async fn settled(&self) {
        let reach = || self.cluster.view().engine.reach(true, Instant::now());
        eventually("it knows all others", || reach() == Reach::All).await;
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
        node.settled().await;
    }
    nodes
}

#[tokio::test]
async fn an_order_of_a_node_that_has_just_started_is_answered_by_all() {
    let network = FakeNetwork::default();
    let [mut b, mut c] = ["b", "c"].map(|name| start(&network, name));
    b.answer_orders();
    c.answer_orders();
    let a = start(&network, "a");
    assert!(a.others().is_empty(), "it has heard of no node yet");
    let gathered = a.cluster.order(None, json!("rotate")).await;
    assert_eq!((gathered.answers.len(), gathered.unanswered.len()), (2, 0));
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

    c.bus.as_ref().unwrap().cut_off(true);
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
    for node in [&a, &b, &stranger] {
        node.settled().await;
    }
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
    assert!(b.bus.unwrap().is_connected());
}

/// A NATS server on loopback, which is killed when it is dropped.
struct NatsServer {
    process: std::process::Child,
    url: String,
}

impl NatsServer {
    /// The server of `$CHAT_TEST_NATS_SERVER`, on this port or, with -1, on a free one.
    fn start(program: &str, home: &std::path::Path, port: &str) -> Self {
        let process = std::process::Command::new(program)
            .args(["-a", "127.0.0.1", "-p", port, "--ports_file_dir"])
            .arg(home)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let ports = home.join(format!("nats-server_{}.ports", process.id()));
        let mut server = NatsServer { process, url: String::new() };
        let deadline = Instant::now() + LIMIT;
        while server.url.is_empty() {
            assert!(Instant::now() < deadline, "the NATS server does not start");
            std::thread::sleep(Duration::from_millis(20));
            let read = std::fs::read(&ports).ok();
            let ports = read.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
            server.url = ports
                .and_then(|ports| Some(ports["nats"][0].as_str()?.to_owned()))
                .unwrap_or_default();
        }
        server
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_over_a_nats_server_find_each_other_again_after_it_was_away() {
    let Ok(program) = std::env::var("CHAT_TEST_NATS_SERVER") else {
        eprintln!("not run: CHAT_TEST_NATS_SERVER names no nats-server");
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let server = NatsServer::start(&program, home.path(), "-1");
    let node = async |name: &str| {
        let client = async_nats::connect(&server.url).await.unwrap();
        start_on(Arc::new(NatsBus::new(client, tokio::runtime::Handle::current())), name, [7; 32])
    };
    let (a, mut b) = (node("a").await, node("b").await);
    b.answer_orders();
    eventually("the two know each other", || a.others() == ["b"] && b.others() == ["a"]).await;
    let gathered = a.cluster.order(None, json!("rotate")).await;
    assert_eq!((gathered.answers.len(), gathered.unanswered.len()), (1, 0));
    let lobby = RoomName::lobby();
    a.presence.joined(&lobby, &UserName::clean("ana"));
    eventually("b knows ana", || b.users() == ["ana"]).await;

    let port = server.url.rsplit(':').next().unwrap().to_owned();
    drop(server);
    eventually("a knows that the bus is away", || !a.cluster.view().is_connected).await;
    a.presence.joined(&lobby, &UserName::clean("eve"));
    let gathered = a.cluster.order(None, json!("rotate")).await;
    assert_eq!(gathered.unanswered, ["b"]);
    let _server = NatsServer::start(&program, home.path(), &port);
    eventually("b learns what it missed", || b.users() == ["ana", "eve"]).await;
    let gathered = a.cluster.order(None, json!("rotate")).await;
    assert_eq!((gathered.answers.len(), gathered.unanswered.len()), (1, 0));
}
