//! `/metrics` (the text format of Prometheus), `/healthz` and `/readyz`, on a listener of their own.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
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
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::server::context::Context;
use crate::server::run;

/// How long one connection may take in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time.
const AT_ONCE: usize = 16;

/// Binds the listener.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until `stop`.
pub async fn serve(listener: TcpListener, context: Arc<Context>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let context = context.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let context = context.clone();
                async move { Ok::<_, Infallible>(answer(request.uri().path(), &context).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).keep_alive(false).max_buf_size(16 * 1024);
            let served = http.serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(PATIENCE, served).await;
            drop(place);
        });
    }
}

async fn answer(path: &str, context: &Context) -> Response<Full<Bytes>> {
    match path {
        "/healthz" => text(StatusCode::OK, "alive\n".into()),
        "/readyz" => match run::standing(context).await {
            Some(_) => text(StatusCode::OK, "ready\n".into()),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "the hub does not answer\n".into()),
        },
        "/metrics" => match run::standing(context).await {
            Some(standing) => text(StatusCode::OK, page(&standing, context)),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "the hub does not answer\n".into()),
        },
        _ => text(StatusCode::NOT_FOUND, "/metrics, /healthz or /readyz\n".into()),
    }
}

fn page(standing: &crate::server::rooms::status::HubStatus, context: &Context) -> String {
    let mut out = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: u64| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    put("chat_sessions", "gauge", "Registered sessions.", standing.sessions as u64);
    put("chat_rooms", "gauge", "Rooms with somebody in them.", standing.rooms as u64);
    put("chat_connections", "gauge", "Connections.", context.admission.count() as u64);
    put("chat_messages_total", "counter", "Messages stored.", standing.messages);
    put("chat_commits_total", "counter", "Commits of the room log.", context.log_writer.commits());
    put("chat_deliveries_total", "counter", "Frames handed to readers.", standing.deliveries);
    put("chat_key_rotations_total", "counter", "Key rotations.", standing.rotations);
    put("chat_access_tokens", "gauge", "Access tokens.", context.authenticator.list().len() as u64);
    put("chat_uptime_seconds", "gauge", "Since the start.", context.started.elapsed().as_secs());
    out
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
