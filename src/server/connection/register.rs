//! From a connection to a session: the first frame, and entering its rooms.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use super::session::{HUB_ANSWER, Registered, Session, Visit};
use super::upgrade::Visitor;
use crate::conversation::server::registration::{self, Opening, Refusal, Wish};
use crate::net::send_queue::{Ending, Outbound};
use crate::net::server_connection::{Link, Step};
use crate::policy::access::Grant;
use crate::policy::rate::Meter;
use crate::protocol::frame::{ErrorFrame, ServerFrame};
use crate::protocol::{Close, Code, SessionId};
use crate::server::context::Context;
use crate::server::rooms::hub::{Command, Entering};
use crate::server::rooms::peer::{Peer, Wants, encoded};

/// What comes between a handshake and a session; `None` where there is none.
pub(super) async fn from_first_frame(
    context: Arc<Context>,
    link: &mut Link,
    outbound: Arc<Outbound>,
    visit: &Visit,
    deadline: Instant,
) -> Option<(Session, Vec<Wish>)> {
    let visitor = visit.visitor;
    let admitted = first_frame(&context, link, visitor, deadline).await.and_then(|mut opening| {
        let mode = context.live.load().config.auth.mode;
        let grant = context.gate.admit(mode, visitor, &mut opening)?;
        Ok((opening, grant))
    });
    match admitted {
        Ok((opening, grant)) => {
            visit.seat.registered();
            begin(&context, link, &outbound, visitor, opening, grant).await
        }
        Err(refusal) => {
            if let Some(refusal) = refusal {
                refuse(&outbound, visitor, &refusal);
            }
            None
        }
    }
}

async fn first_frame(
    context: &Context,
    link: &mut Link,
    visitor: Visitor,
    deadline: Instant,
) -> Result<Opening, Option<Refusal>> {
    // Pings are answered before anybody is known; not more of them than later.
    let (quota, mut pings) = (context.live.load().frames, Meter::default());
    let opening = loop {
        match tokio::time::timeout_at(deadline.into(), link.step(|| true)).await {
            Err(_) => {
                return Err(Some(Refusal {
                    code: Code::RegisterTimeout,
                    close: Close::RegisterTimeout,
                    message: "no register within the time limit".into(),
                }));
            }
            Ok(Step::Over(_)) => return Err(None),
            Ok(Step::Frame(Message::Text(text))) => break registration::read(&text)?,
            Ok(Step::Frame(Message::Binary(_))) => {
                return Err(Some(Refusal::policy(Code::BinaryFrame, "only text frames here")));
            }
            Ok(Step::Frame(_)) => {
                if let Some(pause) = pings.spend(quota, 1, context.started.elapsed()) {
                    link.pause(pause);
                }
            }
        }
    };
    if !visitor.confidential {
        return Err(Some(Refusal::policy(
            Code::Plaintext,
            "keys do not leave over this unencrypted connection; come by wss://",
        )));
    }
    Ok(opening)
}

fn refuse(outbound: &Outbound, visitor: Visitor, refusal: &Refusal) {
    tracing::info!(event = "register_refused", peer = %visitor.address, reason = refusal.code.word(),
        "a connection did not register");
    let error = ErrorFrame::new(refusal.code, refusal.message.clone());
    outbound.push(encoded(&ServerFrame::Error(error)));
    outbound.end(Ending { close: refusal.close, cause: "refused" }, &refusal.message);
}

async fn begin(
    context: &Arc<Context>,
    link: &mut Link,
    outbound: &Arc<Outbound>,
    visitor: Visitor,
    opening: Opening,
    grant: Option<Arc<Grant>>,
) -> Option<(Session, Vec<Wish>)> {
    let wants = Wants { echo: opening.echo, presence: opening.presence };
    let peer = Arc::new(Peer::new(
        SessionId::fresh(),
        opening.user,
        grant,
        opening.dialect,
        wants,
        visitor.address,
        outbound.clone(),
    ));
    let entering = opening
        .rooms
        .iter()
        .map(|wish| Entering { room: wish.room.clone(), catching_up: wish.resume.is_some() })
        .collect();
    let (answer, answered) = oneshot::channel();
    context.hub.send(Command::Enter(peer.clone(), entering, answer)).ok()?;
    let registered = Registered { context: context.clone(), peer };
    let rooms = match link.meanwhile(tokio::time::timeout(HUB_ANSWER, answered)).await {
        Ok(Ok(Some(rooms))) => rooms,
        _ => {
            let text = "the room log can't be read at the moment; come back later";
            let error = ErrorFrame::new(Code::StorageFailed, text);
            outbound.push(encoded(&ServerFrame::Error(error)));
            outbound.end(Ending { close: Close::TryLater, cause: "history_failed" }, text);
            return None;
        }
    };
    let session = Session {
        registered,
        rooms,
        messages: Meter::default(),
        frames: Meter::default(),
        bytes: Meter::default(),
        counted: link.received(),
    };
    session.say_opened();
    Some((session, opening.rooms))
}
