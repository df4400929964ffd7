//! What members see: messages, changes, races, newcomers, removals.

use openmls::prelude::KeyPackage;

use super::*;
use crate::mls::entry::{CommitApplied, Unreadable, Void};
use crate::mls::evidence::Evidence;
use crate::mls::rows::Status;
use crate::policy::commit_rules::VoidReason;

fn commit(applied: &Applied) -> &CommitApplied {
    match applied {
        Applied::Commit(commit) => commit,
        other => panic!("{other:?}"),
    }
}

fn other_kind(seq: u64, said: &'static str, is: &'static str) -> Applied {
    Applied::Evidence(Evidence::OtherKind { room: ops(), seq: Seq(seq), said, is })
}

fn other_group(seq: u64) -> Applied {
    Applied::Evidence(Evidence::OtherGroup { room: ops(), seq: Seq(seq), user: String::new() })
}

fn adding(newcomers: Vec<Newcomer>) -> Change {
    Change { adds: newcomers, ..Change::default() }
}

#[test]
fn members_read_each_other_and_a_newcomer_reads_nothing_from_before() {
    let (ana, bob, eve) = (User::new("ana"), User::new("bob"), User::new("eve"));
    let (mut a, mut b, mut e) = (Member::new(&ana), Member::new(&bob), Member::new(&eve));
    let mut log = room_of(&ana, &mut a, &mut [&mut b]);
    let first = a.say("1", "hola").unwrap();
    log.append(0, &first).unwrap();
    let applied = b.read(&log).pop().unwrap();
    let Applied::Message(received) = applied else { panic!("{applied:?}") };
    assert_eq!((received.from.user.as_str(), received.from.device), ("ana", a.id()));
    assert_eq!((received.envelope.text.as_str(), received.envelope.number), ("hola", 1));
    assert_eq!(a.read(&log).pop().unwrap(), Applied::Own { id: id("1") });
    // The server shows it again at another place.
    let again = Entry { seq: Seq(4), ..log.entry(Seq(3)).clone() };
    log.entries.push(again.clone());
    for member in [&mut a, &mut b] {
        let repeated = Evidence::Repeated { room: ops(), seq: Seq(4) };
        assert_eq!(member.apply(&again).unwrap(), Applied::Evidence(repeated));
    }
    assert_eq!(a.room().chain, b.room().chain);

    let added = a.change("eve", adding(vec![e.newcomer()])).unwrap();
    let seq = log.append(0, &added).unwrap();
    let at_a = a.read(&log).pop().unwrap();
    assert_eq!(commit(&at_a).added[0].user, "eve");
    assert!(commit(&at_a).is_own);
    assert!(!commit(&b.read(&log).pop().unwrap()).is_own);
    let roster = e.join(&log, seq).unwrap();
    assert_eq!(roster.leaves.len(), 3);
    assert_eq!(e.texts(), Vec::<String>::new());
    for (member, author) in [(&mut b, 1), (&mut e, 2)] {
        let text = member.say("2", "qué tal").unwrap();
        log.append(author, &text).unwrap();
    }
    for member in [&mut a, &mut b, &mut e] {
        member.read(&log);
    }
    assert_eq!(a.authenticator(), e.authenticator());
    assert_eq!(b.authenticator(), e.authenticator());
    assert_eq!(e.texts(), ["qué tal", "qué tal"]);
    assert_eq!(a.texts(), ["hola", "qué tal", "qué tal"]);
    assert_eq!(a.room().chain, e.room().chain);
}

