//! Pages, resumption, deletion.

use super::*;
use crate::protocol::Epoch;
use crate::protocol::frame::Position;
use crate::store::room_log::{DeleteError, Gap, Resumption};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Say { room: u8, long: bool },
    Damage(u8),
    Delete(u8),
    DeleteRoom(u8),
    Follow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (0..3_u8, any::<bool>()).prop_map(|(room, long)| Step::Say { room, long }),
        2 => any::<u8>().prop_map(Step::Damage),
        3 => any::<u8>().prop_map(Step::Delete),
        1 => (0..3_u8).prop_map(Step::DeleteRoom),
        3 => Just(Step::Follow),
    ]
}

/// What readers must be told of each room, by number; `None` stands for a damaged message.
type Model = std::collections::BTreeMap<u64, (String, Option<Item>)>;

fn room_of(number: u8) -> String {
    format!("room{number}")
}

fn apply(step: &Step, engine: &FakeEngine, node: &mut Node, model: &mut Model) {
    let pick = |model: &Model, place: u8| {
        let place = usize::from(place) % model.len().max(1);
        model.iter().nth(place).map(|(seq, (room, item))| (*seq, room.clone(), item.clone()))
    };
    match step {
        Step::Say { room, long } => {
            let text = if *long { "x".repeat(300) } else { "y".into() };
            let seq = node.say(&room_of(*room), &text);
            model.insert(seq, (room_of(*room), Some(Item::Message(seq, short(&text)))));
        }
        Step::Damage(place) => {
            if let Some((seq, room, Some(Item::Message(..)))) = pick(model, *place) {
                engine.damage("chat-log-0", seq);
                model.insert(seq, (room, None));
            }
        }
        Step::Delete(place) => {
            if let Some((seq, room, _)) = pick(model, *place) {
                let range = seq.to_string().parse().unwrap();
                node.store.logs[0].log.delete(&name(&room), &[range]).unwrap();
                model.insert(seq, (room, Some(Item::Redacted(seq))));
            }
        }
        Step::DeleteRoom(room) => {
            let room = room_of(*room);
            let deleted = node.store.logs[0].log.delete_room(&name(&room), now(START));
            let known = model.values().any(|(of, _)| *of == room);
            assert!(deleted.is_ok() || !known, "{deleted:?}");
            model.retain(|_, (of, _)| *of != room);
        }
        Step::Follow => {
            node.tail();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn walks_in_both_directions_equal_the_model_also_over_lagging_replicas(
        steps in proptest::collection::vec(step(), 1..120),
        lags in proptest::collection::vec(prop_oneof![3 => Just(0_u64), 1 => 0..40_u64], 0..60),
        limit in 1..9_usize, bytes in prop_oneof![Just(400_usize), Just(1 << 20)],
        is_new in any::<bool>(),
    ) {
        let engine = engine(1);
        let mut writer = node(&engine, &options(1));
        // The anchor.
        writer.store.logs[0].log.prune(now(START), Duration::ZERO);
        let mut model = Model::new();
        for step in &steps {
            apply(step, &engine, &mut writer, &mut model);
        }
        // The reader follows already, or starts now; it may not have followed to the end.
        let reader = if is_new { node(&engine, &options(1)) } else { writer };
        engine.lag(lags);
        for room in (0..3).map(room_of) {
            let expected: Vec<Option<Item>> =
                model.values().filter(|(of, _)| *of == room).map(|(_, item)| item.clone()).collect();
            for is_up in [true, false] {
                let items = walk(&reader, &room, is_up, limit, bytes);
                check(&items, &expected, &model, &room);
            }
        }
    }
}

fn walk(node: &Node, room: &str, is_up: bool, limit: usize, bytes: usize) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut range = if is_up { PageRange::After(Seq(0)) } else { PageRange::Newest };
    for _ in 0..1_000 {
        let page = node.store.reader.page(&name(room), range, limit, bytes).unwrap();
        assert!(page.entries.len() + page.redactions.len() <= limit);
        let some: Vec<Item> = page.items().iter().map(Item::of).collect();
        items = if is_up { [items, some].concat() } else { [some, items].concat() };
        if !page.more {
            return items;
        }
        let next =
            if is_up { PageRange::After(page.reached) } else { PageRange::Before(page.reached) };
        assert_ne!(next, range, "the walk stands still");
        range = next;
    }
    panic!("the walk has no end");
}

/// Readable messages and redactions are told exactly, damaged messages are in a gap, and no readable message is.
fn check(items: &[Item], expected: &[Option<Item>], model: &Model, room: &str) {
    let told: Vec<&Item> = items.iter().filter(|item| !matches!(item, Item::Gap(..))).collect();
    let readable: Vec<&Item> = expected.iter().flatten().collect();
    assert_eq!(told, readable, "{items:?}");
    let gaps: Vec<(u64, u64, GapReason)> = items
        .iter()
        .filter_map(|item| match item {
            Item::Gap(after, next, reason) => Some((*after, *next, *reason)),
            _ => None,
        })
        .collect();
    for (seq, (of, item)) in model {
        let gap = gaps.iter().find(|(after, next, _)| after < seq && seq < next);
        if of == room {
            assert_eq!(gap.is_some(), item.is_none(), "{seq}: {items:?}");
            assert!(gap.is_none_or(|gap| gap.2 == GapReason::Damaged), "{items:?}");
        }
    }
}

#[test]
fn a_page_of_a_room_with_many_messages_among_more_is_found_by_few_questions() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    for number in 0..200 {
        let other = draft("other", "Bob", None, "z");
        let mut batch = vec![other; 49];
        batch.push(draft("a", "Alice", None, &number.to_string()));
        node.append(batch);
    }
    node.tail();
    let before = engine.direct_gets();
    let page = node.page("a", PageRange::Newest, 10);
    let texts: Vec<_> = page.entries.iter().map(|one| one.text.to_string()).collect();
    assert_eq!(texts, (190..200).map(|number| number.to_string()).collect::<Vec<_>>());
    let asked = engine.direct_gets() - before;
    assert!(asked <= 12, "{asked}");
    let before = engine.direct_gets();
    let end = page.entries[0].seq;
    let page = node.page("a", PageRange::Before(end), 100);
    assert_eq!((page.entries.len(), page.more), (100, true));
    assert_eq!(&*page.entries[99].text, "189");
    let asked = engine.direct_gets() - before;
    assert!(asked <= 14, "{asked}");
}

