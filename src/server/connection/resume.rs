//! Reading the room log for a client: `history` pages, and the replay that resumes a room.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::enter::HUB_TIMEOUT;
use super::session::Session;
use crate::conversation::server::request::HistoryRange;
use crate::net::send_queue::CloseReason;
use crate::net::writer::Writer;
use crate::policy::rights::Action;
use crate::protocol::frame::{ErrorFrame, History, Position, ServerFrame};
use crate::protocol::{CloseCode, Epoch, ErrorCode, RoomName, Seq};
use crate::server::refusal_log::SentGap;
use crate::server::rooms::command::{Command, GoLiveOutcome};
use crate::server::rooms::encoding::{frame_bytes, history_entry};
use crate::store::{Gap, Page, PageItem, PageRange, StoreError};

/// Messages per page of a replay.
const REPLAY_PAGE_MESSAGES: usize = 256;
/// The text in one page, in bytes. Encrypted and as JSON it stays well under a send queue's bound.
const MAX_PAGE_BYTES: usize = 64 * 1024;

impl Session {
    /// Replays every message after `from`, in order, and then makes the session live in `room`. The
    /// client is sent a `gap` for every hole. If the room log can't be read, the session ends:
    /// otherwise messages would be skipped in silence.
    pub(super) async fn resume(
        &mut self,
        writer: &mut Writer<'_>,
        room: &RoomName,
        from: Position,
    ) {
        let Ok(mut after) = self.replay_start(writer, room, from).await else {
            return self.close_unreadable(room);
        };
        loop {
            let deletions = self.context().deletions.get();
            let range = PageRange::After(after);
            let page = self.read_page(writer, room, range, REPLAY_PAGE_MESSAGES).await;
            let Ok(page) = page else { return self.close_unreadable(room) };
            let Some(reached) = self.send_page(room, after, &page, deletions) else { continue };
            after = reached;
            self.wait_for_queue(writer).await;
            if self.peer().outbound.close_reason().is_some()
                || self.peer().outbound.is_disconnected()
            {
                return;
            }
            if page.more {
                continue;
            }
            match self.go_live(writer, room, after).await {
                Some(GoLiveOutcome::Live) => return,
                Some(GoLiveOutcome::Behind) => {}
                None => return self.close_unreadable(room),
            }
        }
    }

    /// The seq after which the replay starts. If the client's position is not in the record, the client
    /// is sent a `gap` first.
    async fn replay_start(
        &self,
        writer: &mut Writer<'_>,
        room: &RoomName,
        position: Position,
    ) -> Result<Seq, StoreError> {
        let (reader, read_room) = (self.context().reader.clone(), room.clone());
        let read = move || {
            let resumption = reader.resume(&read_room, &position)?;
            Ok((resumption, reader.head(&read_room)?.epoch))
        };
        let (resumption, epoch) = self.read(writer, read).await?;
        if let Some(gap) = resumption.gap {
            self.push_gap(room, gap, &epoch);
        }
        Ok(resumption.from)
    }

    /// Answers a `history` request.
    pub(super) async fn history(
        &mut self,
        writer: &mut Writer<'_>,
        room: &RoomName,
        range: HistoryRange,
        limit: usize,
    ) {
        if self.membership(room).is_none() {
            return;
        }
        let range = match range {
            HistoryRange::After(seq) => PageRange::After(seq),
            HistoryRange::Before(seq) => PageRange::Before(seq),
            HistoryRange::Newest => PageRange::Newest,
        };
        loop {
            let deletions = self.context().deletions.get();
            let Ok(page) = self.read_page(writer, room, range, limit).await else {
                return self.close_unreadable(room);
            };
            self.answer_bytes +=
                page.entries.iter().map(|entry| frame_bytes(entry.text.len()) as u64).sum::<u64>();
            let Some(membership) = self.membership(room) else { return };
            let ring = membership.ring.read();
            if self.context().deletions.get() != deletions {
                continue;
            }
            let can_receive = self.peer().may(Action::Receive, room);
            for item in page.items() {
                match item {
                    PageItem::Message(_) => {}
                    PageItem::Redacted(_) if !can_receive => {}
                    PageItem::Redacted(redaction) => self.peer().push_redacted(room, redaction),
                    PageItem::Gap(gap) => self.push_gap(room, gap, &page.head.epoch),
                }
            }
            let messages = page
                .entries
                .iter()
                .filter(|entry| can_receive || self.peer().gets(entry))
                .map(|entry| history_entry(entry, &ring))
                .collect();
            // The frame is queued while the lock is held, so no newer key can precede it.
            self.peer().send(&ServerFrame::History(History {
                room: room.as_str().into(),
                epoch: Some(page.head.epoch.clone()),
                messages,
                more: page.more,
                reached: Some(page.reached),
            }));
            break;
        }
        self.wait_for_queue(writer).await;
    }

