//! What no honest server shows: each kind of evidence is found, kept for later readers, and nothing of it is shown
//! that it makes doubtful. What an honest server shows is no evidence.

use super::*;
use crate::mls::apply::apply_all;
use crate::mls::entry::{CommitApplied, Received, Unreadable, Void};
use crate::mls::evidence::Evidence;
use crate::mls::members;
use crate::mls::notices::{Item, Notice, items_after};
use crate::policy::sender_record::PATIENCE;
use crate::protocol::envelope::Envelope;

/// Ana's room with Bob in it, and a server that says whose an entry is.
struct Scene {
    users: [User; 2],
    a: Member,
    b: Member,
    log: Log,
}

impl Scene {
    fn new() -> Self {
        let users = [User::new("ana"), User::new("bob")];
        let (mut a, mut b) = (Member::new(&users[0]), Member::new(&users[1]));
        let mut log = room_of(&users[0], &mut a, &mut [&mut b]);
        log.users = vec!["ana", "bob", "ana"];
        log.devices = vec![a.id(), b.id()];
        Scene { users, a, b, log }
    }

    /// Ana says something, and the log has it.
    fn ana(&mut self, name: &str) -> Entry {
        let said = self.a.say(name, name).unwrap();
        let seq = self.log.append(0, &said).unwrap();
        self.log.entry(seq).clone()
    }

    /// An entry that the server makes up.
    fn push(&mut self, entry: Entry) -> Entry {
        let seq = Seq(self.log.entries.len() as u64 + 1);
        self.log.entries.push(Entry { seq, ..entry });
        self.log.entry(seq).clone()
    }

    /// Ana's client follows no rules: `change` bends the content of the message.
    fn bent(&mut self, name: &str, change: impl FnOnce(&mut Envelope)) -> Entry {
        let content = bent(&mut self.a, name, change);
        self.push(Entry { seq: Seq(0), id: id(name), author: 0, is_commit: false, content })
    }
}

fn bent(member: &mut Member, name: &str, change: impl FnOnce(&mut Envelope)) -> Vec<u8> {
    let content = member.step(|step, device| {
        let mut room = Room::load(step, &ops())?.unwrap();
        let chain = room.chain.unwrap().tag();
        let seen = (room.chain_through, chain);
        let mut envelope = Envelope::new(id(name), room.number + 1, at(1), seen, name.into());
        change(&mut envelope);
        room.number = envelope.number;
        room.store(step)?;
        let mut group = crate::mls::group::load(step, &room.group)?;
        let message =
            group.create_message(step.provider(), &device.secret, &envelope.encode().unwrap());
        Ok(message.unwrap().to_bytes().unwrap())
    });
    content.unwrap()
}

/// What a reader of the archive is shown, in order, but for who came and went.
fn shown(member: &mut Member) -> Vec<String> {
    let mut lines = shown_by(member, 1000);
    lines.retain(|line| !line.contains(" +"));
    lines
}

/// The same, read in pages.
fn shown_by(member: &mut Member, limit: u32) -> Vec<String> {
    let mut lines = Vec::new();
    let mut after = Seq(0);
    loop {
        let items = member.step(|step, _| Ok(items_after(step, &ops(), after, limit)?)).unwrap();
        let Some((last, _)) = items.last() else { return lines };
        after = *last;
        for (seq, item) in items {
            lines.push(match item {
                Item::Message(message) => format!("{seq} {}", message.text),
                Item::Notice(Notice::Alarm { reason }) => format!("{seq} alarm: {reason}"),
                Item::Notice(Notice::Missing { user, first, last, .. }) => {
                    format!("{seq} missing {user} {first}-{last}")
                }
                Item::Notice(Notice::Unreadable { user, .. }) => format!("{seq} unreadable {user}"),
                Item::Notice(Notice::Withheld { first }) => format!("{seq} withheld from {first}"),
                Item::Notice(Notice::Removed { by }) => format!("{seq} removed by {by}"),
                Item::Notice(Notice::Commit { author, added, removed, .. }) => {
                    format!("{seq} {author} +{} -{}", added.join(","), removed.join(","))
                }
            });
        }
    }
}

fn evidence(applied: Applied) -> Evidence {
    match applied {
        Applied::Evidence(evidence) => evidence,
        other => panic!("{other:?}"),
    }
}

fn commit(applied: Applied) -> CommitApplied {
    match applied {
        Applied::Commit(commit) => *commit,
        other => panic!("{other:?}"),
    }
}

