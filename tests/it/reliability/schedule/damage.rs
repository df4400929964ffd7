//! What makes messages go: pruning, a lost write-ahead log, and damage.

use std::collections::BTreeSet;
use std::fs;

use super::model::{ROOMS, Room};
use super::random::Random;
use super::world::{End, Expected, KEEP_EVERYTHING, STORE, World};
use crate::support::eventually;

const WAL: &str = "history.sqlite3-wal";

impl World {
    /// The write-ahead log is lost: what came before the last start must still be there.
    pub fn lose_wal(&mut self) {
        let floor = self.record_at_start.clone();
        self.end(End::Crash);
        fs::remove_file(self.store.join(WAL)).unwrap();
        self.begin(Expected::Lost);
        self.record.rooms = self.observe_all();
        self.record_at_start = self.record.clone();
        self.assert_holds(&floor);
    }

    /// Keeps only the newest messages, and waits until the server has pruned the others.
    pub fn prune(&mut self, keep: u64) {
        self.note_record();
        for room in &mut self.record.rooms {
            let surplus = room.last().saturating_sub(keep);
            // A hole at the end of what is pruned stays a hole.
            let Some((cut, _)) = room.said.range(..=surplus).next_back() else { continue };
            *room = room.pruned(*cut);
        }
        self.reload(keep);
        eventually("old messages are pruned", || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            self.observe_all() == self.record.rooms
        });
        self.reload(KEEP_EVERYTHING);
    }

    /// Deletes records from the stopped store, as a fault of the disk might.
    pub fn delete_records(&mut self, count: usize, random: &mut Random) {
        self.end(End::Clean);
        let db = rusqlite::Connection::open(self.store.join(STORE)).unwrap();
        let mut find = db.prepare("SELECT room, seq FROM records ORDER BY room, seq").unwrap();
        let rows = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let mut rows: Vec<(i64, i64)> = rows.map(|row| row.unwrap()).collect();
        let mut deleted: Vec<(i64, BTreeSet<u64>)> = Vec::new();
        for _ in 0..count.min(rows.len()) {
            let (room, seq) = rows.swap_remove(random.below(rows.len()));
            db.execute("DELETE FROM records WHERE room = ? AND seq = ?", [room, seq]).unwrap();
            match deleted.iter_mut().find(|(number, _)| *number == room) {
                Some((_, seqs)) => drop(seqs.insert(seq as u64)),
                None => deleted.push((room, BTreeSet::from([seq as u64]))),
            }
        }
        drop(find);
        drop(db);
        self.begin(Expected::Complete);
        for (room, found) in self.observe_all().into_iter().enumerate() {
            let before = &mut self.record.rooms[room];
            let gone: BTreeSet<u64> = found.damaged.difference(&before.damaged).copied().collect();
            if !gone.is_empty() {
                let number = deleted.iter().position(|(_, seqs)| *seqs == gone);
                deleted.swap_remove(number.unwrap_or_else(|| panic!("{gone:?} of {deleted:?}")));
                before.said.retain(|seq, _| !gone.contains(seq));
                before.damaged.extend(gone);
            }
            assert_eq!(found, *before, "{} after the deletion", ROOMS[room]);
        }
        assert!(deleted.is_empty(), "not told: {deleted:?}");
        self.record_at_start = self.record.clone();
    }

    /// Changes bytes in the middle of the stopped store.
    pub fn flip_bytes(&mut self, end: End, count: usize, random: &mut Random) {
        self.end(end);
        let wal = self.store.join(WAL);
        let has_wal = fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0);
        let path = if has_wal && random.chance(50) { wal } else { self.store.join(STORE) };
        let mut bytes = fs::read(&path).unwrap();
        // Not the header: it names the version, and a newer version is refused.
        let used: Vec<usize> = (100..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        for _ in 0..count {
            bytes[used[random.below(used.len())]] ^= 1 << random.below(8);
        }
        fs::write(&path, bytes).unwrap();
        self.record.doubtful.clone_from(&self.record.starts);
        let lost = self.begin(Expected::Anything);
        let found = self.observe_all();
        // The last pruning may be undone with the end of the write-ahead log; that loses nothing.
        let is_same = |(before, now): (&Room, &Room)| now.pruned(before.pruned_to) == *before;
        let is_whole = self.record.rooms.iter().zip(&found).all(is_same);
        assert!(lost || is_whole, "not said to be damaged: {found:?}");
        self.record.rooms = found;
        self.record_at_start = self.record.clone();
    }
}
