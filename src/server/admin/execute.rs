//! Carries out the requests of the admin socket.

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::ask::ask_hub;
use super::delete;
use super::listening;
use super::request::{AdminRequest, MainRequest};
use super::status::{self, NO_ANSWER};
use super::{bans, sessions};
use crate::server::access_watch;
use crate::server::audit::{self, Operator};
use crate::server::context::Context;
use crate::server::rooms::command::Command;
use crate::server::rooms::membership::SERVER;
use crate::sys::clock::wall_clock;

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
        AdminRequest::Sessions(filter) => sessions::list(context, &filter).await,
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
        AdminRequest::Kick(target) => sessions::kick(context, by, &target).await,
        AdminRequest::Ban(request) => bans::ban(context, by, request).await,
        AdminRequest::Unban(target) => bans::unban(context, by, target).await,
        AdminRequest::Mute(request) => bans::mute(context, by, request).await,
        AdminRequest::Unmute { user, room } => bans::unmute(context, by, user, room).await,
        AdminRequest::Bans => bans::list(context).await,
        AdminRequest::Listening => Ok(listening::report(context)),
        AdminRequest::Delete { room, seqs } => {
            delete::delete_messages(context, by, &room, &seqs).await
        }
        AdminRequest::RoomDelete { room } => delete::delete_room(context, by, &room).await,
        AdminRequest::NoteBackup => {
            audit::log_act("backup", by);
            context.counters.backed_up_at.set(wall_clock());
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
