//! A request for the messages of a room as they come, which was admitted.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;

use super::answer::{HttpError, raw_head, stream_headers};
use super::caller::Caller;
use super::origin;
use crate::conversation::server::registration::Dialect;
use crate::protocol::frame::Position;
use crate::protocol::{Epoch, RoomName};

/// Sent while nothing else is: an empty line.
const LINES_KEEP_ALIVE: &[u8] = b"\n";
/// Sent while nothing else is: a comment. An empty line alone would end an event.
const EVENTS_KEEP_ALIVE: &[u8] = b":\n\n";

/// What the connection becomes.
pub struct FollowRequest {
    /// Who reads.
    pub caller: Caller,
    /// The room.
    pub room: RoomName,
    /// The answer begins after this message.
    pub position: Position,
    /// The epoch of the messages in the answer. That of the position may be an earlier one.
    pub epoch: Epoch,
    /// Lines or events.
    pub dialect: Dialect,
    /// The page of another origin that may read the answer.
    pub allowed_origin: Option<HeaderValue>,
}

impl FollowRequest {
    /// The head of the answer. Its body ends with the connection (RFC 9112, section 6.3), so that each
    /// message is encoded once for all readers, without the framing of chunks.
    pub fn head(&self) -> Bytes {
        let mut headers = stream_headers(self.dialect, &self.epoch);
        origin::allow_reading(&mut headers, self.allowed_origin.clone());
        raw_head(StatusCode::OK, &headers)
    }

    /// The whole answer if the room can't be followed.
    pub fn refusal(&self, error: HttpError) -> Bytes {
        let (status, mut headers, body) = error.in_room(&self.room).parts();
        origin::allow_reading(&mut headers, self.allowed_origin.clone());
        let head = raw_head(status, &headers);
        [&head[..], body.as_bytes()].concat().into()
    }

    /// What keeps the connection alive while there are no messages.
    pub fn keep_alive(&self) -> &'static [u8] {
        match self.dialect {
            Dialect::Events => EVENTS_KEEP_ALIVE,
            _ => LINES_KEEP_ALIVE,
        }
    }
}
