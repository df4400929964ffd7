//! From a connection to a session: the first frame, authentication, and entering the first rooms.

use std::sync::Arc;
use std::time::Instant;

use tokio_tungstenite::tungstenite::Message;
use zeroize::Zeroizing;

use super::enter;
use super::session::{Registered, Session};
use super::unregistered::Unregistered;
use crate::conversation::server::registration::{self, JoinRequest, Registration, Rejection};
use crate::conversation::server::request;
use crate::net::admission::ConnectionPermit;
use crate::net::send_queue::{CloseReason, SendQueue};
use crate::net::server_connection::{Received, ServerConnection};
use crate::policy::access::Grant;
use crate::policy::rate::Meter;
use crate::protocol::device::DeviceId;
use crate::protocol::frame::{ErrorFrame, ServerFrame};
use crate::protocol::{CloseCode, ErrorCode, SessionId, UserName};
use crate::server::client_info::ClientInfo;
use crate::server::context::Context;
use crate::server::rooms::command::{EnterError, RoomEntry};
use crate::server::rooms::encoding::websocket_frame;
use crate::server::rooms::peer::{DeliveryOptions, Peer};
use crate::store::{E2eFound, E2eQuery};

/// A connection that has not registered yet.
pub struct NewConnection {
    /// The permit; it is released when the connection ends.
    pub permit: ConnectionPermit,
    /// The client's address, and whether the server may send keys to it.
    pub client_info: ClientInfo,
    /// The access token of the HTTP request; for a client whose `register` has none.
    pub access_token: Option<Zeroizing<String>>,
    /// The id of the connection, which is that of its session.
    pub session: SessionId,
}

impl NewConnection {
    fn log_refused(&self, context: &Context, code: ErrorCode) {
        context.refusals.register_refused(&self.session, self.client_info.address, code);
    }
}

/// Reads the first frame, authenticates the client and enters its rooms. Returns the session and
/// the rooms the client asked for; `None` if the client was refused or the connection ended.
pub(super) async fn open_session(
    context: Arc<Context>,
    connection: &mut ServerConnection,
    outbound: Arc<SendQueue>,
    new_connection: &mut NewConnection,
    deadline: Instant,
    unregistered: Unregistered,
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
            let entered =
                enter_rooms(&context, connection, &outbound, new_connection, registration, grant);
            let entered = entered.await;
            match &entered {
                Some((session, _)) => {
                    unregistered.registered();
                    session.log_opened();
                }
                None => unregistered.ended("refused"),
            }
            entered
        }
        Err(NotRegistered::Refused(rejection)) => {
            reject(&context, &outbound, new_connection, &rejection);
            unregistered.ended("refused");
            None
        }
        Err(NotRegistered::Ended(reason)) => {
            unregistered.ended(reason);
            None
        }
    }
}

