//! Who is who: what access tokens stand for, and every one there is.
//!
//! A grant names a user, rooms, a role and perhaps an end. Only the SHA-256 of its access token is
//! known here; the token has 256 random bits, so nothing slower is needed against guessing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use unicode_normalization::UnicodeNormalization as _;

use super::rights::{Place, Role, Ruling, Verb, ruling};
use crate::protocol::{RoomName, Timestamp, UserName};

/// The rooms a grant is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rooms {
    /// Every one.
    All,
    /// These.
    Named(Vec<RoomName>),
}

/// What an access token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Names it for operators: eight hexadecimal digits.
    pub id: String,
    /// Whom it proves.
    pub user: UserName,
    /// Where.
    pub rooms: Rooms,
    /// What.
    pub role: Role,
    /// From this moment on it is void.
    pub expires: Option<Timestamp>,
    /// SHA-256 of the access token.
    pub digest: [u8; 32],
}

impl Grant {
    /// Whether it allows `verb` to somebody who is in `room`.
    pub fn allows(&self, verb: Verb, room: &RoomName) -> bool {
        self.ruling(verb, room, true) == Ruling::Yes
    }

    /// What the table of rights says; `inside`: its bearer is in that room.
    pub fn ruling(&self, verb: Verb, room: &RoomName, inside: bool) -> Ruling {
        let place = match (self.reaches(room), inside) {
            (false, _) => Place::Foreign,
            (true, false) => Place::Outside,
            (true, true) => Place::Inside,
        };
        ruling(self.role, verb, place)
    }

    /// The room of somebody who can't name one: the lobby, else the first.
    pub fn usual_room(&self) -> Option<RoomName> {
        let lobby = RoomName::lobby();
        match &self.rooms {
            _ if self.reaches(&lobby) => Some(lobby),
            Rooms::All => Some(lobby),
            Rooms::Named(rooms) => rooms.first().cloned(),
        }
    }

    /// Whether it is void.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    fn reaches(&self, room: &RoomName) -> bool {
        match &self.rooms {
            _ if self.role == Role::Admin => true,
            Rooms::All => true,
            Rooms::Named(rooms) => rooms.contains(room),
        }
    }
}

/// Why somebody is not let in. What a stranger is told is the same for the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No grant has such an access token.
    Unknown,
    /// It is over.
    Expired,
    /// The user is banned.
    Banned,
}

/// What became of a session's grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// As it was.
    Stands,
    /// Other rooms, another role or user.
    Changed,
    /// Revoked, or over.
    Gone,
    /// Its user is banned.
    Banned,
}

/// Every grant there is.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    grants: Vec<Arc<Grant>>,
    by_digest: HashMap<[u8; 32], Arc<Grant>>,
    banned: BTreeSet<String>,
    /// Names must be proven.
    strict: bool,
    /// What it says can't be known at the moment: nobody is let in by it.
    shut: bool,
}

impl AccessList {
    /// A list; of two users nobody can tell apart the second is returned as the fault.
    pub fn new(grants: Vec<Grant>, banned: &[UserName]) -> Result<Self, Imitation> {
        let mut known: HashMap<String, &UserName> = HashMap::new();
        for grant in &grants {
            for face in faces(&grant.user) {
                let first = *known.entry(face).or_insert(&grant.user);
                if *first != grant.user {
                    return Err(Imitation { user: grant.user.clone(), like: first.clone() });
                }
            }
        }
        let banned = banned.iter().flat_map(faces).collect();
        let grants: Vec<Arc<Grant>> = grants.into_iter().map(Arc::new).collect();
        let by_digest = grants.iter().map(|grant| (grant.digest, grant.clone())).collect();
        Ok(AccessList { grants, by_digest, banned, ..AccessList::default() })
    }

    /// The same, where whoever proves no name has no access, or where nobody needs to.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// The same while nobody can tell what it should say: it lets nobody in, and who is in stays.
    pub fn shut(mut self) -> Self {
        self.shut = true;
        self
    }

    /// The grant of an access token. How long that takes says nothing about which there are: each is
    /// compared in constant time.
    pub fn find(&self, token: &str, now: Timestamp) -> Result<Arc<Grant>, Denied> {
        match self.of_digest(&digest(token), |one, other| one.ct_eq(other).into()) {
            None => Err(Denied::Unknown),
            Some(_) if self.shut => Err(Denied::Unknown),
            Some(grant) if grant.is_over(now) => Err(Denied::Expired),
            Some(grant) if self.is_banned(&grant.user) => Err(Denied::Banned),
            Some(grant) => Ok(grant.clone()),
        }
    }

