//! The rules for commits: one case per rule, and what holds for every commit that counts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::commit_rules::{Author, CommitFacts, Leaf, MAX_DEVICES, Roster, VoidReason, check};
use crate::protocol::device::{DeviceId, UserKey};
use crate::protocol::room_terms::RoomTerms;
use crate::protocol::{RoomName, Timestamp};

const NOW: u64 = 1_790_000_000;

/// Device `number` of a user. Each name has the key that its first letter gives.
fn leaf(user: &str, number: u8) -> Leaf {
    let letter = user.as_bytes()[0];
    Leaf {
        user: user.into(),
        user_key: UserKey([letter; 32]),
        device: DeviceId([letter, number, 0, 0, 0, 0, 0, 0, 0, 0]),
        not_before: NOW - 10,
        not_after: NOW + 10,
    }
}

fn terms(admins: &[&str]) -> RoomTerms {
    RoomTerms {
        room: RoomName::lobby(),
        host: "chat.example".into(),
        generation: 1,
        admins: admins.iter().map(|user| leaf(user, 1).user_key).collect(),
        removed: BTreeSet::new(),
    }
}

/// Ana with two devices administers; Bob has two devices, Carl one.
fn roster() -> Roster {
    let leaves = [leaf("ana", 1), leaf("ana", 2), leaf("bob", 1), leaf("bob", 2), leaf("carl", 1)];
    Roster { leaves: (0..).zip(leaves).collect(), terms: terms(&["ana"]) }
}

const ANA: Author = Author::Member(0);
const BOB: Author = Author::Member(2);

fn commit(author: Author) -> CommitFacts {
    CommitFacts {
        author,
        stated_at: Timestamp::from_micros(NOW as i64 * 1_000_000),
        path: None,
        adds: Vec::new(),
        removes: Vec::new(),
        terms: None,
        external_inits: 0,
        by_reference: 0,
        others: 0,
    }
}

fn adding(author: Author, leaves: &[Leaf]) -> CommitFacts {
    CommitFacts { adds: leaves.iter().cloned().map(Some).collect(), ..commit(author) }
}

/// Removes the leaves at these places and notes their devices.
fn removing(author: Author, places: &[u32]) -> CommitFacts {
    CommitFacts { removes: places.to_vec(), terms: Some(Some(noting(places))), ..commit(author) }
}

fn noting(places: &[u32]) -> RoomTerms {
    let roster = roster();
    let mut terms = roster.terms;
    let leaves = places.iter().filter_map(|place| roster.leaves.get(place));
    terms.removed.extend(leaves.map(|leaf| leaf.device));
    terms
}

fn newcomer(new: Leaf) -> CommitFacts {
    CommitFacts { path: Some(Some(new)), external_inits: 1, ..commit(Author::Newcomer) }
}

fn with_terms(author: Author, change: impl FnOnce(&mut RoomTerms)) -> CommitFacts {
    let mut terms = roster().terms;
    change(&mut terms);
    CommitFacts { terms: Some(Some(terms)), ..commit(author) }
}

#[track_caller]
fn counts(before: &Roster, facts: &CommitFacts) {
    assert_eq!(check(before, facts), Ok(()), "{facts:?}");
}

#[track_caller]
fn is_void(facts: &CommitFacts, reason: VoidReason) {
    assert_eq!(check(&roster(), facts), Err(reason), "{facts:?}");
}

#[test]
fn what_members_may_do_counts() {
    let roster = roster();
    for facts in [
        commit(BOB),
        CommitFacts { path: Some(Some(leaf("bob", 1))), ..commit(BOB) },
        adding(BOB, &[leaf("bob", 3)]),
        removing(BOB, &[3]),
        adding(ANA, &[leaf("dora", 1), leaf("dora", 2), leaf("bob", 3)]),
        removing(ANA, &[1, 2, 3, 4]),
        with_terms(ANA, |terms| {
            terms.admins.insert(leaf("bob", 1).user_key);
        }),
        with_terms(ANA, |terms| terms.admins = [leaf("bob", 1).user_key].into()),
        with_terms(ANA, |terms| {
            terms.removed.insert(DeviceId([1; 10]));
        }),
        newcomer(leaf("bob", 3)),
        CommitFacts { removes: vec![2], ..newcomer(leaf("bob", 1)) },
    ] {
        counts(&roster, &facts);
    }
}

