//! A TCP proxy with faults: it cuts one connection at a byte, or all connections at once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// A running proxy.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    cut_all: watch::Sender<u64>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    /// The planned cut: direction, bytes that pass before it, and the number of connections.
    plan: Mutex<Option<(Direction, u64, u64)>>,
    fired: AtomicU64,
}

impl FaultProxy {
    /// Starts a proxy in front of `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            plan: Mutex::new(None),
            fired: AtomicU64::new(0),
        });
        let (cut_all, cut) = watch::channel(0);
        let task = tokio::spawn(serve(listener, shared.clone(), cut));
        FaultProxy { address, shared, cut_all, task }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts each of the next `times` connections after so many bytes in one direction.
    pub fn cut_after(&self, direction: Direction, bytes: u64, times: u64) {
        *self.shared.plan.lock().unwrap() = Some((direction, bytes, times));
    }

    /// Cuts every open connection now.
    pub fn cut_all(&self) {
        self.shared.fired.fetch_add(1, Ordering::Relaxed);
        self.cut_all.send_modify(|round| *round += 1);
    }

    /// How many cuts have happened.
    pub fn fired(&self) -> u64 {
        self.shared.fired.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, cut: watch::Receiver<u64>) {
    while let Ok((client, _)) = listener.accept().await {
        let target = *shared.target.lock().unwrap();
        let plan = take_cut(&shared);
        let (shared, mut cut) = (shared.clone(), cut.clone());
        cut.mark_unchanged();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (mut client_in, mut client_out) = client.into_split();
            let (mut server_in, mut server_out) = server.into_split();
            let budget = |direction| {
                plan.filter(|(planned, _)| *planned == direction).map(|(_, bytes)| bytes)
            };
            tokio::select! {
                was_cut = pump(&mut client_in, &mut server_out, budget(Direction::Up)) => count(&shared, was_cut),
                was_cut = pump(&mut server_in, &mut client_out, budget(Direction::Down)) => count(&shared, was_cut),
                _ = cut.changed() => {}
            }
            // Both halves are dropped together, so both sides see the end.
        });
    }
}

fn take_cut(shared: &Shared) -> Option<(Direction, u64)> {
    let mut plan = shared.plan.lock().unwrap();
    let (direction, bytes, times) = plan.take()?;
    *plan = (times > 1).then(|| (direction, bytes, times - 1));
    Some((direction, bytes))
}

fn count(shared: &Shared, was_cut: bool) {
    if was_cut {
        shared.fired.fetch_add(1, Ordering::Relaxed);
    }
}

/// Copies to the end (false), or until the budget is spent (true).
async fn pump(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    budget: Option<u64>,
) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    let mut passed = 0u64;
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return false };
        if count == 0 {
            let _ = to.shutdown().await;
            // The other direction may still carry bytes.
            return std::future::pending().await;
        }
        let allowed = budget.map_or(count as u64, |budget| (budget - passed).min(count as u64));
        if to.write_all(&buffer[..allowed as usize]).await.is_err() {
            return false;
        }
        passed += allowed;
        if budget.is_some_and(|budget| passed >= budget) {
            return true;
        }
    }
}
