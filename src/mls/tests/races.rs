//! Random histories of several devices: whatever is said, changed, delayed, lost and repeated, everybody reads the same.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What happens next. Devices are 0 to 3: Ana's two, and one each of Bob and Eve.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A device says something, and does not send it yet.
    Say(usize),
    /// It makes a commit that renews its keys.
    Renew(usize),
    /// An admin's device adds a device that is not in the room.
    Add(usize, usize),
    /// An admin's device removes one. It comes back with another folder.
    Remove(usize, usize),
    /// A device hands over what it owes.
    Send(usize),
    /// It hands over the first of it, and the answer is lost.
    SendOne(usize),
    /// It reads some entries.
    Read(usize, usize),
    /// It comes in by itself.
    ComeIn(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let device = 0..4_usize;
    prop_oneof![
        4 => device.clone().prop_map(Event::Say),
        2 => device.clone().prop_map(Event::Renew),
        1 => (0..2_usize, device.clone()).prop_map(|(by, of)| Event::Add(by, of)),
        1 => (0..2_usize, 2..4_usize).prop_map(|(by, of)| Event::Remove(by, of)),
        6 => device.clone().prop_map(Event::Send),
        2 => device.clone().prop_map(Event::SendOne),
        8 => (device.clone(), 1..6_usize).prop_map(|(by, entries)| Event::Read(by, entries)),
        1 => device.prop_map(Event::ComeIn),
    ]
}

struct World {
    users: [User; 3],
    members: Vec<Member>,
    log: Log,
    /// Names are never used twice.
    names: usize,
    /// What was acked, with its author.
    acked: Vec<(Seq, String)>,
    /// Everything that was said.
    said: BTreeSet<String>,
}

const USER_OF: [usize; 4] = [0, 0, 1, 2];