#[test]
fn nothing_rides_in_a_commit() {
    for author in [ANA, BOB] {
        is_void(&CommitFacts { by_reference: 1, ..commit(author) }, VoidReason::ForbiddenProposal);
        is_void(&CommitFacts { others: 1, ..commit(author) }, VoidReason::ForbiddenProposal);
        is_void(
            &CommitFacts { external_inits: 1, ..commit(author) },
            VoidReason::ForbiddenProposal,
        );
    }
}

#[test]
fn every_certificate_is_valid_when_the_author_says_it_commits() {
    let expired = Leaf { not_after: NOW - 1, ..leaf("dora", 1) };
    let early = Leaf { not_before: NOW + 1, ..leaf("dora", 1) };
    for bad in [Some(expired), Some(early), None] {
        let facts = CommitFacts { adds: vec![bad], ..commit(ANA) };
        is_void(&facts, VoidReason::Certificate);
    }
    let wrong_path = CommitFacts { path: Some(None), ..commit(BOB) };
    is_void(&wrong_path, VoidReason::Certificate);
    let before_1970 = CommitFacts { stated_at: Timestamp::from_micros(-1), ..commit(ANA) };
    is_void(&before_1970, VoidReason::Certificate);
    // An author whose certificate has expired counts again with a new one.
    let mut roster = roster();
    roster.leaves.get_mut(&2).unwrap().not_after = NOW - 1;
    assert_eq!(check(&roster, &commit(BOB)), Err(VoidReason::Certificate));
    counts(&roster, &CommitFacts { path: Some(Some(leaf("bob", 1))), ..commit(BOB) });
}

#[test]
fn an_author_stays_who_it_is() {
    let renamed = Leaf { user: "ana".into(), ..leaf("bob", 1) };
    let other_key = Leaf { user_key: UserKey([1; 32]), ..leaf("bob", 1) };
    for new in [leaf("ana", 1), leaf("bob", 2), leaf("bob", 3), renamed, other_key] {
        let facts = CommitFacts { path: Some(Some(new)), ..commit(BOB) };
        is_void(&facts, VoidReason::ChangedIdentity);
    }
    is_void(&commit(Author::Member(9)), VoidReason::UnknownAuthor);
    is_void(
        &CommitFacts { path: None, external_inits: 1, ..commit(Author::Newcomer) },
        VoidReason::UnknownAuthor,
    );
}

#[test]
fn only_an_admin_changes_what_is_not_its_own() {
    is_void(&adding(BOB, &[leaf("dora", 1)]), VoidReason::MayNotAdd);
    is_void(&adding(BOB, &[leaf("ana", 3)]), VoidReason::MayNotAdd);
    // Bob's key under another name is another user.
    let disguised = Leaf { user: "root".into(), ..leaf("bob", 3) };
    is_void(&adding(BOB, &[disguised]), VoidReason::MayNotAdd);
    is_void(&removing(BOB, &[4]), VoidReason::MayNotRemove);
    is_void(&removing(BOB, &[0]), VoidReason::MayNotRemove);
    for change in [
        (|terms| terms.admins = [UserKey([b'b'; 32])].into()) as fn(&mut RoomTerms),
        |terms| {
            terms.removed.insert(DeviceId([1; 10]));
        },
        |terms| {
            terms.admins.insert(UserKey([b'b'; 32]));
        },
    ] {
        is_void(&with_terms(BOB, change), VoidReason::MayNotChangeTerms);
    }
    // With a removal of its own, Bob notes one device too many, or makes itself an admin.
    let mut facts = removing(BOB, &[3]);
    facts.terms.as_mut().unwrap().as_mut().unwrap().removed.insert(DeviceId([1; 10]));
    is_void(&facts, VoidReason::MayNotChangeTerms);
    let mut facts = removing(BOB, &[3]);
    facts.terms.as_mut().unwrap().as_mut().unwrap().admins.insert(UserKey([b'b'; 32]));
    is_void(&facts, VoidReason::MayNotChangeTerms);
}

#[test]
fn a_removal_is_possible_and_noted() {
    for places in [&[9][..], &[0], &[3, 3]] {
        let facts = CommitFacts { removes: places.to_vec(), ..commit(ANA) };
        is_void(&facts, VoidReason::ImpossibleRemoval);
    }
    for author in [ANA, BOB] {
        let facts = CommitFacts { removes: vec![3], ..commit(author) };
        is_void(&facts, VoidReason::RemovalNotNoted);
    }
}