    /// The grant of a digest. Looks at every one there is, wherever it stands and whether it does.
    fn of_digest(
        &self,
        wanted: &[u8; 32],
        equal: impl Fn(&[u8; 32], &[u8; 32]) -> bool,
    ) -> Option<&Arc<Grant>> {
        let mut found = None;
        for grant in &self.grants {
            if equal(&grant.digest, wanted) {
                found = Some(grant);
            }
        }
        found
    }

    /// What became of a grant that was given out earlier.
    pub fn fate(&self, grant: &Grant, now: Timestamp) -> Fate {
        match self.by_digest.get(&grant.digest) {
            None => Fate::Gone,
            Some(_) if self.is_banned(&grant.user) => Fate::Banned,
            Some(known) if known.is_over(now) => Fate::Gone,
            Some(known) if known.as_ref() == grant => Fate::Stands,
            Some(known) => {
                let unended = Grant { expires: known.expires, ..grant.clone() };
                if **known == unended { Fate::Stands } else { Fate::Changed }
            }
        }
    }

    /// What became of a session that has no grant.
    pub fn guest_fate(&self, user: &UserName) -> Fate {
        match self.is_banned(user) {
            true => Fate::Banned,
            false if self.strict => Fate::Gone,
            false => Fate::Stands,
        }
    }

