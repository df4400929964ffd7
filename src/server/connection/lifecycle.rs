//! One connection after its upgrade: register, resume, run the session, close.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use super::register::{self, NewConnection};
use super::session::Session;
use super::unregistered::Unregistered;
use crate::net::admission::ConnectionPermit;
use crate::net::send_queue::SendQueue;
use crate::net::server_connection::ServerConnection;
use crate::server::context::Context;

/// A connection that has registered, or was refused.
struct Open {
    connection: Box<ServerConnection>,
    /// Released when the connection ends.
    permit: ConnectionPermit,
    session: Option<Session>,
}

/// Serves one client until its connection ends. The client must register before `deadline`.
///
/// Short-lived futures are boxed, here and in the session, to keep an idle session small: a future has room for
/// everything that it ever held, such as its arguments.
pub fn run(
    context: Arc<Context>,
    connection: Box<ServerConnection>,
    outbound: Arc<SendQueue>,
    new_connection: NewConnection,
    deadline: Instant,
    unregistered: Unregistered,
) -> impl Future<Output = ()> + Send {
    let opening = open(context, connection, outbound, new_connection, deadline, unregistered);
    serve(Box::pin(opening))
}

/// Registers the client and resumes its rooms.
async fn open(
    context: Arc<Context>,
    mut connection: Box<ServerConnection>,
    outbound: Arc<SendQueue>,
    mut new_connection: NewConnection,
    deadline: Instant,
    unregistered: Unregistered,
) -> Open {
    let opened = register::open_session(
        context,
        &mut connection,
        outbound,
        &mut new_connection,
        deadline,
        unregistered,
    )
    .await;
    let mut session = None;
    if let Some((mut opened, join_requests)) = opened {
        opened.send_welcomes(&mut connection.writer()).await;
        for request in join_requests {
            if let Some(position) = request.resume {
                opened.resume(&mut connection.writer(), &request.room, position).await;
            }
        }
        session = Some(opened);
    }
    Open { connection, permit: new_connection.permit, session }
}

async fn serve(opening: Pin<Box<impl Future<Output = Open>>>) {
    let Open { mut connection, permit, session } = opening.await;
    if let Some(mut session) = session {
        let reason = session.run(&mut connection).await;
        session.log_closed(reason);
    }
    Box::pin(connection.shutdown()).await;
    drop(permit);
}
