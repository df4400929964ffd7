//! `GET /rooms/ROOM`: a part of a room's record, as lines of JSON.
//!
//! The lines are those that `chat-client` prints. The record is read page by page, as fast as the client
//! takes the answer, up to the message that was the newest when the request came. What is missing is
//! named by a `gap`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Response;
use hyper::body::Frame;

use super::answer::{Body, HttpError, stream_headers, whole};
use super::caller::Caller;
use crate::conversation::server::registration::Dialect;
use crate::conversation::server::room_query::{RoomQuery, Start};
use crate::conversation::since::Since;
use crate::protocol::frame::{ErrorFrame, Position, ServerFrame};
use crate::protocol::{Epoch, ErrorCode, RoomName, Seq, Timestamp};
use crate::server::context::Context;
use crate::server::rooms::encoding::{put_frame, put_gap, put_plain_message, put_redacted};
use crate::store::{Gap, Head, Page, PageItem, PageRange, RoomLogReader, StoreError};
use crate::sys::clock::wall_clock;

/// Messages per page.
const PAGE_MESSAGES: u64 = 256;
/// The text in one page, in bytes.
const PAGE_BYTES: usize = 64 * 1024;

/// Answers with the messages that the query asks for.
pub(super) async fn answer(
    context: &Arc<Context>,
    caller: Caller,
    room: RoomName,
    query: RoomQuery,
) -> Result<Response<Body>, HttpError> {
    let (reader, at) = (context.reader.clone(), room.clone());
    let limit = query.limit;
    let found = blocking(move || find(&*reader, &at, query, wall_clock())).await;
    let Part { after, end, gap, head } = found.map_err(|_| unreadable().in_room(&room))?;
    let headers = stream_headers(Dialect::Lines, &head.epoch);
    let reading = Reading {
        context: context.clone(),
        caller,
        room,
        after,
        end,
        remaining: limit.unwrap_or(u64::MAX),
        gap: gap.map(|gap| (gap, head)),
        is_done: false,
        has_failed: false,
    };
    let pages = stream::unfold(reading, |mut reading| async {
        let page = reading.next_page().await?;
        Some((page.map(Frame::data), reading))
    });
    let mut answer = Response::new(StreamBody::new(pages).boxed_unsync());
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// The answer to a request for the head of an answer that would go on.
pub(super) fn head(dialect: Dialect, epoch: &Epoch) -> Response<Body> {
    let mut answer = Response::new(whole(""));
    *answer.headers_mut() = stream_headers(dialect, epoch);
    answer
}

/// The position after which a query begins, and the epoch of the record that the answer continues.
pub(super) async fn position(
    context: &Context,
    room: &RoomName,
    query: &RoomQuery,
) -> Result<(Position, Epoch), HttpError> {
    let (reader, at, query) = (context.reader.clone(), room.clone(), query.clone());
    let found = blocking(move || match query.start {
        Start::After(seq, epoch) => {
            let current = reader.head(&at)?.epoch;
            let epoch = epoch.unwrap_or_else(|| current.clone());
            Ok((Position { epoch, seq }, current))
        }
        _ => {
            let part = find(&*reader, &at, query, wall_clock())?;
            let current = part.head.epoch;
            Ok((Position { epoch: current.clone(), seq: part.after }, current))
        }
    });
    found.await.map_err(|_| unreadable().in_room(room))
}

/// The refusal of a request when the room log can't be read.
pub(super) fn unreadable() -> HttpError {
    HttpError::new(
        ErrorCode::StorageFailed,
        "the server can't read the room log at the moment; try again later",
    )
}

/// Reads from the store on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|_| Err(StoreError::Failed("an internal error interrupted it".into())))
}

/// The part of a record that a query asks for.
struct Part {
    /// It begins after this message.
    after: Seq,
    /// It ends before this one.
    end: Seq,
    /// What the reader must be told first.
    gap: Option<Gap>,
    head: Head,
}

