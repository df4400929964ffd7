//! Clients that hold a session each, and come back together after they lost it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::sync::watch;

use crate::session::Session;

/// The bounds of the pauses of chat-client (`client::driver`).
const MIN_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(20);
/// How long all clients together may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How the clients come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// At the same moment.
    AtOnce,
    /// After pauses like those of chat-client.
    Pauses,
}

/// The behaviour of the clients.
#[derive(Clone, Copy)]
struct Order {
    /// How often they may connect. A client that has lost its session waits for the next number.
    wave: u32,
    spread: Spread,
    /// Whether a client that has a session of this wave ends it.
    ends: bool,
}

/// A session that a client has again.
#[derive(Clone, Copy)]
pub struct Return {
    pub at: Instant,
    pub is_resumed: bool,
}

/// The clients, on a thread of their own.
pub struct Crowd {
    count: usize,
    orders: watch::Sender<Order>,
    returns: mpsc::Receiver<Return>,
    failed: Arc<AtomicUsize>,
    connected: Arc<AtomicUsize>,
}

/// One client, and where it connects.
#[derive(Clone)]
struct Client {
    number: usize,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    orders: watch::Receiver<Order>,
    returns: mpsc::Sender<Return>,
    failed: Arc<AtomicUsize>,
    connected: Arc<AtomicUsize>,
}

impl Crowd {
    /// Creates the clients, which do not connect yet. Each has its own memory of TLS sessions if it resumes.
    pub fn new(count: usize, port: u16, tls: Option<ClientConfig>, resumes: bool) -> Self {
        let first = Order { wave: 0, spread: Spread::AtOnce, ends: false };
        let (orders, received_orders) = watch::channel(first);
        let (returned, returns) = mpsc::channel();
        let (failed, connected) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let client = move |number| {
            let tls = tls.clone().map(|mut config| {
                config.resumption = match resumes {
                    true => Resumption::in_memory_sessions(4),
                    false => Resumption::disabled(),
                };
                Arc::new(config)
            });
            (number, tls)
        };
        let crowd = Crowd { count, orders, returns, failed, connected };
        let (failed, connected) = (crowd.failed.clone(), crowd.connected.clone());
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            let local = tokio::task::LocalSet::new();
            for (number, tls) in (0..count).map(client) {
                let (failed, connected) = (failed.clone(), connected.clone());
                let (orders, returns) = (received_orders.clone(), returned.clone());
                let client = Client { number, port, tls, orders, returns, failed, connected };
                local.spawn_local(client.run());
            }
            runtime.block_on(local);
        });
        crowd
    }

    /// Lets the clients without a session connect.
    pub fn release(&self, spread: Spread) {
        self.orders.send_modify(|order| {
            *order = Order { wave: order.wave + 1, spread, ends: false };
        });
    }

    /// Waits until all are back; returns their sessions in the order of time.
    pub fn wait(&self) -> Vec<Return> {
        let deadline = Instant::now() + TIMEOUT;
        let next = || {
            let left = deadline.saturating_duration_since(Instant::now());
            self.returns.recv_timeout(left).expect("all come back")
        };
        let mut returns: Vec<Return> = (0..self.count).map(|_| next()).collect();
        returns.sort_by_key(|back| back.at);
        returns
    }

    /// Ends all sessions.
    pub fn end_sessions(&self) {
        self.orders.send_modify(|order| order.ends = true);
        self.wait_until_lost();
    }

    /// Waits until no client has a session.
    pub fn wait_until_lost(&self) {
        while self.connected.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many attempts to connect have failed since the last call.
    pub fn take_failed(&self) -> usize {
        self.failed.swap(0, Ordering::Relaxed)
    }
}

impl Client {
    async fn run(mut self) {
        let name = format!("crowd{}", self.number);
        for wave in 1.. {
            // An error: the benchmark ends.
            let Ok(order) = self.orders.wait_for(|order| order.wave >= wave).await else { return };
            let spread = order.spread;
            drop(order);
            let mut pauses = Pauses::default();
            if spread == Spread::Pauses {
                tokio::time::sleep(pauses.next()).await;
            }
            let mut session = loop {
                match Session::connect(self.port, self.tls.as_ref(), &name, "lobby").await {
                    Ok(session) => break session,
                    Err(_) => {
                        self.failed.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(pauses.next()).await;
                    }
                }
            };
            self.connected.fetch_add(1, Ordering::Relaxed);
            let back = Return { at: Instant::now(), is_resumed: session.is_resumed };
            let _ = self.returns.send(back);
            let mut orders = self.orders.clone();
            let mut ends = std::pin::pin!(orders.wait_for(|order| order.ends));
            loop {
                tokio::select! {
                    frame = session.next() => if frame.is_err() { break },
                    _ = &mut ends => break,
                }
            }
            drop(session);
            self.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The pauses of chat-client (`policy::backoff`): random up to the time since the session was lost.
#[derive(Default)]
struct Pauses {
    disconnected: Duration,
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let pause = self.disconnected.clamp(MIN_PAUSE, MAX_PAUSE).mul_f64(random);
        self.disconnected += pause;
        pause
    }
}
