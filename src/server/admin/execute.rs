//! Carries out the requests of the admin socket.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::delete;
use super::request::{AdminRequest, MainRequest};
use super::status::{self, NO_ANSWER};
use crate::credentials::access_file::{AccessFile, AccessFileError, banned_user};
use crate::policy::confusable_names::is_confusable;
use crate::protocol::UserName;
use crate::server::access_watch;
use crate::server::audit::{self, Operator};
use crate::server::context::Context;
use crate::server::rooms::command::Command;
use crate::server::rooms::membership::SERVER;

/// How long the hub may take to carry out a request. It does so also later.
const HUB_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries out `request`, and logs an audit line if it changes something. Returns the fields of the
/// answer, or the error text for the operator.
pub async fn execute(
    request: AdminRequest,
    by: Operator,
    context: &Context,
    main: &mpsc::Sender<MainRequest>,
) -> Result<Value, String> {
    match request {
        AdminRequest::Status => report_status(context).await,
        AdminRequest::Rooms => Ok(json!({"rooms": ask_hub(context, Command::Rooms).await?})),
        AdminRequest::Sessions => {
            Ok(json!({"sessions": ask_hub(context, Command::Sessions).await?}))
        }
        AdminRequest::Rotate => {
            audit::log_act("rotate", by);
            let rotated = ask_hub(context, |answer| Command::Rotate("operator", answer)).await;
            rotated.map_err(|error| format!("the keys are not replaced yet: {error}"))?;
            Ok(json!({}))
        }
        AdminRequest::Reload => {
            let (answer, answered) = oneshot::channel();
            audit::log_act("reload", by);
            main.send(MainRequest::Reload(by, answer)).await.map_err(|_| NO_ANSWER)?;
            let keys = answered.await.map_err(|_| NO_ANSWER)??;
            Ok(json!({"changed": keys.changed, "restart_needed": keys.restart_needed}))
        }
        AdminRequest::Access => {
            let ended =
                access_watch::reread(context, by).await.ok_or(access_watch::NOT_ENFORCED)?;
            Ok(json!({"ended": ended}))
        }
        AdminRequest::Kick { user } => {
            let user = user_name(&user)?;
            audit::log_user_act("kick", &user, by);
            let kicked = ask_hub(context, |answer| Command::Kick(user.clone(), answer)).await;
            let ended = kicked
                .map_err(|error| format!("the sessions of {user} are still open: {error}"))?;
            Ok(json!({"ended": ended}))
        }
        AdminRequest::Ban { user } => ban(context, by, user_name(&user)?).await,
        AdminRequest::Unban { user } => unban(context, by, user_name(&user)?).await,
        AdminRequest::Bans => list_bans(context).await,
        AdminRequest::Delete { room, seqs } => {
            delete::delete_messages(context, by, &room, &seqs).await
        }
        AdminRequest::RoomDelete { room } => delete::delete_room(context, by, &room).await,
        AdminRequest::NoteBackup => {
            audit::log_act("backup", by);
            Ok(json!({}))
        }
        AdminRequest::Drain => {
            audit::log_act("drain", by);
            main.send(MainRequest::Drain).await.map_err(|_| NO_ANSWER)?;
            Ok(json!({}))
        }
    }
}

async fn report_status(context: &Context) -> Result<Value, String> {
    // If a part of the server is known to hang, the hub gets less time to answer.
    let status = match context.problems().is_empty() {
        true => status::query_for_operator(context).await,
        false => status::query(context).await,
    };
    let problems = context.problems();
    let status = status.ok_or_else(|| match problems.is_empty() {
        true => NO_ANSWER.to_owned(),
        false => format!("{NO_ANSWER}: {problems}"),
    })?;
    let active = context.active_config.load();
    let usage = context.disk.usage();
    let health = context.log_writer.health();
    let log_writer = health.problem().map_or("ok".to_owned(), |problem| problem.to_string());
    let reload = context.reload_state.error().map(|error| format!("failed: {error}"));
    let mut answer = json!({
        "server": SERVER, "pid": std::process::id(),
        "mode": active.config.raw.auth.mode, "store": active.config.raw.history.store,
        "durable": context.durable, "sessions": status.sessions, "rooms": status.rooms,
        "connections": context.admission.count(), "connections_limit": active.max_connections,
        "messages": status.messages, "deliveries": status.deliveries,
        "rotations": status.rotations, "seconds": context.started.elapsed().as_secs(),
        "append_failures": health.failures(), "log_writer": log_writer,
        "tokens": context.authenticator.list().len(),
        "history_rooms": context.reader.room_count(),
        "history_bytes": usage.map(|usage| usage.bytes),
        "damaged_bytes": usage.map(|usage| usage.damaged_bytes),
        "disk_free_bytes": usage.map(|usage| usage.free_bytes),
        "health": if problems.is_empty() { "ok".to_owned() } else { problems.to_string() },
        "reload": reload.as_deref().unwrap_or("ok"),
    });
    let restart_needed = context.reload_state.restart_needed();
    if !restart_needed.is_empty() {
        answer["restart_needed"] = json!(restart_needed);
    }
    Ok(answer)
}