    /// Sends the entries, redactions and gaps of a page in order. Returns the seq up to which the client
    /// has everything. `None` if something was deleted since the page was read: it must be read again.
    fn send_page(&self, room: &RoomName, after: Seq, page: &Page, deletions: u64) -> Option<Seq> {
        let Some(membership) = self.rooms.iter().find(|membership| membership.room == *room) else {
            return Some(after);
        };
        let ring = membership.ring.read();
        if self.context().deletions.get() != deletions {
            return None;
        }
        let can_receive = self.peer().may(Action::Receive, room);
        for item in page.items() {
            match item {
                PageItem::Redacted(_) if !can_receive => {}
                PageItem::Message(entry) if !can_receive && !self.peer().gets(entry) => {}
                PageItem::Message(entry) => {
                    self.peer().push_replayed(entry, &page.head.epoch, &ring);
                }
                PageItem::Redacted(redaction) => self.peer().push_redacted(room, redaction),
                PageItem::Gap(gap) => self.push_gap(room, gap, &page.head.epoch),
            }
        }
        // The frames are queued while the lock is held, so no newer key can precede them.
        drop(ring);
        self.peer().received.fetch_add(page.entries.len() as u64, Ordering::Relaxed);
        self.peer().outbound.flush();
        Some(page.reached)
    }

    /// Asks the hub to make the session live after `after`; `None` if the hub does not answer.
    async fn go_live(
        &self,
        writer: &mut Writer<'_>,
        room: &RoomName,
        after: Seq,
    ) -> Option<GoLiveOutcome> {
        let (answer, answered) = oneshot::channel();
        let go_live = Command::GoLive(self.peer().clone(), room.clone(), after, answer);
        let _ = self.context().hub.send(go_live);
        writer.flush_during(tokio::time::timeout(HUB_TIMEOUT, answered)).await.ok()?.ok()
    }

    async fn read_page(
        &self,
        writer: &mut Writer<'_>,
        room: &RoomName,
        range: PageRange,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let reader = self.context().reader.clone();
        let room = room.clone();
        self.read(writer, move || reader.page(&room, range, limit, MAX_PAGE_BYTES)).await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        writer: &mut Writer<'_>,
        read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        writer
            .flush_during(tokio::task::spawn_blocking(read))
            .await
            .unwrap_or_else(|_| Err(StoreError::Failed("an internal error interrupted it".into())))
    }

    /// Waits until at most half the bound of the send queue is in use.
    pub(super) async fn wait_for_queue(&self, writer: &mut Writer<'_>) {
        let half_full = self.context().active_config.load().config.limits.outbound_bytes / 2;
        writer.flush_to(half_full).await;
    }

    fn push_gap(&self, room: &RoomName, gap: Gap, epoch: &Epoch) {
        let peer = self.peer();
        self.context().refusals.gap_sent(&SentGap {
            session: &peer.session,
            peer: peer.client.address,
            user: &peer.user,
            room,
            gap: &gap,
        });
        peer.push_gap(room, gap, epoch);
    }

    /// Closes the session because the room log can't be read.
    fn close_unreadable(&self, room: &RoomName) {
        let text = "the server can't read the room log at the moment; reconnect and resume";
        self.refuse(ErrorFrame {
            room: Some(room.to_string()),
            ..ErrorFrame::new(ErrorCode::StorageFailed, text)
        });
        let reason = CloseReason { close: CloseCode::TryLater, cause: "history_failed" };
        self.peer().outbound.close(reason, text);
    }
}
