use super::*;
use proptest::prelude::*;

fn item(line: u64) -> OutgoingMessage {
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
    std::iter::from_fn(|| outbox.next(now, |_| true).map(|item| item.line)).collect()
}

fn filled(proof: Confirmation, lines: u64) -> Outbox {
    let mut outbox = Outbox::default();
    outbox.reconnected(proof);
    (1..=lines).for_each(|line| outbox.push(item(line)));
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
    assert_eq!(outbox.lines().collect::<Vec<_>>(), [1, 3, 4, 5]);
}

#[test]
fn a_new_connection_sends_everything_unacked_again_in_order() {
    let now = Instant::now();
    let mut outbox = filled(Confirmation::Ack { window: 3 }, 5);
    sent(&mut outbox, now);
    outbox.acked("x-2");
    outbox.reconnected(Confirmation::Ack { window: 9 });
    assert_eq!(sent(&mut outbox, now), [1, 3, 4, 5]);
}

#[test]
fn what_was_refused_for_now_goes_before_everything_behind_it() {
    let now = Instant::now();
    let mut outbox = filled(Confirmation::Ack { window: 2 }, 4);
    assert_eq!(sent(&mut outbox, now), [1, 2]);
    assert_eq!(outbox.refused(&error(Some(1), "storage_full", true), now), None);
    assert!(sent(&mut outbox, now).is_empty());
    let later = outbox.held_until().unwrap();
    // Line 2 is still on its way; line 1 must not land behind it unknowingly.
    assert!(sent(&mut outbox, later).is_empty());
    assert_eq!(outbox.refused(&error(Some(2), "storage_full", true), now), None);
    let later = outbox.held_until().unwrap();
    assert_eq!(sent(&mut outbox, later), [1, 2]);
    outbox.acked("x-1");
    assert_eq!(sent(&mut outbox, later), [3]);
}

#[test]
fn what_can_never_be_sent_is_told_and_the_rest_goes_on() {
    let now = Instant::now();
    let mut outbox = filled(Confirmation::Ack { window: 2 }, 3);
    sent(&mut outbox, now);
    let refusal = outbox.refused(&error(Some(1), "message_too_long", false), now).unwrap();
    assert_eq!((refusal.line, refusal.code.as_str()), (1, "message_too_long"));
    assert_eq!(sent(&mut outbox, now), [3]);
}

#[test]
fn on_the_basic_protocol_one_is_on_its_way_and_its_echo_is_the_proof() {
    let now = Instant::now();
    let mut outbox = filled(Confirmation::Echo, 3);
    assert_eq!(sent(&mut outbox, now), [1]);
    assert!(!outbox.echoed("something else"));
    assert!(outbox.echoed("text 1"));
    assert_eq!(sent(&mut outbox, now), [2]);
    assert_eq!(outbox.refused(&error(None, "", false), now), None);
    assert!(sent(&mut outbox, now).is_empty());
    let later = outbox.held_until().unwrap();
    assert!(later > now);
    assert_eq!(sent(&mut outbox, later), [2]);
    assert!(outbox.refused(&error(None, "message_too_long", false), now).is_some());
    assert_eq!(sent(&mut outbox, later), [3]);
}

#[test]
fn a_room_that_cannot_be_entered_takes_only_its_own_messages_with_it() {
    let mut outbox = filled(Confirmation::Ack { window: 2 }, 1);
    outbox.push(OutgoingMessage { room: Some("ops".into()), ..item(2) });
    outbox.push(item(3));
    let lines: Vec<_> =
        outbox.room_refused("ops", "forbidden", "").iter().map(|r| r.line).collect();
    assert_eq!(lines, [2]);
    assert_eq!(sent(&mut outbox, Instant::now()), [1, 3]);
}

proptest! {
    /// Whatever a server does to what was sent, everything arrives in the end, and on the basic
    /// protocol in order and once.
    #[test]
    fn everything_arrives(
        basic in any::<bool>(),
        lines in 1u64..30,
        statuses in prop::collection::vec(0u8..4, 0..200),
    ) {
        let proof = if basic { Confirmation::Echo } else { Confirmation::Ack { window: 4 } };
        let mut outbox = filled(proof, lines);
        let mut now = Instant::now();
        let mut in_flight: VecDeque<OutgoingMessage> = VecDeque::new();
        let mut stored: Vec<u64> = Vec::new();
        let mut statuses = statuses.into_iter();
        let mut rounds = 0;
        while !outbox.is_empty() {
            rounds += 1;
            prop_assert!(rounds < 10_000);
            now = outbox.held_until().map_or(now, |until| until.max(now));
            while let Some(item) = outbox.next(now, |_| true) {
                in_flight.push_back(item.clone());
            }
            let Some(item) = in_flight.pop_front() else { continue };
            match statuses.next().unwrap_or(0) {
                1 => {
                    let id = (!basic).then_some(item.line);
                    prop_assert_eq!(outbox.refused(&error(id, "rate_limited", true), now), None);
                }
                2 if !basic => {
                    // The connection breaks after the server took the message in.
                    if !stored.contains(&item.line) { stored.push(item.line); }
                    in_flight.clear();
                    outbox.reconnected(proof);
                }
                _ => {
                    if basic || !stored.contains(&item.line) { stored.push(item.line); }
                    if basic { outbox.echoed(&item.text); } else { outbox.acked(&item.id); }
                }
            }
        }
        if !basic {
            stored.sort_unstable();
        }
        prop_assert_eq!(stored, (1..=lines).collect::<Vec<_>>());
    }
}