/// Why a connection did not register.
enum NotRegistered {
    /// The server refused it.
    Refused(Rejection),
    /// The connection ended; the reason for the server log.
    Ended(&'static str),
}

impl From<Rejection> for NotRegistered {
    fn from(rejection: Rejection) -> Self {
        NotRegistered::Refused(rejection)
    }
}

/// Waits for `register`.
async fn read_registration(
    context: &Context,
    connection: &mut ServerConnection,
    client_info: ClientInfo,
    deadline: Instant,
) -> Result<Registration, NotRegistered> {
    // Control frames before `register` count against the same limit as those of a session.
    let (quota, mut control_frames) = (context.active_config.load().frames, Meter::default());
    let registration = loop {
        match tokio::time::timeout_at(deadline.into(), connection.next(|| true)).await {
            Err(_) => {
                return Err(NotRegistered::Refused(Rejection {
                    code: ErrorCode::RegisterTimeout,
                    close: CloseCode::RegisterTimeout,
                    message: "no register frame arrived within the time limit".into(),
                }));
            }
            Ok(Received::Ended(reason)) => return Err(NotRegistered::Ended(reason)),
            Ok(Received::Frame(Message::Text(text))) => break registration::read(&text)?,
            Ok(Received::Frame(Message::Binary(_))) => {
                let text = "only text frames are accepted";
                return Err(Rejection::policy(ErrorCode::BinaryFrame, text).into());
            }
            Ok(Received::Frame(_)) => {
                if let Some(pause) = control_frames.spend(quota, 1, context.started.elapsed()) {
                    connection.pause(pause);
                }
            }
        }
    };
    if !client_info.confidential {
        return Err(Rejection::policy(
            ErrorCode::Plaintext,
            "the server does not send keys over an unencrypted connection; connect with wss://",
        )
        .into());
    }
    Ok(registration)
}

fn reject(
    context: &Context,
    outbound: &SendQueue,
    new_connection: &NewConnection,
    rejection: &Rejection,
) {
    new_connection.log_refused(context, rejection.code);
    let error = ErrorFrame::new(rejection.code, rejection.message.clone());
    outbound.push(websocket_frame(&ServerFrame::Error(error)));
    outbound.close(CloseReason { close: rejection.close, cause: "refused" }, &rejection.message);
}

/// Ends a connection whose first rooms can't be entered now.
fn refuse_entry<T>(
    context: &Context,
    outbound: &SendQueue,
    new_connection: &NewConnection,
    error: &EnterError,
) -> Option<T> {
    if *error != EnterError::Unreadable {
        new_connection.log_refused(context, error.code());
    }
    let (frame, (close, cause)) = (error.frame(), error.close());
    let text = frame.message.clone();
    outbound.push(websocket_frame(&ServerFrame::Error(frame)));
    outbound.close(CloseReason { close, cause }, &text);
    None
}

/// How many key packages of a device the server has. If that can't be read, the device deposits more, which is no
/// harm.
async fn count_key_packages(context: &Context, user: UserName, device: DeviceId) -> u64 {
    let reader = context.reader.clone();
    let count = move || reader.e2e(E2eQuery::KeyPackages(user, device));
    match tokio::task::spawn_blocking(count).await {
        Ok(Ok(E2eFound::KeyPackages(count))) => count,
        _ => 0,
    }
}

/// Registers the session with the hub, which adds it to the rooms it asked for.
async fn enter_rooms(
    context: &Arc<Context>,
    connection: &mut ServerConnection,
    outbound: &Arc<SendQueue>,
    new_connection: &NewConnection,
    mut registration: Registration,
    grant: Option<Arc<Grant>>,
) -> Option<(Session, Vec<JoinRequest>)> {
    registration.find_direct();
    let Registration { echo, presence, device, .. } = registration;
    let key_packages = match device {
        Some(device) => {
            let counted = count_key_packages(context, registration.user.clone(), device);
            connection.flush_during(counted).await
        }
        None => 0,
    };
    let options = DeliveryOptions { echo, presence, device, key_packages };
    let peer = Arc::new(Peer::new(
        new_connection.session.clone(),
        registration.user,
        grant,
        registration.dialect,
        options,
        new_connection.client_info,
        outbound.clone(),
    ));
    let (requests, refused): (Vec<_>, Vec<_>) =
        registration.rooms.into_iter().partition(|request| enter::may_enter(&peer, request));
    let entries = requests
        .iter()
        .map(|request| RoomEntry {
            room: request.room.clone(),
            resuming: request.resume.is_some(),
            opening: None,
        })
        .collect();
    let registered = Registered { context: context.clone(), peer };
    let entered = enter::enter(context, &registered.peer, entries);
    let rooms = match connection.flush_during(entered).await {
        Ok(rooms) => rooms,
        Err(error) => return refuse_entry(context, outbound, new_connection, &error),
    };
    let session = Session::new(registered, rooms, connection.received_bytes());
    for JoinRequest { room, .. } in refused {
        session.refuse(request::not_direct(&room));
    }
    Some((session, requests))
}