#[test]
fn a_message_that_another_commit_overtook_is_encrypted_anew_under_its_id_and_number() {
    let (ana, bob) = (User::new("ana"), User::new("bob"));
    let (mut a, mut b) = (Member::new(&ana), Member::new(&bob));
    let mut log = room_of(&ana, &mut a, &mut [&mut b]);
    let said = b.say("1", "hola").unwrap();
    assert_eq!(b.say("1", "hola").unwrap(), said);
    assert!(matches!(b.say("1", "adiós"), Err(RoomError::IdTaken)));
    let renewal = a.change("renew", Change::default()).unwrap();
    log.append(0, &renewal).unwrap();
    assert_eq!(log.append(1, &said), Err(Refusal::StaleBase));
    assert_eq!(b.owed(), std::slice::from_ref(&said), "the commit was not read yet");
    b.read(&log);
    let again = b.owed();
    assert_eq!(again[0].id, said.id);
    assert_ne!(again[0].content, said.content);
    assert_eq!(b.owed(), again, "encrypted anew once");
    log.append(1, &again[0]).unwrap();
    let applied = a.read(&log).pop().unwrap();
    let Applied::Message(received) = applied else { panic!("{applied:?}") };
    assert_eq!((received.envelope.number, received.envelope.text.as_str()), (1, "hola"));
    b.read(&log);
    assert_eq!(b.owed(), []);
    assert_eq!(b.texts(), ["hola"]);
    assert_eq!(b.say("1", "hola").unwrap().seq, Some(Seq(4)));
}

#[test]
fn of_two_commits_the_first_in_the_log_counts_and_the_other_is_lost() {
    let (ana, bob) = (User::new("ana"), User::new("bob"));
    let (mut a, mut b) = (Member::new(&ana), Member::new(&bob));
    let mut log = room_of(&ana, &mut a, &mut [&mut b]);
    let at_a = a.change("a", Change::default()).unwrap();
    let at_b = b.change("b", Change::default()).unwrap();
    assert!(matches!(b.change("c", Change::default()), Err(RoomError::CommitPending)));
    log.append(1, &at_b).unwrap();
    assert_eq!(log.append(0, &at_a), Err(Refusal::StaleBase));
    let applied = a.read(&log).pop().unwrap();
    assert_eq!(commit(&applied).lost, Some(id("a")));
    assert_eq!(commit(&b.read(&log).pop().unwrap()).lost, None);
    assert_eq!(a.owed(), []);
    let again = a.change("a", Change::default()).unwrap();
    log.append(0, &again).unwrap();
    a.read(&log);
    b.read(&log);
    assert_eq!(a.authenticator(), b.authenticator());
    // Each commit renewed the keys of its author.
    assert!(a.room().renewed.is_some() && b.room().renewed.is_some());
}

#[test]
fn a_removed_device_cannot_read_on_and_cannot_come_back() {
    let (ana, bob, eve) = (User::new("ana"), User::new("bob"), User::new("eve"));
    let (mut a, mut b, mut e) = (Member::new(&ana), Member::new(&bob), Member::new(&eve));
    let mut log = room_of(&ana, &mut a, &mut [&mut b, &mut e]);
    let before = log.entries.len();
    let removal = Change { removes: [e.id()].into(), ..Change::default() };
    let refused = b.change("x", removal.clone());
    assert!(matches!(refused, Err(RoomError::Void(VoidReason::MayNotRemove))), "{refused:?}");
    let removed = a.change("remove", removal).unwrap();
    let seq = log.append(0, &removed).unwrap();
    a.read(&log);
    let secret = a.say("1", "only for bob").unwrap();
    log.append(0, &secret).unwrap();
    b.read(&log);
    assert_eq!(b.texts(), ["only for bob"]);
    // Eve ignores that she was removed, and tries to read on with the secrets that she has.
    let mut stubborn = Entry { seq, ..log.entry(seq.next()).clone() };
    assert_eq!(before as u64 + 1, seq.0);
    let applied = e.apply(&stubborn).unwrap();
    assert_eq!(applied, other_group(seq.0));
    stubborn = log.entry(seq).clone();
    stubborn.seq = seq.next();
    let applied = e.apply(&stubborn).unwrap();
    assert!(commit(&applied).is_end);
    assert_eq!(e.room().status, Status::Removed);
    assert!(matches!(e.say("1", "hello?"), Err(RoomError::NotMember)));
    assert_eq!(e.owed(), []);
    assert!(matches!(
        e.come_in("back", &log),
        Err(RoomError::Void(VoidReason::Stranger | VoidReason::RemovedDevice))
    ));
    assert_eq!(e.texts(), Vec::<String>::new());
}