impl World {
    fn new() -> Self {
        let users = [User::new("ana"), User::new("bob"), User::new("eve")];
        let mut members: Vec<_> = USER_OF.iter().map(|user| Member::new(&users[*user])).collect();
        let (first, others) = members.split_at_mut(1);
        let mut others: Vec<_> = others.iter_mut().take(2).collect();
        let mut log = room_of(&users[0], &mut first[0], &mut others);
        log.users = USER_OF.map(|user| users[user].name).to_vec();
        let acked = Vec::new();
        World { users, members, log, names: 0, acked, said: BTreeSet::new() }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    fn happen(&mut self, event: Event) {
        let name = self.name();
        match event {
            Event::Say(by) => {
                if let Ok(outgoing) = self.members[by].say(&name, &name) {
                    self.log.note(&outgoing);
                    self.said.insert(name);
                }
            }
            Event::Renew(by) => drop(self.members[by].change(&name, Change::default())),
            Event::Add(by, of) => {
                let newcomer = self.members[of].newcomer();
                let change = Change { adds: vec![newcomer], ..Change::default() };
                drop(self.members[by].change(&name, change));
            }
            Event::Remove(by, of) => {
                let removes = [self.members[of].id()].into();
                let change = Change { removes, ..Change::default() };
                drop(self.members[by].change(&name, change));
            }
            Event::Send(by) => {
                for outgoing in self.members[by].owed() {
                    self.hand_over(by, &outgoing);
                }
            }
            Event::SendOne(by) => {
                if let Some(outgoing) = self.members[by].owed().first() {
                    let _ = self.log.append(by, outgoing);
                }
            }
            Event::Read(by, entries) => self.read(by, entries),
            Event::ComeIn(by) => {
                let room = self.members[by].step(|step, _| Ok(Room::load(step, &ops())?));
                if room.unwrap().is_none() {
                    let _ = self.members[by].come_in(&name, &self.log);
                }
            }
        }
    }

    fn hand_over(&mut self, by: usize, outgoing: &Outgoing) {
        if let Ok(seq) = self.log.append(by, outgoing)
            && outgoing.commit.is_none()
        {
            self.acked.push((seq, outgoing.id.to_string()));
        }
    }

    /// Reads on, and opens invitations on the way.
    fn read(&mut self, by: usize, entries: usize) {
        for _ in 0..entries {
            let member = &mut self.members[by];
            let room = member.step(|step, _| Ok(Room::load(step, &ops())?)).unwrap();
            let Some(room) = room else {
                self.accept(by);
                return;
            };
            let next = usize::try_from(room.applied.0).unwrap();
            let Some(entry) = self.log.entries.get(next).cloned() else { return };
            let applied = member.hear(entry.told(&self.log));
            match &applied {
                Ok(Applied::Message(received)) => assert_eq!(received.evidence, []),
                Ok(Applied::Commit(commit)) => assert_eq!(commit.evidence, None),
                _ => {}
            }
            match applied {
                Ok(
                    unexpected @ (Applied::Outdated
                    | Applied::Gap { .. }
                    | Applied::Void(_)
                    | Applied::Evidence(_)),
                ) => panic!("{by} at {}: {unexpected:?} is not in an honest log", entry.seq),
                Ok(Applied::Unreadable(reason)) => assert_eq!(
                    reason,
                    crate::mls::entry::Unreadable::NotForUs,
                    "{by} at {}",
                    entry.seq
                ),
                Ok(Applied::Commit(commit)) if commit.is_end => self.replace(by),
                Ok(_) => {}
                Err(RoomError::NotMember) => self.replace(by),
                Err(error) => panic!("{by} at {}: {error}", entry.seq),
            }
        }
    }

    /// A removed device begins anew, with another key.
    fn replace(&mut self, by: usize) {
        self.members[by] = Member::new(&self.users[USER_OF[by]]);
    }

    /// Opens the newest invitation.
    fn accept(&mut self, by: usize) {
        let own = self.members[by].id();
        let invitation = self
            .log
            .commits
            .iter()
            .rev()
            .find(|(_, made)| made.added.iter().any(|(_, device)| *device == own));
        if let Some((seq, _)) = invitation {
            let seq = *seq;
            self.members[by].join(&self.log, seq).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn members_agree_whatever_happens(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        // Everybody reads to the end, and hands over the rest.
        for _ in 0..4 {
            for by in 0..world.members.len() {
                world.read(by, 1000);
                world.happen(Event::Send(by));
            }
        }
        for by in 0..world.members.len() {
            world.read(by, 1000);
        }
        let ids: BTreeSet<&MessageId> = world.log.entries.iter().map(|entry| &entry.id).collect();
        prop_assert_eq!(ids.len(), world.log.entries.len(), "nothing is in the log twice");
        for (seq, name) in &world.acked {
            prop_assert_eq!(world.log.entry(*seq).id.as_str(), name);
        }
        let texts_of_log: Vec<(Seq, String)> = world
            .log
            .entries
            .iter()
            .filter(|entry| !entry.is_commit)
            .map(|entry| (entry.seq, entry.id.to_string()))
            .collect();
        for (_, text) in &texts_of_log {
            prop_assert!(world.said.contains(text));
        }
        let mut common: Option<(Vec<u8>, Roster)> = None;
        for member in &mut world.members {
            let room = member.step(|step, _| Ok(Room::load(step, &ops())?)).unwrap();
            let Some(room) = room else { continue };
            if room.status != crate::mls::rows::Status::Member {
                continue;
            }
            let found = (member.authenticator(), member.roster());
            if let Some(common) = &common {
                prop_assert!(*common == found, "members are in different groups");
            }
            common = Some(found);
            // What a member has read is a part of the log, in its order, without a hole from its first message on.
            let read = member.step(|step, _| Ok(Archived::after(step, &ops(), Seq(0), 10_000)?)).unwrap();
            let read: Vec<(Seq, String)> = read.into_iter().map(|one| (one.seq, one.text)).collect();
            if let Some(first) = read.first() {
                let expected: Vec<_> =
                    texts_of_log.iter().filter(|one| one.0 >= first.0).cloned().collect();
                prop_assert_eq!(&read, &expected);
            }
        }
        prop_assert!(common.is_some());
    }
}
