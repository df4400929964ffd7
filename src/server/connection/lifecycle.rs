//! One connection after its upgrade: register, resume, run the session, close.

use std::sync::Arc;
use std::time::Instant;

use super::register::{self, NewConnection};
use super::unregistered::Unregistered;
use crate::net::send_queue::SendQueue;
use crate::net::server_connection::ServerConnection;
use crate::server::context::Context;

/// Serves one client until its connection ends. The client must register before `deadline`.
pub async fn run(
    context: Arc<Context>,
    mut connection: Box<ServerConnection>,
    outbound: Arc<SendQueue>,
    mut new_connection: NewConnection,
    deadline: Instant,
    unregistered: Unregistered,
) {
    // Short-lived futures are boxed, here and in the session, to keep an idle session small.
    let opening = Box::pin(register::open_session(
        context,
        &mut connection,
        outbound,
        &mut new_connection,
        deadline,
        unregistered,
    ));
    if let Some((mut session, join_requests)) = opening.await {
        for request in join_requests {
            if let Some(position) = request.resume {
                Box::pin(session.resume(&mut connection.writer(), &request.room, position)).await;
            }
        }
        let reason = session.run(&mut connection).await;
        session.log_closed(reason);
    }
    Box::pin(connection.shutdown()).await;
}