#[test]
fn another_device_of_a_member_comes_in_by_itself_and_a_stranger_does_not() {
    let (ana, bob, eve) = (User::new("ana"), User::new("bob"), User::new("eve"));
    let (mut a, mut b, mut e) = (Member::new(&ana), Member::new(&bob), Member::new(&eve));
    let mut log = room_of(&ana, &mut a, &mut [&mut b]);
    assert!(matches!(e.come_in("in", &log), Err(RoomError::Void(VoidReason::Stranger))));
    let mut phone = Member::new(&bob);
    let entering = phone.come_in("in", &log).unwrap();
    assert!(matches!(phone.say("1", "too early"), Err(RoomError::NotYet)));
    // Another commit comes first, so the phone begins again.
    let renewal = a.change("renew", Change::default()).unwrap();
    log.append(0, &renewal).unwrap();
    assert_eq!(log.append(2, &entering), Err(Refusal::StaleBase));
    assert_eq!(phone.read(&log), [Applied::Lost { id: Some(id("in")) }]);
    let entering = phone.come_in("in", &log).unwrap();
    log.append(2, &entering).unwrap();
    for member in [&mut a, &mut b] {
        let applied = member.read(&log).pop().unwrap();
        assert_eq!(commit(&applied).added[0].user, "bob");
    }
    phone.read(&log);
    let said = phone.say("1", "from the phone").unwrap();
    log.append(2, &said).unwrap();
    for member in [&mut a, &mut b, &mut phone] {
        member.read(&log);
        assert_eq!(member.texts(), ["from the phone"]);
        assert_eq!(member.roster().leaves.len(), 3);
    }
    // A device whose state is too far behind comes in again, and takes the place of its old leaf.
    let again = b.come_in("again", &log).unwrap();
    log.append(1, &again).unwrap();
    for member in [&mut a, &mut b, &mut phone] {
        member.read(&log);
        assert_eq!(member.roster().leaves.len(), 3);
    }
    assert_eq!(a.authenticator(), b.authenticator());
}

#[test]
fn a_restored_state_is_noticed_and_encrypts_nothing_more() {
    let (ana, bob) = (User::new("ana"), User::new("bob"));
    let (mut a, mut b) = (Member::new(&ana), Member::new(&bob));
    let mut log = room_of(&ana, &mut a, &mut [&mut b]);
    let mut backup = copy(&a);
    let mut second_backup = copy(&a);
    log.append(0, &a.say("1", "after the backup").unwrap()).unwrap();
    log.append(1, &b.say("1", "from bob").unwrap()).unwrap();
    assert_eq!(backup.read(&log)[0], Applied::Outdated);
    assert_eq!(backup.texts(), ["from bob"], "it reads on");
    assert!(matches!(backup.say("2", "again"), Err(RoomError::Outdated)));
    assert!(matches!(backup.change("2", Change::default()), Err(RoomError::Outdated)));
    assert_eq!(backup.owed(), []);
    // The same with a commit that the backup does not know.
    a.read(&log);
    log.append(0, &a.change("renew", Change::default()).unwrap()).unwrap();
    assert_eq!(second_backup.read(&log).pop().unwrap(), Applied::Outdated);
    // If the backup speaks before it reads, the others notice.
    let mut third = copy(&b);
    b.read(&log);
    third.read(&log);
    log.append(0, &a.say("4", "x").unwrap()).unwrap_err();
    let used = b.say("9", "one").unwrap();
    log.append(1, &used).unwrap();
    let again = third.say("10", "two").unwrap();
    log.entries.push(Entry {
        seq: Seq(log.entries.len() as u64 + 1),
        id: again.id.clone(),
        author: 1,
        is_commit: false,
        content: again.content.clone(),
    });
    let seen = a.read(&log);
    let repeated = Evidence::Repeated { room: ops(), seq: Seq(7) };
    assert_eq!(seen.last(), Some(&Applied::Evidence(repeated)));
}

