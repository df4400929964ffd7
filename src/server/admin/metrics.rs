//! `/metrics` (Prometheus text format 0.0.4), `/healthz` and `/readyz`, on a listener of their own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::status;
use crate::config::Config;
use crate::server::context::Context;
use crate::server::error::ServerError;
use crate::server::rooms::health::{HealthProblem, Problems};
use crate::server::rooms::status::HubStatus;
use crate::store::DiskUsage;
use crate::sys::clock::{has_http_date, wall_clock};

/// How long one connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections at the same time; a further one replaces the oldest.
const MAX_CONNECTIONS: usize = 16;
/// Pause after a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Largest request head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Binds `admin.metrics`; `None` if it is off.
pub async fn bind(config: &Config) -> Result<Option<TcpListener>, ServerError> {
    let Some(address) = config.admin.metrics else { return Ok(None) };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServerError::AdminBind { address: address.to_string(), source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(event = "metrics", address = %address, "serving /metrics, /healthz and /readyz");
    }
    Ok(Some(listener))
}

/// Serves requests until `stop`.
pub async fn serve(listener: TcpListener, context: Arc<Context>, stop: CancellationToken) {
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        // Clients that connect and send nothing must not keep others out.
        if connections.len() >= MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let context = context.clone();
        let connection = tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let context = context.clone();
                async move { Ok::<_, Infallible>(respond(request.uri().path(), &context).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).keep_alive(false).max_buf_size(MAX_HEAD_BYTES);
            http.header_read_timeout(REQUEST_TIMEOUT).auto_date_header(has_http_date());
            let served = http.serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, served).await;
        });
        connections.push_back(connection.abort_handle());
    }
}

async fn respond(path: &str, context: &Context) -> Response<Full<Bytes>> {
    match path {
        "/healthz" => {
            let mut problems = context.problems();
            problems.0.retain(HealthProblem::is_helped_by_restart);
            answer("alive", &problems)
        }
        "/readyz" => answer("ready", &context.problems()),
        "/metrics" => text(StatusCode::OK, metrics(status::query(context).await, context)),
        _ => text(StatusCode::NOT_FOUND, "/metrics, /healthz or /readyz\n".into()),
    }
}

/// The metrics; without those of the hub if it does not answer.
fn metrics(status: Option<HubStatus>, context: &Context) -> String {
    let mut out = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: u64| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    let ready = u64::from(context.problems().is_empty());
    put("chat_ready", "gauge", "1 while every part of the server makes progress.", ready);
    if let Some(status) = status {
        put("chat_sessions", "gauge", "Registered sessions.", status.sessions as u64);
        put("chat_rooms", "gauge", "Rooms with at least one member.", status.rooms as u64);
        put("chat_messages_total", "counter", "Messages stored.", status.messages);
        put("chat_deliveries_total", "counter", "Frames queued for sessions.", status.deliveries);
        put("chat_key_rotations_total", "counter", "Key rotations.", status.rotations);
    }
    put("chat_connections", "gauge", "Client connections.", context.admission.count() as u64);
    put(
        "chat_commits_total",
        "counter",
        "Commits of the room log.",
        context.counters.commits.snapshot().count,
    );
    let health = context.log_writer.health();
    put(
        "chat_append_failures_total",
        "counter",
        "Commits of the room log in which messages could not be stored.",
        health.failures(),
    );
    put(
        "chat_append_waiting_seconds",
        "gauge",
        "How long messages have waited without any commit.",
        health.waiting_for().as_secs(),
    );
    put("chat_history_rooms", "gauge", "Rooms that the history has.", context.reader.room_count());
    if let Some(usage) = context.disk.usage() {
        let DiskUsage { bytes, damaged_bytes, free_bytes, .. } = usage;
        put("chat_history_bytes", "gauge", "Bytes of the history on disk.", bytes);
        put(
            "chat_history_damaged_bytes",
            "gauge",
            "Bytes of .damaged-N files, which chat_history_bytes includes.",
            damaged_bytes,
        );
        put(
            "chat_disk_free_bytes",
            "gauge",
            "Free bytes of the file system of the history.",
            free_bytes,
        );
    }
    let counters = &context.counters;
    let opened = counters.sessions_opened.full.get() + counters.sessions_opened.basic.get();
    put("chat_sessions_opened_total", "counter", "Sessions that registered.", opened);
    put(
        "chat_auth_failures_total",
        "counter",
        "Registrations without a valid access token.",
        counters.auth_failures.get(),
    );
    put(
        "chat_accept_pauses_total",
        "counter",
        "Pauses because the system was out of descriptors or memory.",
        counters.accept_pauses.get(),
    );
    put(
        "chat_connections_accepted_total",
        "counter",
        "Connections that were accepted.",
        counters.connections_accepted.get(),
    );
    put("chat_access_tokens", "gauge", "Access tokens.", context.authenticator.list().len() as u64);
    put(
        "chat_uptime_seconds",
        "gauge",
        "Seconds since the server started.",
        context.started.elapsed().as_secs(),
    );
    if let Some(expiry) = context.active_config.load().certificate_expiry {
        let name = "chat_certificate_expiry_seconds";
        let seconds = (expiry.micros() - wall_clock().micros()) / 1_000_000;
        let _ =
            writeln!(out, "# HELP {name} Until the TLS certificate expires; negative afterwards.");
        let _ = writeln!(out, "# TYPE {name} gauge\n{name} {seconds}");
    }
    let name = "chat_refused_total";
    let _ = writeln!(out, "# HELP {name} Refused registrations, messages and other frames.");
    let _ = writeln!(out, "# TYPE {name} counter");
    for (code, count) in context.counters.refusals.counts() {
        let _ = writeln!(out, "{name}{{code=\"{code}\"}} {count}");
    }
    out
}

/// 200 and the word if there is no problem, otherwise 503 and the problems.
fn answer(word: &str, problems: &Problems) -> Response<Full<Bytes>> {
    match problems.is_empty() {
        true => text(StatusCode::OK, format!("{word}\n")),
        false => text(StatusCode::SERVICE_UNAVAILABLE, format!("{problems}\n")),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
