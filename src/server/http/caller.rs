//! The sender of a request: who it is, what it may do, and how often.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderMap;

use super::answer::HttpError;
use crate::conversation::server::request;
use crate::policy::access::Grant;
use crate::policy::client_network::ClientNetwork;
use crate::policy::rights::Action;
use crate::protocol::frame::ErrorFrame;
use crate::protocol::{ErrorCode, RoomName, SessionId, UserName};
use crate::server::activity::Tally;
use crate::server::authorization::access_token;
use crate::server::client_info::ClientInfo;
use crate::server::context::Context;
use crate::server::http_meters::Sender;
use crate::server::refusal_log::RefusedMessage;

/// The sender of a request, whose access was checked.
pub struct Caller {
    /// The user.
    pub user: UserName,
    /// The grant of the access token; `None` in open mode.
    pub grant: Option<Arc<Grant>>,
    /// Where the request comes from.
    pub client_info: ClientInfo,
    /// The id of the connection.
    pub session: SessionId,
    /// Whose rate meters count the request.
    pub sender: Sender,
}

impl Caller {
    /// Finds out who sends a request. In open mode, that is who the query names.
    pub(super) fn authenticate(
        context: &Context,
        session: &SessionId,
        client_info: ClientInfo,
        headers: &HeaderMap,
        user: Option<UserName>,
    ) -> Result<Self, HttpError> {
        let mode = context.active_config.load().config.auth.mode;
        let token = access_token(headers);
        let user = user.unwrap_or_else(|| UserName::clean(""));
        let (user, grant) = context.authenticator.admit_request(mode, client_info, user, token)?;
        let sender = match &grant {
            Some(grant) => Sender::Token(grant.id.clone()),
            None => Sender::Network(ClientNetwork::of(client_info.address)),
        };
        Ok(Caller { user, grant, client_info, session: session.clone(), sender })
    }

    /// Checks a right in a room.
    pub(super) fn authorize(&self, action: Action, room: &RoomName) -> Result<(), HttpError> {
        match self.grant.as_ref().is_none_or(|grant| grant.allows(action, room)) {
            true => Ok(()),
            false => Err(Box::new(request::forbidden(room)).into()),
        }
    }

    /// Checks that an operator has not muted the user.
    pub(super) fn check_mute(&self, context: &Context, room: &RoomName) -> Result<(), HttpError> {
        let list = context.authenticator.list();
        match list.bans().muted_rooms(&self.user).is_some_and(|rooms| rooms.contains(room)) {
            false => Ok(()),
            true => Err(Box::new(request::muted(room)).into()),
        }
    }

    /// Counts the request against the rate of messages.
    pub(super) fn take_request(&self, context: &Context) -> Result<(), HttpError> {
        let quota = context.active_config.load().messages;
        let now = context.started.elapsed();
        let taken = context.http_meters.lock().take_request(&self.sender, quota, now);
        taken.map_err(|wait| {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            let error = ErrorFrame {
                retry_after_ms: Some(wait_ms),
                ..ErrorFrame::new(
                    ErrorCode::RateLimited,
                    format!("too many requests; nothing was done, try again in {wait_ms} ms"),
                )
            };
            Box::new(error).into()
        })
    }

    /// Counts bytes of a body or an answer like bytes that a session sent. Gives the time to wait if they
    /// are above the rate.
    pub(super) fn spend_bytes(&self, context: &Context, bytes: u64) -> Option<Duration> {
        let quota = context.active_config.load().bytes;
        let now = context.started.elapsed();
        context.http_meters.lock().spend_bytes(&self.sender, quota, bytes, now)
    }

    /// What the user does, for `ctl top`.
    pub(super) fn tally(&self) -> Arc<Tally> {
        Tally::of_session(self.user.clone(), ClientNetwork::of(self.client_info.address))
    }

    /// Logs and counts a message that was refused.
    pub(super) fn log_refused(&self, context: &Context, room: &RoomName, error: &HttpError) {
        context.refusals.message_refused(&RefusedMessage {
            session: &self.session,
            peer: self.client_info.address,
            user: &self.user,
            tally: &self.tally(),
            grant: self.grant.as_deref(),
            room: Some(room),
            id: error.id(),
            code: error.code(),
        });
    }
}