fn received(applied: Applied) -> Received {
    match applied {
        Applied::Message(received) => *received,
        other => panic!("{other:?}"),
    }
}

fn alarm(seq: Seq, evidence: &Evidence) -> String {
    format!("{seq} alarm: {evidence}")
}

fn unreadable(applied: Applied) -> Unreadable {
    match applied {
        Applied::Unreadable(why) => why,
        other => panic!("{other:?}"),
    }
}

/// What Bob finds in Ana's next message, before which he was told something else than she.
fn next_of_ana(scene: &mut Scene) -> Vec<Evidence> {
    let told = scene.log.entries.last().unwrap().clone();
    let sent = scene.a.step(|step, _| Ok(room::outcome(step, &ops(), &told.id)?)).unwrap();
    if sent == Some(None) {
        // Ana ends when she is told so; another server, or a later run, tells her the truth.
        scene.a.hear(LogEntry { base: None, ..told.told(&scene.log) }).unwrap();
    }
    let next = scene.ana("next");
    received(scene.b.hear(next.told(&scene.log)).unwrap()).evidence
}

fn other_record(scene: &Scene) -> Evidence {
    let seq = scene.log.entries.last().unwrap().seq;
    Evidence::OtherRecord { room: ops(), seq, user: "ana".into(), before: Seq(seq.0 - 1) }
}

#[test]
fn another_author() {
    let mut scene = Scene::new();
    let entry = scene.ana("hola");
    let (room, seq) = (ops(), entry.seq);
    let other = |seq, said: &str| Evidence::OtherAuthor {
        room: room.clone(),
        seq,
        said: said.into(),
        is: "ana".into(),
    };
    let told = LogEntry { user: Some("bob"), ..entry.told(&scene.log) };
    // Ana may have given it to Bob, who sent it: that is no evidence, except for Ana.
    let device = scene.a.id();
    let why = Unreadable::OtherSender { user: "ana".into(), device };
    assert_eq!(unreadable(scene.b.hear(told).unwrap()), why);
    let mut liar = super::rooms::copy(&scene.a);
    assert_eq!(evidence(liar.hear(told).unwrap()), other(seq, "bob"));
    assert_eq!(shown(&mut liar), [alarm(seq, &other(seq, "bob"))]);
    assert_eq!(shown(&mut scene.b), ["3 unreadable bob"]);
    assert_eq!(scene.b.room().applied, seq, "the room goes on");
    // Ana was told the truth, and her next message shows it.
    assert_eq!(next_of_ana(&mut scene), [other_record(&scene)]);
    // A commit counts all the same: the others know nothing of the lie.
    scene.a.read(&scene.log);
    let renewal = scene.a.change("renew", Change::default()).unwrap();
    let seq = scene.log.append(0, &renewal).unwrap();
    let told = LogEntry { user: Some("eve"), ..scene.log.entry(seq).told(&scene.log) };
    assert_eq!(commit(scene.a.hear(told).unwrap()).evidence, Some(other(seq, "eve")));
    assert_eq!(commit(scene.b.hear(told).unwrap()).evidence, None);
    assert_eq!(scene.a.authenticator(), scene.b.authenticator());
}

#[test]
fn another_device_of_the_author() {
    let mut scene = Scene::new();
    let entry = scene.ana("hola");
    let told = LogEntry { device: Some(scene.b.id()), ..entry.told(&scene.log) };
    let why = unreadable(scene.b.hear(told).unwrap());
    assert!(matches!(why, Unreadable::OtherSender { .. }), "{why:?}");
    let found = evidence(super::rooms::copy(&scene.a).hear(told).unwrap());
    assert!(matches!(found, Evidence::OtherAuthor { .. }), "{found:?}");
    assert_eq!(next_of_ana(&mut scene), [other_record(&scene)]);
}