fn find(
    reader: &dyn RoomLogReader,
    room: &RoomName,
    query: RoomQuery,
    now: Timestamp,
) -> Result<Part, StoreError> {
    let head = reader.head(room)?;
    let mut end = head.last.next();
    let mut gap = None;
    let after = match query.start {
        Start::Newest => start_before(reader, room, end, query.limit)?,
        Start::Before(seq) => {
            end = seq.min(end);
            start_before(reader, room, end, query.limit)?
        }
        Start::After(seq, epoch) => {
            let epoch = epoch.unwrap_or_else(|| head.epoch.clone());
            let resumption = reader.resume(room, &Position { epoch, seq })?;
            gap = resumption.gap;
            resumption.from
        }
        Start::Since(Since::All) => Seq(0),
        Start::Since(Since::After(seq)) => seq,
        Start::Since(Since::Ago(age)) => reader.since(room, before(now, age))?,
        Start::Since(Since::At(moment)) => reader.since(room, moment)?,
    };
    Ok(Part { after, end, gap, head })
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(micros))
}

/// The position after which the newest `limit` messages before `end` begin.
fn start_before(
    reader: &dyn RoomLogReader,
    room: &RoomName,
    end: Seq,
    limit: Option<u64>,
) -> Result<Seq, StoreError> {
    let (mut start, mut wanted) = (end, limit.unwrap_or(u64::MAX));
    while wanted > 0 {
        let messages = wanted.min(PAGE_MESSAGES) as usize;
        let page = reader.page(room, PageRange::Before(start), messages, PAGE_BYTES)?;
        let Some(oldest) = page.entries.first() else { break };
        start = oldest.seq;
        wanted -= (page.entries.len() as u64).min(wanted);
        if !page.more {
            break;
        }
    }
    Ok(Seq(start.0.saturating_sub(1)))
}

/// An answer that is being sent.
struct Reading {
    context: Arc<Context>,
    caller: Caller,
    room: RoomName,
    after: Seq,
    end: Seq,
    remaining: u64,
    gap: Option<(Gap, Head)>,
    is_done: bool,
    has_failed: bool,
}

impl Reading {
    /// The lines of the next page; `None` at the end.
    async fn next_page(&mut self) -> Option<io::Result<Bytes>> {
        let mut lines = BytesMut::new();
        if let Some((gap, head)) = self.gap.take() {
            put_gap(&mut lines, Dialect::Lines, &self.room, gap, &head.epoch);
        }
        while lines.is_empty() {
            if self.has_failed {
                self.is_done = true;
                self.has_failed = false;
                // The client sees that the answer is not whole.
                return Some(Err(io::Error::other("the room log can't be read")));
            }
            if self.is_done || self.remaining == 0 || self.after.next() >= self.end {
                return None;
            }
            let (reader, room) = (self.context.reader.clone(), self.room.clone());
            let range = PageRange::After(self.after);
            let messages = self.remaining.min(PAGE_MESSAGES) as usize;
            let page = blocking(move || reader.page(&room, range, messages, PAGE_BYTES)).await;
            let Ok(page) = page else {
                self.has_failed = true;
                put_frame(
                    &mut lines,
                    Dialect::Lines,
                    &ServerFrame::Error(ErrorFrame::new(
                        ErrorCode::StorageFailed,
                        "the server can't read the room log at the moment; the answer ends here",
                    )),
                );
                return Some(Ok(lines.freeze()));
            };
            self.put_page(&mut lines, &page);
        }
        self.pause(lines.len() as u64).await;
        Some(Ok(lines.freeze()))
    }

    fn put_page(&mut self, lines: &mut BytesMut, page: &Page) {
        let (epoch, end) = (&page.head.epoch, self.end);
        for item in page.items() {
            match item {
                PageItem::Message(entry) if entry.seq < end => {
                    put_plain_message(lines, Dialect::Lines, entry, epoch);
                    self.remaining = self.remaining.saturating_sub(1);
                }
                PageItem::Redacted(redaction) if redaction.seq < end => {
                    put_redacted(lines, Dialect::Lines, &self.room, redaction);
                    self.remaining = self.remaining.saturating_sub(1);
                }
                PageItem::Gap(gap) if gap.after.next() < end => {
                    put_gap(lines, Dialect::Lines, &self.room, gap, epoch);
                }
                _ => {}
            }
        }
        self.is_done = !page.more;
        self.after = page.reached;
    }

    /// Counts an answer like bytes that the caller sent, and waits while they are above the rate.
    async fn pause(&self, bytes: u64) {
        if let Some(pause) = self.caller.spend_bytes(&self.context, bytes) {
            tokio::time::sleep(pause).await;
        }
    }
}
