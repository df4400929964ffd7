//! Appending, and the tail.

use super::fake_engine::Delivery;
use super::*;
use crate::store::jetstream::engine::EngineError;
use crate::store::room_log::Shortage;
use proptest::prelude::*;

#[test]
fn messages_of_two_servers_have_one_order_and_each_knows_its_own() {
    let engine = engine(1);
    let (mut one, mut other) = (node(&engine, &options(1)), node(&engine, &options(1)));
    let batch = |from: &str| vec![draft("a", from, None, "1"), draft("b", from, None, "2")];
    assert_eq!(one.append(batch("Alice")).iter().map(accepted).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(other.append(batch("Bob")).iter().map(accepted).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(one.say("a", "5"), 5);
    let drafts = |tail: &[TailMessage]| tail.iter().map(|one| one.draft).collect::<Vec<_>>();
    let (tail, others) = (one.tail(), other.tail());
    assert_eq!(drafts(&tail), [Some(0), Some(1), None, None, Some(2)]);
    assert_eq!(drafts(&others), [None, None, Some(0), Some(1), None]);
    let entries =
        |tail: Vec<TailMessage>| tail.into_iter().map(|one| one.entry).collect::<Vec<_>>();
    let (tail, others) = (entries(tail), entries(others));
    assert_eq!(tail, others);
    assert_eq!((tail[2].seq, &*tail[2].text, tail[2].at), (Seq(3), "1", now(START + 1)));
    assert_eq!(one.texts("a"), ["1", "1", "5"]);
    assert_eq!(other.texts("b"), ["2", "2"]);
}

#[test]
fn a_message_is_in_the_history_as_soon_as_it_is_accepted() {
    let mut node = node(&engine(1), &options(1));
    assert_eq!(node.texts("a").len(), 0);
    // The tail has not yielded it.
    let seq = node.say("a", "1");
    assert_eq!(node.texts("a"), ["1"]);
    assert_eq!(node.store.reader.head(&name("a")).unwrap().last, Seq(seq));
}

#[test]
fn nothing_of_a_message_is_readable_at_the_engine() {
    let engine = engine(1);
    node(&engine, &options(1)).append(vec![draft("plans", "Alice", Some("job-1"), "secreto")]);
    let stored = format!("{:?}", engine.messages());
    for word in ["plans", "Alice", "job-1", "secreto"] {
        assert!(!stored.contains(word), "{stored}");
    }
}

#[test]
fn a_repeated_message_is_a_duplicate_and_another_text_a_conflict() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    let say = |text| draft("a", "Alice", Some("1"), text);
    assert_eq!(accepted(&node.append(vec![say("x")])[0]), 1);
    let (duplicate, conflict) = (
        AppendOutcome::Duplicate { seq: Seq(1), at: now(START) },
        AppendOutcome::Conflict { seq: Seq(1) },
    );
    assert_eq!(node.append(vec![say("x")])[0], duplicate);
    assert_eq!(node.append(vec![say("y")])[0], conflict);
    // In a batch, with new messages around them; replicas lag behind at first.
    engine.lag([5, 5]);
    let new = |text| draft("a", "Alice", None, text);
    let outcomes = node.append(vec![new("n"), say("y"), say("x"), new("m")]);
    assert_eq!(outcomes[1..3], [conflict, duplicate]);
    assert_eq!((accepted(&outcomes[0]), accepted(&outcomes[3])), (2, 3));
    let drafts: Vec<_> = node.tail().iter().map(|one| one.draft).collect();
    assert_eq!(drafts, [Some(0), Some(3), Some(6)], "every draft is counted");
    // Another user, another room: another message.
    let others = vec![draft("a", "Bob", Some("1"), "x"), draft("b", "Alice", Some("1"), "x")];
    assert_eq!(node.append(others).iter().map(accepted).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn a_message_is_not_stored_behind_a_refused_one() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    let known = draft("a", "Alice", Some("1"), "x");
    node.append(vec![known.clone()]);
    // The batch has a known message, so they go one by one, and the second is refused.
    engine.deliver([Delivery::Normal, Delivery::Normal, Delivery::Refused]);
    let new = |text| draft("a", "Alice", None, text);
    let outcomes = node.append(vec![known, new("y"), new("z")]);
    assert_eq!(outcomes[0], AppendOutcome::Duplicate { seq: Seq(1), at: now(START) });
    for outcome in &outcomes[1..] {
        assert!(matches!(outcome, AppendOutcome::Refused(_)), "{outcome:?}");
    }
    assert_eq!(node.texts("a"), ["x"]);
}

#[test]
fn an_id_twice_in_one_batch_is_stored_once() {
    let mut node = node(&engine(1), &options(1));
    let say = |text| draft("a", "Alice", Some("1"), text);
    let outcomes = node.append(vec![say("x"), say("x"), say("y")]);
    let duplicate = AppendOutcome::Duplicate { seq: Seq(1), at: now(START) };
    assert_eq!(accepted(&outcomes[0]), 1);
    assert_eq!(outcomes[1..], [duplicate, AppendOutcome::Conflict { seq: Seq(1) }]);
    assert_eq!(node.texts("a"), ["x"]);
}

#[test]
fn a_duplicate_of_a_deleted_message_is_still_one() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    let say = |text| draft("a", "Alice", Some("1"), text);
    node.append(vec![say("x")]);
    // The engine still knows the id for a while.
    node.store.logs[0].log.delete(&name("a"), &["1".parse().unwrap()]).unwrap();
    engine.remember_id_of_removed("chat-log-0", 1);
    let duplicate = AppendOutcome::Duplicate { seq: Seq(1), at: now(START) };
    assert_eq!(node.append(vec![say("y")]), [duplicate]);
}

#[test]
fn without_an_engine_drafts_are_refused_at_once() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    engine.set_away(true);
    let outcomes = node.append(vec![draft("a", "Alice", None, "x")]);
    assert!(
        matches!(outcomes[..], [AppendOutcome::Refused(StoreError::Failed(_))]),
        "{outcomes:?}"
    );
    let read = node.store.reader.page(&name("a"), PageRange::Newest, 1, 1);
    assert!(matches!(read, Err(StoreError::Failed(_))));
    engine.set_away(false);
    engine.deliver([Delivery::Full]);
    let outcomes = node.append(vec![draft("a", "Alice", None, "x"); 2]);
    let full = AppendOutcome::Refused(StoreError::Full(Shortage::Engine));
    assert_eq!(outcomes, [full.clone(), full]);
    assert_eq!(node.say("a", "y"), 1);
}

