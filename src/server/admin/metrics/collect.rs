//! Reads the figures of the server for `/metrics`. `docs/metrics.md` has a row for each metric.

use std::time::Instant;

use super::cluster::cluster;
use super::family::{Family, Kind, Value};
use crate::server::context::Context;
use crate::server::rooms::health::HealthProblem;
use crate::sys::process_usage::ProcessUsage;

/// Every metric that has a value now.
pub fn collect(context: &Context) -> Vec<Family> {
    let mut families = health(context);
    families.extend(connections(context));
    families.extend(messages(context));
    families.extend(history(context));
    families.extend(cluster(context));
    families.extend(keys(context));
    families.extend(operation(context));
    families.extend(process(context));
    families
}

fn health(context: &Context) -> Vec<Family> {
    let problems = context.problems();
    let is_healthy =
        |is_its: fn(&HealthProblem) -> bool| Value::from(!problems.0.iter().any(is_its));
    let parts = vec![
        ("hub", is_healthy(|problem| matches!(problem, HealthProblem::Hub { .. }))),
        ("log_writer", is_healthy(|problem| matches!(problem, HealthProblem::LogWriter(_)))),
        ("event_loop", is_healthy(|problem| matches!(problem, HealthProblem::EventLoop { .. }))),
    ];
    let health = &context.health;
    let event_loop = health.event_loop.answer_time().max(*health.longest_task.lock());
    let answers = vec![
        ("hub", health.hub.answer_time().into()),
        ("log_writer", context.log_writers.answer_time().into()),
        ("event_loop", event_loop.into()),
    ];
    let version = vec![(env!("CARGO_PKG_VERSION"), Value::Integer(1))];
    vec![
        Family::new(
            Kind::Info,
            "chat_build_info",
            "The version of the running server.",
            "version",
            version,
        ),
        Family::gauge(
            "chat_ready",
            "1 while every part of the server makes progress, otherwise 0.",
            problems.is_empty(),
        ),
        Family::new(
            Kind::Gauge,
            "chat_part_healthy",
            "1 while this part of the server makes progress, otherwise 0.",
            "part",
            parts,
        ),
        Family::new(
            Kind::Gauge,
            "chat_part_answer_seconds",
            "How long this part took to answer the last health question, or has not answered it.",
            "part",
            answers,
        ),
        Family::counter(
            "chat_log_lines_dropped_total",
            "Lines of the server log that were dropped because standard output was too slow.",
            context.dropped_lines.count(),
        ),
    ]
}

fn connections(context: &Context) -> Vec<Family> {
    let counters = &context.counters;
    let sessions = &counters.sessions;
    let opened = &counters.sessions_opened;
    vec![
        Family::gauge(
            "chat_connections",
            "Client connections, registered or not.",
            context.admission.count(),
        ),
        Family::gauge(
            "chat_connections_limit",
            "The most connections: limits.connections, or fewer if the descriptor limit allows no more.",
            context.active_config.load().max_connections,
        ),
        Family::counter(
            "chat_connections_accepted_total",
            "Connections that were accepted, also those that were refused at once.",
            &counters.connections_accepted,
        ),
        Family::counter_by_word(
            "chat_connections_refused_total",
            "Connections that were refused because of a limit, a ban, or the origin of a page.",
            "reason",
            &counters.connections_refused,
        ),
        Family::counter(
            "chat_connections_evicted_total",
            "Connections without a session that were ended to make room for new ones.",
            context.admission.evicted(),
        ),
        Family::counter(
            "chat_accept_pauses_total",
            "Times when the system had no descriptor or memory for a new connection.",
            &counters.accept_pauses,
        ),
        Family::new(
            Kind::Gauge,
            "chat_sessions",
            "Registered sessions.",
            "protocol",
            vec![
                ("basic", sessions.basic.get().into()),
                ("full", sessions.full.get().into()),
                ("http", sessions.http.get().into()),
            ],
        ),
        Family::new(
            Kind::Counter,
            "chat_sessions_opened_total",
            "Sessions that registered.",
            "protocol",
            vec![
                ("basic", (&opened.basic).into()),
                ("full", (&opened.full).into()),
                ("http", (&opened.http).into()),
            ],
        ),
        Family::counter_by_word(
            "chat_sessions_closed_total",
            "Sessions that ended, by the reason in session_closed.",
            "reason",
            &counters.sessions_closed,
        ),
        Family::counter_by_word(
            "chat_refused_total",
            "Refused registrations, messages and other frames, by error code.",
            "code",
            &counters.refusals,
        ),
        Family::counter(
            "chat_auth_failures_total",
            "Registrations without a valid access token, or held up after wrong ones.",
            &counters.auth_failures,
        ),
        Family::gauge(
            "chat_access_tokens",
            "Access tokens that exist.",
            context.authenticator.list().len(),
        ),
    ]
}