#[test]
fn a_reader_that_misses_nothing_is_resumed_without_a_direct_get() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    node.say("a", "1");
    node.tail();
    let head = node.store.reader.head(&name("a")).unwrap();
    node.store.reader.head(&name("a")).unwrap();
    let position = Position { epoch: head.epoch, seq: Seq(1) };
    let before = engine.direct_gets();
    let resumed = node.store.reader.resume(&name("a"), &position).unwrap();
    assert_eq!(resumed, Resumption { from: Seq(1), gap: None });
    // One question per `timings.horizon` is about the age of messages; here each call asks.
    assert!(engine.direct_gets() - before <= 1);
}

#[test]
fn positions_are_judged_by_the_leader_and_not_by_stale_replicas() {
    let engine = engine(1);
    let (mut one, mut other) = (node(&engine, &options(1)), node(&engine, &options(1)));
    one.say("a", "1");
    other.tail();
    let epoch = other.store.reader.head(&name("a")).unwrap().epoch;
    // Stored and delivered at the other server; the tail here has not yielded it.
    one.say("b", "2");
    one.say("a", "3");
    engine.lag([2; 5]);
    let resume = |seq| {
        let position = Position { epoch: epoch.clone(), seq: Seq(seq) };
        other.store.reader.resume(&name("a"), &position).unwrap()
    };
    assert_eq!(resume(3), Resumption { from: Seq(3), gap: None });
    assert_eq!(resume(1), Resumption { from: Seq(1), gap: None });
    let gap = Gap { after: Seq(9), next: Seq(4), reason: GapReason::Future };
    assert_eq!(resume(9), Resumption { from: Seq(3), gap: Some(gap) });
    // The number of another room's message is no future; the room has nothing up to it.
    one.say("b", "4");
    assert_eq!(resume(4), Resumption { from: Seq(3), gap: None });
    assert_eq!(other.page("a", PageRange::After(Seq(4)), 5).gaps, []);
    let page = other.page("a", PageRange::After(Seq(9)), 5);
    assert_eq!((page.gaps.len(), page.gaps[0].reason), (1, GapReason::Future));
    let position = Position { epoch: Epoch::fresh(), seq: Seq(1) };
    let gap = other.store.reader.resume(&name("a"), &position).unwrap().gap.unwrap();
    assert_eq!(gap.reason, GapReason::Epoch);
}

#[test]
fn a_page_waits_for_what_the_tail_has_yielded_and_fails_if_it_does_not_come() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    node.say_each("a", 0..5);
    node.tail();
    engine.lag([5, 5, 3, 2, 1, 1, 1, 1]);
    let page = node.page("a", PageRange::After(Seq(0)), 10);
    assert_eq!((page.entries.len(), page.more), (5, false));
    engine.lag([2; 10_000]);
    let stale = node.store.reader.page(&name("a"), PageRange::Newest, 10, 1_000);
    assert!(matches!(stale, Err(StoreError::Failed(_))), "{stale:?}");
}

