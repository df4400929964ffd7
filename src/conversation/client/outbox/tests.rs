use super::*;
use proptest::prelude::*;

fn message(line: u64) -> OutgoingMessage {
    OutgoingMessage { line, room: None, id: format!("x-{line}"), text: format!("text {line}") }
}

fn error(id: Option<u64>, code: &'static str, temporary: bool) -> ErrorFrame {
    ErrorFrame {
        code: code.into(),
        temporary,
        id: id.map(|line| format!("x-{line}")),
        ..ErrorFrame::default()
    }
}

fn sent(outbox: &mut Outbox, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| outbox.next_message(now, |_, _| true).map(|(message, _)| message.line))
        .collect()
}

fn filled(confirmation: Confirmation, lines: u64) -> Outbox {
    let mut outbox = Outbox::default();
    outbox.reconnected(confirmation);
    (1..=lines).for_each(|line| outbox.push(message(line)));
    outbox
}

#[test]
fn acks_open_the_window_in_any_order() {
    let now = Instant::now();
    let mut outbox = filled(Confirmation::Ack { window: 3 }, 5);
    assert_eq!(sent(&mut outbox, now), [1, 2, 3]);
    assert!(outbox.acked("x-2"));
    assert!(!outbox.acked("x-2"));
    assert_eq!(sent(&mut outbox, now), [4]);
    assert_eq!(outbox.unconfirmed_lines().collect::<Vec<_>>(), [1, 3, 4, 5]);
}

#[test]
fn a_new_connection_sends_every_unacked_message_again_in_order() {
    let now = Instant::now();
    let mut outbox = filled(Confirmation::Ack { window: 3 }, 5);
    sent(&mut outbox, now);
    outbox.acked("x-2");
    outbox.reconnected(Confirmation::Ack { window: 9 });
    assert_eq!(sent(&mut outbox, now), [1, 3, 4, 5]);
}

#[test]
fn a_temporarily_refused_message_is_sent_before_those_behind_it() {
    let now = Instant::now();
    let mut outbox = filled(Confirmation::Ack { window: 2 }, 4);
    assert_eq!(sent(&mut outbox, now), [1, 2]);
    assert_eq!(outbox.refused(&error(Some(1), "storage_full", true), now), None);
    assert!(sent(&mut outbox, now).is_empty());
    let later = outbox.retry_at().unwrap();
    // Line 2 is still in flight; if it is refused too, line 1 must be sent before it.
    assert!(sent(&mut outbox, later).is_empty());
    assert_eq!(outbox.refused(&error(Some(2), "storage_full", true), now), None);
    let later = outbox.retry_at().unwrap();
    assert_eq!(sent(&mut outbox, later), [1, 2]);
    outbox.acked("x-1");
    assert_eq!(sent(&mut outbox, later), [3]);
}

#[test]
fn a_permanently_refused_message_is_rejected_and_the_next_one_is_sent() {
    let now = Instant::now();
    let mut outbox = filled(Confirmation::Ack { window: 2 }, 3);
    sent(&mut outbox, now);
    let rejected = outbox.refused(&error(Some(1), "message_too_long", false), now).unwrap();
    assert_eq!((rejected.line, rejected.code.as_str()), (1, "message_too_long"));
    assert_eq!(sent(&mut outbox, now), [3]);
}

#[test]
fn on_the_basic_protocol_one_message_is_in_flight_and_its_echo_confirms_it() {
    let now = Instant::now();
    let mut outbox = filled(Confirmation::Echo, 3);
    assert_eq!(sent(&mut outbox, now), [1]);
    assert!(!outbox.echoed("something else"));
    assert!(outbox.echoed("text 1"));
    assert_eq!(sent(&mut outbox, now), [2]);
    assert_eq!(outbox.refused(&error(None, "", false), now), None);
    assert!(sent(&mut outbox, now).is_empty());
    let later = outbox.retry_at().unwrap();
    assert!(later > now);
    assert_eq!(sent(&mut outbox, later), [2]);
    assert!(outbox.refused(&error(None, "message_too_long", false), now).is_some());
    assert_eq!(sent(&mut outbox, later), [3]);
}

#[test]
fn rejecting_a_room_rejects_only_the_messages_of_that_room() {
    let mut outbox = filled(Confirmation::Ack { window: 2 }, 1);
    outbox.push(OutgoingMessage { room: Some("ops".into()), ..message(2) });
    outbox.push(message(3));
    let lines: Vec<_> = outbox.reject_room("ops", "forbidden", "").iter().map(|r| r.line).collect();
    assert_eq!(lines, [2]);
    assert_eq!(sent(&mut outbox, Instant::now()), [1, 3]);
}

