//! Carries out the requests of the admin socket.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::ask::ask_hub;
use super::delete;
use super::listening;
use super::log_level;
use super::request::{AdminRequest, MainRequest};
use super::status::NO_ANSWER;
use super::{bans, rooms, sessions, status_collect, top};
use crate::server::access_watch;
use crate::server::audit::{self, Operator};
use crate::server::context::Context;
use crate::server::rooms::command::Command;
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
        AdminRequest::Status => {
            let mut answer = to_answer(&status_collect::report(context).await)?;
            if let (Value::Object(answer), Value::Object(level)) =
                (&mut answer, log_level::describe(context))
            {
                answer.extend(level);
            }
            Ok(answer)
        }
        AdminRequest::Top { seconds, count } => {
            to_answer(&top::top(context, Duration::from_secs(seconds), count))
        }
        AdminRequest::Rooms { all, count } => {
            let with_members = ask_hub(context, Command::Rooms).await?;
            to_answer(&rooms::rooms(context, with_members, all, count).await?)
        }
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
        AdminRequest::EndToEndRooms { user } => {
            to_answer(&rooms::end_to_end_rooms(context, &user).await?)
        }
        AdminRequest::Listening => Ok(listening::report(context)),
        AdminRequest::LogLevel { level, seconds } => {
            log_level::report_or_change(context, level.as_deref(), seconds, by)
        }
        // The admin socket answers it, because the answer goes on.
        AdminRequest::Tail(_) => Err("tail is answered line by line".into()),
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

fn to_answer(report: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(report).map_err(|error| error.to_string())
}
