//! The admin socket: a Unix socket (unix(7)) on which `chat-server ctl` asks. One JSON object in a
//! line each way. Who may open the socket (mode 0660) is an operator; nothing else is asked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::credentials::access_file::AccessFile;
use crate::policy::access::is_confusable;
use crate::protocol::UserName;
use crate::server::authenticator;
use crate::server::context::Context;
use crate::server::rooms::command::Command;
use crate::server::rooms::membership::SERVER;
use crate::server::run;

/// Longest question.
const MOST_BYTES: u64 = 64 * 1024;
/// How long one question and its answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Questions at a time.
const AT_ONCE: usize = 16;

/// What is said where the hub does not answer.
const BUSY: &str = "the server does not answer; see its log";

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum AdminRequest {
    /// How do things stand?
    Status,
    /// Which rooms are there?
    Rooms,
    /// Who is there?
    Sessions,
    /// New keys for every room, now.
    Rotate,
    /// Read the configuration again.
    Reload,
    /// Read the access file again.
    Access,
    /// End a user's sessions.
    Kick {
        /// Whose.
        user: String,
    },
    /// The same, and let the name in no more.
    Ban {
        /// Which.
        user: String,
    },
    /// Let it in again.
    Unban {
        /// Which.
        user: String,
    },
    /// Finish and end, as SIGTERM does.
    Drain,
}

/// What only the main task can do.
pub enum MainRequest {
    /// Reload, and say what came of it.
    Reload(oneshot::Sender<Result<(), String>>),
    /// Drain.
    Drain,
}

/// The socket's file; gone when this is dropped.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl AdminSocket {
    /// Binds it. What a server that was killed left behind is taken over; a living one is not.
    pub fn bind(path: &Path) -> std::io::Result<Self> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let text = "another server answers there";
            return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, text));
        }
        // Under a name of its own until nobody but its owner and group can open it.
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let _ = std::fs::remove_file(&part);
        let listener = UnixListener::bind(&part)?;
        let named = std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o660))
            .and_then(|()| std::fs::rename(&part, path));
        if let Err(error) = named {
            let _ = std::fs::remove_file(&part);
            return Err(error);
        }
        Ok(AdminSocket { listener, path: path.into() })
    }

    /// Answers until `stop`.
    pub async fn serve(
        self,
        context: Arc<Context>,
        main: mpsc::Sender<MainRequest>,
        stop: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (context, main) = (context.clone(), main.clone());
            tokio::spawn(async move {
                let _ = tokio::time::timeout(PATIENCE, answer(stream, &context, &main)).await;
                drop(place);
            });
        }
    }
}

async fn answer(mut stream: UnixStream, context: &Context, main: &mpsc::Sender<MainRequest>) {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    let read = BufReader::new(reading.take(MOST_BYTES)).read_line(&mut line).await;
    if read.is_err() || line.is_empty() {
        return;
    }
    let outcome = match serde_json::from_str::<AdminRequest>(&line) {
        Ok(wish) => obey(wish, context, main).await,
        Err(error) => Err(format!("that is no question: {error}")),
    };
    let mut text = match outcome {
        Ok(Value::Object(mut object)) => {
            object.insert("ok".into(), true.into());
            Value::Object(object).to_string()
        }
        Ok(other) => json!({"ok": true, "answer": other}).to_string(),
        Err(reason) => json!({"ok": false, "error": reason}).to_string(),
    };
    text.push('\n');
    let _ = writing.write_all(text.as_bytes()).await;
}

async fn obey(
    wish: AdminRequest,
    context: &Context,
    main: &mpsc::Sender<MainRequest>,
) -> Result<Value, String> {
    let hub = |command| context.hub.send(command).map_err(|_| BUSY.to_owned());
    match wish {
        AdminRequest::Status => {
            let standing = run::standing(context).await.ok_or(BUSY)?;
            let live = context.live.load();
            Ok(json!({
                "server": SERVER, "pid": std::process::id(),
                "mode": live.config.raw.auth.mode, "store": live.config.raw.history.store,
                "durable": context.durable, "sessions": standing.sessions, "rooms": standing.rooms,
                "connections": context.admission.count(), "connections_limit": live.connections,
                "messages": standing.messages, "deliveries": standing.deliveries,
                "rotations": standing.rotations, "seconds": context.started.elapsed().as_secs(),
                "tokens": context.authenticator.list().len(),
            }))
        }
        AdminRequest::Rooms => {
            let (ask, told) = oneshot::channel();
            hub(Command::Rooms(ask))?;
            Ok(json!({"rooms": told.await.map_err(|_| BUSY)?}))
        }
        AdminRequest::Sessions => {
            let (ask, told) = oneshot::channel();
            hub(Command::Sessions(ask))?;
            Ok(json!({"sessions": told.await.map_err(|_| BUSY)?}))
        }
        AdminRequest::Rotate => hub(Command::Rotate("operator")).map(|()| json!({})),
        AdminRequest::Reload => {
            let (ask, told) = oneshot::channel();
            main.send(MainRequest::Reload(ask)).await.map_err(|_| BUSY)?;
            told.await.map_err(|_| BUSY)?.map(|()| json!({}))
        }
        AdminRequest::Access => {
            let ended = authenticator::renew(context).await.ok_or(authenticator::NOT_UPHELD)?;
            Ok(json!({"ended": ended}))
        }
        AdminRequest::Kick { user } => Ok(json!({"ended": kick(context, &user).await?})),
        AdminRequest::Ban { user } => {
            let name = UserName::clean(&user);
            let wanted = name.clone();
            change_bans(context, move |banned| {
                banned.retain(|known| !is_confusable(&UserName::clean(known), &wanted));
                banned.push(wanted.as_str().to_owned());
            })
            .await?;
            let ended = authenticator::renew(context).await;
            let ended =
                ended.ok_or_else(|| format!("{name} is banned, but {}", authenticator::NOT_UPHELD));
            Ok(json!({"ended": ended?}))
        }
        AdminRequest::Unban { user } => {
            let name = UserName::clean(&user);
            let wanted = name.clone();
            let freed = change_bans(context, move |banned| {
                let before = banned.len();
                banned.retain(|known| !is_confusable(&UserName::clean(known), &wanted));
                before - banned.len()
            })
            .await?;
            if freed == 0 {
                return Err(format!("nobody of the name {name} is banned"));
            }
            authenticator::renew(context)
                .await
                .ok_or_else(|| format!("{name} is free, but {BUSY}"))?;
            Ok(json!({}))
        }
        AdminRequest::Drain => {
            main.send(MainRequest::Drain).await.map_err(|_| BUSY)?;
            Ok(json!({}))
        }
    }
}

async fn kick(context: &Context, user: &str) -> Result<usize, String> {
    let (ask, told) = oneshot::channel();
    context.hub.send(Command::Kick(UserName::clean(user), ask)).map_err(|_| BUSY)?;
    told.await.map_err(|_| BUSY.to_owned())
}

async fn change_bans<T: Send + 'static>(
    context: &Context,
    change: impl FnOnce(&mut Vec<String>) -> T + Send + 'static,
) -> Result<T, String> {
    let file = context.live.load().config.auth.access_file.clone();
    let changed = tokio::task::spawn_blocking(move || {
        AccessFile::change(&file, |file| change(&mut file.banned))
    });
    match changed.await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("changing the access file broke off".into()),
    }
}