#[test]
fn an_entry_of_another_user_does_not_make_a_state_old() {
    let mut scene = Scene::new();
    scene.ana("hola");
    scene.a.read(&scene.log);
    scene.b.read(&scene.log);
    let content = scene.log.entry(Seq(3)).content.clone();
    // Bob, or anybody who may write, sends Ana's bytes once more; also when she has forgotten them.
    for (name, why) in [("one", Unreadable::Repeated), ("two", Unreadable::LikeOwn)] {
        let (id, content) = (id(name), content.clone());
        let again = scene.push(Entry { seq: Seq(0), id, author: 1, is_commit: false, content });
        assert_eq!(unreadable(scene.a.hear(again.told(&scene.log)).unwrap()), why);
        assert_eq!(unreadable(scene.b.hear(again.told(&scene.log)).unwrap()), Unreadable::Repeated);
        scene.a.step(|step, _| Ok(crate::mls::rows::forget_sent(step, at(100))?)).unwrap();
    }
    scene.a.say("on", "on").unwrap();
    // Under her own name and device it does: nobody else could have sent it.
    let (id, author) = (id("three"), 0);
    let again = scene.push(Entry { seq: Seq(0), id, author, is_commit: false, content });
    assert_eq!(scene.a.hear(again.told(&scene.log)).unwrap(), Applied::Outdated);
}

#[test]
fn another_id() {
    let mut scene = Scene::new();
    let entry = scene.ana("hola");
    let (seq, other_id) = (entry.seq, id("other"));
    let expected = Evidence::OtherId { room: ops(), seq, user: "ana".into() };
    let told = LogEntry { id: Some(&other_id), ..entry.told(&scene.log) };
    let mut liar = super::rooms::copy(&scene.a);
    assert_eq!(evidence(liar.hear(told).unwrap()), expected);
    assert_eq!(shown(&mut liar), [alarm(seq, &expected)]);
    assert_eq!(unreadable(scene.b.hear(told).unwrap()), Unreadable::OtherId);
    assert_eq!(next_of_ana(&mut scene), [other_record(&scene)]);
    // Without an id.
    scene.a.read(&scene.log);
    let entry = scene.ana("qué tal");
    let told = LogEntry { id: None, ..entry.told(&scene.log) };
    assert_eq!(unreadable(scene.b.hear(told).unwrap()), Unreadable::OtherId);
    assert_eq!(scene.b.texts(), ["next"]);
}

#[test]
fn another_commit_before_it() {
    let mut scene = Scene::new();
    let entry = scene.ana("hola");
    let expected = |seq, is| Evidence::OtherBase { room: ops(), seq, said: Seq(1), is };
    let told = LogEntry { base: Some(Seq(1)), ..entry.told(&scene.log) };
    for member in [&mut scene.a, &mut scene.b] {
        assert_eq!(evidence(member.hear(told).unwrap()), expected(entry.seq, Seq(2)));
        assert_eq!(shown(member), [alarm(entry.seq, &expected(entry.seq, Seq(2)))]);
    }
    let renewal = scene.b.change("renew", Change::default()).unwrap();
    let seq = scene.log.append(1, &renewal).unwrap();
    let told = LogEntry { base: Some(Seq(1)), ..scene.log.entry(seq).told(&scene.log) };
    for member in [&mut scene.a, &mut scene.b] {
        let found = commit(member.hear(told).unwrap());
        assert_eq!(found.evidence, Some(expected(seq, Seq(2))));
    }
    assert_eq!(scene.a.authenticator(), scene.b.authenticator());
}

#[test]
fn another_kind() {
    let mut scene = Scene::new();
    let entry = scene.ana("hola");
    let told = LogEntry { body: Body::Commit(&entry.content), ..entry.told(&scene.log) };
    let (said, is) = ("a change of the group", "a message");
    let expected = Evidence::OtherKind { room: ops(), seq: entry.seq, said, is };
    let mut liar = super::rooms::copy(&scene.a);
    assert_eq!(evidence(liar.hear(told).unwrap()), expected);
    assert_eq!(shown(&mut liar), [alarm(entry.seq, &expected)]);
    assert_eq!(scene.b.hear(told).unwrap(), Applied::Void(Void::Message));
    assert_eq!(scene.b.room().base, entry.seq, "by the server's word");
    // The next one is based on another commit, or the server says so and Ana does not.
    scene.a.read(&scene.log);
    let next = scene.ana("next");
    let found = evidence(super::rooms::copy(&scene.b).hear(next.told(&scene.log)).unwrap());
    assert!(matches!(found, Evidence::OtherBase { .. }), "{found:?}");
    let told = LogEntry { base: Some(entry.seq), ..next.told(&scene.log) };
    let found = received(scene.b.hear(told).unwrap()).evidence;
    assert_eq!(found, [other_record(&scene)]);
}

