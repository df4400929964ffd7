//! The rule of end-to-end rooms over the engine, and what commits and devices leave there.

use super::fake_engine::Delivery;
use super::*;
use crate::protocol::device::DeviceId;
use crate::protocol::end_to_end::{CommitParts, EndToEnd, EntryKind, Welcome};
use crate::store::deposits::{E2eFound, E2eQuery, E2eReply, E2eRequest};
use proptest::prelude::*;

const DAY: i64 = 24 * HOUR;
const ROOM: &str = "+ops";

fn device(number: u8) -> DeviceId {
    DeviceId([number; 10])
}

fn said(id: &str, base: u64) -> Draft {
    let e2e = EndToEnd { device: device(1), base: Seq(base), kind: EntryKind::Message };
    Draft { e2e: Some(e2e), ..draft(ROOM, "Alice", Some(id), id) }
}

fn parts(id: &str, to: &[u8]) -> CommitParts {
    let bob = UserName::clean("Bob");
    let to: Vec<_> = to.iter().map(|number| (bob.clone(), device(*number))).collect();
    let welcome = (!to.is_empty()).then(|| Welcome { to, content: "welcome".into() });
    CommitParts {
        welcomes: welcome.into_iter().collect(),
        info: format!("info {id}").into(),
        tree_hash: [id.len() as u8; 32],
        tree: Some(format!("tree {id}").into_bytes().into()),
        lacks_upload: false,
        over_limit: None,
    }
}

fn committed(id: &str, base: u64, to: &[u8]) -> Draft {
    let e2e = EndToEnd { device: device(1), base: Seq(base), kind: EntryKind::Commit };
    let commit = Some(Arc::new(parts(id, to)));
    Draft { e2e: Some(e2e), commit, ..draft(ROOM, "Alice", Some(id), id) }
}

impl Node {
    fn one(&mut self, draft: Draft) -> AppendOutcome {
        self.append(vec![draft]).remove(0)
    }

    fn ask(&mut self, request: E2eRequest) -> E2eReply {
        self.store.logs[0].log.e2e(vec![request], now(START)).unwrap().remove(0)
    }

    fn find(&self, query: E2eQuery) -> E2eFound {
        self.store.reader.e2e(query).unwrap()
    }

    fn deposit(&mut self, number: u8, packages: &[&str]) -> E2eReply {
        self.ask(E2eRequest::PutKeys {
            user: UserName::clean("Bob"),
            device: device(number),
            cert: "cert".into(),
            key_packages: packages.iter().map(|one| (*one).into()).collect(),
            last_resort: None,
        })
    }

    fn welcomes(&self, number: u8) -> Vec<u64> {
        let query = E2eQuery::Welcomes(UserName::clean("Bob"), device(number));
        let E2eFound::Welcomes(invited) = self.find(query) else { panic!("other answer") };
        invited.iter().map(|one| one.seq.0).collect()
    }
}

fn stale(base: u64, newest: u64) -> AppendOutcome {
    AppendOutcome::StaleBase { base: Seq(base), newest: Seq(newest) }
}

#[test]
fn what_came_second_is_refused_by_the_engine_itself() {
    let engine = engine(1);
    let (mut one, mut other) = (node(&engine, &options(1)), node(&engine, &options(1)));
    assert_eq!(one.one(said("early", 3)), stale(3, 0));
    // The other node knows the room without a commit.
    assert_eq!(accepted(&other.one(said("m0", 0))), 1);
    let first = accepted(&one.one(committed("c1", 0, &[])));
    assert_eq!(first, 2);
    assert_eq!(other.one(said("m1", 0)), stale(0, first));
    assert_eq!(other.one(committed("c2", 0, &[])), stale(0, first));
    let outcomes = other.append(vec![said("m1", first), said("m2", 0), said("m3", first)]);
    assert!(accepted(&outcomes[0]) < accepted(&outcomes[2]));
    assert_eq!(outcomes[1], stale(0, first));
    let second = accepted(&other.one(committed("c2", first, &[])));
    // A batch in which one is stale stores the others.
    let mixed = vec![draft("lobby", "Alice", None, "x"), said("m4", first), said("m5", second)];
    let outcomes = one.append(mixed);
    assert_eq!(outcomes[1], stale(first, second));
    assert!(accepted(&outcomes[0]) < accepted(&outcomes[2]));
    // What is known is answered as before, whatever its base is now.
    let known = one.one(said("m1", first));
    assert!(matches!(known, AppendOutcome::Duplicate { .. }), "{known:?}");
    let known = one.one(committed("c1", 0, &[]));
    assert!(matches!(known, AppendOutcome::Duplicate { seq: Seq(2), .. }), "{known:?}");
    let other_text = Draft { text: "other".into(), ..said("m1", first) };
    assert!(matches!(one.one(other_text), AppendOutcome::Conflict { .. }));
    let kinds: Vec<_> = one.tail().iter().map(|one| one.entry.is_commit()).collect();
    assert_eq!(kinds, [false, true, false, false, true, false, false]);
}