#[test]
fn the_room_stays_the_room_and_has_an_admin() {
    for change in [
        (|terms| terms.room = RoomName::parse("ops").unwrap()) as fn(&mut RoomTerms),
        |terms| terms.host = "evil.example".into(),
        |terms| terms.generation = 2,
    ] {
        is_void(&with_terms(ANA, change), VoidReason::FixedTerms);
    }
    is_void(&CommitFacts { terms: Some(None), ..commit(ANA) }, VoidReason::FixedTerms);
    is_void(&with_terms(ANA, |terms| terms.admins.clear()), VoidReason::NoAdmin);
    // Dora administers, but is not in the room.
    let dora = leaf("dora", 1).user_key;
    is_void(&with_terms(ANA, |terms| terms.admins = [dora].into()), VoidReason::NoAdmin);
    let beside = with_terms(ANA, |terms| terms.admins.extend([dora]));
    is_void(&beside, VoidReason::AbsentAdmin);
    // She can be added and made an admin at once.
    counts(&roster(), &CommitFacts { adds: vec![Some(leaf("dora", 1))], ..beside });
    // Bob administers too. Whoever removes him takes that from him.
    let mut roster = roster();
    roster.terms = terms(&["ana", "bob"]);
    let mut facts = removing(ANA, &[2, 3]);
    counts(&roster, &facts);
    facts.terms.as_mut().unwrap().as_mut().unwrap().admins = roster.terms.admins.clone();
    assert_eq!(check(&roster, &facts), Err(VoidReason::AbsentAdmin));
    // Each of them may take it from the other, or from itself, but not from both.
    for (author, admins) in [(ANA, ["ana"]), (BOB, ["bob"]), (ANA, ["bob"]), (BOB, ["ana"])] {
        counts(&roster, &CommitFacts { terms: Some(Some(terms(&admins))), ..commit(author) });
    }
    let none = CommitFacts { terms: Some(Some(terms(&[]))), ..commit(BOB) };
    assert_eq!(check(&roster, &none), Err(VoidReason::NoAdmin));
}

#[test]
fn a_name_has_one_key_and_a_key_one_name() {
    let other_bob = Leaf { user: "bob".into(), ..leaf("evil", 1) };
    is_void(&adding(ANA, std::slice::from_ref(&other_bob)), VoidReason::TwoKeys);
    let second_name = Leaf { user: "robert".into(), ..leaf("bob", 3) };
    is_void(&adding(ANA, &[second_name]), VoidReason::TwoKeys);
    // Bob began anew: an admin removes the old devices and adds the new one.
    let facts = CommitFacts { adds: vec![Some(other_bob)], ..removing(ANA, &[2, 3]) };
    counts(&roster(), &facts);
}

#[test]
fn a_device_is_in_the_room_once_and_does_not_return_by_itself() {
    is_void(&adding(ANA, &[leaf("bob", 1)]), VoidReason::DeviceTwice);
    is_void(&adding(ANA, &[leaf("dora", 1), leaf("dora", 1)]), VoidReason::DeviceTwice);
    let mut roster = roster();
    roster.terms.removed.insert(leaf("bob", 3).device);
    for facts in
        [adding(ANA, &[leaf("bob", 3)]), adding(BOB, &[leaf("bob", 3)]), newcomer(leaf("bob", 3))]
    {
        assert_eq!(check(&roster, &facts), Err(VoidReason::RemovedDevice), "{facts:?}");
    }
    // An admin takes the note back.
    let facts =
        CommitFacts { terms: Some(Some(terms(&["ana"]))), ..adding(ANA, &[leaf("bob", 3)]) };
    counts(&roster, &facts);
    // A device that is removed and added by the same commit is noted, so it can't be in the room.
    let facts = CommitFacts { adds: vec![Some(leaf("bob", 2))], ..removing(ANA, &[3]) };
    is_void(&facts, VoidReason::RemovedDevice);
}

#[test]
fn a_newcomer_lets_in_only_itself() {
    let dora = newcomer(leaf("dora", 1));
    is_void(&dora, VoidReason::Stranger);
    let disguised = Leaf { user_key: UserKey([b'e'; 32]), ..leaf("bob", 3) };
    is_void(&newcomer(disguised), VoidReason::Stranger);
    let bob = || newcomer(leaf("bob", 3));
    for facts in [
        CommitFacts { removes: vec![2], ..bob() },
        CommitFacts { removes: vec![4], ..bob() },
        CommitFacts { adds: vec![Some(leaf("bob", 4))], ..bob() },
        CommitFacts { terms: with_terms(ANA, |terms| terms.admins.clear()).terms, ..bob() },
        CommitFacts { terms: removing(ANA, &[4]).terms, ..bob() },
    ] {
        is_void(&facts, VoidReason::NewcomerDoesMore);
    }
    is_void(&newcomer(leaf("bob", 2)), VoidReason::DeviceTwice);
    for external_inits in [0, 2] {
        let facts = CommitFacts { external_inits, ..bob() };
        is_void(&facts, VoidReason::ForbiddenProposal);
    }
}

