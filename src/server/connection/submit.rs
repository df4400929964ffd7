//! From a `chat_message` frame to a draft for the log writer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::session::{Session, in_no_room};
use crate::conversation::server::opaque_message::Opaque;
use crate::conversation::server::registration::Dialect;
use crate::conversation::server::request;
use crate::protocol::end_to_end::EndToEnd;
use crate::protocol::frame::ErrorFrame;
use crate::protocol::{ErrorCode, MessageId, RoomName};
use crate::server::context::ActiveConfig;
use crate::store::Draft;
use crate::sys::clock::wall_clock;

impl Session {
    /// Checks and decrypts a message. A message that fails is answered with an `error` that names
    /// its id, and the result is `None`.
    pub(super) fn prepare_draft(
        &mut self,
        active: &ActiveConfig,
        room: Option<RoomName>,
        id: Option<MessageId>,
        token: &str,
        opaque: Option<Box<Opaque>>,
    ) -> Option<Draft> {
        let error_id = id.as_ref().map(|id| id.as_str().to_owned());
        match self.draft(active, room.clone(), id, token, opaque) {
            Ok(draft) => Some(draft),
            Err(mut error) => {
                error.id = error_id;
                self.refuse_message(room.as_ref(), *error);
                None
            }
        }
    }

    /// The checks, the cheapest first. `token` is the message's Fernet token, or the content of a message of an
    /// end-to-end room, which is checked already.
    fn draft(
        &mut self,
        active: &ActiveConfig,
        room: Option<RoomName>,
        id: Option<MessageId>,
        token: &str,
        opaque: Option<Box<Opaque>>,
    ) -> Result<Draft, Box<ErrorFrame>> {
        if self.peer().dialect == Dialect::Basic {
            let now = self.context().started.elapsed();
            self.message_meter.take(active.messages, 1, now).map_err(rate_limited)?;
        }
        let membership = match &room {
            None => self.rooms.first_mut(),
            Some(room) => self.rooms.iter_mut().find(|membership| membership.room == *room),
        };
        let Some(membership) = membership else { return Err(Box::new(in_no_room())) };
        if membership.room.is_end_to_end() {
            let room = membership.room.clone();
            return self.opaque_draft(room, id, token, opaque);
        }
        let now_utc = wall_clock();
        let plain = membership
            .ring
            .read()
            .decrypt(token, &mut membership.last_key, Instant::now(), now_utc)
            .map_err(|error| request::decrypt_error(error, now_utc))?;
        let text = request::validate_text(plain, active.config.limits.message_chars)?;
        Ok(Draft {
            room: membership.room.clone(),
            user: self.peer().user.clone(),
            verified: self.peer().verified(),
            id,
            text,
            e2e: None,
            commit: None,
        })
    }

    /// A message of an end-to-end room.
    fn opaque_draft(
        &self,
        room: RoomName,
        id: Option<MessageId>,
        content: &str,
        opaque: Option<Box<Opaque>>,
    ) -> Result<Draft, Box<ErrorFrame>> {
        let (Some(opaque), Some(device)) = (opaque, self.peer().device) else {
            return Err(Box::new(ErrorFrame::new(
                ErrorCode::BadFrame,
                "a message for an end-to-end room must name the room",
            )));
        };
        let mut opaque = *opaque;
        opaque.fill(|hash| self.context().tree_uploads.find(&self.peer().user, hash))?;
        let e2e = Some(EndToEnd { device, base: opaque.base, kind: opaque.kind() });
        let (user, verified) = (self.peer().user.clone(), self.peer().verified());
        let commit = opaque.commit.map(|mut commit| {
            commit.tree = self.context().tree_uploads.find(&user, &commit.tree_hash);
            // Whether this commit is stored already is known to the log writer.
            let now = self.context().started.elapsed();
            commit.over_limit = self.context().commit_meters.take(&user, 1, now).err();
            Arc::new(commit)
        });
        Ok(Draft { room, user, verified, id, text: content.into(), e2e, commit })
    }
}

/// The refusal of what a user may ask only a few times in a minute.
pub(super) fn too_many(what: &str, wait: Duration) -> Box<ErrorFrame> {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    Box::new(ErrorFrame {
        retry_after_ms: Some(wait_ms),
        ..ErrorFrame::new(
            ErrorCode::RateLimited,
            format!("too many {what} in a minute; try again in {wait_ms} ms"),
        )
    })
}

fn rate_limited(wait: Duration) -> Box<ErrorFrame> {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    Box::new(ErrorFrame {
        retry_after_ms: Some(wait_ms),
        ..ErrorFrame::new(
            ErrorCode::RateLimited,
            format!("too many messages; this one was not delivered, send it again in {wait_ms} ms"),
        )
    })
}
