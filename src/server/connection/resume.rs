//! Reading the room log for a client: `history` pages, and the replay that resumes a room.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::session::{HUB_TIMEOUT, Session};
use crate::conversation::server::request::HistoryRange;
use crate::net::send_queue::CloseReason;
use crate::net::server_connection::ServerConnection;
use crate::protocol::frame::{self, ErrorFrame, History, Position, ServerFrame};
use crate::protocol::{CloseCode, Epoch, ErrorCode, RoomName, Seq};
use crate::server::refusal_log::SentGap;
use crate::server::rooms::command::{Command, GoLiveOutcome};
use crate::server::rooms::delivery::{frame_bytes, history_entry, replay_frame};
use crate::server::rooms::redaction::push_redacted;
use crate::store::{Gap, Page, PageRange, StoreError};

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
        connection: &mut ServerConnection,
        room: &RoomName,
        from: Position,
    ) {
        let Ok(mut after) = self.replay_start(connection, room, from).await else {
            return self.close_unreadable(room);
        };
        loop {
            let deletions = self.context().deletions.get();
            let range = PageRange::After(after);
            let page = self.read_page(connection, room, range, REPLAY_PAGE_MESSAGES).await;
            let Ok(page) = page else { return self.close_unreadable(room) };
            let Some(reached) = self.send_page(room, after, &page, deletions) else { continue };
            after = reached;
            self.wait_for_queue(connection).await;
            if self.peer().outbound.close_reason().is_some()
                || self.peer().outbound.is_disconnected()
            {
                return;
            }
            if page.more {
                continue;
            }
            match self.go_live(connection, room, after).await {
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
        connection: &mut ServerConnection,
        room: &RoomName,
        position: Position,
    ) -> Result<Seq, StoreError> {
        let (reader, read_room) = (self.context().reader.clone(), room.clone());
        let read = move || {
            let resumption = reader.resume(&read_room, &position)?;
            Ok((resumption, reader.head(&read_room)?.epoch))
        };
        let (resumption, epoch) = self.read(connection, read).await?;
        if let Some(gap) = resumption.gap {
            self.push_gap(room, gap, &epoch);
        }
        Ok(resumption.from)
    }

    /// Answers a `history` request.
    pub(super) async fn history(
        &mut self,
        connection: &mut ServerConnection,
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
            let Ok(page) = self.read_page(connection, room, range, limit).await else {
                return self.close_unreadable(room);
            };
            self.answer_bytes +=
                page.entries.iter().map(|entry| frame_bytes(entry.text.len()) as u64).sum::<u64>();
            let Some(membership) = self.membership(room) else { return };
            let ring = membership.ring.read();
            if self.context().deletions.get() != deletions {
                continue;
            }
            self.push_holes(room, &page, Seq(u64::MAX), &mut (0, 0));
            let messages = page.entries.iter().map(|entry| history_entry(entry, &ring)).collect();
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
        self.wait_for_queue(connection).await;
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
        let mut sent = (0, 0);
        for entry in &page.entries {
            self.push_holes(room, page, entry.seq, &mut sent);
            self.peer().outbound.push(replay_frame(entry, &ring));
        }
        // The frames are queued while the lock is held, so no newer key can precede them.
        drop(ring);
        self.peer().received.fetch_add(page.entries.len() as u64, Ordering::Relaxed);
        self.push_holes(room, page, Seq(u64::MAX), &mut sent);
        self.peer().outbound.flush();
        Some(page.reached)
    }

    /// Queues the gaps and redactions of a page that come before `before`, in order. `sent` counts those
    /// that were queued already.
    fn push_holes(&self, room: &RoomName, page: &Page, before: Seq, sent: &mut (usize, usize)) {
        loop {
            let gap = page.gaps.get(sent.0).filter(|gap| gap.after < before);
            let redaction = page.redactions.get(sent.1).filter(|deleted| deleted.seq < before);
            match (gap, redaction) {
                (Some(gap), Some(redaction)) if redaction.seq <= gap.after => {
                    push_redacted(self.peer(), room, *redaction);
                    sent.1 += 1;
                }
                (Some(gap), _) => {
                    self.push_gap(room, *gap, &page.head.epoch);
                    sent.0 += 1;
                }
                (None, Some(redaction)) => {
                    push_redacted(self.peer(), room, *redaction);
                    sent.1 += 1;
                }
                (None, None) => return,
            }
        }
    }

    /// Asks the hub to make the session live after `after`; `None` if the hub does not answer.
    async fn go_live(
        &self,
        connection: &mut ServerConnection,
        room: &RoomName,
        after: Seq,
    ) -> Option<GoLiveOutcome> {
        let (answer, answered) = oneshot::channel();
        let go_live = Command::GoLive(self.peer().clone(), room.clone(), after, answer);
        let _ = self.context().hub.send(go_live);
        connection.flush_during(tokio::time::timeout(HUB_TIMEOUT, answered)).await.ok()?.ok()
    }

    async fn read_page(
        &self,
        connection: &mut ServerConnection,
        room: &RoomName,
        range: PageRange,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let reader = self.context().reader.clone();
        let room = room.clone();
        self.read(connection, move || reader.page(&room, range, limit, MAX_PAGE_BYTES)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        connection: &mut ServerConnection,
        read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        connection
            .flush_during(tokio::task::spawn_blocking(read))
            .await
            .unwrap_or_else(|_| Err(StoreError::Failed("an internal error interrupted it".into())))
    }

    /// Waits until at most half the bound of the send queue is in use.
    async fn wait_for_queue(&self, connection: &mut ServerConnection) {
        let half_full = self.context().active_config.load().config.limits.outbound_bytes / 2;
        connection.flush_to(half_full).await;
    }

    fn push_gap(&self, room: &RoomName, gap: Gap, epoch: &Epoch) {
        let (Gap { after, next, .. }, reason) = (gap, gap.reason.word());
        let peer = self.peer();
        self.context().refusals.gap_sent(&SentGap {
            session: &peer.session,
            peer: peer.client.address,
            user: &peer.user,
            room,
            gap: &gap,
        });
        self.peer().push(&ServerFrame::Gap(frame::Gap {
            room: room.as_str().into(),
            after,
            next,
            reason: reason.into(),
            epoch: Some(epoch.clone()),
        }));
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
