//! Collects the report of `ctl status`.
//!
//! Only the send queues are asked of the hub. All the rest is known without it, so the report says what is
//! wrong also while the hub hangs.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::log_level;
use super::status::NO_ANSWER;
use super::status_cluster::ClusterStatus;
use super::status_report::{AppendFailure, LastReload, Moment, Rate, StatusReport, TokenCounts};
use crate::protocol::Timestamp;
use crate::server::context::Context;
use crate::server::rooms::command::Command;
use crate::server::rooms::log_writers::LogWriters;
use crate::server::rooms::membership::SERVER;
use crate::server::rooms::status::SendQueuesStatus;
use crate::server::{disk_watch, rates};
use crate::sys::clock::wall_clock;

/// The spans of the rates.
const SHORT_SPAN: Duration = Duration::from_secs(60);
const LONG_SPAN: Duration = rates::MAX_SPAN;
/// How long the report waits for the hub, and how long if a part of the server is known to hang.
const HUB_TIMEOUT: Duration = Duration::from_secs(5);
const SHORT_HUB_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes the report.
pub async fn report(context: &Context) -> StatusReport {
    let send_queues = ask_hub(context).await;
    // After the hub was asked: it may have begun to hang.
    let problems = context.problems();
    let now = wall_clock();
    let active = context.active_config.load();
    let counters = &context.counters;
    let long = context.rates.increase(counters, LONG_SPAN);
    let short = context.rates.increase(counters, SHORT_SPAN);
    let usage = context.disk.usage();
    let writer = &context.log_writers;
    let tokens = TokenCounts::of(&context.authenticator.list(), now);
    let rotate_every = active.config.keys.rotate_every;
    let oldest_key = counters.oldest_key_age(Instant::now());
    let sessions_full = counters.sessions.full.get();
    let sessions_basic = counters.sessions.basic.get();
    let sessions_http = counters.sessions.http.get();
    let certificate = active.certificate_expiry;
    let mut report = StatusReport {
        server: SERVER,
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        started: started(now, context.started.elapsed()),
        seconds: context.started.elapsed().as_secs(),
        ready: problems.is_empty(),
        health: if problems.is_empty() { "ok".into() } else { problems.to_string() },
        log_level: context.log.level().in_force().as_str(),
        log_level_seconds_left: log_level::seconds_left(&context.log.level()),
        problems: problems.0.iter().map(ToString::to_string).collect(),
        wrong: Vec::new(),
        mode: active.config.raw.auth.mode.clone(),
        store: active.config.raw.history.store.clone(),
        durable: context.durable,
        sessions: sessions_full + sessions_basic + sessions_http,
        sessions_full,
        sessions_basic,
        sessions_http,
        connections: context.admission.count() as u64,
        connections_limit: active.max_connections as u64,
        rooms: counters.rooms.get(),
        rooms_limit: active.config.limits.rooms,
        history_rooms: context.reader.room_count(),
        messages: counters.messages.get(),
        deliveries: counters.deliveries.get(),
        refused: counters.refusals.total(),
        rates: [Rate::new(SHORT_SPAN, &short), Rate::new(LONG_SPAN, &long)],
        refused_by_code: long.refused.iter().copied().collect(),
        hub: if send_queues.is_some() { "ok" } else { NO_ANSWER },
        send_queue_bytes: send_queues.as_ref().map(|queues| queues.bytes),
        fullest_send_queue: send_queues.and_then(|queues| queues.fullest),
        send_queue_limit_bytes: active.config.limits.outbound_bytes as u64,
        log_writer: writer.problem().map_or("ok".to_owned(), |problem| problem.to_string()),
        log_writer_messages: context.log_writers.queued_messages(),
        log_writer_bytes: context.log_writers.queued_bytes(),
        log_writer_limit_bytes: LogWriters::MAX_QUEUED_BYTES,
        hub_commands: context.hub.waiting(),
        append_failures: writer.failures(),
        last_append_failure: writer.last_refusal().map(|refusal| AppendFailure {
            moment: Moment::of(refusal.at),
            messages: refusal.messages,
            reason: refusal.reason,
        }),
        history_bytes: usage.map(|usage| usage.bytes),
        wal_bytes: usage.map(|usage| usage.wal_bytes),
        damaged_bytes: usage.map(|usage| usage.damaged_bytes),
        disk_free_bytes: usage.map(|usage| usage.free_bytes),
        disk_total_bytes: usage.map(|usage| usage.total_bytes),
        last_backup: counters
            .backed_up_at
            .get()
            .map(|at| Moment { at, seconds_ago: now.since(at).as_secs() }),
        rotations: counters.rotations.get(),
        oldest_key_seconds: oldest_key.map(|age| age.as_secs()),
        next_rotation_seconds: rotate_every
            .zip(oldest_key)
            .map(|(every, age)| every.saturating_sub(age).as_secs()),
        certificate_expires: certificate,
        certificate_seconds: certificate.map(|end| (end.micros() - now.micros()) / 1_000_000),
        tokens: tokens.active + tokens.expired,
        tokens_active: tokens.active,
        tokens_expired: tokens.expired,
        tokens_expiring: tokens.expiring,
        reload: match context.reload_state.error() {
            None => "ok".into(),
            Some(error) => format!("failed: {error}"),
        },
        last_reload: context
            .reload_state
            .last()
            .map(|last| LastReload { moment: Moment::of(last.at), by: last.by.to_string() }),
        restart_needed: context.reload_state.restart_needed(),
        log_lines_dropped: context.dropped_lines.count(),
        cluster: ClusterStatus::of(context, Instant::now()),
        rotate_every,
        is_disk_low: usage.is_some_and(|usage| disk_watch::is_low(&usage)),
    };
    report.wrong = report.find_wrong();
    report
}

/// What waits in the send queues; `None` if the hub does not answer in time.
async fn ask_hub(context: &Context) -> Option<SendQueuesStatus> {
    let limit = if context.problems().is_empty() { HUB_TIMEOUT } else { SHORT_HUB_TIMEOUT };
    let (answer, answered) = oneshot::channel();
    context.hub.send(Command::SendQueues(answer)).ok()?;
    tokio::time::timeout(limit, answered).await.ok()?.ok()
}

/// When the server started, by the wall clock of now, because the clock of then may have been wrong.
fn started(now: Timestamp, uptime: Duration) -> Timestamp {
    let uptime = i64::try_from(uptime.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(uptime))
}
