//! Asks the parts of the server for their health, and reports it to the service manager and in the
//! server log.
//!
//! It runs on the admin thread, which has a runtime of its own, so it can report that the event loop
//! of the connections is blocked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{log_level, status};
use crate::server::context::Context;
use crate::server::rooms::command::Command;
use crate::server::rooms::health::HealthProblem;
use crate::sys::systemd::{self, Watchdog};

/// How often each part is asked.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the status line is updated while the server is not ready.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// After a longer pause between two questions, the process did not run (SIGSTOP, a suspended machine).
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Asks and reports until `stop`. `event_loop` is the runtime that serves the connections.
pub async fn run(context: Arc<Context>, event_loop: Handle, stop: CancellationToken) {
    let mut watchdog = Watchdog::from_environment();
    let mut asking = interval(ASK_INTERVAL);
    asking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut workers = Workers::new(&event_loop);
    let mut reported = Reported { is_ready: true, status_at: Instant::now() };
    let mut last_asked = Instant::now();
    loop {
        tokio::select! {
            // The questions come first, because the status line may wait a second for a slow hub.
            biased;
            () = stop.cancelled() => return,
            _ = asking.tick() => {
                let pause = std::mem::replace(&mut last_asked, Instant::now()).elapsed();
                if pause > MAX_PAUSE {
                    leave_out(&context, pause);
                    workers = Workers::new(&event_loop);
                }
                ask(&context, &event_loop);
                *context.health.longest_task.lock() = workers.longest_task(&event_loop);
                context.counters.activity.collect();
                context.rates.sample(&context.counters);
                report(&context, &mut reported).await;
                log_level::end_if_due(&context);
            }
            () = watchdog.tick() => {
                // Without this report, systemd restarts the server.
                if !context.problems().0.iter().any(HealthProblem::is_helped_by_restart) {
                    let status = status::line(&context).await;
                    watchdog.report_healthy(&status);
                }
            }
        }
    }
}

fn ask(context: &Context, event_loop: &Handle) {
    if context.health.hub.ask() {
        let _ = context.hub.send(Command::Ping(context.health.hub.clone()));
    }
    context.log_writers.ping();
    if context.health.event_loop.ask() {
        let question = context.health.event_loop.clone();
        event_loop.spawn(async move { question.answer() });
    }
}

fn leave_out(context: &Context, pause: Duration) {
    context.health.hub.leave_out(pause);
    context.health.event_loop.leave_out(pause);
    context.log_writers.leave_out(pause);
    context.access_sync.get().into_iter().for_each(|sync| sync.leave_out(pause, Instant::now()));
    context.cluster.get().into_iter().for_each(|cluster| cluster.leave_out(pause));
}

/// The state that was reported last.
struct Reported {
    is_ready: bool,
    status_at: Instant,
}

/// Logs when the server becomes ready or stops being ready, and sets the status line. While it is
/// not ready, the status line is updated from time to time.
async fn report(context: &Context, last: &mut Reported) {
    let problems = context.problems();
    let is_ready = problems.is_empty();
    let is_changed = is_ready != std::mem::replace(&mut last.is_ready, is_ready);
    match (is_changed, is_ready) {
        (true, false) => tracing::error!(event = "not_ready", reason = %problems, "{problems}"),
        (true, true) => {
            tracing::info!(event = "ready_again", "every part of the server makes progress again");
        }
        (false, _) => {}
    }
    if is_changed || !is_ready && last.status_at.elapsed() > STATUS_INTERVAL {
        last.status_at = Instant::now();
        systemd::status(&status::line(context).await);
    }
}

/// What was last seen of each worker of the event loop.
struct Workers(Vec<Worker>);

struct Worker {
    parks: u64,
    busy: Duration,
    since: Instant,
}

impl Workers {
    fn new(event_loop: &Handle) -> Self {
        let workers = 0..event_loop.metrics().num_workers();
        Workers(workers.map(|index| Worker::seen(event_loop, index)).collect())
    }

    /// How long the longest of the running tasks has run. A worker updates its busy time after every few
    /// tasks, so a worker that neither waits nor updates it is still at the same task.
    fn longest_task(&mut self, event_loop: &Handle) -> Duration {
        let mut longest = Duration::ZERO;
        for (index, last) in self.0.iter_mut().enumerate() {
            let now = Worker::seen(event_loop, index);
            let is_waiting = now.parks % 2 == 1;
            if is_waiting || (now.parks, now.busy) != (last.parks, last.busy) {
                *last = now;
            } else {
                longest = longest.max(last.since.elapsed());
            }
        }
        longest
    }
}

impl Worker {
    fn seen(event_loop: &Handle, index: usize) -> Self {
        let metrics = event_loop.metrics();
        Worker {
            parks: metrics.worker_park_unpark_count(index),
            busy: metrics.worker_total_busy_duration(index),
            since: Instant::now(),
        }
    }
}