#[test]
fn direct_messages_have_two_users_who_add_their_own_devices() {
    let mut terms = terms(&[]);
    terms.room = RoomName::parse("+dm.abcdefghijklmnopqrstuvwxyz").unwrap();
    let alone = Roster { leaves: [(0, leaf("ana", 1))].into(), terms };
    counts(&alone, &adding(ANA, &[leaf("bob", 1), leaf("bob", 2)]));
    let third = adding(ANA, &[leaf("bob", 1), leaf("carl", 1)]);
    assert_eq!(check(&alone, &third), Err(VoidReason::ThirdUser));
    let mut both = alone.clone();
    both.leaves.insert(1, leaf("bob", 1));
    counts(&both, &adding(ANA, &[leaf("ana", 2)]));
    counts(&both, &newcomer(leaf("bob", 2)));
    let remove = CommitFacts { removes: vec![1], ..commit(ANA) };
    for (facts, reason) in [
        (adding(ANA, &[leaf("carl", 1)]), VoidReason::ThirdUser),
        (adding(ANA, &[leaf("bob", 2)]), VoidReason::MayNotAdd),
        (remove, VoidReason::MayNotRemove),
    ] {
        assert_eq!(check(&both, &facts), Err(reason), "{facts:?}");
    }
}

#[test]
fn a_room_has_a_bound() {
    let many: Vec<Leaf> = (0..MAX_DEVICES)
        .map(|number| {
            let mut device = leaf("dora", 0);
            device.device.0[2..4].copy_from_slice(&(number as u16).to_be_bytes());
            device
        })
        .collect();
    let room_left = MAX_DEVICES - roster().leaves.len();
    counts(&roster(), &adding(ANA, &many[..room_left]));
    is_void(&adding(ANA, &many[..=room_left]), VoidReason::TooManyDevices);
}

fn any_leaf() -> impl Strategy<Value = Leaf> {
    let users = prop::sample::select(vec!["ana", "bob", "carl", "dora"]);
    (users, 1_u8..4, prop::option::weighted(0.1, 0_u8..4), prop::bool::weighted(0.1)).prop_map(
        |(user, number, other_key, expired)| {
            let mut leaf = leaf(user, number);
            if let Some(key) = other_key {
                leaf.user_key = UserKey([b'a' + key; 32]);
            }
            leaf.not_after -= u64::from(expired) * 15;
            leaf
        },
    )
}

fn any_commit() -> impl Strategy<Value = CommitFacts> {
    let author = prop_oneof![
        4 => (0_u32..6).prop_map(Author::Member),
        1 => Just(Author::Newcomer),
    ];
    let terms = (any::<[bool; 4]>(), any::<[bool; 5]>(), any::<prop::sample::Index>()).prop_map(
        |(admins, noted, which)| {
            let users = ["ana", "bob", "carl", "dora"];
            let admins = users.into_iter().zip(admins).filter_map(|(user, is)| is.then_some(user));
            let mut terms = terms(&admins.collect::<Vec<_>>());
            let leaves = roster().leaves;
            let noted =
                leaves.values().zip(noted).filter_map(|(leaf, is)| is.then_some(leaf.device));
            terms.removed = noted.collect();
            terms.generation += u32::from(which.index(20) == 0);
            terms
        },
    );
    (
        author,
        prop::option::weighted(0.4, any_leaf()),
        prop::collection::vec(any_leaf(), 0..3),
        prop::collection::vec(0_u32..6, 0..3),
        prop::option::weighted(0.3, terms),
        any::<bool>(),
        (0_usize..2, prop::bool::weighted(0.05), prop::bool::weighted(0.05)),
    )
        .prop_map(
            |(author, path, adds, removes, terms, notes, (external_inits, reference, other))| {
                CommitFacts {
                    path: path.map(Some),
                    adds: adds.into_iter().map(Some).collect(),
                    terms: match notes && matches!(author, Author::Member(_)) && !removes.is_empty()
                    {
                        // As a member does it that keeps to the rules.
                        true => Some(Some(noting(&removes))),
                        false => terms.map(Some),
                    },
                    removes,
                    external_inits: match author {
                        Author::Newcomer => external_inits,
                        Author::Member(_) => 0,
                    },
                    by_reference: usize::from(reference),
                    others: usize::from(other),
                    ..commit(author)
                }
            },
        )
}