#[test]
fn a_commit_that_is_called_a_message() {
    let mut scene = Scene::new();
    let renewal = scene.a.change("renew", Change::default()).unwrap();
    let seq = scene.log.append(0, &renewal).unwrap();
    let body = Body::Message(&renewal.content);
    let told = LogEntry { body, ..scene.log.entry(seq).told(&scene.log) };
    let (said, is) = ("a message", "a change of the group");
    let expected = Evidence::OtherKind { room: ops(), seq, said, is };
    let before = scene.b.authenticator();
    assert_eq!(evidence(scene.a.hear(told).unwrap()), expected);
    assert_eq!(unreadable(scene.b.hear(told).unwrap()), Unreadable::Commit);
    for member in [&mut scene.a, &mut scene.b] {
        assert_eq!(member.authenticator(), before, "it changes nothing");
    }
}

#[test]
fn the_same_entry_again() {
    let mut scene = Scene::new();
    let entry = scene.ana("hola");
    let again = scene.push(entry.clone());
    let expected = Evidence::Repeated { room: ops(), seq: again.seq };
    let mut late = [super::rooms::copy(&scene.a), super::rooms::copy(&scene.b)];
    for member in [&mut scene.a, &mut scene.b] {
        let last = member.read(&scene.log).pop().unwrap();
        assert_eq!(evidence(last), expected);
        assert_eq!(shown(member), [format!("{} hola", entry.seq), alarm(again.seq, &expected)]);
    }
    // Under another id, or when the server has forgotten the id, its device can have sent it again. Or another device.
    let (other_id, day) = (id("other"), 24 * 3600);
    for (member, at) in late.iter_mut().flat_map(|member| [(member, at(3 + day))]) {
        member.hear(entry.told(&scene.log)).unwrap();
        let told = again.told(&scene.log);
        let cases = [
            LogEntry { id: Some(&other_id), ..told },
            LogEntry { at: Some(at), seq: Seq(5), ..told },
            LogEntry { device: Some(DeviceId([7; 10])), seq: Seq(6), ..told },
        ];
        for told in cases {
            let told = LogEntry { base: Some(Seq(2)), ..told };
            assert_eq!(unreadable(member.hear(told).unwrap()), Unreadable::Repeated);
        }
    }
}

/// A commit that did not count has an id as well.
#[test]
fn the_same_void_commit_again() {
    let mut scene = Scene::new();
    let (id, content) = (id("void"), b"no commit".to_vec());
    let void = scene.push(Entry { seq: Seq(0), id, author: 1, is_commit: true, content });
    let again = scene.push(void.clone());
    let applied = scene.a.read(&scene.log);
    assert_eq!(applied[0], Applied::Void(Void::Invalid));
    assert_eq!(evidence(applied[1].clone()), Evidence::Repeated { room: ops(), seq: again.seq });
    assert_eq!(scene.a.room().base, again.seq);
}

/// The server says that it refused a message, and shows both copies.
#[test]
fn a_message_that_was_stored_and_refused() {
    let mut scene = Scene::new();
    let said = scene.b.say("hola", "hola").unwrap();
    let renewal = scene.a.change("renew", Change::default()).unwrap();
    let seq = scene.log.append(0, &renewal).unwrap();
    let mut commit = scene.log.entries.remove(2);
    commit.seq = seq.next();
    // Bob is not shown his first copy.
    scene.b.hear(LogEntry { seq, ..commit.as_log() }).unwrap();
    let second = scene.b.owed().remove(0);
    let first = Entry { seq, id: id("hola"), author: 1, is_commit: false, content: said.content };
    scene.log.entries.extend([first, commit]);
    let copy =
        Entry { seq: Seq(0), id: id("hola"), author: 1, is_commit: false, content: second.content };
    let copy = scene.push(copy);
    let last = scene.a.read(&scene.log).pop().unwrap();
    assert_eq!(evidence(last), Evidence::Repeated { room: ops(), seq: copy.seq });
    assert_eq!(scene.a.texts(), ["hola"]);
}

#[test]
fn another_message_with_the_same_number() {
    let mut scene = Scene::new();
    scene.ana("hola");
    scene.bent("other", |envelope| envelope.number = 1);
    let last = scene.b.read(&scene.log).pop().unwrap();
    assert_eq!(unreadable(last), Unreadable::NumberUsed);
    assert_eq!(shown(&mut scene.b), ["3 hola", "4 unreadable ana"]);
}

