//! The admin socket: a Unix socket (unix(7)) for `chat-server ctl` and `chat-server token`.
//!
//! A client sends one [`AdminRequest`] as a line of JSON and gets one line of JSON:
//! `{"ok":true,…}`, or `{"ok":false,"error":"…"}`. Only after the first line for `tail` more lines
//! follow (see `tail`). The socket has mode 0660, and everyone who can
//! open it is an operator; there is no other authentication.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::everywhere::execute_everywhere;
use super::request::{AdminRequest, MainRequest, asks_all_nodes};
use super::tail;
use crate::config::Config;
use crate::server::audit::Operator;
use crate::server::context::Context;
use crate::server::error::ServerError;
use crate::server::rooms::membership::SERVER;
use crate::sys::logging::LogWatch;

/// Longest request line.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;
/// How long one request and its answer may take: longer than a wait for the lock of the access file and
/// one for the hub together, and shorter than `chat-server ctl` waits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(18);
/// Requests at the same time; later ones wait.
const MAX_REQUESTS: usize = 16;
/// Pause after a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the running requests may take when the server stops.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// A bound admin socket. Dropping it removes the socket's file, unless another server has put its own
/// there.
pub struct AdminSocket {
    /// Registered with a runtime only in [`AdminSocket::serve`].
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if file_at(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of the file with this name.
fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl AdminSocket {
    /// Binds `admin.socket`. A failure is an error only if the configuration names the socket; the
    /// default socket is optional.
    pub fn bind(config: &Config) -> Result<Option<Self>, ServerError> {
        let Some(path) = &config.admin.socket else { return Ok(None) };
        match Self::bind_path(path) {
            Ok(socket) => Ok(Some(socket)),
            Err(source) if config.raw.admin.socket.is_empty() => {
                tracing::warn!(event = "admin_unavailable", path = %path.display(), reason = %source,
                    "can't bind the admin socket, so chat-server ctl does not work; \
                     set another admin.socket");
                Ok(None)
            }
            Err(source) => {
                Err(ServerError::AdminBind { address: path.display().to_string(), source })
            }
        }
    }

    /// Replaces the file of a server that was killed, but not that of a running server.
    fn bind_path(path: &Path) -> io::Result<Self> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let text = "another server uses this socket";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        // Bound under a temporary name and renamed after chmod: others can never open it.
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let _ = std::fs::remove_file(&part);
        let listener = std::os::unix::net::UnixListener::bind(&part)?;
        let renamed = (|| {
            listener.set_nonblocking(true)?;
            std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o660))?;
            let file = file_at(&part)?;
            std::fs::rename(&part, path)?;
            Ok(file)
        })();
        match renamed {
            Ok(file) => Ok(AdminSocket { listener, path: path.into(), file }),
            Err(error) => {
                let _ = std::fs::remove_file(&part);
                Err(error)
            }
        }
    }

    /// Answers requests until `stop`. Reload and drain are passed on to the main task by `main`.
    pub async fn serve(
        self,
        context: Arc<Context>,
        main: mpsc::Sender<MainRequest>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let permits = Arc::new(Semaphore::new(MAX_REQUESTS));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = permits.clone().acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            let (context, main) = (context.clone(), main.clone());
            tokio::spawn(async move {
                let answered = answer(stream, &context, &main);
                let _ = tokio::time::timeout(REQUEST_TIMEOUT, answered).await;
                // `tail` goes on without it: it has places of its own.
                drop(permit);
            });
        }
        let all_answered = permits.acquire_many(MAX_REQUESTS as u32);
        let _ = tokio::time::timeout(FINISH_TIMEOUT, all_answered).await;
        Ok(())
    }
}

/// Whether the client has closed its socket, because it gave up while the server did not run or was
/// busy. A client that only has nothing more to send is not meant.
fn is_closed(stream: &UnixStream) -> bool {
    // Sends nothing, and fails with EPIPE if the other end is closed (send(2)).
    stream.try_write(&[]).is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Hands the connection over to the thread of a watcher.
fn serve_tail(stream: UnixStream, watch: LogWatch) {
    if let Err(error) = stream.into_std().and_then(|stream| tail::serve(stream, watch)) {
        tracing::warn!(event = "tail_failed", reason = %error, "ctl tail could not be served");
    }
}

async fn answer(mut stream: UnixStream, context: &Context, main: &mpsc::Sender<MainRequest>) {
    let Ok(peer) = stream.peer_cred() else { return };
    let by = Operator::Socket { uid: peer.uid(), pid: peer.pid() };
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let read = BufReader::new(reader.take(MAX_REQUEST_BYTES)).read_line(&mut line).await;
    if read.is_err() || line.is_empty() {
        return;
    }
    if is_closed(writer.as_ref()) {
        tracing::warn!(
            event = "request_abandoned",
            by = %by,
            "a request was not carried out: the command that sent it did not wait for the answer"
        );
        return;
    }
    let answer = match AdminRequest::read(&line, SERVER) {
        Err(answer) => answer,
        Ok(AdminRequest::Tail(filter)) if !asks_all_nodes(&line) => {
            match tail::watch(&context.log, &filter) {
                Ok(watch) => return serve_tail(stream, watch),
                Err(reason) => json!({"ok": false, "error": reason}),
            }
        }
        Ok(request) => {
            match execute_everywhere(request, asks_all_nodes(&line), by, context, main).await {
                Ok(Value::Object(mut object)) => {
                    object.insert("ok".into(), true.into());
                    Value::Object(object)
                }
                Ok(other) => json!({"ok": true, "answer": other}),
                Err(reason) => json!({"ok": false, "error": reason}),
            }
        }
    };
    let mut text = answer.to_string();
    text.push('\n');
    let _ = writer.write_all(text.as_bytes()).await;
}
