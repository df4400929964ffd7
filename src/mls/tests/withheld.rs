//! A device whose user may only write: entries of others are withheld from it, and nothing follows from that.

use super::*;

fn withheld(first: u64, last: u64) -> LogEntry<'static> {
    no_entry(first, Body::Withheld(Seq(last)))
}

#[test]
fn what_is_withheld_is_neither_missing_nor_part_of_the_chain_and_others_judge_the_writer_as_ever() {
    let (ana, cron) = (User::new("ana"), User::new("cron"));
    let (mut a, mut c) = (Member::new(&ana), Member::new(&cron));
    let mut log = room_of(&ana, &mut a, &mut [&mut c]);
    log.users = vec!["ana", "cron"];
    log.append(0, &a.say("first", "for all").unwrap()).unwrap();
    a.read(&log);
    c.read(&log);
    for number in 0..3 {
        log.append(0, &a.say(&format!("a{number}"), "for readers").unwrap()).unwrap();
        a.read(&log);
    }
    let before = c.room();
    assert_eq!(c.hear(withheld(4, 5)).unwrap(), Applied::Withheld);
    // Another process of the device has read a part of them already.
    assert_eq!(c.hear(withheld(4, 6)).unwrap(), Applied::Withheld);
    assert_eq!(c.hear(withheld(5, 6)).unwrap(), Applied::Known);
    let room = c.room();
    assert_eq!((room.applied, room.deleted), (Seq(6), 3));
    assert_eq!((room.chain, room.chain_through), (before.chain, before.chain_through));
    // What it says names the chain as far as it goes, which readers can compare.
    let said = c.say("w", "backup done").unwrap();
    log.append(1, &said).unwrap();
    let applied = a.read(&log).pop().unwrap();
    let Applied::Message(received) = applied else { panic!("{applied:?}") };
    assert_eq!((received.evidence.len(), received.missing), (0, None));
    assert_eq!(c.read(&log), [Applied::Own { id: id("w") }]);
    // It may read again. Ana's three messages are no hole, and a fourth one that the server drops is.
    log.append(0, &a.say("a3", "for all").unwrap()).unwrap();
    let applied = c.read(&log).pop().unwrap();
    let Applied::Message(received) = applied else { panic!("{applied:?}") };
    assert_eq!((received.evidence.len(), received.missing), (0, None));
    a.read(&log);
    a.say("dropped", "never stored").unwrap();
    log.append(0, &a.say("a4", "for all").unwrap()).unwrap();
    let applied = c.read(&log).pop().unwrap();
    let Applied::Message(received) = applied else { panic!("{applied:?}") };
    assert_eq!(received.missing, Some((6, 6)));
    // The next commit begins a whole chain.
    a.read(&log);
    log.append(1, &c.change("renew", Change::default()).unwrap()).unwrap();
    a.read(&log);
    c.read(&log);
    assert_eq!(a.room().chain, c.room().chain);
}
