//! From a connection to a session: the first frame, authentication, and entering the first rooms.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use zeroize::Zeroizing;

use super::session::{HUB_TIMEOUT, Registered, Session};
use crate::conversation::server::registration::{self, JoinRequest, Registration, Rejection};
use crate::net::admission::ConnectionPermit;
use crate::net::send_queue::{CloseReason, SendQueue};
use crate::net::server_connection::{Received, ServerConnection};
use crate::policy::access::Grant;
use crate::policy::rate::Meter;
use crate::protocol::frame::{ErrorFrame, ServerFrame};
use crate::protocol::{CloseCode, ErrorCode, SessionId};
use crate::server::client_info::ClientInfo;
use crate::server::context::Context;
use crate::server::rooms::command::{Command, EnterError, RoomEntry};
use crate::server::rooms::peer::{DeliveryOptions, Peer, encode};

/// A connection that has not registered yet.
pub struct NewConnection {
    /// The permit; it is released when the connection ends.
    pub permit: ConnectionPermit,
    /// The client's address, and whether the server may send keys to it.
    pub client_info: ClientInfo,
    /// The access token of the HTTP request; for a client whose `register` has none.
    pub access_token: Option<Zeroizing<String>>,
}

/// Reads the first frame, authenticates the client and enters its rooms. Returns the session and
/// the rooms the client asked for; `None` if the client was refused or the connection ended.
pub(super) async fn open_session(
    context: Arc<Context>,
    connection: &mut ServerConnection,
    outbound: Arc<SendQueue>,
    new_connection: &mut NewConnection,
    deadline: Instant,
) -> Option<(Session, Vec<JoinRequest>)> {
    let client_info = new_connection.client_info;
    let access_token = new_connection.access_token.take();
    let admitted = read_registration(&context, connection, client_info, deadline).await.and_then(
        |mut registration| {
            registration.access_token = registration.access_token.or(access_token);
            let mode = context.active_config.load().config.auth.mode;
            let grant = context.authenticator.admit(mode, client_info, &mut registration)?;
            Ok((registration, grant))
        },
    );
    match admitted {
        Ok((registration, grant)) => {
            new_connection.permit.mark_registered();
            enter_rooms(&context, connection, &outbound, client_info, registration, grant).await
        }
        Err(rejection) => {
            if let Some(rejection) = rejection {
                reject(&context, &outbound, client_info, &rejection);
            }
            None
        }
    }
}

/// Waits for `register`. The error is `None` if the connection ended.
async fn read_registration(
    context: &Context,
    connection: &mut ServerConnection,
    client_info: ClientInfo,
    deadline: Instant,
) -> Result<Registration, Option<Rejection>> {
    // Control frames before `register` count against the same limit as those of a session.
    let (quota, mut control_frames) = (context.active_config.load().frames, Meter::default());
    let registration = loop {
        match tokio::time::timeout_at(deadline.into(), connection.next(|| true)).await {
            Err(_) => {
                return Err(Some(Rejection {
                    code: ErrorCode::RegisterTimeout,
                    close: CloseCode::RegisterTimeout,
                    message: "no register frame arrived within the time limit".into(),
                }));
            }
            Ok(Received::Ended(_)) => return Err(None),
            Ok(Received::Frame(Message::Text(text))) => break registration::read(&text)?,
            Ok(Received::Frame(Message::Binary(_))) => {
                return Err(Some(Rejection::policy(
                    ErrorCode::BinaryFrame,
                    "only text frames are accepted",
                )));
            }
            Ok(Received::Frame(_)) => {
                if let Some(pause) = control_frames.spend(quota, 1, context.started.elapsed()) {
                    connection.pause(pause);
                }
            }
        }
    };
    if !client_info.confidential {
        return Err(Some(Rejection::policy(
            ErrorCode::Plaintext,
            "the server does not send keys over an unencrypted connection; connect with wss://",
        )));
    }
    Ok(registration)
}

fn reject(context: &Context, outbound: &SendQueue, client_info: ClientInfo, rejection: &Rejection) {
    context.refusals.register_refused(client_info.address, rejection.code);
    let error = ErrorFrame::new(rejection.code, rejection.message.clone());
    outbound.push(encode(&ServerFrame::Error(error)));
    outbound.close(CloseReason { close: rejection.close, cause: "refused" }, &rejection.message);
}

/// Ends a connection whose first rooms can't be entered now.
fn refuse_entry<T>(
    context: &Context,
    outbound: &SendQueue,
    client_info: ClientInfo,
    error: &EnterError,
) -> Option<T> {
    let (frame, cause) = match error {
        EnterError::Unreadable => (error.frame(), "history_failed"),
        EnterError::RoomsFull(_) => {
            context.refusals.register_refused(client_info.address, ErrorCode::RoomsFull);
            (error.frame(), "rooms_full")
        }
    };
    let text = frame.message.clone();
    outbound.push(encode(&ServerFrame::Error(frame)));
    outbound.close(CloseReason { close: CloseCode::TryLater, cause }, &text);
    None
}

/// Registers the session with the hub, which adds it to the rooms it asked for.
async fn enter_rooms(
    context: &Arc<Context>,
    connection: &mut ServerConnection,
    outbound: &Arc<SendQueue>,
    client_info: ClientInfo,
    registration: Registration,
    grant: Option<Arc<Grant>>,
) -> Option<(Session, Vec<JoinRequest>)> {
    let options = DeliveryOptions { echo: registration.echo, presence: registration.presence };
    let peer = Arc::new(Peer::new(
        SessionId::fresh(),
        registration.user,
        grant,
        registration.dialect,
        options,
        client_info,
        outbound.clone(),
    ));
    let entries = registration
        .rooms
        .iter()
        .map(|request| RoomEntry { room: request.room.clone(), resuming: request.resume.is_some() })
        .collect();
    let (answer, answered) = oneshot::channel();
    context.hub.send(Command::Enter(peer.clone(), entries, answer)).ok()?;
    let registered = Registered { context: context.clone(), peer };
    let rooms = match connection.flush_during(tokio::time::timeout(HUB_TIMEOUT, answered)).await {
        Ok(Ok(Ok(rooms))) => rooms,
        Ok(Ok(Err(error))) => return refuse_entry(context, outbound, client_info, &error),
        _ => return refuse_entry(context, outbound, client_info, &EnterError::Unreadable),
    };
    let session = Session::new(registered, rooms, connection.received_bytes());
    session.log_opened();
    Some((session, registration.rooms))
}