/// A copy of a device's folder, as a backup makes it.
pub fn copy(member: &Member) -> Member {
    let folder = TempDir::new().unwrap();
    member.state.connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let to = folder.path().join("state.db");
    std::fs::copy(member.folder.path().join("state.db"), &to).unwrap();
    for path in [folder.path(), &to] {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let state = State::open(folder.path(), None).unwrap();
    assert!(state.is_moved() && !member.state.is_moved());
    Member { folder, state }
}

#[test]
fn entries_that_are_not_what_they_should_be_are_passed_over_alike() {
    let (ana, bob, eve) = (User::new("ana"), User::new("bob"), User::new("eve"));
    let (mut a, mut b, mut e) = (Member::new(&ana), Member::new(&bob), Member::new(&eve));
    let mut log = room_of(&ana, &mut a, &mut [&mut b]);
    let message = a.say("1", "hola").unwrap();
    let commit = b.change("c", Change::default()).unwrap();
    let mut bent = message.content.clone();
    *bent.last_mut().unwrap() ^= 1;
    let mut bent_commit = commit.content.clone();
    *bent_commit.last_mut().unwrap() ^= 1;
    let _foreign = room_of(&eve, &mut e, &mut []);
    let foreign = e.say("1", "from elsewhere").unwrap();
    let foreign_commit = e.change("f", Change::default()).unwrap();
    let void = Applied::Void(Void::Invalid);
    let cases = [
        (false, b"".to_vec(), Applied::Unreadable(Unreadable::Malformed)),
        (false, vec![0xff; 60_000], Applied::Unreadable(Unreadable::Malformed)),
        (false, bent, other_group(5)),
        (false, foreign.content, other_group(6)),
        (false, commit.content.clone(), other_kind(7, "a message", "a change of the group")),
        (true, b"".to_vec(), void.clone()),
        (true, bent_commit, void.clone()),
        (true, foreign_commit.content, void.clone()),
        (true, message.content.clone(), other_kind(11, "a change of the group", "a message")),
    ];
    let mut seq = b.room().applied;
    for (is_commit, content, expected) in cases {
        seq = seq.next();
        let entry = Entry { seq, id: id("x"), author: 9, is_commit, content };
        log.entries.push(entry.clone());
        let found = match is_commit {
            // A member whose own commit is pending loses it, because the place of the last commit moved.
            true => b.apply(&entry).unwrap(),
            false => b.apply(&entry).unwrap(),
        };
        assert_eq!(found, expected, "{seq}");
        let at_a = a.apply(&entry).unwrap();
        if !matches!(at_a, Applied::Outdated) {
            assert_eq!(at_a, expected, "{seq}");
        }
    }
    assert_eq!(b.room().base, seq);
    assert_eq!(b.owed(), [], "the commit was made before a void one");
    // The room goes on, and the bent message has not used up the key of the true one.
    let entry = Entry {
        seq: seq.next(),
        id: id("1"),
        author: 0,
        is_commit: false,
        content: message.content,
    };
    assert!(matches!(b.apply(&entry).unwrap(), Applied::Message(_)));
    let again = Entry { seq: seq.next().next(), ..entry };
    assert_eq!(
        b.apply(&again).unwrap(),
        Applied::Evidence(Evidence::Repeated { room: ops(), seq: again.seq })
    );
    assert_eq!(b.apply(&again).unwrap(), Applied::Known);
    let skipped = Entry { seq: Seq(99), ..again };
    assert_eq!(b.apply(&skipped).unwrap(), Applied::Gap { expected: Seq(seq.0 + 3) });
}

/// A commit by a client that asks no rules.
fn unruly(
    member: &mut Member,
    adds: Vec<KeyPackage>,
    aad: Vec<u8>,
    terms: Option<RoomTerms>,
) -> Vec<u8> {
    use openmls_traits::OpenMlsProvider as _;
    let commit = member.step(|step, device| {
        let room = Room::load(step, &ops())?.unwrap();
        let mut group = crate::mls::group::load(step, &room.group)?;
        group.set_aad(aad);
        let provider = step.provider();
        let mut builder = group.commit_builder().propose_adds(adds);
        if let Some(terms) = terms {
            let extensions = crate::mls::facts::extensions(&terms).unwrap();
            builder = builder.propose_group_context_extensions(extensions).unwrap();
        }
        let bundle = builder
            .load_psks(provider.storage())
            .unwrap()
            .build(provider.rand(), provider.crypto(), &device.secret, |_| true)
            .unwrap()
            .stage_commit(provider)
            .unwrap();
        Ok(bundle.into_commit().to_bytes().unwrap())
    });
    commit.unwrap()
}

/// A key package whose leaf has a lifetime that ends, as MLS means it.
fn package_that_ends(member: &mut Member) -> KeyPackage {
    let bundle = member.step(|step, device| {
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(crate::mls::device::capabilities())
            .build(crate::mls::crypto::SUITE, step.provider(), &device.secret, device.credential());
        Ok(bundle.unwrap())
    });
    bundle.unwrap().key_package().clone()
}

#[test]
fn a_commit_against_the_rules_is_void_for_every_reader() {
    let (ana, bob, eve) = (User::new("ana"), User::new("bob"), User::new("eve"));
    let (mut a, mut b, mut e) = (Member::new(&ana), Member::new(&bob), Member::new(&eve));
    let log = room_of(&ana, &mut a, &mut [&mut b]);
    let other_terms = RoomTerms { host: "evil.example".into(), ..terms(&ana) };
    let void = |reason| Applied::Void(Void::Forbidden(reason));
    let ghost = e.newcomer().package;
    let ending = package_that_ends(&mut Member::new(&ana));
    let cases = [
        // Bob adds a friend.
        (1, unruly(&mut b, vec![ghost], stated(), None), void(VoidReason::MayNotAdd)),
        (
            1,
            unruly(&mut b, Vec::new(), stated(), Some(other_terms.clone())),
            void(VoidReason::FixedTerms),
        ),
        (0, unruly(&mut a, Vec::new(), stated(), Some(other_terms)), void(VoidReason::FixedTerms)),
        // Late readers would find this invalid, so it is void for the early ones, too.
        (0, unruly(&mut a, vec![ending], stated(), None), void(VoidReason::ForbiddenProposal)),
        (0, unruly(&mut a, Vec::new(), Vec::new(), None), Applied::Void(Void::NothingStated)),
    ];
    let mut seq = Seq(log.entries.len() as u64);
    let before = a.authenticator();
    for (author, content, expected) in cases {
        seq = seq.next();
        let entry = Entry { seq, id: id("g"), author: 1, is_commit: true, content };
        for (number, member) in [&mut a, &mut b].into_iter().enumerate() {
            let found = member.apply(&entry).unwrap();
            // The author has forgotten its own commit when it made the next one.
            let is_forgotten = number == author && found == Applied::Outdated;
            assert!(is_forgotten || found == expected, "{found:?}, {expected:?}");
        }
        assert_eq!(a.authenticator(), before);
        assert_eq!(a.roster().leaves.len(), 2);
    }
}

#[test]
fn after_a_void_commit_the_room_goes_on() {
    let (ana, bob, eve) = (User::new("ana"), User::new("bob"), User::new("eve"));
    let (mut a, mut b, mut e) = (Member::new(&ana), Member::new(&bob), Member::new(&eve));
    let log = room_of(&ana, &mut a, &mut [&mut b]);
    let content = unruly(&mut b, vec![e.newcomer().package], stated(), None);
    let seq = Seq(log.entries.len() as u64 + 1);
    let entry = Entry { seq, id: id("g"), author: 1, is_commit: true, content };
    let void = Applied::Void(Void::Forbidden(VoidReason::MayNotAdd));
    assert_eq!(a.apply(&entry).unwrap(), void);
    assert_eq!(b.apply(&entry).unwrap(), void);
    // The next commit by the rules counts, and names the void one's place.
    let renewal = a.change("renew", Change::default()).unwrap();
    assert_eq!(renewal.base, seq);
    let content = renewal.content;
    let entry = Entry { seq: seq.next(), id: id("renew"), author: 0, is_commit: true, content };
    for member in [&mut a, &mut b] {
        assert!(matches!(member.apply(&entry).unwrap(), Applied::Commit(_)));
    }
    assert_eq!(a.authenticator(), b.authenticator());
}

#[test]
fn an_invitation_is_for_one_device_one_room_and_one_commit() {
    let (ana, bob, eve) = (User::new("ana"), User::new("bob"), User::new("eve"));
    let (mut a, mut b, mut e) = (Member::new(&ana), Member::new(&bob), Member::new(&eve));
    let mut log = room_of(&ana, &mut a, &mut []);
    let added = a.change("add", adding(vec![b.newcomer()])).unwrap();
    let seq = log.append(0, &added).unwrap();
    let made = log.commits[&seq].clone();
    let welcome = made.welcome.unwrap();
    let entry = log.entry(seq).content.clone();
    let join = |member: &mut Member, name: &str, tree: &[u8], entry: &[u8]| {
        let name = RoomName::parse(name).unwrap();
        member.step(|step, device| {
            room::join(step, device, &name, (&welcome, tree), (seq, entry)).map(|_| ())
        })
    };
    let other_tree = log.commits[&Seq(1)].tree.clone();
    let other_entry = log.entry(Seq(1)).content.clone();
    assert!(matches!(join(&mut e, "ops", &made.tree, &entry), Err(RoomError::WelcomeRefused)));
    assert!(matches!(join(&mut b, "ops", &other_tree, &entry), Err(RoomError::WelcomeRefused)));
    assert!(matches!(join(&mut b, "other", &made.tree, &entry), Err(RoomError::WelcomeRefused)));
    assert!(matches!(
        join(&mut b, "ops", &made.tree, &other_entry),
        Err(RoomError::WelcomeRefused)
    ));
    // Nothing of that used up the key package.
    join(&mut b, "ops", &made.tree, &entry).unwrap();
    a.read(&log);
    assert_eq!(a.authenticator(), b.authenticator());
    assert!(
        matches!(join(&mut b, "ops", &made.tree, &entry), Err(RoomError::WelcomeRefused)),
        "used"
    );
}

#[test]
fn key_packages_are_checked_and_their_secrets_forgotten() {
    let ana = User::new("ana");
    let mut a = Member::new(&ana);
    let make = |member: &mut Member, last_resort: bool, when: i64| {
        member
            .step(|step, device| Ok(device.make_key_package(step, last_resort, at(when))?))
            .unwrap()
    };
    let package = make(&mut a, false, 0);
    let day = 86_400;
    for (when, valid) in
        [(-2 * 3600, false), (-1800, true), (0, true), (27 * day, true), (29 * day, false)]
    {
        assert_eq!(Newcomer::read(&package.content, at(when)).is_ok(), valid, "{when}");
    }
    for place in 0..package.content.len() {
        let mut changed = package.content.clone();
        changed[place] ^= 0x10;
        assert!(Newcomer::read(&changed, at(0)).is_err(), "{place}");
        assert!(Newcomer::read(&package.content[..place], at(0)).is_err());
    }
    make(&mut a, true, day);
    a.step(|step, _| {
        assert_eq!(Device::last_resort_made(step)?, Some(at(day)));
        assert_eq!(Device::forget_expired(step, at(28 * day + 7200))?, 1);
        assert_eq!(Device::forget_expired(step, at(28 * day + 7200))?, 0);
        assert_eq!(Device::forget_expired(step, at(30 * day))?, 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn sixty_four_devices_come_in_by_one_commit_and_not_one_more() {
    let ana = User::new("ana");
    let mut a = Member::new(&ana);
    let mut log = room_of(&ana, &mut a, &mut []);
    let users: Vec<User> = (0..65).map(|_| User::new("x")).collect();
    // One name can't have two keys, so all devices but one are of one user.
    let newcomers: Vec<Newcomer> = users.iter().map(|_| Member::new(&ana).newcomer()).collect();
    assert!(matches!(a.change("add", adding(newcomers.clone())), Err(RoomError::TooManyAdds)));
    let added = a.change("add", adding(newcomers[..64].to_vec())).unwrap();
    assert!(added.content.len() < crate::mls::decode::MAX_CONTENT_BYTES, "{}", added.content.len());
    let welcome = added.commit.as_ref().unwrap().welcome.as_ref().unwrap();
    assert!(welcome.len() < crate::mls::decode::MAX_WELCOME_BYTES, "{}", welcome.len());
    log.append(0, &added).unwrap();
    assert_eq!(commit(&a.read(&log)[0]).added.len(), 64);
}
