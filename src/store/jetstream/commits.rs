//! The newest commit of an end-to-end room, and what commits brought along.

use std::thread;
use std::time::Instant;

use super::cluster::{Cluster, failed};
use super::commit_record::CommitRecord;
use super::engine::{ReadRequest, StreamMessage};
use super::log_state::{LogState, NewestCommit};
use super::names::SubjectKind;
use crate::crypto::sealer::Tag;
use crate::protocol::device::DeviceId;
use crate::protocol::{RoomName, Seq, UserName};
use crate::store::deposits::{GroupInfo, Invited};
use crate::store::room_log::StoreError;

/// How many records of commits, and how many trees, a room keeps.
pub(super) const MAX_RECORDS: u64 = 128;
pub(super) const MAX_TREES: u64 = 8;

impl Cluster {
    /// The newest commit of a room as the stream's leader knows it.
    pub fn ask_newest_commit(&self, log: &LogState, tag: &Tag) -> Result<NewestCommit, StoreError> {
        Ok(self.last_record(log, tag)?.0)
    }

    /// The newest commit of a room, and its record; without one, it can't be read.
    pub fn last_record(
        &self,
        log: &LogState,
        tag: &Tag,
    ) -> Result<(NewestCommit, Option<CommitRecord>), StoreError> {
        let epoch = log.epoch();
        let subject = self.names.subject(SubjectKind::Commits, tag);
        let last = self.engine.last_of(&log.stream, &subject, self.timings.ask);
        let last = last.map_err(|error| failed(log, error))?;
        let (newest, record) = match &last {
            None => (NewestCommit::default(), None),
            Some(last) => {
                let record = self.keys.open_commit(&subject, &last.payload);
                // Also of one that can't be read the number is most likely this.
                let commit = record.as_ref().map_or(last.seq - 1, |one| one.commit(last.seq).0);
                (NewestCommit { commit, told_at: last.seq }, record)
            }
        };
        log.learn_newest_commit(tag, &epoch, newest);
        Ok((newest, record))
    }

    /// What a device needs to come into a room by itself.
    pub fn group_info(&self, room: &RoomName) -> Result<Option<GroupInfo>, StoreError> {
        let tag = self.names.tag(room);
        let log = self.log_of(&tag);
        let (newest, record) = self.last_record(log, &tag)?;
        let deleted_to = self.notes(log, &tag)?.map_or(0, |notes| notes.deleted_to);
        let record = record.filter(|_| newest.commit > deleted_to);
        Ok(record.map(|CommitRecord { info, tree_hash, .. }| GroupInfo {
            seq: Seq(newest.commit),
            info,
            tree_hash,
        }))
    }

    /// The ratchet tree of a room with this SHA-256.
    pub fn tree(&self, room: &RoomName, hash: &[u8; 32]) -> Result<Option<Box<[u8]>>, StoreError> {
        let tag = self.names.tag(room);
        let log = self.log_of(&tag);
        let subject = self.names.subject(SubjectKind::Trees, &tag);
        let open = |message: &StreamMessage| self.keys.open_tree(&subject, &message.payload, hash);
        // Most likely the newest one is asked for, and its leader is never behind.
        let last = self.engine.last_of(&log.stream, &subject, self.timings.ask);
        let Some(last) = last.map_err(|error| failed(log, error))? else { return Ok(None) };
        if let Some(tree) = open(&last) {
            return Ok(Some(tree));
        }
        let mut next = 1;
        while next < last.seq {
            let messages = self.subject_from(log, &subject, next, last.seq)?;
            if let Some(tree) = messages.iter().find_map(open) {
                return Ok(Some(tree));
            }
            next = messages.last().map_or(last.seq, |message| message.seq) + 1;
        }
        Ok(None)
    }

    /// The welcome of a device for a room, if the commit after `base` was made and adds the device.
    pub fn invitation(
        &self,
        room: &RoomName,
        base: Seq,
        (user, device): (&UserName, DeviceId),
    ) -> Result<Option<Invited>, StoreError> {
        let tag = self.names.tag(room);
        let log = self.log_of(&tag);
        let newest = self.ask_newest_commit(log, &tag)?;
        if newest.commit <= base.0 {
            return Ok(None);
        }
        let deleted_to = self.notes(log, &tag)?.map_or(0, |notes| notes.deleted_to);
        let subject = self.names.subject(SubjectKind::Commits, &tag);
        let mut next = base.0 + 1;
        while next <= newest.told_at {
            let messages = self.subject_from(log, &subject, next, newest.told_at)?;
            next = messages.last().map_or(newest.told_at, |message| message.seq) + 1;
            for message in messages {
                let Some(record) = self.keys.open_commit(&subject, &message.payload) else {
                    continue;
                };
                if record.base != base {
                    continue;
                }
                let (seq, tree_hash) = (record.commit(message.seq), record.tree_hash);
                let is_for = |(to, id): &(UserName, DeviceId)| (to, *id) == (user, device);
                let mut welcomes = record.welcomes.into_iter();
                let welcome = welcomes.find(|welcome| welcome.to.iter().any(is_for));
                return Ok(welcome.filter(|_| seq.0 > deleted_to).map(|welcome| Invited {
                    room: room.clone(),
                    seq,
                    content: welcome.content,
                    tree_hash,
                }));
            }
        }
        Ok(None)
    }

    /// Some messages of a subject from this number on; if there are no more, those up to `last` are among them.
    fn subject_from(
        &self,
        log: &LogState,
        subject: &str,
        seq: u64,
        last: u64,
    ) -> Result<Vec<StreamMessage>, StoreError> {
        let request = ReadRequest::From {
            subject: subject.to_owned(),
            seq,
            messages: MAX_RECORDS as usize,
            bytes: 1 << 20,
        };
        let began = Instant::now();
        loop {
            let read = self.read(log, &request)?;
            let end = read.messages.last().map_or(0, |message| message.seq);
            // A replica that lags behind has fewer. The last one may have been removed since.
            if read.pending > 0 && end > 0 || end >= last || began.elapsed() >= self.timings.stale {
                return Ok(read.messages);
            }
            thread::sleep(self.timings.pause);
        }
    }
}