#[test]
fn the_same_message_encrypted_again() {
    let mut scene = Scene::new();
    scene.ana("hola");
    scene.bent("hola", |envelope| envelope.number = 1);
    // Ana's client follows no rules, and has sent it through another device, under which its id was free.
    let told = scene.log.entry(Seq(4)).told(&scene.log);
    let told = LogEntry { device: None, ..told };
    scene.b.hear(scene.log.entry(Seq(3)).told(&scene.log)).unwrap();
    assert_eq!(unreadable(scene.b.hear(told).unwrap()), Unreadable::Repeated);
}

#[test]
fn a_message_that_is_too_old() {
    let mut scene = Scene::new();
    let number = PATIENCE + 10;
    scene.bent("new", |envelope| envelope.number = number);
    let late = scene.bent("late", |envelope| envelope.number = number - 1);
    let old = scene.bent("old", |envelope| envelope.number = 9);
    let applied = scene.b.read(&scene.log);
    // Bob has never heard Ana: what was overtaken may come, and what is older is not.
    assert_eq!(received(applied[1].clone()).evidence, []);
    assert_eq!(unreadable(applied[2].clone()), Unreadable::TooOld);
    let lines =
        ["3 new".to_owned(), format!("{} late", late.seq), format!("{} unreadable ana", old.seq)];
    assert_eq!(shown(&mut scene.b), lines);
}

#[test]
fn another_record() {
    let mut scene = Scene::new();
    let mut phone = Member::new(&scene.users[0]);
    let entering = phone.come_in("in", &scene.log).unwrap();
    scene.log.append(2, &entering).unwrap();
    for member in [&mut scene.a, &mut scene.b, &mut phone] {
        member.read(&scene.log);
    }
    // Bob is shown the two messages in the other order.
    let one = scene.ana("one");
    let two = phone.say("two", "two").unwrap();
    scene.log.append(2, &two).unwrap();
    scene.a.read(&scene.log);
    let two = scene.log.entry(Seq(5)).clone();
    for (seq, entry) in [(Seq(4), &two), (Seq(5), &one)] {
        let found = received(scene.b.hear(LogEntry { seq, ..entry.told(&scene.log) }).unwrap());
        assert_eq!(found.evidence, [], "nobody has read it yet");
    }
    let three = scene.ana("three");
    let (user, before) = ("ana".to_owned(), Seq(5));
    let expected = Evidence::OtherRecord { room: ops(), seq: three.seq, user, before };
    let found = received(scene.b.hear(three.told(&scene.log)).unwrap());
    assert_eq!(found.evidence, std::slice::from_ref(&expected));
    // The message itself is shown, and then the alarm.
    let lines = ["4 two", "5 one", "6 three"].map(str::to_owned);
    assert_eq!(shown(&mut scene.b), [&lines[..], &[alarm(Seq(6), &expected)]].concat());
    // Who had read it in the same order finds nothing.
    for entry in [Seq(4), Seq(5), Seq(6)].map(|seq| scene.log.entry(seq).clone()) {
        let Applied::Message(found) = phone.hear(entry.told(&scene.log)).unwrap() else { continue };
        assert_eq!(found.evidence, []);
    }
}

#[test]
fn a_record_that_can_not_be() {
    let mut scene = Scene::new();
    scene.ana("one");
    scene.a.read(&scene.log);
    // Before the epoch, and after the message itself.
    let early = scene.bent("early", |envelope| envelope.seen = Seq(1));
    let late = scene.bent("late", |envelope| envelope.seen = Seq(5));
    let applied = scene.b.read(&scene.log);
    for (entry, before) in [(early, Seq(1)), (late, Seq(5))] {
        let place = usize::try_from(entry.seq.0 - 3).unwrap();
        let expected =
            Evidence::OtherRecord { room: ops(), seq: entry.seq, user: "ana".into(), before };
        assert_eq!(received(applied[place].clone()).evidence, [expected]);
    }
}

/// Ana says `count` things, and the log has them.
fn say_many(scene: &mut Scene, count: u64) {
    let first = scene.a.room().number;
    let texts: Vec<_> =
        (0..count).map(|n| (id(&format!("m{}", first + n)), "x".to_owned())).collect();
    let said =
        scene.a.step(|step, device| room::say_all(step, device, &ops(), &texts, at(1))).unwrap();
    for one in said {
        scene.log.append(0, &one.unwrap()).unwrap();
    }
}

