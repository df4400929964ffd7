//! From a connection to a session: the first frame, and entering its rooms.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use super::session::{HUB_ANSWER, NewConnection, Registered, Session};
use super::upgrade::ClientInfo;
use crate::conversation::server::registration::{self, JoinRequest, Registration, Rejection};
use crate::net::send_queue::{CloseReason, SendQueue};
use crate::net::server_connection::{Received, ServerConnection};
use crate::policy::access::Grant;
use crate::policy::rate::Meter;
use crate::protocol::frame::{ErrorFrame, ServerFrame};
use crate::protocol::{CloseCode, ErrorCode, SessionId};
use crate::server::context::Context;
use crate::server::rooms::hub::{Command, RoomEntry};
use crate::server::rooms::peer::{DeliveryOptions, Peer, encoded};

/// What comes between a handshake and a session; `None` where there is none.
pub(super) async fn from_first_frame(
    context: Arc<Context>,
    link: &mut ServerConnection,
    outbound: Arc<SendQueue>,
    visit: &NewConnection,
    deadline: Instant,
) -> Option<(Session, Vec<JoinRequest>)> {
    let client_info = visit.client_info;
    let admitted =
        first_frame(&context, link, client_info, deadline).await.and_then(|mut opening| {
            let mode = context.live.load().config.auth.mode;
            let grant = context.authenticator.admit(mode, client_info, &mut opening)?;
            Ok((opening, grant))
        });
    match admitted {
        Ok((opening, grant)) => {
            visit.permit.mark_registered();
            begin(&context, link, &outbound, client_info, opening, grant).await
        }
        Err(refusal) => {
            if let Some(refusal) = refusal {
                refuse(&outbound, client_info, &refusal);
            }
            None
        }
    }
}

async fn first_frame(
    context: &Context,
    link: &mut ServerConnection,
    client_info: ClientInfo,
    deadline: Instant,
) -> Result<Registration, Option<Rejection>> {
    // Pings are answered before anybody is known; not more of them than later.
    let (quota, mut pings) = (context.live.load().frames, Meter::default());
    let opening = loop {
        match tokio::time::timeout_at(deadline.into(), link.next(|| true)).await {
            Err(_) => {
                return Err(Some(Rejection {
                    code: ErrorCode::RegisterTimeout,
                    close: CloseCode::RegisterTimeout,
                    message: "no register within the time limit".into(),
                }));
            }
            Ok(Received::Ended(_)) => return Err(None),
            Ok(Received::Frame(Message::Text(text))) => break registration::read(&text)?,
            Ok(Received::Frame(Message::Binary(_))) => {
                return Err(Some(Rejection::policy(
                    ErrorCode::BinaryFrame,
                    "only text frames here",
                )));
            }
            Ok(Received::Frame(_)) => {
                if let Some(pause) = pings.spend(quota, 1, context.started.elapsed()) {
                    link.pause(pause);
                }
            }
        }
    };
    if !client_info.confidential {
        return Err(Some(Rejection::policy(
            ErrorCode::Plaintext,
            "keys do not leave over this unencrypted connection; come by wss://",
        )));
    }
    Ok(opening)
}

fn refuse(outbound: &SendQueue, client_info: ClientInfo, refusal: &Rejection) {
    tracing::info!(event = "register_refused", peer = %client_info.address, reason = refusal.code.word(),
        "a connection did not register");
    let error = ErrorFrame::new(refusal.code, refusal.message.clone());
    outbound.push(encoded(&ServerFrame::Error(error)));
    outbound.close(CloseReason { close: refusal.close, cause: "refused" }, &refusal.message);
}

async fn begin(
    context: &Arc<Context>,
    link: &mut ServerConnection,
    outbound: &Arc<SendQueue>,
    client_info: ClientInfo,
    opening: Registration,
    grant: Option<Arc<Grant>>,
) -> Option<(Session, Vec<JoinRequest>)> {
    let wants = DeliveryOptions { echo: opening.echo, presence: opening.presence };
    let peer = Arc::new(Peer::new(
        SessionId::fresh(),
        opening.user,
        grant,
        opening.dialect,
        wants,
        client_info.address,
        outbound.clone(),
    ));
    let entering = opening
        .rooms
        .iter()
        .map(|wish| RoomEntry { room: wish.room.clone(), catching_up: wish.resume.is_some() })
        .collect();
    let (answer, answered) = oneshot::channel();
    context.hub.send(Command::Enter(peer.clone(), entering, answer)).ok()?;
    let registered = Registered { context: context.clone(), peer };
    let rooms = match link.flush_during(tokio::time::timeout(HUB_ANSWER, answered)).await {
        Ok(Ok(Some(rooms))) => rooms,
        _ => {
            let text = "the room log can't be read at the moment; come back later";
            let error = ErrorFrame::new(ErrorCode::StorageFailed, text);
            outbound.push(encoded(&ServerFrame::Error(error)));
            outbound
                .close(CloseReason { close: CloseCode::TryLater, cause: "history_failed" }, text);
            return None;
        }
    };
    let session = Session {
        registered,
        rooms,
        messages: Meter::default(),
        frames: Meter::default(),
        bytes: Meter::default(),
        counted: link.received_bytes(),
    };
    session.say_opened();
    Some((session, opening.rooms))
}
