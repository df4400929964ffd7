//! Whatever happens to a store's folder, a reader that resumes by its position gets every message of the
//! record that it follows, or is told which are missing; and it is told nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;

use super::identity::copy;
use super::*;

const ROOMS: [&str; 2] = ["lobby", "ops"];
const READERS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Append(usize, u8),
    Restart,
    Crash,
    Move {
        with_watermark: bool,
    },
    Backup {
        cleanly: bool,
    },
    Restore {
        into_empty: bool,
    },
    /// A backup is restored after a reader read more; as many new messages may follow as were lost.
    Fork {
        cleanly: bool,
        room: usize,
        lost: u8,
        new: u8,
        reader: usize,
    },
    LoseWal,
    Prune(u64),
    Damage(usize, u64),
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2usize, 1..4u8).prop_map(|(room, count)| Step::Append(room, count)),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => any::<bool>().prop_map(|with_watermark| Step::Move { with_watermark }),
        2 => any::<bool>().prop_map(|cleanly| Step::Backup { cleanly }),
        3 => any::<bool>().prop_map(|into_empty| Step::Restore { into_empty }),
        2 => (any::<bool>(), 0..2usize, 1..4u8, 0..5u8, 0..READERS).prop_map(
            |(cleanly, room, lost, new, reader)| Step::Fork { cleanly, room, lost, new, reader }
        ),
        1 => Just(Step::LoseWal),
        1 => (1..6u64).prop_map(Step::Prune),
        1 => (0..2usize, 1..12u64).prop_map(|(room, seq)| Step::Damage(room, seq)),
        6 => (0..READERS).prop_map(Step::Read),
    ]
}

/// What a store should hold.
#[derive(Clone, Debug, Default)]
struct Record {
    starts: BTreeSet<String>,
    rooms: [RoomRecord; 2],
}

#[derive(Clone, Debug, Default)]
struct RoomRecord {
    /// The text of every message ever appended, by seq.
    said: BTreeMap<u64, String>,
    pruned_to: u64,
    damaged: BTreeSet<u64>,
}

impl RoomRecord {
    fn last(&self) -> u64 {
        self.said.keys().next_back().copied().unwrap_or(0)
    }
}

#[derive(Default)]
struct Reader {
    rooms: [RoomReader; 2],
}

#[derive(Default)]
struct RoomReader {
    position: Option<Position>,
    printed: BTreeMap<u64, String>,
    told: BTreeSet<u64>,
}

struct World {
    home: Home,
    opened: Option<OpenedStore>,
    record: Record,
    backup: Option<(tempfile::TempDir, Record)>,
    said: u64,
}

impl World {
    fn new() -> Self {
        let home = Home::new();
        let mut world =
            World { home, opened: None, record: Record::default(), backup: None, said: 0 };
        world.open();
        world
    }

    fn open(&mut self) {
        let opened = self.home.open();
        self.record.starts.insert(epoch(&opened).as_str().to_owned());
        self.opened = Some(opened);
    }

    fn opened(&mut self) -> &mut OpenedStore {
        self.opened.as_mut().unwrap()
    }

    fn stop(&mut self, cleanly: bool) {
        let mut opened = self.opened.take().unwrap();
        if cleanly {
            opened.log().close().unwrap();
        }
    }