/// Reads the rest of the log in one step.
fn read_at_once(member: &mut Member, log: &Log) -> Vec<Applied> {
    let applied = member.room().applied;
    let entries: Vec<_> = log
        .entries
        .iter()
        .filter(|entry| entry.seq > applied)
        .map(|entry| entry.told(log))
        .collect();
    member.step(|step, device| apply_all(step, device, &ops(), &entries)).unwrap()
}

#[test]
fn a_message_that_stays_missing() {
    let mut scene = Scene::new();
    scene.ana("one");
    scene.a.say("lost", "lost").unwrap();
    say_many(&mut scene, PATIENCE);
    let mut applied = read_at_once(&mut scene.b, &scene.log);
    let after = received(applied.remove(1));
    assert_eq!((after.missing, after.evidence), (Some((2, 2)), Vec::new()));
    for applied in applied {
        assert_eq!(received(applied).evidence, [], "it may still come");
    }
    assert_eq!(shown(&mut scene.b)[1..3], ["4 x", "4 missing ana 2-2"].map(str::to_owned));
    say_many(&mut scene, 1);
    let seq = scene.log.entries.last().unwrap().seq;
    let expected = Evidence::Missing { room: ops(), seq, user: "ana".into(), first: 2, last: 2 };
    let last = read_at_once(&mut scene.b, &scene.log).pop().unwrap();
    assert_eq!(received(last).evidence, std::slice::from_ref(&expected));
    let lines = shown(&mut scene.b);
    assert_eq!(lines[lines.len() - 2..], [format!("{seq} x"), alarm(seq, &expected)]);
    // It is told once.
    say_many(&mut scene, 1);
    let last = read_at_once(&mut scene.b, &scene.log).pop().unwrap();
    assert_eq!(received(last).evidence, []);
}

#[test]
fn a_message_that_was_dropped_is_not_missed_for_long() {
    let mut scene = Scene::new();
    scene.ana("one");
    scene.a.say("dropped", "dropped").unwrap();
    scene.bent("names", |envelope| envelope.dropped = vec![2]);
    say_many(&mut scene, PATIENCE + 1);
    for applied in read_at_once(&mut scene.b, &scene.log) {
        assert_eq!(received(applied).evidence, []);
    }
}

#[test]
fn deleted_entries_freeze_the_chain_and_raise_no_alarm() {
    let mut scene = Scene::new();
    for name in ["one", "two", "three"] {
        scene.ana(name);
    }
    scene.a.read(&scene.log);
    let deleted = scene.log.entry(Seq(4)).clone();
    scene.b.hear(scene.log.entry(Seq(3)).told(&scene.log)).unwrap();
    let chain = scene.b.room().chain;
    let told = LogEntry { body: Body::Deleted, ..deleted.told(&scene.log) };
    assert_eq!(scene.b.hear(told).unwrap(), Applied::Deleted);
    let read = scene.b.read(&scene.log).pop().unwrap();
    let read = received(read);
    assert_eq!((read.missing, read.evidence), (None, Vec::new()), "it was deleted");
    let room = scene.b.room();
    assert_eq!((room.applied, room.chain_through, room.chain), (Seq(5), Seq(3), chain));
    // Both go on, each with what it has.
    let from_bob = scene.b.say("four", "four").unwrap();
    scene.log.append(1, &from_bob).unwrap();
    assert_eq!(received(scene.a.read(&scene.log).pop().unwrap()).evidence, []);
    say_many(&mut scene, PATIENCE + 1);
    scene.b.read(&scene.log);
    assert!(!shown(&mut scene.b).iter().any(|line| line.contains("alarm")));
    // One deleted entry explains one missing number.
    scene.a.say("lost", "lost").unwrap();
    scene.ana("five");
    let last = scene.b.read(&scene.log).pop().unwrap();
    let number = PATIENCE + 1 + 4;
    assert_eq!(received(last).missing, Some((number, number)));
    // The next commit begins a new chain.
    scene.a.read(&scene.log);
    let renewal = scene.a.change("renew", Change::default()).unwrap();
    scene.log.append(0, &renewal).unwrap();
    scene.a.read(&scene.log);
    scene.b.read(&scene.log);
    assert_eq!(scene.a.room().chain, scene.b.room().chain);
}

