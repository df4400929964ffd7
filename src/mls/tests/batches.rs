//! Entries that are read in batches leave the same behind as entries that are read one by one, whatever the log holds.

use proptest::prelude::*;

use super::*;
use crate::mls::apply::apply_all;

/// What comes next in the log.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A device of Ana or of Eve says something.
    Say(usize),
    /// It says something that never gets into the log.
    Lose(usize),
    /// It says two things, and the second overtakes the first.
    Overtake(usize),
    /// The reader's next message, if it is still in time.
    Own,
    /// A device renews its keys.
    Renew(usize),
    /// Ana removes Eve's device, and adds another one.
    Replace,
    /// Ana removes the reader.
    RemoveReader,
    /// Bytes that are no message, or no commit.
    Strange(bool),
    /// An old entry, at a new place.
    Again(prop::sample::Index),
    /// The server says something else about the next entry than what is true.
    Lie(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..3_usize).prop_map(Event::Say),
        2 => (0..3_usize).prop_map(Event::Lose),
        2 => (0..3_usize).prop_map(Event::Overtake),
        3 => Just(Event::Own),
        2 => (0..3_usize).prop_map(Event::Renew),
        1 => Just(Event::Replace),
        1 => (0..20_u8).prop_map(|n| if n == 0 { Event::RemoveReader } else { Event::Say(0) }),
        1 => any::<bool>().prop_map(Event::Strange),
        1 => any::<prop::sample::Index>().prop_map(Event::Again),
        2 => (0..4_u8).prop_map(Event::Lie),
    ]
}

/// An entry, and the lie about it.
type Told = (Seq, Option<u8>);

struct World {
    eve: User,
    /// Ana's two devices and Eve's.
    members: Vec<Member>,
    /// The reader's device.
    reader: DeviceId,
    own: Vec<Outgoing>,
    log: Log,
    lies: BTreeMap<Seq, u8>,
    names: usize,
}

const READER: usize = 3;

impl World {
    /// The world, and the reader, who has said some things that were not sent yet.
    fn new() -> (Self, Member) {
        let (ana, eve, bob) = (User::new("ana"), User::new("eve"), User::new("bob"));
        let mut members = vec![Member::new(&ana), Member::new(&ana), Member::new(&eve)];
        let mut reader = Member::new(&bob);
        let (first, others) = members.split_at_mut(1);
        let mut others: Vec<_> = others.iter_mut().chain([&mut reader]).collect();
        let mut log = room_of(&ana, &mut first[0], &mut others);
        log.users = vec!["ana", "ana", "eve", "bob"];
        let own = ["own1", "own2", "own3"].map(|name| reader.say(name, name).unwrap());
        let own = own.into_iter().rev().collect();
        let lies = BTreeMap::new();
        let id = reader.id();
        (World { eve, members, reader: id, own, log, lies, names: 0 }, reader)
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    fn append(&mut self, author: usize, outgoing: &Outgoing) {
        self.log.append(author, outgoing).unwrap();
        for member in &mut self.members {
            member.read(&self.log);
        }
    }

    fn push(&mut self, entry: Entry) {
        let seq = Seq(self.log.entries.len() as u64 + 1);
        self.log.entries.push(Entry { seq, ..entry });
        for member in &mut self.members {
            member.read(&self.log);
        }
    }

    fn change(&mut self, by: usize, change: Change) {
        let name = self.name();
        let made = self.members[by].change(&name, change).unwrap();
        self.append(by, &made);
    }

    fn happen(&mut self, event: Event) {
        let name = self.name();
        match event {
            Event::Say(by) => {
                let said = self.members[by].say(&name, &name).unwrap();
                self.append(by, &said);
            }
            Event::Lose(by) => drop(self.members[by].say(&name, &name).unwrap()),
            Event::Overtake(by) => {
                let first = self.members[by].say(&name, &name).unwrap();
                let second = self.name();
                let second = self.members[by].say(&second, &second).unwrap();
                self.append(by, &second);
                self.append(by, &first);
            }
            Event::Own => {
                let is_in_time = |own: &mut Outgoing| own.base == self.log.base();
                if let Some(own) = self.own.pop_if(is_in_time) {
                    self.append(READER, &own);
                }
            }
            Event::Renew(by) => self.change(by, Change::default()),
            Event::Replace => {
                let removes = [self.members[2].id()].into();
                self.change(0, Change { removes, ..Change::default() });
                let mut next = Member::new(&self.eve);
                let adds = vec![next.newcomer()];
                self.members.truncate(2);
                self.change(0, Change { adds, ..Change::default() });
                next.join(&self.log, self.log.base()).unwrap();
                self.members.push(next);
            }
            Event::RemoveReader => {
                let is_in = |member: &mut Member, of: DeviceId| {
                    member.roster().leaves.values().any(|leaf| leaf.device == of)
                };
                if is_in(&mut self.members[0], self.reader) {
                    let removes = [self.reader].into();
                    self.change(0, Change { removes, ..Change::default() });
                }
            }
            Event::Strange(is_commit) => {
                let content = b"strange".to_vec();
                self.push(Entry { seq: Seq(0), id: id(&name), author: 2, is_commit, content });
            }
            Event::Again(which) => {
                let messages: Vec<_> =
                    self.log.entries.iter().filter(|entry| !entry.is_commit).cloned().collect();
                if !messages.is_empty() {
                    self.push(messages[which.index(messages.len())].clone());
                }
            }
            Event::Lie(lie) => {
                self.lies.insert(Seq(self.log.entries.len() as u64 + 1), lie);
            }
        }
    }

    /// An entry as the server tells the reader.
    fn told(&self, (seq, lie): Told) -> LogEntry<'_> {
        let told = self.log.entry(seq).told(&self.log);
        match lie {
            Some(0) => LogEntry { user: Some("mallory"), ..told },
            Some(1) => LogEntry { base: Some(Seq(1)), ..told },
            Some(2) => LogEntry { id: None, ..told },
            // A commit is never deleted.
            Some(_) if !told.is_commit() => LogEntry { body: Body::Deleted, ..told },
            _ => told,
        }
    }
}

