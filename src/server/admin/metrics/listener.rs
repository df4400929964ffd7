//! The listener: connections, paths and answers.

use std::collections::VecDeque;
use std::convert::Infallible;
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

use super::collect::collect;
use super::negotiation::Format;
use super::text;
use crate::config::Config;
use crate::server::context::Context;
use crate::server::error::ServerError;
use crate::server::rooms::health::{HealthProblem, Problems};
use crate::sys::clock::has_http_date;

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
                async move { Ok::<_, Infallible>(respond(&request, &context)) }
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

fn respond(request: &Request<Incoming>, context: &Context) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/healthz" => {
            let mut problems = context.problems();
            problems.0.retain(HealthProblem::is_helped_by_restart);
            answer("alive", &problems)
        }
        "/readyz" => answer("ready", &context.problems()),
        "/metrics" => {
            let format = accepted_format(request);
            let mut response = plain(StatusCode::OK, text::write(&collect(context), format));
            let content_type = HeaderValue::from_static(format.content_type());
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "/metrics, /healthz or /readyz\n".into()),
    }
}

fn accepted_format(request: &Request<Incoming>) -> Format {
    let accept = request.headers().get_all(header::ACCEPT).iter();
    let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
    Format::accepted_by(&accept.join(","))
}

/// 200 and the word if there is no problem, otherwise 503 and the problems.
fn answer(word: &str, problems: &Problems) -> Response<Full<Bytes>> {
    match problems.is_empty() {
        true => plain(StatusCode::OK, format!("{word}\n")),
        false => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{problems}\n")),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
