//! One end-to-end room on one connection: how far it was read, and what this device does in it.

use std::time::Instant;

use super::queued::{Hole, Queued};
use crate::client::random::random_number;
use crate::conversation::client::backfill::BackfillStart;
use crate::mls::rows::{Room, Status};
use crate::policy::upkeep::{COMMIT_TRIES, commit_pause};
use crate::protocol::frame::Position;
use crate::protocol::{Epoch, MessageId, RoomName, Seq};

/// Entries in a page, at most.
const PAGE: u64 = 512;
/// Bytes of entries above which they are read without waiting for more.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;

/// Where a run begins to show a room.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// After this place.
    After(Seq),
    /// To be found in the archive when the log was read to its end.
    Sought(BackfillStart),
}

/// One end-to-end room on one connection.
pub struct Session {
    /// Its name.
    pub room: RoomName,
    /// The epoch of its log.
    pub epoch: Epoch,
    /// The newest entry, as far as the server said.
    pub head: Seq,
    /// The newest entry when this run first entered the room.
    pub first_head: Seq,
    /// What this device is in it; `None`: nothing yet.
    pub status: Option<Status>,
    /// The last entry that was read.
    pub applied: Seq,
    /// The last commit.
    pub base: Seq,
    /// Where showing begins, or goes on.
    pub start: Start,
    /// Messages up to here are of the past that was asked for.
    pub requested_through: Seq,
    /// Whether there may be something new to show.
    pub has_news: bool,
    /// The commit of this device that was sent on this connection and is not read in the log yet.
    pub commit: Option<MessageId>,
    /// Whether what earlier runs owed was sent on this connection, and the members' keys were looked at.
    pub is_settled: bool,
    /// Whether the messages that earlier runs owed were sent on this connection.
    pub has_resent: bool,
    /// Whether this device looked whether it is to renew its keys.
    pub is_upkept: bool,
    /// When it tries again to renew them, because another change came first, and how often it tried.
    pub upkeep_at: Option<Instant>,
    /// How often another change came first.
    pub upkeep_tries: u32,
    /// Whether the server answered what it knows of the room.
    pub is_answered: bool,
    /// Whether it was said that this device waits to be let in.
    pub is_told: bool,
    /// Whether this device was coming in by itself when it was last looked.
    pub was_joining: bool,
    /// Entries that were not read, and that the server no longer has: from where on, and why.
    pub(super) lost: Option<(Seq, String)>,
    /// Whether the description of the room was asked for, because entries are lost.
    is_described: bool,
    pub(super) next: Seq,
    queue: Vec<Queued>,
    queued_bytes: usize,
    /// Whether the server sends what was not read, without being asked for pages.
    pub(super) is_resumed: bool,
    pub(super) is_behind: bool,
    pub(super) is_asking: bool,
    /// Whether the server sends this session the commits and its user's own messages alone, by its own word.
    pub(super) is_write_only: bool,
    /// Whether the server leaves out numbers, by its own word.
    pub(super) is_sparse: bool,
    pub(super) holes: Vec<Hole>,
}

impl Session {
    /// A session in a room that has this log.
    pub fn new(room: RoomName, epoch: Epoch, head: Seq, start: Start) -> Self {
        Session {
            room,
            epoch,
            head,
            first_head: head,
            status: None,
            applied: Seq(0),
            base: Seq(0),
            start,
            requested_through: Seq(0),
            has_news: true,
            commit: None,
            is_settled: false,
            has_resent: false,
            is_upkept: false,
            upkeep_at: None,
            upkeep_tries: 0,
            is_answered: false,
            is_told: false,
            was_joining: false,
            lost: None,
            is_described: false,
            next: Seq(1),
            queue: Vec::new(),
            queued_bytes: 0,
            is_resumed: false,
            is_behind: false,
            is_asking: false,
            is_write_only: false,
            is_sparse: false,
            holes: Vec::new(),
        }
    }

