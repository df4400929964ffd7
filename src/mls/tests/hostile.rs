//! Bytes of a stranger: changed, cut and invented ones never panic, and never get through.

use proptest::prelude::*;

use super::*;
use crate::mls::decode;

/// What an attacker does to bytes.
fn bend(bytes: &[u8], changes: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bent = bytes.to_vec();
    for (at, kind, value) in changes {
        if bent.is_empty() {
            break;
        }
        let at = at.index(bent.len());
        match kind % 4 {
            0 => bent[at] ^= value | 1,
            1 => bent.truncate(at),
            2 => bent.insert(at, *value),
            _ => bent[at] = 0xff,
        }
    }
    bent
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 1..4)
}

/// Tries something, and undoes it.
fn attempt<T>(
    member: &mut Member,
    work: impl FnOnce(&Step<'_>, &Device) -> Result<T, RoomError>,
) -> Result<T, RoomError> {
    let mut result = Err(RoomError::Malformed);
    let _ = member.step(|step, device| {
        result = work(step, device);
        Err::<(), _>(RoomError::Malformed)
    });
    result
}

#[test]
fn changed_bytes_do_not_panic_and_do_not_get_through() {
    let (ana, bob, eve) = (User::new("ana"), User::new("bob"), User::new("eve"));
    let (mut a, mut b, mut e) = (Member::new(&ana), Member::new(&bob), Member::new(&eve));
    let phone = Member::new(&bob);
    let mut log = room_of(&ana, &mut a, &mut [&mut b]);
    let message = a.say("1", "hola").unwrap();
    let package =
        e.step(|step, device| Ok(device.make_key_package(step, false, at(0))?)).unwrap().content;
    let newcomer = Newcomer::read(&package, at(0)).unwrap();
    let added = a.change("eve", Change { adds: vec![newcomer], ..Change::default() }).unwrap();
    let made = added.commit.clone().unwrap();
    let welcome = made.welcome.clone().unwrap();
    let seq = log.base().next();
    let entry =
        |is_commit, content: Vec<u8>| Entry { seq, id: id("eve"), author: 0, is_commit, content };
    let place = Position { applied: seq, base: seq };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let b = std::cell::RefCell::new(b);
    let e = std::cell::RefCell::new(e);
    let phone = std::cell::RefCell::new(phone);
    runner
        .run(&changes(), |changes| {
            let apply = |is_commit, content: Vec<u8>| {
                let entry = entry(is_commit, content);
                let work =
                    |step: &Step<'_>, device: &Device| apply(step, device, &ops(), entry.as_log());
                attempt(&mut b.borrow_mut(), work).unwrap()
            };
            let bent = bend(&message.content, &changes);
            if bent != message.content {
                let applied = apply(false, bent);
                prop_assert!(matches!(applied, Applied::Unreadable(_) | Applied::Evidence(_)));
            }
            let bent = bend(&added.content, &changes);
            if bent != added.content {
                prop_assert!(matches!(apply(true, bent), Applied::Void(_)));
            }
            let join = |welcome: &[u8], tree: &[u8]| {
                attempt(&mut e.borrow_mut(), |step, device| {
                    room::join(step, device, &ops(), (welcome, tree), (seq, &added.content))
                })
            };
            let come_in = |info: &[u8], tree: &[u8]| {
                attempt(&mut phone.borrow_mut(), |step, device| {
                    room::come_in(step, device, &ops(), &id("in"), (info, tree), place, at(3))
                })
            };
            prop_assert!(join(&welcome, &made.tree).is_ok());
            prop_assert!(come_in(&made.info, &made.tree).is_ok());
            let bent = bend(&welcome, &changes);
            prop_assert!(bent == welcome || join(&bent, &made.tree).is_err());
            let bent = bend(&made.tree, &changes);
            prop_assert!(bent == made.tree || join(&welcome, &bent).is_err());
            prop_assert!(bent == made.tree || come_in(&made.info, &bent).is_err());
            let bent = bend(&made.info, &changes);
            prop_assert!(bent == made.info || come_in(&bent, &made.tree).is_err());
            let bent = bend(&package, &changes);
            prop_assert!(bent == package || Newcomer::read(&bent, at(0)).is_err());
            Ok(())
        })
        .unwrap();
    log.append(0, &added).unwrap();
}

proptest! {
    #[test]
    fn invented_bytes_do_not_panic(bytes in any::<Vec<u8>>(), start in 0..6_u16) {
        // A version and a wire format, as messages begin.
        let message = [&[0, 1][..], &start.to_be_bytes(), &bytes].concat();
        for bytes in [&bytes, &message] {
            decode::content(bytes);
            decode::welcome(bytes);
            decode::group_info(bytes);
            decode::tree(bytes);
            prop_assert!(Newcomer::read(bytes, at(0)).is_err());
        }
    }
}

#[test]
fn what_is_too_long_is_not_read() {
    assert!(decode::content(&vec![0; decode::MAX_CONTENT_BYTES + 1]).is_none());
    assert!(decode::welcome(&vec![0; decode::MAX_WELCOME_BYTES + 1]).is_none());
    assert!(decode::group_info(&vec![0; decode::MAX_INFO_BYTES + 1]).is_none());
    assert!(decode::tree(&vec![0; decode::MAX_TREE_BYTES + 1]).is_none());
    assert!(decode::key_package(&vec![0; decode::MAX_KEY_PACKAGE_BYTES + 1]).is_none());
}
