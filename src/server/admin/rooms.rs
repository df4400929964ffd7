//! `ctl rooms`: the rooms, the most active first.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::Serialize;

use crate::policy::recent_activity;
use crate::protocol::{RoomName, Seq, Timestamp, UserName};
use crate::server::context::Context;
use crate::server::rooms::status::RoomStatus;
use crate::store::{E2eFound, E2eQuery, PageRange, RoomLogReader, StoreError};
use crate::sys::clock::wall_clock;

/// How long the history may take to answer.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(5);

/// What `ctl rooms --json` prints.
#[derive(Debug, Serialize)]
pub struct Rooms {
    rooms: Vec<Room>,
    /// How many rooms there are, also those that are not listed.
    total: u64,
    /// `ok`, or why some fields are not known.
    history: String,
}

#[derive(Debug, Serialize)]
struct Room {
    room: RoomName,
    members: u64,
    /// Messages in the last 15 minutes.
    recent: u64,
    /// The newest message.
    seq: Seq,
    /// Messages in the history.
    kept: Option<u64>,
    last_message: Option<Timestamp>,
    last_message_seconds: Option<u64>,
    /// The age of the key; without members a room has none.
    key_seconds: Option<u64>,
}

impl Room {
    fn empty(room: RoomName) -> Self {
        Room {
            room,
            members: 0,
            recent: 0,
            seq: Seq(0),
            kept: None,
            last_message: None,
            last_message_seconds: None,
            key_seconds: None,
        }
    }
}

/// Lists at most `count` rooms: those with members, and the others too if `all`.
pub async fn rooms(
    context: &Context,
    with_members: Vec<RoomStatus>,
    all: bool,
    count: usize,
) -> Result<Rooms, String> {
    let busiest = context.counters.activity.busiest(recent_activity::MAX_SPAN).rooms;
    let recent: HashMap<RoomName, u64> =
        busiest.into_iter().map(|(room, counts)| (room, counts.messages)).collect();
    let mut rooms: Vec<Room> = with_members.into_iter().map(Room::from).collect();
    if all {
        let known: HashSet<RoomName> = rooms.iter().map(|room| room.room.clone()).collect();
        let stored = read_history(context, |reader| reader.rooms()).await?;
        let stored = stored.map_err(|error| error.to_string())?;
        let others = stored.into_iter().filter(|(name, _)| !known.contains(name));
        rooms.extend(others.map(|(name, head)| Room { seq: head.last, ..Room::empty(name) }));
    }
    for room in &mut rooms {
        room.recent = recent.get(&room.room).copied().unwrap_or(0);
    }
    let total = rooms.len() as u64;
    rooms.sort_by(|a, b| order(a).cmp(&order(b)));
    rooms.truncate(count);
    let names: Vec<(RoomName, bool)> =
        rooms.iter().map(|room| (room.room.clone(), room.last_message.is_none())).collect();
    let details = read_history(context, move |reader| details(reader, &names)).await;
    let history = match details {
        Ok(Ok(details)) => {
            for (room, (kept, last)) in rooms.iter_mut().zip(details) {
                room.kept = Some(kept);
                room.last_message = room.last_message.or(last);
            }
            "ok".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(reason) => reason,
    };
    let now = wall_clock();
    for room in &mut rooms {
        room.last_message_seconds = room.last_message.map(|last| now.since(last).as_secs());
    }
    rooms.sort_by(|a, b| order(a).cmp(&order(b)));
    Ok(Rooms { rooms, total, history })
}

impl From<RoomStatus> for Room {
    fn from(status: RoomStatus) -> Self {
        Room {
            members: status.members as u64,
            seq: status.seq,
            last_message: status.last_at,
            key_seconds: Some(status.key_seconds),
            ..Room::empty(status.room)
        }
    }
}

/// The most active first.
fn order(room: &Room) -> impl Ord {
    let Room { recent, last_message, members, room, .. } = room;
    (Reverse(*recent), Reverse(*last_message), Reverse(*members), room.clone())
}

/// Of each room the number of kept messages and, where it is wanted, the time of the newest.
fn details(
    reader: &dyn RoomLogReader,
    rooms: &[(RoomName, bool)],
) -> Result<Vec<(u64, Option<Timestamp>)>, StoreError> {
    let of_room = |(room, wants_time): &(RoomName, bool)| {
        let kept = reader.kept(room)?;
        if !wants_time || kept == 0 {
            return Ok((kept, None));
        }
        let newest = reader.page(room, PageRange::Newest, 1, 0)?;
        Ok((kept, newest.entries.last().map(|entry| entry.at)))
    };
    rooms.iter().map(of_room).collect()
}

/// Reads the history on a thread of the blocking pool. Only one such thread runs: a disk that does not
/// answer must not occupy one more with each question.
async fn read_history<T: Send + 'static>(
    context: &Context,
    read: impl FnOnce(&dyn RoomLogReader) -> T + Send + 'static,
) -> Result<T, String> {
    let reader = context.reader.clone();
    let only_one = context.history_question.clone();
    let answered = async move {
        let permit = only_one.lock_owned().await;
        let reading = tokio::task::spawn_blocking(move || {
            let answer = read(reader.as_ref());
            drop(permit);
            answer
        });
        reading
            .await
            .map_err(|_| "reading the history was interrupted; see the server log".to_owned())
    };
    tokio::time::timeout(HISTORY_TIMEOUT, answered).await.unwrap_or_else(|_| {
        Err(format!("the history did not answer within {} s", HISTORY_TIMEOUT.as_secs()))
    })
}

/// The end-to-end rooms in which devices of a user were seen.
#[derive(Serialize)]
pub struct EndToEndRooms {
    rooms: Vec<RoomName>,
}

/// Finds the end-to-end rooms in which devices of a user were seen; none if the store has no such rooms.
pub async fn end_to_end_rooms(context: &Context, user: &str) -> Result<EndToEndRooms, String> {
    let user = UserName::clean(user);
    let found = read_history(context, move |reader| reader.e2e(E2eQuery::Rooms(user))).await?;
    match found {
        Ok(E2eFound::Rooms(rooms)) => Ok(EndToEndRooms { rooms }),
        _ => Ok(EndToEndRooms { rooms: Vec::new() }),
    }
}