async fn ban(context: &Context, by: Operator, user: UserName) -> Result<Value, String> {
    let banned_user = user.clone();
    let change = move |banned: &mut Vec<String>| {
        banned.retain(|known| !bans(known, &banned_user));
        banned.push(banned_user.as_str().to_owned());
        true
    };
    change_bans(context, change, "ban", &user, by).await?;
    match access_watch::reread(context, by).await {
        Some(ended) => Ok(json!({"ended": ended})),
        None => Err(format!("{user} is banned, but {}", access_watch::NOT_ENFORCED)),
    }
}

async fn unban(context: &Context, by: Operator, user: UserName) -> Result<Value, String> {
    let unbanned_user = user.clone();
    let change = move |banned: &mut Vec<String>| {
        let before = banned.len();
        banned.retain(|known| !bans(known, &unbanned_user));
        banned.len() < before
    };
    if !change_bans(context, change, "unban", &user, by).await? {
        return Err(format!("no user named {user} is banned"));
    }
    match access_watch::reread(context, by).await {
        Some(_) => Ok(json!({})),
        None => Err(format!("the ban of {user} is lifted, but {NO_ANSWER}")),
    }
}

/// The name as an operator typed it. A name that cleaning would change is refused, because the
/// request would be carried out for another user.
fn user_name(text: &str) -> Result<UserName, String> {
    UserName::parse(text).map_err(|error| error.to_string())
}

async fn ask_hub<T>(
    context: &Context,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, String> {
    let (answer, answered) = oneshot::channel();
    context.hub.send(command(answer)).map_err(|_| NO_ANSWER)?;
    let answered = tokio::time::timeout(HUB_ANSWER_TIMEOUT, answered).await;
    answered.ok().and_then(Result::ok).ok_or_else(|| NO_ANSWER.to_owned())
}

/// The banned users by the access file, so that also a ban that is not in force yet is listed.
async fn list_bans(context: &Context) -> Result<Value, String> {
    let file = context.active_config.load().config.auth.access_file.clone();
    let read = tokio::task::spawn_blocking(move || AccessFile::read(&file));
    match read.await {
        Ok(Ok(file)) => {
            let banned = file.unwrap_or_default().banned;
            let rows: Vec<Value> = banned.iter().map(|user| json!({"user": user})).collect();
            Ok(json!({"bans": rows}))
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("reading the access file was interrupted; see the server log".into()),
    }
}

/// Whether the entry of the access file bans this user.
fn bans(entry: &str, user: &UserName) -> bool {
    banned_user(entry).is_some_and(|banned| is_confusable(&banned, user))
}

/// Carries out `change`, which tells whether it changed something; then there is an audit line, even
/// if no caller waits any more.
async fn change_bans(
    context: &Context,
    change: impl FnOnce(&mut Vec<String>) -> bool + Send + 'static,
    action: &'static str,
    user: &UserName,
    by: Operator,
) -> Result<bool, String> {
    let user = user.clone();
    let file = context.active_config.load().config.auth.access_file.clone();
    let changed = tokio::task::spawn_blocking(move || {
        let changed = AccessFile::change(&file, |file| change(&mut file.banned))?;
        if changed {
            audit::log_user_act(action, &user, by);
        }
        Ok::<_, AccessFileError>(changed)
    });
    match changed.await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the change of the access file was interrupted; see the server log".into()),
    }
}