    fn step(&mut self, step: Step, readers: &mut [Reader]) {
        match step {
            Step::Append(room, count) => self.append(room, count),
            Step::Restart => {
                self.stop(true);
                self.open();
            }
            Step::Crash => {
                self.stop(false);
                self.open();
            }
            Step::Move { with_watermark } => {
                self.stop(true);
                let folder = tempfile::tempdir().unwrap();
                copy(self.home.folder.path(), folder.path());
                self.home = Home::at(folder);
                if !with_watermark {
                    fs::remove_file(self.home.file(WATERMARK_FILE)).unwrap();
                }
                self.open();
                assert_eq!(self.losses(), 0);
            }
            Step::Backup { cleanly } => {
                let folder = tempfile::tempdir().unwrap();
                if cleanly {
                    self.stop(true);
                }
                copy(self.home.folder.path(), folder.path());
                self.backup = Some((folder, self.record.clone()));
                if cleanly {
                    self.open();
                }
            }
            Step::Restore { into_empty } => self.restore(into_empty),
            Step::Fork { cleanly, room, lost, new, reader } => {
                self.step(Step::Backup { cleanly }, readers);
                self.append(room, lost);
                self.read(&mut readers[reader]);
                self.restore(true);
                self.append(room, new);
                self.read(&mut readers[reader]);
            }
            Step::LoseWal => self.lose_wal(),
            Step::Prune(messages) => {
                let opened = self.opened.as_mut().unwrap();
                opened.log().set_retention(Retention { messages, ..RETENTION });
                assert_eq!(opened.log().prune(at(1), LONG).error, None);
                for room in &mut self.record.rooms {
                    let surplus = room.last().saturating_sub(messages);
                    let cut =
                        (room.pruned_to + 1..=surplus).rfind(|seq| !room.damaged.contains(seq));
                    room.pruned_to = cut.unwrap_or(room.pruned_to);
                }
            }
            Step::Damage(room, seq) => self.damage(room, seq),
            Step::Read(reader) => self.read(&mut readers[reader]),
        }
    }

    fn append(&mut self, room: usize, count: u8) {
        for _ in 0..count {
            self.said += 1;
            let text = format!("message {}", self.said);
            let drafts = vec![draft(ROOMS[room], &self.said.to_string(), &text)];
            let opened = self.opened();
            let outcomes = opened.log().append(drafts, at(0));
            opened.log().after_commit();
            let [AppendOutcome::Appended(entry)] = &outcomes[..] else { panic!("{outcomes:?}") };
            let record = &mut self.record.rooms[room];
            assert_eq!(entry.seq.0, record.last() + 1, "no number is used twice or left out");
            record.said.insert(entry.seq.0, text);
        }
    }

    fn restore(&mut self, into_empty: bool) {
        let Some((folder, record)) = &self.backup else { return };
        let (path, record) = (folder.path().to_owned(), record.clone());
        self.stop(into_empty);
        if into_empty {
            for file in self.home.folder.path().read_dir().unwrap() {
                fs::remove_file(file.unwrap().path()).unwrap();
            }
        }
        copy(&path, self.home.folder.path());
        self.record = record;
        self.open();
        assert_eq!(self.losses(), 0);
    }

    /// Findings that say that everyone is told.
    fn losses(&self) -> usize {
        let findings = &self.opened.as_ref().unwrap().findings;
        let is_loss =
            |f: &&Finding| matches!(f, Finding::Restored { .. } | Finding::Recovered { .. });
        findings.iter().filter(is_loss).count()
    }

    /// What is left is what the store says: any of it may have been lost.
    fn lose_wal(&mut self) {
        self.stop(false);
        fs::remove_file(self.home.file("history.sqlite3-wal")).unwrap();
        self.record.starts.clear();
        self.open();
        assert_eq!(self.losses(), 1);
        for (room, name) in self.record.rooms.iter_mut().zip(ROOMS) {
            let opened = self.opened.as_ref().unwrap();
            let page = all_of(opened, name);
            room.said.retain(|seq, _| *seq <= page.head.last.0);
            room.pruned_to = page.head.forgotten.0;
            let is_there = |seq: &u64| page.entries.iter().any(|entry| entry.seq.0 == *seq);
            room.damaged =
                (page.head.forgotten.0 + 1..=page.head.last.0).filter(|s| !is_there(s)).collect();
            for entry in &page.entries {
                assert_eq!(&*entry.text, room.said[&entry.seq.0]);
            }
        }
    }

