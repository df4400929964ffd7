//! `GET /rooms`: the rooms that a caller may enter.

use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde::Serialize;

use super::answer::{Body, HttpError, json};
use super::caller::Caller;
use super::read::{blocking, unreadable};
use crate::policy::access::GrantedRooms;
use crate::policy::rights::Action;
use crate::protocol::{Epoch, RoomName, Seq};
use crate::server::context::Context;
use crate::store::StoreError;

#[derive(Serialize)]
struct Rooms {
    rooms: Vec<Room>,
}

/// A room, and the position of its newest message.
#[derive(Serialize)]
struct Room {
    room: RoomName,
    epoch: Epoch,
    seq: Seq,
}

/// Lists the rooms of the access token; if it covers all, and in open mode, those with messages.
pub(super) async fn answer(
    context: &Arc<Context>,
    caller: &Caller,
) -> Result<Response<Body>, HttpError> {
    let named = caller.grant.as_ref().and_then(|grant| match &grant.rooms {
        GrantedRooms::All => None,
        GrantedRooms::Named(rooms) => {
            let rooms = rooms.iter().filter(|room| grant.allows(Action::Join, room));
            Some(rooms.cloned().collect::<Vec<RoomName>>())
        }
    });
    let reader = context.reader.clone();
    let rooms = blocking(move || -> Result<Vec<Room>, StoreError> {
        let rooms = match named {
            None => reader.rooms()?,
            Some(rooms) => {
                let with_head = |room| reader.head(&room).map(|head| (room, head));
                rooms.into_iter().map(with_head).collect::<Result<_, _>>()?
            }
        };
        Ok(rooms
            .into_iter()
            .filter(|(room, _)| !room.is_end_to_end())
            .map(|(room, head)| Room { room, epoch: head.epoch, seq: head.last })
            .collect())
    });
    let rooms = rooms.await.map_err(|_| unreadable())?;
    Ok(json(StatusCode::OK, &Rooms { rooms }))
}