    /// The grants that stood at `then` and, by the `later` list, stand no more at `now`.
    pub fn lost<'a>(
        &'a self,
        then: Timestamp,
        later: &'a AccessList,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Arc<Grant>> {
        self.grants.iter().filter(move |grant| {
            self.fate(grant, then) == Fate::Stands && later.fate(grant, now) != Fate::Stands
        })
    }

    /// Whether a user of that name, or of one that looks the same, is shut out.
    pub fn is_banned(&self, user: &UserName) -> bool {
        !self.banned.is_empty() && faces(user).iter().any(|face| self.banned.contains(face))
    }

    /// The next moment at which a grant ends.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.grants.iter().filter_map(|grant| grant.expires).filter(|end| *end > now).min()
    }

    /// How many let somebody in, if they are not over.
    pub fn len(&self) -> usize {
        if self.shut { 0 } else { self.grants.len() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Two users that a person can't tell apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name {user} can't be told apart from {like}; use one spelling of it")]
pub struct Imitation {
    /// The later one.
    pub user: UserName,
    /// The one it looks like.
    pub like: UserName,
}

/// What a name looks like, written small and as it stands: without width (NFKC, UAX #15), case, and
/// what tells look-alike letters apart (the skeleton of UTS #39). Two names that share one of
/// theirs are one name: `ANA` is `ana` written small, `biII` is `bill` as it stands.
pub fn faces(name: &UserName) -> [String; 2] {
    let wide: String = name.as_str().nfkc().filter(|c| *c != ' ').collect();
    [wide.to_lowercase(), wide].map(|text| {
        let skeleton: String = unicode_security::skeleton(&text).collect();
        skeleton.to_lowercase()
    })
}

/// Whether nobody can tell one name from the other.
pub fn alike(one: &UserName, other: &UserName) -> bool {
    let others = faces(other);
    faces(one).iter().any(|face| others.contains(face))
}

/// What is kept of an access token.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(user: &str, token: &str) -> Grant {
        Grant {
            id: "0".into(),
            user: UserName::clean(user),
            rooms: Rooms::Named(vec![RoomName::parse("ops").unwrap()]),
            role: Role::Member,
            expires: None,
            digest: digest(token),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn only_the_whole_token_opens_and_only_until_its_end() {
        let mut ending = grant("ana", "secret");
        ending.expires = Some(at(100));
        let list = AccessList::new(vec![ending, grant("bob", "other")], &[]).unwrap();
        assert_eq!(list.find("secret", at(99)).unwrap().user.as_str(), "ana");
        assert_eq!(list.find("secret", at(100)), Err(Denied::Expired));
        assert_eq!(list.find("secre", at(0)), Err(Denied::Unknown));
        assert_eq!(list.find("", at(0)), Err(Denied::Unknown));
        assert_eq!(list.next_end(at(0)), Some(at(100)));
        assert_eq!(AccessList::default().find("secret", at(0)), Err(Denied::Unknown));
    }

    #[test]
    fn every_access_token_costs_the_same_comparisons() {
        for count in 0..20 {
            let users = (0..count).map(|number| format!("user {number}"));
            let ending = |number| (number % 3 == 0).then(|| at(100));
            let grants = users
                .enumerate()
                .map(|(number, user)| Grant { expires: ending(number), ..grant(&user, &user) });
            let list = AccessList::new(grants.collect(), &[UserName::clean("user 1")]).unwrap();
            // The first, the middle, the last; over, banned, shorter, longer, and none at all.
            for number in 0..30 {
                for guess in [format!("user {number}"), format!("user {number}x"), "user".into()] {
                    let compared = std::cell::Cell::new(0);
                    let found = list.of_digest(&digest(&guess), |one, other| {
                        compared.set(compared.get() + 1);
                        one == other
                    });
                    assert_eq!(compared.get(), count, "{guess:?} of {count}");
                    let there = number < count && guess == format!("user {number}");
                    assert_eq!(found.is_some(), there, "{guess:?} of {count}");
                }
            }
        }
    }

    #[test]
    fn a_grant_reaches_its_rooms_and_an_admin_all() {
        let (ops, dev) = (RoomName::parse("ops").unwrap(), RoomName::parse("dev").unwrap());
        let mut one = grant("ana", "x");
        assert!(one.allows(Verb::Speak, &ops) && !one.allows(Verb::Enter, &dev));
        assert_eq!(one.usual_room().unwrap(), ops);
        one.role = Role::Admin;
        assert!(one.allows(Verb::Speak, &dev));
        assert_eq!(one.usual_room().unwrap(), RoomName::lobby());
    }

    #[test]
    fn fates() {
        let given = grant("ana", "x");
        let list =
            |grants: Vec<Grant>, banned: &[UserName]| AccessList::new(grants, banned).unwrap();
        assert_eq!(list(vec![given.clone()], &[]).fate(&given, at(0)), Fate::Stands);
        assert_eq!(list(vec![], &[]).fate(&given, at(0)), Fate::Gone);
        assert_eq!(
            list(vec![given.clone()], &[UserName::clean("ANA")]).fate(&given, at(0)),
            Fate::Banned
        );
        let longer = Grant { expires: Some(at(9)), ..given.clone() };
        assert_eq!(list(vec![longer.clone()], &[]).fate(&given, at(0)), Fate::Stands);
        assert_eq!(list(vec![longer], &[]).fate(&given, at(9)), Fate::Gone);
        let other = Grant { role: Role::Reader, ..given.clone() };
        assert_eq!(list(vec![other], &[]).fate(&given, at(0)), Fate::Changed);
    }

    #[test]
    fn a_list_nobody_can_read_lets_nobody_in_and_puts_nobody_out() {
        let given = Grant { expires: Some(at(9)), ..grant("ana", "x") };
        let banned = [UserName::clean("bob")];
        let list = AccessList::new(vec![given.clone()], &banned).unwrap().shut();
        assert_eq!(list.find("x", at(0)), Err(Denied::Unknown));
        assert_eq!((list.len(), list.fate(&given, at(0))), (0, Fate::Stands));
        assert_eq!(list.fate(&given, at(9)), Fate::Gone, "an end is known beforehand");
        assert_eq!(list.guest_fate(&UserName::clean("BOB")), Fate::Banned, "and so is a ban");
    }

    #[test]
    fn who_proves_nothing_stays_only_where_nobody_must() {
        let (eve, list) = (UserName::clean("eve"), AccessList::default());
        assert_eq!(list.clone().guest_fate(&eve), Fate::Stands);
        assert_eq!(list.strict(true).guest_fate(&eve), Fate::Gone);
    }

    #[test]
    fn what_was_lost_between_two_lists() {
        let (ana, bob) = (grant("ana", "x"), Grant { expires: Some(at(9)), ..grant("bob", "y") });
        let both = AccessList::new(vec![ana.clone(), bob.clone()], &[]).unwrap();
        let lost = |now, later: &AccessList, then| {
            let lost = both.lost(at(now), later, at(then));
            lost.map(|grant| grant.user.to_string()).collect::<Vec<_>>()
        };
        assert!(lost(0, &both, 8).is_empty());
        assert_eq!(lost(0, &both, 9), ["bob"], "once");
        assert!(lost(9, &both, 10).is_empty());
        assert_eq!(lost(0, &AccessList::new(vec![bob], &[]).unwrap(), 0), ["ana"]);
    }

    #[test]
    fn names_nobody_can_tell_apart_are_one() {
        for (one, other) in
            [("ana", "ANA"), ("ana", "аnа"), ("ana", "ａｎａ"), ("bill", "biII"), ("pal", "раl")]
        {
            let both = vec![grant(one, "x"), grant(other, "y")];
            assert!(AccessList::new(both, &[]).is_err(), "{one} {other}");
            let list = AccessList::new(vec![], &[UserName::clean(one)]).unwrap();
            assert!(list.is_banned(&UserName::clean(other)));
            assert!(!list.is_banned(&UserName::clean("anna")));
        }
        assert!(AccessList::new(vec![grant("ana", "x"), grant("anna", "y")], &[]).is_ok());
        assert!(AccessList::new(vec![grant("ana", "x"), grant("ana", "y")], &[]).is_ok());
    }
}