fn messages(context: &Context) -> Vec<Family> {
    let counters = &context.counters;
    let log_writers = &context.log_writers;
    vec![
        Family::gauge("chat_rooms", "Rooms with at least one member.", counters.rooms.get()),
        Family::counter("chat_messages_total", "Messages stored.", &counters.messages),
        Family::counter(
            "chat_deliveries_total",
            "Messages queued for sessions: one per message and receiving session.",
            &counters.deliveries,
        ),
        Family::histogram(
            "chat_send_to_ack_duration_seconds",
            "From the arrival of a message at the log writer to its ack or refusal.",
            &counters.send_to_ack,
        ),
        Family::gauge(
            "chat_send_queue_bytes",
            "Bytes in the send queues of all sessions.",
            counters.send_queues.bytes(),
        ),
        Family::gauge(
            "chat_send_queues_waiting",
            "Sessions whose client has not taken everything that was sent to it.",
            counters.send_queues.waiting(),
        ),
        Family::counter(
            "chat_commits_total",
            "Commits of the room log.",
            counters.commits.snapshot().count,
        ),
        Family::histogram(
            "chat_commit_duration_seconds",
            "How long a commit of the room log took, with its sync.",
            &counters.commits,
        ),
        Family::counter(
            "chat_append_failures_total",
            "Commits of the room log in which messages could not be stored.",
            log_writers.failures(),
        ),
        Family::gauge(
            "chat_append_waiting_seconds",
            "How long messages have waited without any commit.",
            log_writers.waiting_for(),
        ),
        Family::gauge(
            "chat_append_queue_messages",
            "Messages that wait for the room log or are being committed.",
            log_writers.queued_messages(),
        ),
        Family::gauge(
            "chat_append_queue_bytes",
            "Bytes of messages that wait for the room log or for their delivery; at 16 MiB, senders wait.",
            log_writers.queued_bytes(),
        ),
    ]
}

fn history(context: &Context) -> Vec<Family> {
    let mut families = vec![Family::gauge(
        "chat_history_rooms",
        "Rooms that the history has.",
        context.reader.room_count(),
    )];
    // None before the first measurement, and if the history is in memory.
    let Some(usage) = context.disk.usage() else { return families };
    families.extend([
        Family::gauge("chat_history_bytes", "Bytes of the history on disk.", usage.bytes),
        Family::gauge(
            "chat_history_wal_bytes",
            "Bytes of the write-ahead log, which chat_history_bytes includes.",
            usage.wal_bytes,
        ),
        Family::gauge(
            "chat_history_damaged_bytes",
            "Bytes of .damaged-N files, which chat_history_bytes includes.",
            usage.damaged_bytes,
        ),
        Family::gauge(
            "chat_disk_free_bytes",
            "Free bytes of the file system of the history.",
            usage.free_bytes,
        ),
        Family::gauge(
            "chat_disk_size_bytes",
            "Size of the file system of the history.",
            usage.total_bytes,
        ),
    ]);
    families
}

fn keys(context: &Context) -> Vec<Family> {
    let mut families = vec![Family::counter(
        "chat_key_rotations_total",
        "Key rotations; one of all rooms counts once.",
        &context.counters.rotations,
    )];
    if let Some(every) = context.active_config.load().config.keys.rotate_every {
        families.push(Family::gauge(
            "chat_key_rotation_interval_seconds",
            "The age at which a room key is replaced: keys.rotate_every.",
            every,
        ));
    }
    if let Some(age) = context.counters.oldest_key_age(Instant::now()) {
        families.push(Family::gauge(
            "chat_oldest_key_age_seconds",
            "The age of the oldest current room key; up to a minute behind.",
            age,
        ));
    }
    families
}

fn operation(context: &Context) -> Vec<Family> {
    let mut families = vec![Family::gauge(
        "chat_config_last_reload_successful",
        "1 if the last reload of the configuration succeeded or there was none, otherwise 0.",
        context.reload_state.error().is_none(),
    )];
    for (name, help, moment) in [
        (
            "chat_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read, in seconds since 1970.",
            context.counters.reloaded_at.get(),
        ),
        (
            "chat_certificate_expiry_timestamp_seconds",
            "When the TLS certificate expires, in seconds since 1970.",
            context.active_config.load().certificate_expiry,
        ),
        (
            "chat_last_backup_timestamp_seconds",
            "When the last backup since the start of the server was made, in seconds since 1970.",
            context.counters.backed_up_at.get(),
        ),
    ] {
        families.extend(moment.map(|moment| Family::gauge(name, help, moment)));
    }
    families
}

/// The names and meanings are those of the client libraries of Prometheus.
fn process(context: &Context) -> Vec<Family> {
    let usage = ProcessUsage::measure();
    vec![
        Family::gauge(
            "process_start_time_seconds",
            "When the server started, in seconds since 1970.",
            context.counters.started_at,
        ),
        Family::counter(
            "process_cpu_seconds_total",
            "Processor time that the server has taken.",
            Value::Float(usage.cpu_seconds),
        ),
        Family::gauge(
            "process_resident_memory_bytes",
            "Memory that the server takes.",
            usage.resident_bytes,
        ),
        Family::gauge(
            "process_virtual_memory_bytes",
            "Address space of the server.",
            usage.virtual_bytes,
        ),
        Family::gauge("process_threads", "Threads of the server.", usage.threads),
        Family::gauge("process_open_fds", "Open file descriptors.", usage.open_descriptors),
        Family::gauge(
            "process_max_fds",
            "The limit of open file descriptors.",
            usage.max_descriptors,
        ),
    ]
}