/// The room with each possible set of admins.
fn any_roster() -> impl Strategy<Value = Roster> {
    prop::sample::subsequence(vec!["ana", "bob", "carl"], 1..=3)
        .prop_map(|admins| Roster { terms: terms(&admins), ..roster() })
}

/// The leaves after a commit, each new one at a place of its own.
fn after(before: &Roster, facts: &CommitFacts) -> Vec<Leaf> {
    let mut leaves: BTreeMap<u32, Leaf> = before.leaves.clone();
    facts.removes.iter().for_each(|place| drop(leaves.remove(place)));
    let path = facts.path.clone().flatten();
    match (facts.author, path) {
        (Author::Member(place), Some(leaf)) => drop(leaves.insert(place, leaf)),
        (Author::Newcomer, Some(leaf)) => drop(leaves.insert(1000, leaf)),
        (_, None) => {}
    }
    leaves.into_values().chain(facts.adds.iter().flatten().cloned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_counts_keeps_the_room_sound(before in any_roster(), facts in any_commit()) {
        if check(&before, &facts).is_err() {
            return Ok(());
        }
        let after = after(&before, &facts);
        let terms = facts.terms.clone().flatten().unwrap_or(before.terms.clone());
        let keys: BTreeMap<_, _> = after.iter().map(|leaf| (&leaf.user, leaf.user_key)).collect();
        let names: BTreeMap<_, _> = after.iter().map(|leaf| (leaf.user_key, &leaf.user)).collect();
        let devices: BTreeSet<_> = after.iter().map(|leaf| leaf.device).collect();
        prop_assert!(after.iter().all(|leaf| keys[&leaf.user] == leaf.user_key));
        prop_assert!(after.iter().all(|leaf| *names[&leaf.user_key] == leaf.user));
        prop_assert_eq!(devices.len(), after.len());
        prop_assert!(devices.is_disjoint(&terms.removed));
        prop_assert!(!terms.admins.is_empty());
        prop_assert!(terms.admins.iter().all(|admin| names.contains_key(admin)));
        prop_assert_eq!(terms.generation, 1);
        prop_assert!(facts.by_reference == 0 && facts.others == 0);
        // A removed device is gone, and stays away.
        for place in &facts.removes {
            let gone = before.leaves[place].device;
            let replaced = facts.author == Author::Newcomer && devices.contains(&gone);
            prop_assert!(replaced || terms.removed.contains(&gone));
        }
    }

    #[test]
    fn an_admin_and_nobody_else_names_the_admins_who_are_in_the_room(
        before in any_roster(),
        author in 0_u32..5,
        admins in prop::sample::subsequence(vec!["ana", "bob", "carl", "dora"], 0..=4),
    ) {
        let named = terms(&admins);
        let facts = CommitFacts { terms: Some(Some(named.clone())), ..commit(Author::Member(author)) };
        let is_admin = before.is_admin(&before.leaves[&author]);
        let is_sound = !admins.is_empty() && !admins.contains(&"dora");
        let is_same = named == before.terms;
        prop_assert_eq!(check(&before, &facts).is_ok(), is_same || (is_admin && is_sound));
    }

    #[test]
    fn who_is_no_admin_changes_nothing_of_others(before in any_roster(), facts in any_commit()) {
        let author = match facts.author {
            Author::Member(place) => before.leaves.get(&place).cloned(),
            Author::Newcomer => facts.path.clone().flatten(),
        };
        let Some(author) = author else { return Ok(()) };
        if before.is_admin(&author) || check(&before, &facts).is_err() {
            return Ok(());
        }
        let of_others = |leaves: Vec<Leaf>| -> Vec<Leaf> {
            leaves.into_iter().filter(|leaf| leaf.user != author.user).collect()
        };
        prop_assert_eq!(of_others(after(&before, &facts)), of_others(before.leaves.values().cloned().collect()));
        let terms = facts.terms.clone().flatten().unwrap_or(before.terms.clone());
        prop_assert_eq!(&terms.admins, &before.terms.admins);
        let of_author = |device: &&DeviceId| device.0[0] == author.device.0[0];
        prop_assert!(terms.removed.iter().all(|device| of_author(&device)));
        prop_assert!(before.terms.removed.is_subset(&terms.removed));
    }
}
