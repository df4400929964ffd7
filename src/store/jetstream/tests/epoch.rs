//! Streams that are replaced, and the secret.

use super::*;
use crate::crypto::secrets::Secrets;
use crate::protocol::frame::Position;
use crate::store::jetstream::engine::EngineError;

#[test]
fn a_restart_keeps_the_epoch_and_all_servers_share_it() {
    let engine = engine(2);
    let mut one = node(&engine, &options(2));
    let log = one.store.reader.log_of(&name("a"));
    one.store.logs[log].log.append(vec![draft("a", "Alice", None, "x")], now(START));
    let epoch = |node: &Node, room| node.store.reader.head(&name(room)).unwrap().epoch;
    let other = node(&engine, &options(2));
    assert_eq!(epoch(&one, "a"), epoch(&other, "a"));
    let elsewhere =
        ["b", "c", "d", "e"].into_iter().find(|room| other.store.reader.log_of(&name(room)) != log);
    assert_ne!(epoch(&one, "a"), epoch(&one, elsewhere.unwrap()));
}

fn told_after(change: impl Fn(&FakeEngine), is_running: bool) -> (Node, Position) {
    let engine = engine(1);
    let mut one = node(&engine, &options(1));
    one.say_each("a", 0..5);
    one.tail();
    // The janitor records the highest number.
    assert_eq!(one.store.logs[0].log.prune(now(START), Duration::ZERO).error, None);
    let head = one.store.reader.head(&name("a")).unwrap();
    let position = Position { epoch: head.epoch, seq: Seq(4) };
    change(&engine);
    if !is_running {
        let mut new = node(&engine, &options(1));
        assert!(!new.store.logs[0].tail.as_mut().unwrap().take_epoch_change());
        return (new, position);
    }
    let error = one.try_tail().unwrap_err().to_string();
    assert!(error.contains("new epoch") && error.contains("chat-log-0"), "{error}");
    let tail = one.store.logs[0].tail.as_mut().unwrap();
    assert!(tail.take_epoch_change() && !tail.take_epoch_change());
    // A server that starts afterwards agrees.
    let other = node(&engine, &options(1));
    let epoch = |node: &Node| node.store.reader.head(&name("a")).unwrap().epoch;
    assert_eq!(epoch(&one), epoch(&other));
    (one, position)
}

#[test]
fn a_stream_that_was_made_anew_or_lost_its_end_has_a_new_epoch() {
    let recreate = |engine: &FakeEngine| engine.recreate("chat-log-0");
    let truncate = |engine: &FakeEngine| engine.truncate("chat-log-0", 3);
    for is_running in [false, true] {
        for (change, kept) in [(&recreate as &dyn Fn(&FakeEngine), 0), (&truncate, 3)] {
            let (mut node, position) = told_after(change, is_running);
            let gap = node.store.reader.resume(&name("a"), &position).unwrap().gap.unwrap();
            assert_eq!(gap.reason, GapReason::Epoch);
            assert_eq!(node.texts("a").len(), kept);
            let seq = node.say("a", "new");
            assert_eq!(seq, kept as u64 + 1);
            let tail = node.tail();
            assert_eq!((tail.len(), tail[0].entry.seq), (1, Seq(seq)));
            assert_eq!(node.texts("a").len(), kept + 1);
        }
    }
}

#[test]
fn a_stream_that_was_made_anew_is_noticed_although_it_is_longer_now() {
    let engine = engine(1);
    let mut one = node(&engine, &options(1));
    one.say("a", "old");
    one.tail();
    let old = one.store.reader.head(&name("a")).unwrap().epoch;
    engine.recreate("chat-log-0");
    let mut other = node(&engine, &options(1));
    other.say_each("a", 1..=5);
    one.try_tail().unwrap_err();
    assert!(one.store.logs[0].tail.as_mut().unwrap().take_epoch_change());
    let epoch = |node: &Node| node.store.reader.head(&name("a")).unwrap().epoch;
    assert_ne!(epoch(&one), old);
    assert_eq!(epoch(&one), epoch(&other), "the other server has begun it");
    assert_eq!(one.texts("a").len(), 5);
}

