//! `ctl delete` and `ctl room delete`: messages that must be gone.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::config::Store;
use crate::protocol::{RoomName, SeqRange};
use crate::server::audit::Operator;
use crate::server::context::Context;
use crate::server::rooms::deletion::{DeleteDone, DeleteOutcome, DeleteRequest, Doomed};
use crate::store::{DeleteError, Deleted, older_copies};

/// Messages that one command may name. More would delay the messages of others for too long.
const MAX_MESSAGES: u64 = 1000;
/// How long the room log and the hub may take.
const DELETE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the answer waits until the bytes are gone from the files.
const ERASE_TIMEOUT: Duration = Duration::from_secs(8);

/// Deletes the texts of messages.
pub async fn delete_messages(
    context: &Context,
    by: Operator,
    room: &str,
    seqs: &[String],
) -> Result<Value, String> {
    let room = room_name(room)?;
    let ranges = seqs.iter().map(|text| {
        text.parse::<SeqRange>().map_err(|error| format!("{text:?} names no message: {error}"))
    });
    let ranges: Vec<SeqRange> = ranges.collect::<Result<_, _>>()?;
    let count = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.count()));
    match count {
        0 => return Err("no message is named".into()),
        1..=MAX_MESSAGES => {}
        _ => return Err(format!("one command deletes at most {MAX_MESSAGES} messages")),
    }
    let (done, erased) = request(context, by, &room, Doomed::Messages(ranges)).await?;
    let DeleteOutcome::Messages(deleted) = done.outcome else { return Err(UNEXPECTED.into()) };
    let Deleted { redactions, already, missing } = deleted;
    if redactions.is_empty() && already == 0 {
        let which = if count == 1 { "this message is" } else { "these messages are" };
        return Err(format!(
            "nothing was deleted: {which} no longer kept in {room}, or can't be read; \
             chat-server rekey writes the file anew, without what is left of them"
        ));
    }
    let mut answer = json!({
        "room": room.as_str(), "deleted": redactions.len(), "already_deleted": already,
        "not_kept": missing,
    });
    describe_files(context, &mut answer, erased).await;
    Ok(answer)
}

/// Deletes every message of a room.
pub async fn delete_room(context: &Context, by: Operator, room: &str) -> Result<Value, String> {
    let room = room_name(room)?;
    let (done, erased) = request(context, by, &room, Doomed::Room).await?;
    let DeleteOutcome::Room(deleted) = done.outcome else { return Err(UNEXPECTED.into()) };
    let mut answer = json!({
        "room": room.as_str(), "deleted": deleted.messages, "seq": deleted.last.0,
        "ended": done.ended,
    });
    describe_files(context, &mut answer, erased).await;
    Ok(answer)
}

const UNEXPECTED: &str = "the log writer answered another request; see the server log";

fn room_name(text: &str) -> Result<RoomName, String> {
    RoomName::parse(text).ok_or_else(|| format!("{text:?} is no room: {}", RoomName::RULE))
}

/// Lets the log writer delete, and waits until the members are told. Also returns what resolves once the
/// bytes are gone from the files.
async fn request(
    context: &Context,
    by: Operator,
    room: &RoomName,
    doomed: Doomed,
) -> Result<(DeleteDone, oneshot::Receiver<()>), String> {
    let (done, answered) = oneshot::channel();
    let (erased, is_erased) = oneshot::channel();
    context.log_writers.delete(DeleteRequest { room: room.clone(), doomed, by, done, erased });
    match tokio::time::timeout(DELETE_TIMEOUT, answered).await {
        Ok(Ok(Ok(done))) => Ok((done, is_erased)),
        Ok(Ok(Err(error))) => Err(refusal(room, &error)),
        Ok(Err(_)) => Err("nothing may be deleted yet: the server was interrupted; see its log, \
                           and run the command again"
            .into()),
        Err(_) => Err(format!(
            "nothing may be deleted yet: the room log or the hub has not answered for {} s \
             (is the disk stuck?); see the server log, and run the command again",
            DELETE_TIMEOUT.as_secs()
        )),
    }
}

fn refusal(room: &RoomName, error: &DeleteError) -> String {
    match error {
        DeleteError::UnknownRoom => format!("nothing was deleted: the history has no room {room}"),
        DeleteError::Commit(_) => format!("nothing was deleted: in {room}, {error}"),
        DeleteError::NotYet(newest) => {
            format!("nothing was deleted: the newest message of {room} has the seq {newest}")
        }
        DeleteError::Store(error) => format!("nothing was deleted: {error}"),
    }
}

/// Adds to the answer whether the bytes are gone from the files, and the older copies that still have them.
async fn describe_files(context: &Context, answer: &mut Value, erased: oneshot::Receiver<()>) {
    let is_erased =
        tokio::time::timeout(ERASE_TIMEOUT, erased).await.is_ok_and(|sent| sent.is_ok());
    answer["erased"] = is_erased.into();
    if !is_erased {
        answer["note"] = "no reader gets it any more, but its bytes, encrypted, are still in the files: \
            another program reads the history, or the file is large; the server log has erased when they \
            are gone"
            .into();
    }
    let history = &context.active_config.load().config.history;
    if history.store == Store::Disk {
        let folder = history.path.clone();
        let copies = tokio::task::spawn_blocking(move || older_copies(&folder)).await;
        let copies = copies.unwrap_or_default();
        if !copies.is_empty() {
            let copies: Vec<_> = copies.iter().map(|path| path.display().to_string()).collect();
            answer["not_erased_in"] = json!(copies);
        }
    }
}