#[test]
fn who_was_away_misses_nothing_from_that_time() {
    let mut scene = Scene::new();
    scene.ana("one");
    scene.b.read(&scene.log);
    scene.a.read(&scene.log);
    let removes = [scene.b.id()].into();
    let removal = scene.a.change("remove", Change { removes, ..Change::default() }).unwrap();
    scene.log.append(0, &removal).unwrap();
    scene.a.read(&scene.log);
    scene.b.read(&scene.log);
    scene.ana("two");
    scene.a.read(&scene.log);
    let adds = vec![scene.b.newcomer()];
    let added = scene.a.change("again", Change { adds, ..Change::default() }).unwrap();
    let seq = scene.log.append(0, &added).unwrap();
    scene.a.read(&scene.log);
    scene.b.join(&scene.log, seq).unwrap();
    say_many(&mut scene, PATIENCE + 2);
    for applied in read_at_once(&mut scene.b, &scene.log) {
        let found = received(applied);
        assert_eq!((found.missing, found.evidence), (None, Vec::new()));
    }
    let expected = ["3 one", "4 removed by ana", "7 x"];
    assert_eq!(shown(&mut scene.b)[..3], expected.map(str::to_owned));
}

#[test]
fn pages_of_the_archive_have_everything_in_order() {
    let mut scene = Scene::new();
    scene.ana("one");
    scene.bent("two", |envelope| (envelope.number, envelope.seen) = (3, Seq(1)));
    let again = scene.log.entry(Seq(3)).clone();
    scene.push(again);
    let content = b"no message".to_vec();
    scene.push(Entry { seq: Seq(0), id: id("x"), author: 1, is_commit: false, content });
    scene.bent("three", |envelope| (envelope.number, envelope.seen) = (5, Seq(1)));
    scene.bent("four", |_| ());
    scene.b.read(&scene.log);
    let whole = shown_by(&mut scene.b, 1000);
    let short: Vec<&str> = whole.iter().map(|line| line.split(':').next().unwrap()).collect();
    let expected = [
        "3 one",
        "4 two",
        "4 missing ana 2-2",
        "4 alarm",
        "5 alarm",
        "6 unreadable bob",
        "7 three",
        "7 missing ana 4-4",
        "7 alarm",
        "8 four",
    ];
    assert_eq!(short, expected);
    for limit in 1..12 {
        assert_eq!(shown_by(&mut scene.b, limit), whole, "{limit}");
    }
}

#[test]
fn members_are_known_with_their_times() {
    let mut scene = Scene::new();
    let (a, b) = (scene.a.id(), scene.b.id());
    let times = |member: &mut Member, of: DeviceId| {
        let members = member.step(|step, _| members::members(step, &ops())).unwrap();
        members.into_iter().find(|one| one.leaf.device == of).map(|one| (one.times, one.is_admin))
    };
    let (ana, is_admin) = times(&mut scene.a, a).unwrap();
    assert_eq!((ana.since, ana.seen, ana.renewed), (Some(at(0)), None, Some(at(2))));
    assert!(is_admin);
    let (bob, is_admin) = times(&mut scene.a, b).unwrap();
    assert_eq!((bob.since, bob.seen, bob.renewed), (Some(at(2)), None, None));
    assert!(!is_admin);
    let said = scene.b.say("1", "hola").unwrap();
    let seq = scene.log.append(1, &said).unwrap();
    let renewal = scene
        .b
        .step(|step, device| {
            room::change(step, device, &ops(), &id("renew"), Change::default(), at(7))
        })
        .unwrap();
    scene.log.append(1, &renewal).unwrap();
    scene.a.read(&scene.log);
    let (bob, _) = times(&mut scene.a, b).unwrap();
    assert_eq!(bob.since, Some(at(2)));
    assert_eq!((bob.seen, bob.renewed), (Some((seq, at(1))), Some(at(7))));
    // Who was removed and comes again is new.
    let removes = [b].into();
    let removal = scene.a.change("remove", Change { removes, ..Change::default() }).unwrap();
    scene.log.append(0, &removal).unwrap();
    scene.a.read(&scene.log);
    scene.b.read(&scene.log);
    assert!(times(&mut scene.a, b).is_none());
    let adds = vec![scene.b.newcomer()];
    let added = scene.a.change("again", Change { adds, ..Change::default() }).unwrap();
    scene.log.append(0, &added).unwrap();
    scene.a.read(&scene.log);
    let (bob, _) = times(&mut scene.a, b).unwrap();
    assert_eq!((bob.since, bob.seen, bob.renewed), (Some(at(2)), None, None));
}