proptest! {
    /// Every message is stored in the end, on the basic protocol in order and once, for all
    /// refusals and lost connections.
    #[test]
    fn every_message_is_stored_in_the_end(
        basic in any::<bool>(),
        lines in 1u64..30,
        statuses in prop::collection::vec(0u8..4, 0..200),
    ) {
        let confirmation = if basic { Confirmation::Echo } else { Confirmation::Ack { window: 4 } };
        let mut outbox = filled(confirmation, lines);
        let mut now = Instant::now();
        let mut in_flight: VecDeque<OutgoingMessage> = VecDeque::new();
        let mut stored: Vec<u64> = Vec::new();
        let mut statuses = statuses.into_iter();
        let mut rounds = 0;
        while !outbox.is_empty() {
            rounds += 1;
            prop_assert!(rounds < 10_000);
            now = outbox.retry_at().map_or(now, |until| until.max(now));
            while let Some((message, _)) = outbox.next_message(now, |_, _| true) {
                in_flight.push_back(message.clone());
            }
            let Some(message) = in_flight.pop_front() else { continue };
            match statuses.next().unwrap_or(0) {
                1 => {
                    let id = (!basic).then_some(message.line);
                    prop_assert_eq!(outbox.refused(&error(id, "rate_limited", true), now), None);
                }
                2 if !basic => {
                    // The connection breaks after the server stored the message.
                    if !stored.contains(&message.line) { stored.push(message.line); }
                    in_flight.clear();
                    outbox.reconnected(confirmation);
                }
                _ => {
                    if basic || !stored.contains(&message.line) { stored.push(message.line); }
                    if basic { outbox.echoed(&message.text); } else { outbox.acked(&message.id); }
                }
            }
        }
        if !basic {
            stored.sort_unstable();
        }
        prop_assert_eq!(stored, (1..=lines).collect::<Vec<_>>());
    }
}

#[test]
fn a_message_under_a_stale_key_is_encrypted_again_until_a_key_holds() {
    let mut now = Instant::now();
    let mut outbox = filled(Confirmation::Ack { window: 2 }, 1);
    let mut pauses = Vec::new();
    for _ in 0..40 {
        assert_eq!(sent(&mut outbox, now), [1]);
        assert_eq!(outbox.refused(&error(Some(1), "stale_key", true), now), None);
        let at = outbox.retry_at().unwrap();
        pauses.push(at - now);
        now = at;
    }
    assert_eq!(pauses[..5], [STALE_KEY_PAUSE; 5], "a new key is on its way");
    assert!(pauses[5] > STALE_KEY_PAUSE && pauses[39] == MAX_RETRY_PAUSE, "{pauses:?}");
    // A clock that can't be corrected does not pass.
    let mut outbox = filled(Confirmation::Ack { window: 2 }, 1);
    for refusals in 1..=MAX_REENCRYPTIONS + 1 {
        assert_eq!(sent(&mut outbox, now), [1]);
        let rejected = outbox.refused(&error(Some(1), "clock_skew", false), now);
        assert_eq!(rejected.is_some(), refusals > MAX_REENCRYPTIONS);
        now = outbox.retry_at().unwrap_or(now);
    }
}

#[test]
fn a_message_after_a_commit_waits_for_those_that_were_encrypted_before_it() {
    let now = Instant::now();
    let mut outbox = filled(Confirmation::Ack { window: 9 }, 4);
    let sealed = |base| Sealed { base: Seq(base), content: String::new() };
    let ready = |outbox: &mut Outbox, now| -> Vec<u64> {
        let next = || {
            outbox.next_message(now, |_, sealed| sealed.is_some()).map(|(message, _)| message.line)
        };
        std::iter::from_fn(next).collect()
    };
    ["x-1", "x-2"].iter().for_each(|id| outbox.seal(id, sealed(2)));
    assert_eq!(ready(&mut outbox, now), [1, 2]);
    // The commit is read before the answers about the first two.
    outbox.unseal_before(Seq(5), |_| true);
    ["x-3", "x-4"].iter().for_each(|id| outbox.seal(id, sealed(5)));
    assert!(ready(&mut outbox, now).is_empty());
    assert!(outbox.acked("x-1"));
    assert_eq!(outbox.refused(&error(Some(2), "stale_base", true), now), None);
    let later = outbox.retry_at().unwrap();
    assert!(ready(&mut outbox, later).is_empty(), "the second is encrypted anew first");
    outbox.seal("x-2", sealed(5));
    assert_eq!(ready(&mut outbox, later), [2, 3, 4]);
}

#[test]
fn a_message_after_a_commit_in_one_room_does_not_wait_for_another_room() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    outbox.reconnected(Confirmation::Ack { window: 9 });
    for (line, base) in [(1, 2), (2, 5)] {
        outbox.push(OutgoingMessage { room: Some(format!("+room{line}")), ..message(line) });
        outbox.seal(&format!("x-{line}"), Sealed { base: Seq(base), content: String::new() });
    }
    assert_eq!(sent(&mut outbox, now), [1, 2]);
}
