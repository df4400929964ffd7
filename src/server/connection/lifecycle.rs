//! One connection after its upgrade: register, resume, talk, close.

use std::sync::Arc;
use std::time::Instant;

use super::register;
use super::session::Visit;
use crate::net::send_queue::Outbound;
use crate::net::server_connection::Link;
use crate::server::context::Context;

/// Talks with one client until it is over.
pub async fn run(
    context: Arc<Context>,
    mut link: Box<Link>,
    outbound: Arc<Outbound>,
    visit: Visit,
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
    Box::pin(link.finish()).await;
}