#[test]
fn a_lost_answer_makes_nothing_stored_twice_or_lost() {
    for deliveries in [
        vec![Delivery::AnswerLost],
        vec![Delivery::RequestLost],
        vec![Delivery::Late],
        vec![Delivery::RequestLost, Delivery::AnswerLost],
    ] {
        let engine = engine(1);
        let mut node = node(&engine, &options(1));
        engine.deliver(deliveries.clone());
        let first = accepted(&node.one(committed("c1", 0, &[])));
        engine.deliver(deliveries.clone());
        let said = accepted(&node.one(said("m1", first)));
        engine.deliver(deliveries.clone());
        let second = accepted(&node.one(committed("c2", first, &[])));
        node.say("lobby", "x");
        node.say("lobby", "x");
        assert_eq!(node.texts(ROOM), ["c1", "m1", "c2"], "{deliveries:?}");
        assert!(first < said && said < second);
        let E2eFound::GroupInfo(Some(info)) = node.find(E2eQuery::GroupInfo(name(ROOM))) else {
            panic!("no info")
        };
        assert_eq!((info.seq, &*info.info), (Seq(second), "info c2"));
    }
}

#[test]
fn a_commit_goes_with_what_it_brings_along_and_other_nodes_learn_it_from_the_tail() {
    let engine = engine(1);
    let (mut one, mut other) = (node(&engine, &options(1)), node(&engine, &options(1)));
    one.deposit(2, &["k1"]);
    let first = accepted(&one.one(committed("c1", 0, &[2, 3])));
    let own = one.tail();
    assert_eq!((own.len(), own[0].commit.clone()), (1, None), "its sender's node has it");
    let foreign = other.tail();
    let brought = foreign[0].commit.as_ref().expect("what it brings along");
    assert_eq!((brought.welcomes.len(), &*brought.info), (1, "info c1"));
    assert_eq!(other.welcomes(2), [first]);
    assert_eq!(other.welcomes(3), [0; 0], "a device without deposits");
    // A commit that was refused leaves nothing that counts.
    assert_eq!(other.one(committed("c2", 0, &[2])), stale(0, first));
    let second = accepted(&other.one(committed("c3", first, &[])));
    assert_eq!(one.welcomes(2), [first]);
    let third = accepted(&one.one(committed("c4", second, &[2])));
    assert_eq!(other.welcomes(2), [first, third]);
    let tree = E2eQuery::Tree(name(ROOM), [2; 32]);
    assert_eq!(other.find(tree), E2eFound::Tree(Some(b"tree c4"[..].into())));
    let (user, room) = (UserName::clean("Bob"), name(ROOM));
    one.ask(E2eRequest::WelcomeDone {
        user: user.clone(),
        device: device(2),
        room,
        seq: Seq(third),
    });
    assert_eq!(other.welcomes(2), [0; 0]);
    one.store.logs[0].log.after_commit();
    let rooms = E2eQuery::Rooms(UserName::clean("Alice"));
    assert_eq!(other.find(rooms), E2eFound::Rooms(vec![name(ROOM)]));
    assert_eq!(other.find(E2eQuery::Rooms(user)), E2eFound::Rooms(vec![name(ROOM)]));
    // A tree that nobody has uploaded, and one that is there.
    let without = |id: &str, base| {
        let parts = CommitParts { tree: None, ..parts(id, &[]) };
        Draft { commit: Some(Arc::new(parts)), ..committed(id, base, &[]) }
    };
    assert_eq!(other.one(without("c-new", third)), AppendOutcome::NoTree);
    accepted(&other.one(without("c5", third)));
    for word in [ROOM, "Alice", "Bob", "welcome", "info", "tree"] {
        let stored = format!("{:?}", engine.messages());
        assert!(!stored.contains(word), "{word}");
    }
}

#[test]
fn a_key_package_is_given_out_once_whichever_node_is_asked() {
    let engine = engine(1);
    let (mut one, mut other) = (node(&engine, &options(1)), node(&engine, &options(1)));
    assert_eq!(one.deposit(2, &["k1", "k2"]), E2eReply::Left(2));
    assert_eq!(other.deposit(2, &["k2", "k3"]), E2eReply::Left(3), "k2 is there");
    let users = vec![UserName::clean("Bob")];
    let mut taken = Vec::new();
    for is_other in [false, true, false] {
        let node = if is_other { &mut other } else { &mut one };
        let E2eReply::Keys(keys) = node.ask(E2eRequest::TakeKeys { users: users.clone() }) else {
            panic!("no keys")
        };
        taken.push(keys[0].1[0].key_package.clone());
    }
    assert_eq!(taken, ["k1".into(), "k2".into(), "k3".into()] as [Box<str>; 3]);
    let none = one.ask(E2eRequest::TakeKeys { users: users.clone() });
    assert_eq!(none, E2eReply::NoKeyPackage(users[0].clone()));
    let left = E2eQuery::KeyPackages(users[0].clone(), device(2));
    assert_eq!(other.find(left), E2eFound::KeyPackages(0));
}

