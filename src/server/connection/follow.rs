//! A session of an HTTP request that follows a room: it enters the room, gets what the request asks for
//! from the room log, and then every message as it comes. It only reads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::enter;
use super::session::{Registered, Session};
use super::unregistered::Unregistered;
use crate::net::admission::ConnectionPermit;
use crate::net::send_queue::{CloseReason, SendQueue};
use crate::net::stream_connection::StreamConnection;
use crate::protocol::CloseCode;
use crate::server::context::Context;
use crate::server::http::follow_request::FollowRequest;
use crate::server::rooms::command::{EnterError, Membership, RoomEntry};
use crate::server::rooms::peer::{DeliveryOptions, Peer};

/// A connection whose last request follows a room.
pub struct NewFollower {
    /// The permit; it is released when the connection ends.
    pub permit: ConnectionPermit,
    /// The request.
    pub request: Box<FollowRequest>,
}

/// A connection whose request is answered.
struct Open {
    connection: StreamConnection,
    /// Released when the connection ends.
    permit: ConnectionPermit,
    /// `None` if the request was refused.
    session: Option<Session>,
}

/// Serves the client until its connection ends.
pub(super) fn run(
    context: Arc<Context>,
    connection: StreamConnection,
    outbound: Arc<SendQueue>,
    follower: NewFollower,
    unregistered: Unregistered,
) -> impl Future<Output = ()> + Send {
    serve(Box::pin(open(context, connection, outbound, follower, unregistered)))
}

/// Enters the room, and sends what the request asks for from the room log.
async fn open(
    context: Arc<Context>,
    mut connection: StreamConnection,
    outbound: Arc<SendQueue>,
    follower: NewFollower,
    unregistered: Unregistered,
) -> Open {
    let NewFollower { permit, request } = follower;
    let peer = Arc::new(Peer::new(
        request.caller.session.clone(),
        request.caller.user.clone(),
        request.caller.grant.clone(),
        request.dialect,
        DeliveryOptions { echo: true, presence: false, device: None, key_packages: 0 },
        request.caller.client_info,
        outbound.clone(),
    ));
    let session = match enter(&context, &mut connection, peer, &request).await {
        Ok((registered, rooms)) => {
            permit.mark_registered();
            unregistered.registered();
            outbound.send(&request.head());
            let mut session = Session::new(registered, rooms, 0);
            session.log_opened();
            let (room, position) = (&request.room, request.position.clone());
            session.resume(&mut connection.writer(), room, position).await;
            Some(session)
        }
        Err((error, cause)) => {
            let caller = &request.caller;
            let (session, address) = (&caller.session, caller.client_info.address);
            context.refusals.request_refused(session, address, error.code());
            unregistered.ended(cause);
            outbound.send(&request.refusal((&error).into()));
            outbound.close(CloseReason { close: CloseCode::TryLater, cause }, "");
            None
        }
    };
    Open { connection, permit, session }
}

async fn serve(opening: Pin<Box<impl Future<Output = Open>>>) {
    let Open { mut connection, permit, session } = opening.await;
    if let Some(session) = session {
        let reason = connection.run().await;
        session.log_closed(reason);
    }
    Box::pin(async move { connection.writer().shutdown().await }).await;
    drop(permit);
}

/// Adds the reader to its room.
async fn enter(
    context: &Arc<Context>,
    connection: &mut StreamConnection,
    peer: Arc<Peer>,
    request: &FollowRequest,
) -> Result<(Registered, Vec<Membership>), (EnterError, &'static str)> {
    let room = RoomEntry { room: request.room.clone(), resuming: true, opening: None };
    let registered = Registered { context: context.clone(), peer };
    let entered = enter::enter(context, &registered.peer, vec![room]);
    match connection.writer().flush_during(entered).await {
        Ok(rooms) => Ok((registered, rooms)),
        Err(error) => {
            let (_, cause) = error.close();
            Err((error, cause))
        }
    }
}