#[test]
fn a_stream_that_was_put_back_to_an_earlier_state_is_noticed_although_it_is_longer_now() {
    let engine = engine(1);
    let mut one = node(&engine, &options(1));
    one.say_each("a", 0..5);
    one.tail();
    let old = one.store.reader.head(&name("a")).unwrap().epoch;
    engine.truncate("chat-log-0", 3);
    // This server starts now, and knows of nothing.
    let mut other = node(&engine, &options(1));
    engine.set_now(START + 1_000_000);
    other.say_each("a", 10..15);
    assert_eq!(other.tail().len(), 5);
    engine.fail_tail(EngineError::Disconnected);
    one.try_tail().unwrap_err();
    assert!(!one.store.logs[0].tail.as_mut().unwrap().take_epoch_change());
    let epoch = |node: &Node| node.store.reader.head(&name("a")).unwrap().epoch;
    for node in [&mut one, &mut other] {
        node.try_tail().unwrap_err();
        assert!(node.store.logs[0].tail.as_mut().unwrap().take_epoch_change());
        assert_ne!(epoch(node), old);
        assert!(node.tail().is_empty());
    }
    assert_eq!(epoch(&one), epoch(&other), "the other server takes it over");
    other.say("a", "new");
    assert_eq!((one.tail().len(), other.tail().len()), (1, 1));
}

#[test]
fn a_stream_that_is_followed_again_keeps_its_epoch() {
    let engine = engine(1);
    let mut one = node(&engine, &options(1));
    one.say_each("a", 0..5);
    one.tail();
    engine.fail_tail(EngineError::Disconnected);
    one.try_tail().unwrap_err();
    one.say("a", "more");
    assert_eq!(one.tail().len(), 1);
    assert!(!one.store.logs[0].tail.as_mut().unwrap().take_epoch_change());
}

#[test]
fn a_purged_stream_keeps_its_epoch_and_expires() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    node.say_each("a", 0..5);
    node.tail();
    let head = node.store.reader.head(&name("a")).unwrap();
    use crate::store::jetstream::engine::Engine as _;
    engine.purge("chat-log-0", ">", 4, Duration::ZERO).unwrap();
    assert!(node.try_tail().is_ok());
    let position = Position { epoch: head.epoch.clone(), seq: Seq(2) };
    let resumed = node.store.reader.resume(&name("a"), &position).unwrap();
    assert_eq!((resumed.from, resumed.gap), (Seq(2), None));
    let page = node.page("a", PageRange::After(Seq(2)), 9);
    let items: Vec<_> = page.items().iter().map(Item::of).collect();
    let messages = [(4, "3"), (5, "4")].map(|(seq, text)| Item::Message(seq, text.into()));
    assert_eq!(items[0], Item::Gap(2, 4, GapReason::Expired));
    assert_eq!(items[1..], messages);
    // All gone: a reader that has everything misses nothing, another one is told.
    engine.purge("chat-log-0", ">", 6, Duration::ZERO).unwrap();
    for room in ["a", "new"] {
        let head = node.store.reader.head(&name(room)).unwrap();
        assert_eq!((head.last, head.forgotten), (Seq(5), Seq(5)), "{room}");
        assert_eq!(node.page(room, PageRange::After(Seq(5)), 9).gaps, []);
        assert_eq!(node.page(room, PageRange::After(Seq(4)), 9).gaps.len(), 1);
    }
}

#[test]
fn the_secret_can_be_changed_and_another_secret_is_refused() {
    let engine = engine(1);
    node(&engine, &options(1)).say("a", "old");
    let with = |current: u8, accepted: Option<u8>| {
        let secret = |byte| Zeroizing::new([byte; 32]);
        let secrets = Secrets::new(secret(current), accepted.map(secret));
        JetStreamOptions { secrets, ..options(1) }
    };
    assert!(matches!(try_node(&engine, &with(8, None)), Err(OpenJetStreamError::OtherSecret)));
    // First every node accepts the new secret, then one after the other uses it: all read everything.
    let mut first = node(&engine, &with(7, Some(8)));
    let mut second = node(&engine, &with(8, Some(7)));
    second.say("a", "new");
    first.say("a", "old again");
    for node in [&first, &second] {
        assert_eq!(node.texts("a"), ["old", "new", "old again"]);
    }
    // A node of the first step that starts once more does not lock the others out.
    assert_eq!(node(&engine, &with(7, Some(8))).texts("a").len(), 3);
    assert_eq!(node(&engine, &with(8, Some(7))).texts("a").len(), 3);
    assert!(matches!(try_node(&engine, &options(1)), Err(OpenJetStreamError::OtherSecret)));
    // Later, without the old secret: rooms are still found, and what was sealed before is damaged.
    assert_eq!(node(&engine, &with(8, None)).texts("a"), ["new"]);
}