#[test]
fn the_newest_commit_is_told_again_before_its_age_removes_it() {
    let engine = engine(1);
    let age = Duration::from_secs(48 * 3_600);
    let options = JetStreamOptions {
        retention: Retention { messages: 1_000, age, max_bytes: None },
        ..options(1)
    };
    let (mut one, mut other) = (node(&engine, &options), node(&engine, &options));
    let first = accepted(&one.one(committed("c1", 0, &[])));
    let said_first = accepted(&one.one(said("m1", first)));
    for days in [4, 8, 12] {
        let at = START + days * DAY;
        engine.set_now(at);
        one.say("lobby", "young");
        one.tail();
        for _ in 0..600 {
            let result = one.store.logs[0].log.prune(now(at), Duration::ZERO);
            assert_eq!(result.error, None);
        }
        assert!(one.store.reader.head(&name(ROOM)).unwrap().forgotten >= Seq(said_first));
        // Both the node that told it again and the one that knows it from before.
        for (number, node) in [&mut one, &mut other].into_iter().enumerate() {
            let id = format!("m{days}-{number}");
            accepted(&node.one(said(&id, first)));
            assert_eq!(node.one(said("wrong", first + 1)), stale(first + 1, first));
        }
        let found = other.find(E2eQuery::GroupInfo(name(ROOM)));
        let E2eFound::GroupInfo(Some(info)) = found else { panic!("{found:?}") };
        assert_eq!((info.seq, &*info.info), (Seq(first), "info c1"));
        let tree = E2eQuery::Tree(name(ROOM), [2; 32]);
        assert_eq!(other.find(tree), E2eFound::Tree(Some(b"tree c1"[..].into())));
    }
    assert!(accepted(&other.one(committed("c2", first, &[]))) > first);
}

#[test]
fn a_deleted_room_begins_anew_and_a_commit_can_not_be_deleted() {
    let engine = engine(1);
    let (mut node, mut other) = (node(&engine, &options(1)), node(&engine, &options(1)));
    let first = accepted(&node.one(committed("c1", 0, &[])));
    let said_first = accepted(&other.one(said("m1", first)));
    let log = &mut node.store.logs[0].log;
    let range = |seq: u64| seq.to_string().parse::<SeqRange>().unwrap();
    let refused = log.delete(&name(ROOM), &[range(said_first), range(first)]);
    assert_eq!(refused, Err(DeleteError::Commit(Seq(first))));
    assert_eq!(node.texts(ROOM), ["c1", "m1"], "nothing of it was deleted");
    let log = &mut node.store.logs[0].log;
    log.delete(&name(ROOM), &[range(said_first)]).unwrap();
    log.delete_room(&name(ROOM), now(START)).unwrap();
    assert_eq!(node.find(E2eQuery::GroupInfo(name(ROOM))), E2eFound::GroupInfo(None));
    assert_eq!(node.find(E2eQuery::Tree(name(ROOM), [2; 32])), E2eFound::Tree(None));
    // The other node still knows the commit.
    assert_eq!(other.one(said("m2", first)), stale(first, 0));
    accepted(&other.one(said("m2", 0)));
    let second = accepted(&node.one(committed("c2", 0, &[])));
    assert_eq!(other.one(said("m3", 0)), stale(0, second));
    let found = node.find(E2eQuery::GroupInfo(name(ROOM)));
    let E2eFound::GroupInfo(Some(info)) = found else { panic!("{found:?}") };
    assert_eq!(info.seq, Seq(second));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Two nodes, drafts with right and old bases, and an engine that loses and delays: what is stored follows the rule.
    #[test]
    fn what_is_stored_follows_the_rule(
        steps in proptest::collection::vec((any::<bool>(), any::<bool>(), 0..3_usize, 0..8_u8), 1..30),
    ) {
        let engine = engine(1);
        let mut nodes = [node(&engine, &options(1)), node(&engine, &options(1))];
        let mut bases = vec![0];
        for (number, (which, is_commit, behind, delivery)) in steps.into_iter().enumerate() {
            let base = bases[bases.len().saturating_sub(1 + behind)];
            match delivery {
                0 => engine.deliver([Delivery::AnswerLost]),
                1 => engine.deliver([Delivery::RequestLost]),
                2 => engine.deliver([Delivery::Late]),
                _ => {}
            }
            let id = number.to_string();
            let draft = match is_commit {
                true => committed(&id, base, &[]),
                false => said(&id, base),
            };
            let outcome = nodes[usize::from(which)].one(draft);
            let newest = *bases.last().unwrap();
            match outcome {
                AppendOutcome::Accepted { seq } => {
                    prop_assert_eq!(base, newest);
                    if is_commit {
                        bases.push(seq.0);
                    }
                }
                outcome => prop_assert_eq!(outcome, stale(base, newest)),
            }
        }
        engine.clear_deliveries();
        nodes[0].say("lobby", "x");
        nodes[0].say("lobby", "x");
        let mut newest = 0;
        for message in nodes[1].tail() {
            let Some(e2e) = message.entry.e2e else { continue };
            prop_assert_eq!(e2e.base.0, newest);
            if message.entry.is_commit() {
                newest = message.entry.seq.0;
            }
        }
    }
}
