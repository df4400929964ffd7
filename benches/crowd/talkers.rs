//! Sessions that talk in a room of their own, and measure how long each message takes to reach the others.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::watch;

use crate::session::Session;

/// How many sessions talk.
pub const TALKERS: usize = 20;
/// The time between two messages of a session.
const INTERVAL: Duration = Duration::from_millis(200);
/// A delivery that is missing counts as lost after this long.
const LOST_TIMEOUT: Duration = Duration::from_secs(10);

/// A delivery: when its message was sent, and how long it took.
#[derive(Clone, Copy)]
pub struct Delivery {
    pub sent: Instant,
    pub delay: Duration,
}

/// The sessions, on a thread of their own.
pub struct Talkers {
    stop: watch::Sender<bool>,
    thread: JoinHandle<Vec<Delivery>>,
}

#[derive(Default)]
struct Record {
    /// The time of each message, by its id.
    sent: Vec<Instant>,
    deliveries: Vec<Delivery>,
}

impl Talkers {
    /// Connects; returns when all talk.
    pub fn start(port: u16, tls: Option<Arc<ClientConfig>>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (ready, all_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            runtime.block_on(talk(port, tls, stopped, ready))
        });
        all_ready.recv().expect("the talkers are connected");
        Talkers { stop, thread }
    }

    /// Stops talking, waits for every delivery, and returns them all.
    pub fn finish(self) -> Vec<Delivery> {
        let _ = self.stop.send(true);
        self.thread.join().expect("no delivery is lost")
    }
}

async fn talk(
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    stopped: watch::Receiver<bool>,
    ready: mpsc::Sender<()>,
) -> Vec<Delivery> {
    let mut sessions = Vec::new();
    for number in 0..TALKERS {
        let name = format!("talker{number}");
        let session = Session::connect(port, tls.as_ref(), &name, "talk").await;
        sessions.push(session.expect("a talker is connected"));
    }
    let _ = ready.send(());
    let record = Rc::new(RefCell::new(Record::default()));
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = sessions
        .into_iter()
        .enumerate()
        .map(|(number, session)| {
            let first = tokio::time::Instant::now() + INTERVAL * number as u32 / TALKERS as u32;
            local.spawn_local(run(session, first, record.clone(), stopped.clone()))
        })
        .collect();
    local
        .run_until(async {
            for task in tasks {
                task.await.expect("a talker");
            }
        })
        .await;
    Rc::into_inner(record).expect("all talkers have ended").into_inner().deliveries
}

/// Sends and receives, until no delivery is missing after the end.
async fn run(
    mut session: Session,
    first: tokio::time::Instant,
    record: Rc<RefCell<Record>>,
    mut stopped: watch::Receiver<bool>,
) {
    let content = session.key.encrypt("x".repeat(100).as_bytes());
    let mut turns = tokio::time::interval_at(first, INTERVAL);
    let mut own = 0;
    let mut received = 0;
    let mut deadline = None;
    loop {
        let is_stopped = *stopped.borrow();
        if is_stopped {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + LOST_TIMEOUT);
            assert!(Instant::now() < deadline, "a delivery is lost");
            if received + own == record.borrow().sent.len() {
                return;
            }
        }
        tokio::select! {
            frame = session.next() => {
                let frame = frame.expect("a talker stays connected");
                if frame["type"] == "chat_message" {
                    let id: usize = frame["id"].as_str().expect("an id").parse().expect("ours");
                    let record = &mut *record.borrow_mut();
                    let sent = record.sent[id];
                    record.deliveries.push(Delivery { sent, delay: sent.elapsed() });
                    received += 1;
                }
            }
            due = turns.tick() => {
                if !is_stopped {
                    // A message that is sent late has the time at which it was due.
                    let id = record.borrow().sent.len();
                    record.borrow_mut().sent.push(due.into_std());
                    own += 1;
                    session.send(&id.to_string(), &content).await.expect("sent");
                }
            }
            _ = stopped.changed(), if !is_stopped => {}
        }
    }
}