const TABLES: [&str; 8] =
    ["rooms", "archive", "notices", "senders", "members", "chain", "outbox", "kv"];

/// All rows, as text.
fn rows(member: &Member) -> Vec<String> {
    let mut lines = Vec::new();
    for table in TABLES {
        let mut statement = member
            .state
            .connection()
            .prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2"))
            .unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<String> = (0..columns)
                .map(|column| match row.get_ref(column).unwrap() {
                    rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
                    rusqlite::types::ValueRef::Blob(bytes) => {
                        String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| format!("{bytes:x?}"))
                    }
                    other => format!("{other:?}"),
                })
                .collect();
            // openmls notes when an epoch began, by the clock.
            let line = format!("{table}: {}", values.join(" | "));
            lines.push(line.split("\"added_at\"").next().unwrap_or_default().to_owned());
        }
    }
    lines
}

/// Reads entries in one step. `None`: the device is not in the room any more.
fn read(member: &mut Member, entries: &[LogEntry<'_>]) -> Option<Vec<Applied>> {
    match member.step(|step, device| apply_all(step, device, &ops(), entries)) {
        Ok(applied) => Some(applied),
        Err(RoomError::NotMember) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Whether the reader was removed.
fn is_over(applied: &[Applied]) -> bool {
    matches!(applied.last(), Some(Applied::Commit(commit)) if commit.is_end)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn batches_leave_the_same_as_single_entries(
        events in prop::collection::vec(event(), 1..50),
        cuts in prop::collection::vec(1..12_usize, 1..20),
    ) {
        let (mut world, reader) = World::new();
        let mut alone = rooms::copy(&reader);
        let mut batched = rooms::copy(&reader);
        for event in events {
            world.happen(event);
        }
        let start = alone.room().applied;
        let told: Vec<LogEntry<'_>> = world
            .log
            .entries
            .iter()
            .filter(|entry| entry.seq > start)
            .map(|entry| world.told((entry.seq, world.lies.get(&entry.seq).copied())))
            .collect();
        let mut expected = Vec::new();
        for entry in &told {
            let Some(applied) = read(&mut alone, std::slice::from_ref(entry)) else { break };
            expected.extend(applied);
            if is_over(&expected) {
                break;
            }
        }
        let (mut found, mut rest) = (Vec::new(), &told[..]);
        for cut in cuts.iter().cycle() {
            let (batch, more) = rest.split_at((*cut).min(rest.len()));
            rest = more;
            if batch.is_empty() {
                break;
            }
            let Some(applied) = read(&mut batched, batch) else { break };
            found.extend(applied);
            if is_over(&found) {
                break;
            }
        }
        prop_assert_eq!(found, expected);
        let (found, expected) = (rows(&batched), rows(&alone));
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(found.len(), expected.len());
    }
}