#[test]
fn deleted_texts_are_gone_from_the_engine_and_their_numbers_are_told_by_every_server() {
    let engine = engine(1);
    let (mut one, mut other) = (node(&engine, &options(1)), node(&engine, &options(1)));
    one.say_each("a", 1..=4);
    other.tail();
    assert_eq!(other.texts("a").len(), 4);
    let log = &mut one.store.logs[0].log;
    let deleted = log.delete(&name("a"), &["2".parse().unwrap(), "2-3".parse().unwrap()]).unwrap();
    let seqs: Vec<_> = deleted.redactions.iter().map(|one| one.seq.0).collect();
    assert_eq!((seqs, deleted.already, deleted.missing), (vec![2, 3], 1, 0));
    assert_eq!((stored(&engine), engine.messages().len()), (2, 4), "two messages and two notes");
    // Two notes, one for each range; both nodes are told, also the one that deleted.
    one.tail();
    let news = other.tail_deletions();
    let seqs_of = |deletion: &TailDeletion| match deletion {
        TailDeletion::Messages(room, redactions) => {
            assert_eq!(*room, name("a"));
            redactions.iter().map(|one| one.seq.0).collect::<Vec<_>>()
        }
        TailDeletion::Room(_) => panic!("{deletion:?}"),
    };
    assert_eq!(news.iter().map(seqs_of).collect::<Vec<_>>(), [[2], [3]]);
    let OpenedLog { log, tail } = &one.store.logs[0];
    assert_eq!((log.noted_at(), tail.as_ref().unwrap().place()), (6, 6));
    let told = [
        Item::Message(1, "1".into()),
        Item::Redacted(2),
        Item::Redacted(3),
        Item::Message(4, "4".into()),
    ];
    let late = node(&engine, &options(1));
    for node in [&one, &other, &late] {
        assert_eq!(node.all("a"), told);
        assert_eq!(node.store.reader.kept(&name("a")).unwrap(), 4);
    }
    let log = &mut one.store.logs[0].log;
    let beyond = log.delete(&name("a"), &["99".parse().unwrap()]);
    assert_eq!(beyond, Err(DeleteError::NotYet(Seq(4))));
    assert_eq!(log.delete_room(&name("none"), now(START)), Err(DeleteError::UnknownRoom));
    let deleted = log.delete_room(&name("a"), now(START)).unwrap();
    assert_eq!((deleted.messages, deleted.last), (2, Seq(4)));
    assert_eq!(other.tail_deletions(), [TailDeletion::Room(name("a"))]);
    for node in [&one, &other] {
        assert_eq!(node.all("a"), [Item::Gap(0, 5, GapReason::Expired)]);
    }
    let seq = one.say("a", "after");
    assert_eq!(other.texts("a"), ["after"]);
    let head = other.store.reader.head(&name("a")).unwrap();
    assert!(head.last == Seq(seq) || head.last == Seq(4), "{head:?}");
}

#[test]
fn a_message_that_was_moved_to_another_room_is_damaged() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    node.say("a", "secreto");
    node.say("b", "x");
    node.say("b", "y");
    engine.replace("chat-log-0", 2, 1);
    assert_eq!(node.all("b"), [Item::Gap(1, 3, GapReason::Damaged), Item::Message(3, "y".into())]);
    let texts: Vec<_> = node.tail().iter().map(|one| one.entry.text.to_string()).collect();
    assert_eq!(texts, ["secreto", "y"]);
}

#[test]
fn rooms_since_and_counts() {
    let engine = engine(4);
    let mut node = node(&engine, &options(4));
    for room in ["a", "b", "c", "d", "e", "f"] {
        let log = node.store.reader.log_of(&name(room));
        for hour in 0..3 {
            engine.set_now(START + hour * HOUR);
            node.store.logs[log].log.append(vec![draft(room, "Alice", None, "x")], now(START));
        }
    }
    let rooms = node.store.reader.rooms().unwrap();
    let names: Vec<_> = rooms.iter().map(|(name, _)| name.as_str().to_owned()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(node.store.reader.room_count(), 6);
    for (room, head) in rooms {
        let reader = &node.store.reader;
        assert_eq!(reader.kept(&room).unwrap(), 3);
        engine.lag([0, 1]);
        let since = |micros| reader.since(&room, now(micros)).unwrap();
        let page = reader.page(&room, PageRange::After(since(START + HOUR)), 9, 99).unwrap();
        assert_eq!(page.entries.len(), 2);
        assert_eq!(since(START + 9 * HOUR), head.last);
        let page = reader.page(&room, PageRange::After(since(0)), 9, 99).unwrap();
        assert_eq!(page.entries.len(), 3);
    }
}

#[test]
fn rooms_are_counted_and_notes_are_not() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    for room in ["a", "b", "c"] {
        node.say(room, "x");
        node.say(room, "y");
    }
    // The janitor writes an anchor, and a deletion leaves a note.
    node.store.log().prune(now(START), Duration::ZERO);
    node.store.log().delete(&name("a"), &["1".parse().unwrap()]).unwrap();
    let other = super::node(&engine, &options(1));
    other.store.reader.head(&name("a")).unwrap();
    assert!(engine.messages().iter().any(|one| one.subject.starts_with("chat.x.")));
    assert_eq!(other.store.reader.room_count(), 3);
}
