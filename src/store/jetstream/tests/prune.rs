//! The janitor.

use super::*;
use crate::store::room_log::PruneReason;
use proptest::prelude::*;

const DAY: i64 = 24 * HOUR;

fn keeping(messages: u64, hours: u64) -> JetStreamOptions {
    let age = Duration::from_secs(hours * 3_600);
    JetStreamOptions { retention: Retention { messages, age, max_bytes: None }, ..options(1) }
}

/// Steps until every slot was looked at, and what was noted is removed.
fn prune(node: &mut Node, at: i64) {
    for _ in 0..600 {
        let result = node.store.logs[0].log.prune(now(at), Duration::ZERO);
        assert_eq!(result.error, None);
    }
}

#[test]
fn surplus_messages_of_a_room_are_told_and_then_removed() {
    let engine = engine(1);
    let options = keeping(4, 10_000);
    let (mut one, mut other) = (node(&engine, &options), node(&engine, &options));
    // The anchor has the number 1.
    one.store.logs[0].log.prune(now(START), Duration::ZERO);
    one.say_each("a", 2..=10);
    engine.set_now(START + 3 * DAY);
    one.say("b", "young");
    one.tail();
    other.tail();
    let kept = |node: &Node| node.store.reader.kept(&name("a")).unwrap();
    let mut pruned = Vec::new();
    for _ in 0..256 {
        pruned.extend(one.store.logs[0].log.prune(now(START + 3 * DAY), Duration::ZERO).rooms);
    }
    assert_eq!(pruned.len(), 1);
    assert_eq!((pruned[0].messages, pruned[0].first), (5, Seq(7)));
    assert_eq!(pruned[0].reason, PruneReason::Retention);
    prune(&mut one, START + 3 * DAY);
    other.tail();
    for node in [&one, &other, &node(&engine, &options)] {
        assert_eq!(kept(node), 4);
        let items = node.all("a");
        assert_eq!(items[0], Item::Gap(0, 7, GapReason::Expired));
        assert_eq!(items[1], Item::Message(7, "7".into()));
        // The other room lacks nothing.
        assert_eq!(node.all("b"), [Item::Message(11, "young".into())]);
    }
    assert_eq!(stored(&engine), 5, "four, and one of the other room");
}

#[test]
fn readers_are_shown_no_more_than_keep_for_although_the_engine_has_it() {
    let engine = engine(1);
    let mut node = node(&engine, &keeping(1_000, 2));
    node.say("a", "old");
    engine.set_now(START + 3 * HOUR);
    node.say("a", "young");
    node.tail();
    prune(&mut node, START + 3 * HOUR);
    assert_eq!(stored(&engine), 2);
    let items = [Item::Gap(0, 2, GapReason::Expired), Item::Message(2, "young".into())];
    assert_eq!(node.all("a"), items);
    // Its id is still known, so a repetition is found.
    engine.set_now(START + 40 * HOUR);
    node.say("a", "younger");
    node.tail();
    prune(&mut node, START + 40 * HOUR);
    assert_eq!(stored(&engine), 1);
}

#[test]
fn only_the_server_with_the_lease_prunes_and_another_takes_it_later() {
    let engine = engine(1);
    let options = keeping(4, 10_000);
    let (mut one, mut other) = (node(&engine, &options), node(&engine, &options));
    one.say_each("a", 1..=9);
    engine.set_now(START + 3 * DAY);
    one.say("b", "young");
    one.tail();
    other.tail();
    let at = now(START + 3 * DAY);
    let step = |node: &mut Node| node.store.logs[0].log.prune(at, Duration::ZERO);
    assert_eq!(step(&mut one).error, None);
    let pruned = |node: &mut Node| (0..300).map(|_| step(node).messages).sum::<u64>();
    assert_eq!(pruned(&mut other), 0);
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(pruned(&mut other), 5);
    assert_eq!(pruned(&mut one), 0);
}

#[test]
fn nothing_is_pruned_while_the_clocks_differ() {
    let engine = engine(1);
    let mut node = node(&engine, &keeping(4, 30));
    node.say_each("a", 1..=9);
    engine.set_now(START + 3 * DAY);
    node.say("b", "from a leader whose clock is ahead");
    node.tail();
    for _ in 0..300 {
        let result = node.store.logs[0].log.prune(now(START + HOUR), Duration::ZERO);
        assert!(result.error.unwrap().to_string().contains("clock"));
    }
    assert_eq!(stored(&engine), 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_janitor_never_removes_a_message_younger_than_25_hours(
        hours in proptest::collection::vec(0..60_i64, 1..40),
        messages in 1..5_u64, keep_hours in 1..50_u64, ahead in -2..60_i64,
    ) {
        let engine = engine(1);
        let mut node = node(&engine, &keeping(messages, keep_hours));
        let mut hours = hours;
        hours.sort();
        for hour in &hours {
            engine.set_now(START + hour * HOUR);
            node.say("a", "x");
        }
        node.tail();
        // This server's clock may be wrong.
        let last = START + hours.last().unwrap() * HOUR;
        for _ in 0..520 {
            node.store.logs[0].log.prune(now(last + ahead * HOUR), Duration::ZERO);
        }
        let kept = stored(&engine);
        let young = hours.iter().filter(|hour| last - (START + **hour * HOUR) < 25 * HOUR).count();
        prop_assert!(kept >= young, "{} of {}", kept, young);
        let old = hours.iter().filter(|hour| last - (START + **hour * HOUR) > 25 * HOUR).count();
        if ahead >= 0 && old > 0 && hours.len() as u64 > messages + messages / 4 {
            prop_assert!(kept < hours.len(), "nothing was pruned");
        }
    }
}
