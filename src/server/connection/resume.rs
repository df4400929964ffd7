//! Reading what is kept: history on request, and resuming where somebody left off.

use std::sync::PoisonError;

use super::session::{HUB_ANSWER, Session};
use crate::conversation::server::request::HistoryRange;
use crate::net::send_queue::CloseReason;
use crate::net::server_connection::ServerConnection;
use crate::protocol::frame::{ErrorFrame, Gap, History, Position, ServerFrame};
use crate::protocol::{CloseCode, Epoch, ErrorCode, RoomName, Seq};
use crate::server::rooms::delivery::{kept_message, replay_frame};
use crate::server::rooms::hub::{Attached, Command};
use crate::store::{Page, PageRange, StoreError};

/// One read from the log while somebody catches up.
const PAGE_MESSAGES: usize = 256;
/// Text in one page at most; as tokens in JSON it stays well under a queue's bound.
const PAGE_BYTES: usize = 64 * 1024;

impl Session {
    /// Brings a reader from `from` to what is live, in order, without a hole it is not told of.
    /// Where the log can't be read the session ends: going on would be skipping in silence.
    pub(super) async fn catch_up(
        &mut self,
        link: &mut ServerConnection,
        room: &RoomName,
        from: Position,
    ) {
        let Ok(mut after) = self.begin_after(link, room, from).await else {
            return self.history_failed(room);
        };
        loop {
            let page = self.page(link, room, PageRange::After(after), PAGE_MESSAGES).await;
            let Ok(page) = page else { return self.history_failed(room) };
            after = self.replay(room, after, &page);
            let room_for_more = self.context().live.load().config.limits.outbound_bytes / 2;
            link.flush_to(room_for_more).await;
            if self.peer().outbound.close_reason().is_some()
                || self.peer().outbound.is_disconnected()
            {
                return;
            }
            if page.more {
                continue;
            }
            match self.attach(link, room, after).await {
                Some(Attached::Live) => return,
                Some(Attached::Behind) => {}
                None => return self.history_failed(room),
            }
        }
    }

    /// Where to begin: after what the reader has, if that still means anything.
    async fn begin_after(
        &self,
        link: &mut ServerConnection,
        room: &RoomName,
        from: Position,
    ) -> Result<Seq, StoreError> {
        let head = self.page(link, room, PageRange::After(from.seq), 1).await?.head;
        if head.epoch != from.epoch {
            self.gap(room, from.seq, head.first, "epoch", &head.epoch);
            return Ok(Seq(head.first.0.saturating_sub(1)));
        }
        if from.seq > head.last {
            self.gap(room, from.seq, head.last.next(), "future", &head.epoch);
            return Ok(head.last);
        }
        Ok(from.seq)
    }

    /// Answers a `history` query.
    pub(super) async fn history(
        &mut self,
        link: &mut ServerConnection,
        room: &RoomName,
        window: HistoryRange,
        limit: usize,
    ) {
        if self.membership(room).is_none() {
            return;
        }
        let span = match window {
            HistoryRange::After(seq) => PageRange::After(seq),
            HistoryRange::Before(seq) => PageRange::Before(seq),
            HistoryRange::Newest => PageRange::Newest,
        };
        let Ok(page) = self.page(link, room, span, limit).await else {
            return self.history_failed(room);
        };
        let Some(membership) = self.membership(room) else { return };
        if let (PageRange::After(after), Some(first)) = (span, page.entries.first())
            && first.seq > after.next()
        {
            self.gap(room, after, first.seq, "expired", &page.head.epoch);
        }
        {
            let ring = membership.ring.read().unwrap_or_else(PoisonError::into_inner);
            let messages = page.entries.iter().map(|entry| kept_message(entry, &ring)).collect();
            // Queued before the ring is let go, so that no newer key can come before it.
            self.peer().send(&ServerFrame::History(History {
                room: room.clone(),
                epoch: Some(page.head.epoch.clone()),
                messages,
                more: page.more,
            }));
        }
        let room_for_more = self.context().live.load().config.limits.outbound_bytes / 2;
        link.flush_to(room_for_more).await;
    }

    /// Sends a page and names every hole in it; says up to where the reader is told everything.
    fn replay(&self, room: &RoomName, mut after: Seq, page: &Page) -> Seq {
        let Some(membership) = self.rooms.iter().find(|one| one.room == *room) else {
            return after;
        };
        let ring = membership.ring.read().unwrap_or_else(PoisonError::into_inner);
        let epoch = &page.head.epoch;
        let hole = |after: Seq, next: Seq| {
            let damaged = page.damaged.iter().any(|hole| hole.first < next && hole.last > after);
            self.gap(room, after, next, if damaged { "damaged" } else { "expired" }, epoch);
        };
        for entry in &page.entries {
            if entry.seq > after.next() {
                hole(after, entry.seq);
            }
            self.peer().outbound.push(replay_frame(entry, &ring));
            after = entry.seq;
        }
        // Queued under the lock: no newer key can come before what is sealed under this one.
        drop(ring);
        let reached = if page.more { page.reached } else { page.reached.max(page.head.last) };
        if reached > after {
            hole(after, reached.next());
            after = reached;
        }
        self.peer().outbound.flush();
        after
    }

    /// Goes live, if nothing is missing; `None` where the hub gives no answer.
    async fn attach(
        &self,
        link: &mut ServerConnection,
        room: &RoomName,
        after: Seq,
    ) -> Option<Attached> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let attach = Command::Attach(self.peer().clone(), room.clone(), after, answer);
        let _ = self.context().hub.send(attach);
        link.flush_during(tokio::time::timeout(HUB_ANSWER, answered)).await.ok()?.ok()
    }

    async fn page(
        &self,
        link: &mut ServerConnection,
        room: &RoomName,
        span: PageRange,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let reader = self.context().reader.clone();
        let room = room.clone();
        let read = tokio::task::spawn_blocking(move || reader.page(&room, span, limit, PAGE_BYTES));
        link.flush_during(read)
            .await
            .unwrap_or_else(|_| Err(StoreError::Failed("reading broke off".into())))
    }

    fn gap(&self, room: &RoomName, after: Seq, next: Seq, reason: &str, epoch: &Epoch) {
        tracing::info!(event = "gap", session = %self.peer().session, room = %room, after = after.0,
            next = next.0, reason, "a reader was told what is missing");
        self.peer().push(&ServerFrame::Gap(Gap {
            room: room.clone(),
            after,
            next,
            reason: reason.to_owned(),
            epoch: Some(epoch.clone()),
        }));
    }

    fn history_failed(&self, room: &RoomName) {
        let text = "the history can't be read at the moment; come back and resume";
        self.object(ErrorFrame {
            room: Some(room.to_string()),
            ..ErrorFrame::new(ErrorCode::StorageFailed, text)
        });
        let ending = CloseReason { close: CloseCode::TryLater, cause: "history_failed" };
        self.peer().outbound.close(ending, text);
    }
}