    fn damage(&mut self, room: usize, seq: u64) {
        let record = &mut self.record.rooms[room];
        // The newest one stays: only a clean stop notes that it existed.
        if seq <= record.pruned_to || seq >= record.last() {
            return;
        }
        {
            let db = rusqlite::Connection::open(self.home.file(STORE_FILE)).unwrap();
            db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
                .unwrap();
            let tag = crate::store::lookup_tag::room_tag(
                &sealer(&self.home.key),
                &RoomName::parse(ROOMS[room]).unwrap(),
            );
            let find = "SELECT number FROM rooms WHERE tag = ?";
            let number: i64 = db.query_row(find, [tag], |row| row.get(0)).unwrap();
            let delete = "DELETE FROM records WHERE room = ? AND seq = ?";
            db.execute(delete, [number, seq as i64]).unwrap();
        }
        record.damaged.insert(seq);
    }

    /// Resumes in both rooms as a client does, and checks what it is told.
    fn read(&mut self, reader: &mut Reader) {
        let opened = self.opened.as_ref().unwrap();
        let epoch = epoch(opened);
        for (index, name) in ROOMS.iter().enumerate() {
            let (record, reader) = (&self.record.rooms[index], &mut reader.rooms[index]);
            let room = RoomName::parse(name).unwrap();
            let fresh = Position { epoch: epoch.clone(), seq: Seq(0) };
            let position = reader.position.clone().unwrap_or(fresh);
            let resumption = opened.reader.resume(&room, &position).unwrap();
            if let Some(gap) = resumption.gap {
                assert_eq!((gap.reason, gap.after), (GapReason::Epoch, position.seq));
                let is_known = self.record.starts.contains(position.epoch.as_str());
                let is_same =
                    reader.printed.iter().all(|(seq, text)| record.said.get(seq) == Some(text));
                let is_beyond = position.seq.0 > record.last();
                assert!(!is_known || !is_same || is_beyond, "told without a reason: {position:?}");
                reader.printed.clear();
                reader.told = (1..gap.next.0).collect();
                reader.position = Some(Position { epoch: epoch.clone(), seq: resumption.from });
            }
            let mut after = resumption.from;
            loop {
                let page = opened.reader.page(&room, PageRange::After(after), 3, 60).unwrap();
                assert!(page.reached > after || !page.more, "a page without progress");
                let mut place = after;
                let mut gaps = page.gaps.iter().peekable();
                for entry in page.entries.iter().map(Some).chain([None]) {
                    let limit = entry.map_or(Seq(u64::MAX), |entry| entry.seq);
                    while let Some(gap) = gaps.next_if(|gap| gap.after < limit) {
                        assert_eq!(gap.after, place);
                        for seq in gap.after.0 + 1..gap.next.0 {
                            let is_right = match gap.reason {
                                GapReason::Expired => seq <= record.pruned_to,
                                GapReason::Damaged => record.damaged.contains(&seq),
                                _ => false,
                            };
                            assert!(is_right, "told without a reason: {gap:?} {record:?}");
                            reader.told.insert(seq);
                        }
                        place = Seq(gap.next.0 - 1);
                        reader.position = Some(Position { epoch: epoch.clone(), seq: place });
                    }
                    let Some(entry) = entry else { break };
                    assert_eq!(entry.seq, place.next());
                    place = entry.seq;
                    reader.printed.insert(entry.seq.0, entry.text.to_string());
                    reader.position = Some(Position { epoch: epoch.clone(), seq: place });
                }
                assert_eq!(page.reached, place);
                after = page.reached;
                if !page.more {
                    break;
                }
            }
            for (seq, text) in &record.said {
                assert!(
                    reader.printed.get(seq) == Some(text) || reader.told.contains(seq),
                    "{name} {seq} is missing in silence"
                );
            }
        }
    }
}

fn epoch(opened: &OpenedStore) -> Epoch {
    opened.reader.head(&RoomName::lobby()).unwrap().epoch
}

fn all_of(opened: &OpenedStore, room: &str) -> Page {
    let room = RoomName::parse(room).unwrap();
    opened.reader.page(&room, PageRange::After(Seq(0)), usize::MAX, usize::MAX).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_is_missing_in_silence_and_nothing_is_told_without_a_reason(
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let mut world = World::new();
        let mut readers: Vec<Reader> = (0..READERS).map(|_| Reader::default()).collect();
        for step in steps {
            world.step(step, &mut readers);
        }
        for reader in &mut readers {
            world.read(reader);
        }
    }
}
