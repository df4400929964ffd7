//! The admin thread: the admin socket, the metrics listener and the health watch.
//!
//! It has a runtime of its own, so it answers operators and probes also while the event loop of the
//! connections is blocked.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{self, Handle};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::request::MainRequest;
use super::socket::AdminSocket;
use super::{health_watch, metrics};
use crate::server::context::Context;
use crate::server::error::ServerError;
use crate::sys::thread::{self, Ended};

/// How long blocked file operations may delay the end of the thread.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Starts the thread, which ends after `stop`. Must be called on the event loop of the connections.
pub fn start(
    context: Arc<Context>,
    socket: Option<AdminSocket>,
    metrics: Option<TcpListener>,
    main: mpsc::Sender<MainRequest>,
    stop: CancellationToken,
) -> Result<Ended, ServerError> {
    let event_loop = Handle::current();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    // The listener was bound on the event loop of the connections, and must be served on this runtime.
    let metrics = {
        let listener = metrics.map(TcpListener::into_std).transpose()?;
        let _entered = runtime.enter();
        listener.map(TcpListener::from_std).transpose()?
    };
    let ended = thread::spawn("admin", move || {
        runtime.block_on(async {
            let socket = async {
                if let Some(socket) = socket
                    && let Err(error) = socket.serve(context.clone(), main, stop.clone()).await
                {
                    tracing::warn!(event = "admin_unavailable", reason = %error,
                        "the admin socket can't be served, so chat-server ctl does not work");
                }
            };
            let metrics = async {
                if let Some(listener) = metrics {
                    metrics::serve(listener, context.clone(), stop.clone()).await;
                }
            };
            let watch = health_watch::run(context.clone(), event_loop, stop.clone());
            tokio::join!(socket, metrics, watch);
        });
        drop(context);
        runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    })?;
    Ok(ended)
}
