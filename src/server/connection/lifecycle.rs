//! One connection after its upgrade: register, resume, talk, close.

use std::sync::Arc;
use std::time::Instant;

use super::register;
use super::session::NewConnection;
use crate::net::send_queue::SendQueue;
use crate::net::server_connection::ServerConnection;
use crate::server::context::Context;

/// Talks with one client until it is over.
pub async fn run(
    context: Arc<Context>,
    mut link: Box<ServerConnection>,
    outbound: Arc<SendQueue>,
    visit: NewConnection,
    deadline: Instant,
) {
    // Boxed, here and below, is what does not last: a silent session holds no room for it.
    let begun =
        Box::pin(register::from_first_frame(context, &mut link, outbound, &visit, deadline));
    if let Some((mut session, wishes)) = begun.await {
        for wish in wishes {
            if let Some(position) = wish.resume {
                Box::pin(session.catch_up(&mut link, &wish.room, position)).await;
            }
        }
        let reason = session.talk(&mut link).await;
        session.say_closed(reason);
    }
    Box::pin(link.shutdown()).await;
}
