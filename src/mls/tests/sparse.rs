//! A server that leaves out numbers, because all rooms share them.

use super::*;

fn left_out(first: u64, last: u64) -> LogEntry<'static> {
    no_entry(first, Body::LeftOut(Seq(last)))
}

/// Bob's and Ana's devices, and a log whose entries are told under other numbers.
struct Scene {
    a: Member,
    b: Member,
    log: Log,
}

impl Scene {
    fn new() -> Self {
        let (ana, bob) = (User::new("ana"), User::new("bob"));
        let (mut a, mut b) = (Member::new(&ana), Member::new(&bob));
        let mut log = room_of(&ana, &mut a, &mut [&mut b]);
        log.users = vec!["ana", "bob"];
        for member in [&mut a, &mut b] {
            assert!(note(member, true));
            assert!(note(member, true) && !note(member, false), "it never changes");
        }
        Scene { a, b, log }
    }

    /// What Ana says, which nobody has read.
    fn ana(&mut self, text: &str) -> Entry {
        let said = self.a.say(text, text).unwrap();
        let seq = self.log.append(0, &said).unwrap();
        self.log.entry(seq).clone()
    }

    /// A member reads an entry under this number.
    fn tell(log: &Log, member: &mut Member, entry: &Entry, seq: u64) -> Applied {
        let next = member.room().applied.0 + 1;
        if next < seq {
            assert_eq!(member.hear(left_out(next, seq - 1)).unwrap(), Applied::LeftOut);
        }
        member.hear(LogEntry { seq: Seq(seq), ..entry.told(log) }).unwrap()
    }
}

fn note(member: &mut Member, is_sparse: bool) -> bool {
    member
        .step(|step, _| Ok(Room::load(step, &ops())?.unwrap().note_sparse(step, is_sparse)?))
        .unwrap()
}

fn evidence(applied: Applied) -> Vec<String> {
    let Applied::Message(received) = applied else { panic!("{applied:?}") };
    received.evidence.iter().map(ToString::to_string).collect()
}

#[test]
fn numbers_that_are_left_out_are_no_holes_and_the_chain_goes_on() {
    let Scene { mut a, mut b, mut log } = Scene::new();
    for (number, seq) in [(0, 10), (1, 11), (2, 500), (3, 9_000), (4, 9_001)] {
        let said = a.say(&format!("m{number}"), "hola").unwrap();
        let place = log.append(0, &said).unwrap();
        let entry = log.entry(place).clone();
        assert_eq!(Scene::tell(&log, &mut a, &entry, seq), Applied::Own { id: entry.id.clone() });
        let none: [String; 0] = [];
        assert_eq!(evidence(Scene::tell(&log, &mut b, &entry, seq)), none);
    }
    assert_eq!(a.room().chain, b.room().chain);
    assert_eq!(a.room().chain_through, Seq(9_001));
    assert_eq!(b.texts().len(), 5);
}

#[test]
fn another_record_is_evidence_also_if_its_entries_have_other_numbers() {
    // Ana read one and two as #10 and #20. Bob read them the other way round, or lacks one.
    for told in [vec![("two", 10), ("one", 20)], vec![("two", 11), ("one", 21)], vec![("two", 11)]]
    {
        let mut scene = Scene::new();
        let entries = ["one", "two"].map(|text| scene.ana(text));
        let Scene { a, b, log } = &mut scene;
        for (entry, seq) in entries.iter().zip([10, 20]) {
            Scene::tell(log, a, entry, seq);
        }
        for (text, seq) in &told {
            let entry = entries.iter().find(|entry| entry.id == id(text)).unwrap();
            Scene::tell(log, b, entry, *seq);
        }
        let last = scene.ana("three");
        let Scene { b, log, .. } = &mut scene;
        let found = evidence(Scene::tell(log, b, &last, 30)).join("\n");
        assert!(found.contains("were shown different records"), "{told:?}: {found:?}");
    }
}
