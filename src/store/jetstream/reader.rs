//! The reading end: pages by direct get.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cluster::{Cluster, Room, failed};
use super::deposits;
use super::engine::{ReadRequest, StreamMessage};
use super::log_state::LogState;
use super::names::SubjectKind;
use super::record::MessageRecord;
use super::scan;
use crate::protocol::frame::Position;
use crate::protocol::{RoomName, Seq, Timestamp};
use crate::store::deletion::{Redaction, Stored};
use crate::store::deposits::{E2eFound, E2eQuery};
use crate::store::page_builder::{Direction, Numbering, PageBuilder};
use crate::store::room_log::{
    Head, Page, PageRange, Resumption, RoomCount, RoomLogReader, StoreError,
};

/// Reads all streams.
pub(super) struct JetStreamReader(pub Arc<Cluster>);

impl RoomCount for JetStreamReader {
    /// As many as had messages when the streams were asked last, a few seconds ago.
    fn room_count(&self) -> u64 {
        self.0.logs.iter().map(|log| log.rooms()).sum()
    }
}

impl RoomLogReader for JetStreamReader {
    fn head(&self, room: &RoomName) -> Result<Head, StoreError> {
        Ok(self.0.room(room)?.head())
    }

    fn resume(&self, name: &RoomName, position: &Position) -> Result<Resumption, StoreError> {
        let room = self.0.room(name)?;
        let head = room.head();
        let known = position.epoch == head.epoch;
        if !known || position.seq <= head.last {
            return Ok(Resumption::of(position.seq, &head, known, known));
        }
        // Another server may have delivered what the tail here has not yielded yet.
        let last = self.0.ask_last(room.log, &room.tag, &room.epoch)?;
        let head = Head { last: head.last.max(Seq(last)), ..head };
        if position.seq <= head.last {
            return Ok(Resumption { from: position.seq, gap: None });
        }
        let state = self.0.state(room.log)?;
        if position.seq.0 <= state.last && state.created == room.log.created() {
            // The position is that of another room's message: the room has nothing up to it.
            return Ok(Resumption { from: head.last, gap: None });
        }
        Ok(Resumption::of(position.seq, &head, known, known))
    }

    fn page(
        &self,
        name: &RoomName,
        range: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let room = self.room_for(name, range)?;
        let mut page = PageBuilder::new(range, room.head(), Numbering::Sparse, limit, bytes);
        match page.direction() {
            Direction::Ascending => self.ascend(&room, &mut page)?,
            Direction::Descending => self.descend(&room, &mut page, limit)?,
        }
        let page = page.finish();
        self.check_epoch(&room, page)
    }

    fn since(&self, name: &RoomName, at: Timestamp) -> Result<Seq, StoreError> {
        let room = self.0.room(name)?;
        let (began, micros) = (std::time::Instant::now(), at.micros());
        let redacted = room.notes.iter().flat_map(|notes| &notes.redactions);
        let redacted = redacted.filter(|one| one.at >= at).map(|one| one.seq.0).min();
        loop {
            let request = ReadRequest::Since { subject: room.subject.clone(), micros };
            let first = self.0.read(room.log, &request)?.messages.into_iter().next();
            let first = first.map(|first| self.first_since(&room, first, at)).transpose()?;
            let first = first.into_iter().chain(redacted).min();
            if let Some(first) = first {
                return self.check_epoch(&room, Seq((first - 1).max(room.forgotten)));
            }
            // Nothing is as young. But the replica may lag behind.
            let last = self.0.engine.last_of(&room.log.stream, &room.subject, self.0.timings.ask);
            let last = last.map_err(|error| failed(room.log, error))?;
            if last.as_ref().is_none_or(|last| last.micros < micros) {
                return self.check_epoch(&room, room.head().last);
            }
            if began.elapsed() >= self.0.timings.stale {
                return Err(failed(room.log, "its replicas lack messages that its leader has"));
            }
            std::thread::sleep(self.0.timings.pause);
        }
    }

    fn leaves_out_numbers(&self) -> bool {
        true
    }

    fn e2e(&self, query: E2eQuery) -> Result<E2eFound, StoreError> {
        deposits::find(&self.0, query)
    }

    fn kept(&self, name: &RoomName) -> Result<u64, StoreError> {
        let room = self.0.room(name)?;
        let forgotten = Seq(room.forgotten);
        let redacted = room.notes.iter().flat_map(|notes| &notes.redactions);
        let redacted = redacted.filter(|one| one.seq > forgotten).count() as u64;
        Ok(scan::count_from(&self.0, &room, room.forgotten + 1)? + redacted)
    }

    fn log_of(&self, room: &RoomName) -> usize {
        usize::from(self.0.names.stream_of(&self.0.names.tag(room)))
    }

    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError> {
        self.0.check_connected()?;
        let mut names = Vec::new();
        for log in &self.0.logs {
            self.names_of(log, &mut names)?;
        }
        names.sort();
        names.dedup();
        names.into_iter().map(|name| self.head(&name).map(|head| (name, head))).collect()
    }
}