    /// A new connection: the log is read from where the group is.
    pub fn connected(&mut self, head: &Position, is_resumed: bool, is_write_only: bool) {
        (self.epoch, self.head) = (head.epoch.clone(), head.seq);
        self.is_write_only = is_write_only;
        // Only a page tells how far nothing more is for this session.
        (self.is_resumed, self.is_behind) = (is_resumed && !is_write_only, false);
        self.queue.clear();
        self.queued_bytes = 0;
        self.holes.clear();
        (self.is_asking, self.is_settled, self.is_upkept) = (false, false, false);
        (self.commit, self.has_resent) = (None, false);
        self.lost = None;
        (self.is_described, self.is_answered) = (false, false);
        self.next = self.applied.next();
    }

    /// Takes over what the state says of the room.
    pub fn take(&mut self, room: Option<&Room>) {
        let before = (self.status, self.applied);
        self.was_joining |= self.status == Some(Status::Joining);
        self.status = room.map(|room| room.status);
        self.applied = room.map_or(Seq(0), |room| room.applied);
        self.base = room.map_or(Seq(0), |room| room.base);
        // Another process of this device may have read what came since.
        self.head = self.head.max(self.applied);
        if self.next <= self.applied || before.0 != self.status {
            // Another process of this device read them, or the device has just come in.
            self.next = self.applied.next().max(self.first_queued());
        }
        self.has_news |= before.1 != self.applied;
        self.is_behind |= self.reads() && !self.is_resumed && self.next <= self.head;
    }

    fn first_queued(&self) -> Seq {
        self.queue.last().map_or(Seq(0), |queued| queued.seq.next())
    }

    /// Whether the device reads the log.
    pub fn reads(&self) -> bool {
        if self.lost.is_some() {
            return false;
        }
        self.status.is_some_and(reads)
    }

    /// Another change came before that by which the device wanted to renew its keys: it tries again after a pause.
    pub fn renew_later(&mut self, now: Instant) -> Option<Instant> {
        self.upkeep_tries += 1;
        let pause = commit_pause(self.upkeep_tries, random_number());
        self.upkeep_at = (self.upkeep_tries < COMMIT_TRIES).then(|| now + pause);
        self.upkeep_at
    }

    /// Whether the device is a member and has read the log to its end.
    pub fn is_ready(&self) -> bool {
        self.status == Some(Status::Member) && self.is_at_end()
    }

    /// Whether the log was read to its end.
    pub fn is_at_end(&self) -> bool {
        !self.is_behind && self.queue.is_empty() && self.applied >= self.head
    }

    /// Whether entries are lost for this device, so that it has to come in anew.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some() && self.queue.is_empty()
    }

    /// Whether the description of the room was asked for. From now on, it was.
    pub fn was_asked(&mut self) -> bool {
        std::mem::replace(&mut self.is_described, true)
    }

    /// The line about the lost entries, when the device comes in after `seq`.
    pub fn take_lost(&mut self, seq: Seq) -> Option<String> {
        let (first, reason) = self.lost.take()?;
        let line = serde_json::json!({
            "type": "gap", "room": self.room.as_str(), "after": first.0 - 1, "next": seq.next().0,
            "reason": reason,
        });
        Some(line.to_string())
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.next = queued.seq.next();
        self.queued_bytes += queued.bytes();
        self.queue.push(queued);
    }

    /// Whether as much waits as may wait.
    pub fn is_full(&self) -> bool {
        self.queued_bytes >= MAX_QUEUED_BYTES
    }

    /// What waits to be read.
    pub fn take_queue(&mut self) -> Vec<Queued> {
        self.queued_bytes = 0;
        std::mem::take(&mut self.queue)
    }

    /// An entry was not the next one after all.
    pub fn fall_back(&mut self, expected: Seq) {
        self.queue.clear();
        self.queued_bytes = 0;
        self.next = expected;
        (self.is_behind, self.is_resumed) = (true, false);
    }

    /// The next page to ask for.
    pub fn next_request(&mut self) -> Option<String> {
        if !self.is_behind || self.is_asking || !self.reads() || self.is_full() {
            return None;
        }
        self.is_asking = true;
        Some(super::frames::get_entries(&self.room, Seq(self.next.0 - 1), PAGE))
    }
}

/// Whether a device in this status reads the log.
pub fn reads(status: Status) -> bool {
    match status {
        Status::Member | Status::Creating | Status::Joining => true,
        Status::Outdated | Status::Removed => false,
    }
}
