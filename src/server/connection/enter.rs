//! Entering rooms: what a session says to the hub, and what it reads for it first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::conversation::server::registration::JoinRequest;
use crate::server::context::Context;
use crate::server::rooms::command::{
    Command, EnterAnswer, EnterError, Membership, NotEntered, RoomEntry,
};
use crate::server::rooms::peer::Peer;

/// How long a session waits for the hub's answer before it gives up.
pub(super) const HUB_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the session may enter the room for direct messages that it asks for: the names of its user and of the other
/// one give the name of the room. Without access tokens names prove nothing, so that is not checked; and a client that
/// can't enter any end-to-end room is told that by the hub.
pub(super) fn may_enter(peer: &Peer, request: &JoinRequest) -> bool {
    let is_checked = peer.verified() && peer.device.is_some();
    !is_checked || request.admits(&peer.user)
}

/// Registers a session with the hub, which adds it to its first rooms.
pub(super) async fn enter(
    context: &Context,
    peer: &Arc<Peer>,
    rooms: Vec<RoomEntry>,
) -> Result<Vec<Membership>, EnterError> {
    ask(context, rooms, |rooms, answer| Command::Enter(peer.clone(), rooms, answer)).await
}

/// Adds a registered session to one more room.
pub(super) async fn join(
    context: &Context,
    peer: &Arc<Peer>,
    room: RoomEntry,
) -> Result<Membership, EnterError> {
    let joined = ask(context, vec![room], |mut rooms, answer| {
        Command::Join(peer.clone(), rooms.remove(0), answer)
    });
    joined.await
}

/// Asks the hub, and again with what it lacked. If that takes too long, the session can't enter.
async fn ask<T>(
    context: &Context,
    mut rooms: Vec<RoomEntry>,
    command: impl Fn(Vec<RoomEntry>, oneshot::Sender<EnterAnswer<T>>) -> Command,
) -> Result<T, EnterError> {
    let asking = async {
        loop {
            let (answer, answered) = oneshot::channel();
            let sent = context.hub.send(command(rooms.clone(), answer));
            sent.map_err(|_| EnterError::Unreadable)?;
            match answered.await {
                Ok(Ok(entered)) => return Ok(entered),
                Ok(Err(NotEntered::Refused(error))) => return Err(error),
                // The hub has ended, or it has evicted the session.
                Err(_) => return Err(EnterError::Unreadable),
                Ok(Err(NotEntered::Unread(openings))) => {
                    for (room, opening) in openings {
                        if !opening.read(&context.reader).await {
                            return Err(EnterError::Unreadable);
                        }
                        let entry = rooms.iter_mut().find(|entry| entry.room == room);
                        if let Some(entry) = entry {
                            entry.opening = Some(opening);
                        }
                    }
                }
            }
        }
    };
    tokio::time::timeout(HUB_TIMEOUT, asking).await.unwrap_or(Err(EnterError::Unreadable))
}