impl JetStreamReader {
    /// The room, with a `last` that is not below where the range begins if the stream is not.
    fn room_for(&self, name: &RoomName, range: PageRange) -> Result<Room<'_>, StoreError> {
        let mut room = self.0.room(name)?;
        let PageRange::After(after) = range else { return Ok(room) };
        if after <= room.head().last {
            return Ok(room);
        }
        room.last = room.last.max(self.0.ask_last(room.log, &room.tag, &room.epoch)?);
        if after > room.head().last && after.0 <= self.0.state(room.log)?.last {
            room.last = after.0;
        }
        Ok(room)
    }

    fn ascend(&self, room: &Room<'_>, page: &mut PageBuilder) -> Result<(), StoreError> {
        let mut next = page.start().0.max(room.forgotten) + 1;
        loop {
            let read = scan::from(&self.0, room, next, scan::MAX_MESSAGES)?;
            let end = match (read.pending, read.messages.last()) {
                (1.., Some(last)) => last.seq,
                _ => u64::MAX,
            };
            for (seq, stored) in self.stored(room, read.messages, next, end) {
                if !page.offer(seq, stored) {
                    return Ok(());
                }
            }
            if end == u64::MAX {
                return Ok(());
            }
            next = end + 1;
        }
    }

    fn descend(
        &self,
        room: &Room<'_>,
        page: &mut PageBuilder,
        limit: usize,
    ) -> Result<(), StoreError> {
        let mut end = page.start().0;
        let mut wanted = limit.saturating_add(1).min(scan::MAX_MESSAGES);
        while end > room.forgotten + 1 {
            let (messages, first) = scan::last_below(&self.0, room, end, wanted)?;
            for (seq, stored) in self.stored(room, messages, first, end - 1).into_iter().rev() {
                if !page.offer(seq, stored) {
                    return Ok(());
                }
            }
            end = first;
            wanted = wanted.saturating_mul(2).min(scan::MAX_MESSAGES);
        }
        Ok(())
    }

    /// The messages between `first` and `last`, with those whose texts were deleted, in ascending order. `None` stands
    /// for one that can't be read.
    fn stored(
        &self,
        room: &Room<'_>,
        messages: Vec<StreamMessage>,
        first: u64,
        last: u64,
    ) -> BTreeMap<Seq, Option<Stored>> {
        let in_range = |one: &&Redaction| (first..=last).contains(&one.seq.0);
        let redacted = room.notes.iter().flat_map(|notes| &notes.redactions).filter(in_range);
        let mut stored: BTreeMap<Seq, Option<Stored>> =
            messages.into_iter().map(|message| (Seq(message.seq), self.open(&message))).collect();
        // A lagging replica may still have the text.
        stored.extend(redacted.map(|one| (one.seq, Some(Stored::Redacted(*one)))));
        stored
    }

    fn open(&self, message: &StreamMessage) -> Option<Stored> {
        Some(self.record(message)?.into_stored(message.seq, message.micros))
    }

    fn record(&self, message: &StreamMessage) -> Option<MessageRecord> {
        let record = self.0.keys.open_message(&message.subject, &message.payload)?;
        let tag = self.0.names.tag(&record.draft.room);
        (self.0.names.parse(&message.subject)? == (SubjectKind::Messages, tag)).then_some(record)
    }

    /// The number of the first message of a room from `first` on that is not from before this time. Imported messages
    /// were stored later than they were said.
    fn first_since(
        &self,
        room: &Room<'_>,
        first: StreamMessage,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let is_before = |message: &StreamMessage| {
            let past = self.record(message).and_then(|record| record.past);
            past.is_some_and(|past| past.latest < at)
        };
        if !is_before(&first) {
            return Ok(first.seq);
        }
        // The message `before` is from before, and the first one from `end` on is not.
        let (mut before, mut end) = (first.seq, room.last.max(first.seq) + 1);
        while end - before > 1 {
            let middle = before + (end - before) / 2;
            let found = scan::from(&self.0, room, middle, 1)?.messages.into_iter().next();
            match found.filter(is_before) {
                Some(message) => before = message.seq,
                None => end = middle,
            }
        }
        Ok(end)
    }

    fn check_epoch<T>(&self, room: &Room<'_>, read: T) -> Result<T, StoreError> {
        match room.log.epoch() == room.epoch {
            true => Ok(read),
            false => Err(failed(room.log, "the stream was replaced; ask again")),
        }
    }

    /// Adds the names of the rooms in a stream.
    fn names_of(&self, log: &LogState, names: &mut Vec<RoomName>) -> Result<(), StoreError> {
        let filter = self.0.names.filter(SubjectKind::Messages);
        let subjects = self.0.engine.subjects(&log.stream, &filter, self.0.timings.ask);
        let mut by_slot: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for (subject, _) in subjects.map_err(|error| failed(log, error))? {
            if let Some((SubjectKind::Messages, tag)) = self.0.names.parse(&subject) {
                by_slot.entry(u16::from(tag[0])).or_default().push(subject);
            }
        }
        for (slot, subjects) in by_slot {
            let filter = self.0.names.slot_filter(SubjectKind::Messages, slot);
            let read = self.0.read(log, &ReadRequest::LastOfEach { filter })?;
            let mut found: BTreeMap<String, RoomName> = BTreeMap::new();
            let mut add = |message: &StreamMessage| {
                if let Some(record) = self.record(message) {
                    found.insert(message.subject.clone(), record.draft.room);
                }
            };
            read.messages.iter().for_each(&mut add);
            // More than one answer holds, or the replica lags behind, or the last one is damaged.
            let lacking: Vec<_> = subjects.iter().filter(|one| !found.contains_key(*one)).collect();
            for subject in lacking {
                let last = self.0.engine.last_of(&log.stream, subject, self.0.timings.ask);
                if let Some(last) = last.map_err(|error| failed(log, error))?
                    && let Some(record) = self.record(&last)
                {
                    found.insert(subject.clone(), record.draft.room);
                }
            }
            names.extend(found.into_values());
        }
        Ok(())
    }
}