#[test]
fn what_is_not_known_in_time_is_unknown() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    engine.deliver([Delivery::AnswerLost]);
    engine.deliver([Delivery::Disconnected; 10_000]);
    let batch = vec![draft("a", "Alice", Some("1"), "x"); 1];
    let outcomes = node.append(batch.clone());
    assert!(matches!(outcomes[..], [AppendOutcome::Unknown(_)]), "{outcomes:?}");
    engine.clear_deliveries();
    let outcomes = node.append(batch);
    assert_eq!(outcomes, [AppendOutcome::Duplicate { seq: Seq(1), at: now(START) }]);
}

#[test]
fn what_follows_an_unknown_batch_is_not_sent() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    engine.deliver([Delivery::RequestLost]);
    engine.deliver([Delivery::Disconnected; 10_000]);
    let outcomes = node.append(vec![draft("a", "Alice", None, "x"); 1_001]);
    let unknown = outcomes.iter().filter(|one| matches!(one, AppendOutcome::Unknown(_))).count();
    assert_eq!(unknown, 1_000);
    assert!(matches!(outcomes[1_000], AppendOutcome::Refused(_)), "{:?}", outcomes[1_000]);
}

#[test]
fn the_tail_leaves_out_nothing_after_an_error() {
    let engine = engine(1);
    let mut node = node(&engine, &options(1));
    node.say("a", "1");
    assert_eq!(node.tail().len(), 1);
    node.say("a", "2");
    engine.fail_tail(EngineError::Disconnected);
    node.try_tail().unwrap_err();
    engine.set_away(true);
    node.try_tail().unwrap_err();
    engine.set_away(false);
    node.say("a", "3");
    let texts: Vec<_> = node.tail().iter().map(|one| one.entry.text.to_string()).collect();
    assert_eq!(texts, ["2", "3"]);
}

fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        4 => Just(Delivery::Normal),
        2 => Just(Delivery::AnswerLost),
        2 => Just(Delivery::RequestLost),
        2 => Just(Delivery::Late),
        1 => Just(Delivery::Full),
        1 => Just(Delivery::Refused),
        1 => Just(Delivery::Disconnected),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Each draft: its user, its id if it has one, its text.
    #[test]
    fn each_message_is_stored_once_and_those_of_a_sender_in_order(
        batches in proptest::collection::vec(
            proptest::collection::vec((0..3_u8, proptest::option::of(0..12_u8), 0..2_u8), 1..6), 1..8),
        deliveries in proptest::collection::vec(delivery(), 0..24),
        lags in proptest::collection::vec(0..4_u64, 0..12),
    ) {
        let engine = engine(1);
        let mut node = node(&engine, &options(1));
        engine.deliver(deliveries);
        engine.lag(lags);
        let (mut drafts, mut outcomes) = (Vec::new(), Vec::new());
        for batch in &batches {
            let batch: Vec<_> = batch
                .iter()
                .map(|(user, id, text)| {
                    let id = id.map(|id| id.to_string());
                    draft("a", &format!("user{user}"), id.as_deref(), &text.to_string())
                })
                .collect();
            drafts.extend(batch.clone());
            outcomes.extend(node.append(batch));
        }
        prop_assert_eq!(outcomes.len(), drafts.len());
        engine.clear_deliveries();
        let tail = node.tail();
        let mut stored: Vec<Option<&Entry>> = vec![None; drafts.len()];
        for message in &tail {
            let number = message.draft.unwrap() as usize;
            prop_assert!(stored[number].is_none(), "draft {} twice", number);
            stored[number] = Some(&message.entry);
        }
        let mut ids = std::collections::HashMap::new();
        for (number, (draft, outcome)) in drafts.iter().zip(&outcomes).enumerate() {
            let own = stored[number];
            if let Some(entry) = own {
                prop_assert_eq!((&entry.user, &entry.id, &entry.text), (&draft.user, &draft.id, &draft.text));
                if let Some(id) = &draft.id {
                    let key = (draft.user.clone(), id.clone());
                    prop_assert!(ids.insert(key, entry).is_none(), "an id is stored twice");
                }
            }
            match outcome {
                AppendOutcome::Accepted { seq } => prop_assert_eq!(own.map(|entry| entry.seq), Some(*seq)),
                AppendOutcome::Refused(_) => prop_assert!(own.is_none(), "{} is refused and stored", number),
                AppendOutcome::Duplicate { seq, at } => {
                    let first = tail.iter().find(|one| one.entry.seq == *seq).unwrap();
                    prop_assert!(own.is_none() && first.entry.at == *at);
                    prop_assert_eq!((&first.entry.id, &first.entry.text), (&draft.id, &draft.text));
                }
                AppendOutcome::Conflict { seq } => {
                    let first = tail.iter().find(|one| one.entry.seq == *seq).unwrap();
                    prop_assert!(own.is_none() && first.entry.text != draft.text);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        // The order of one sender.
        for user in 0..3 {
            let user = UserName::clean(&format!("user{user}"));
            let seqs: Vec<_> = stored.iter().flatten().filter(|one| one.user == user).map(|one| one.seq).collect();
            prop_assert!(seqs.is_sorted(), "{:?}", seqs);
        }
    }
}
