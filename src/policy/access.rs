//! Who is who: what access tokens stand for, and every one there is.
//!
//! A grant names a user, rooms, a role and perhaps an end. Only the SHA-256 of its access token is
//! known here; the token has 256 random bits, so nothing slower is needed against guessing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use unicode_normalization::UnicodeNormalization as _;

use super::rights::{Action, Decision, Role, RoomRelation, decide};
use crate::protocol::{RoomName, Timestamp, UserName};

/// The rooms a grant is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantedRooms {
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
    pub rooms: GrantedRooms,
    /// What.
    pub role: Role,
    /// From this moment on it is void.
    pub expires: Option<Timestamp>,
    /// SHA-256 of the access token.
    pub digest: [u8; 32],
}

impl Grant {
    /// Whether it allows `verb` to somebody who is in `room`.
    pub fn allows(&self, verb: Action, room: &RoomName) -> bool {
        self.decide(verb, room, true) == Decision::Allowed
    }

    /// What the table of rights says; `inside`: its bearer is in that room.
    pub fn decide(&self, verb: Action, room: &RoomName, inside: bool) -> Decision {
        let place = match (self.reaches(room), inside) {
            (false, _) => RoomRelation::NotGranted,
            (true, false) => RoomRelation::NotJoined,
            (true, true) => RoomRelation::Joined,
        };
        decide(self.role, verb, place)
    }

    /// The room of somebody who can't name one: the lobby, else the first.
    pub fn default_room(&self) -> Option<RoomName> {
        let lobby = RoomName::lobby();
        match &self.rooms {
            _ if self.reaches(&lobby) => Some(lobby),
            GrantedRooms::All => Some(lobby),
            GrantedRooms::Named(rooms) => rooms.first().cloned(),
        }
    }

    /// Whether it is void.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    fn reaches(&self, room: &RoomName) -> bool {
        match &self.rooms {
            _ if self.role == Role::Admin => true,
            GrantedRooms::All => true,
            GrantedRooms::Named(rooms) => rooms.contains(room),
        }
    }
}

/// Why somebody is not let in. What a stranger is told is the same for the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessDenied {
    /// No grant has such an access token.
    Unknown,
    /// It is over.
    Expired,
    /// The user is banned.
    Banned,
}

/// What became of a session's grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessStatus {
    /// As it was.
    Valid,
    /// Other rooms, another role or user.
    Changed,
    /// Revoked, or over.
    Revoked,
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
    pub fn new(grants: Vec<Grant>, banned: &[UserName]) -> Result<Self, ConfusableNames> {
        let mut known: HashMap<String, &UserName> = HashMap::new();
        for grant in &grants {
            for face in name_skeletons(&grant.user) {
                let first = *known.entry(face).or_insert(&grant.user);
                if *first != grant.user {
                    return Err(ConfusableNames { user: grant.user.clone(), like: first.clone() });
                }
            }
        }
        let banned = banned.iter().flat_map(name_skeletons).collect();
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
    pub fn find(&self, token: &str, now: Timestamp) -> Result<Arc<Grant>, AccessDenied> {
        match self.of_digest(&digest(token), |one, other| one.ct_eq(other).into()) {
            None => Err(AccessDenied::Unknown),
            Some(_) if self.shut => Err(AccessDenied::Unknown),
            Some(grant) if grant.is_expired(now) => Err(AccessDenied::Expired),
            Some(grant) if self.is_banned(&grant.user) => Err(AccessDenied::Banned),
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
    pub fn status(&self, grant: &Grant, now: Timestamp) -> AccessStatus {
        match self.by_digest.get(&grant.digest) {
            None => AccessStatus::Revoked,
            Some(_) if self.is_banned(&grant.user) => AccessStatus::Banned,
            Some(known) if known.is_expired(now) => AccessStatus::Revoked,
            Some(known) if known.as_ref() == grant => AccessStatus::Valid,
            Some(known) => {
                let unended = Grant { expires: known.expires, ..grant.clone() };
                if **known == unended { AccessStatus::Valid } else { AccessStatus::Changed }
            }
        }
    }

    /// What became of a session that has no grant.
    pub fn guest_status(&self, user: &UserName) -> AccessStatus {
        match self.is_banned(user) {
            true => AccessStatus::Banned,
            false if self.strict => AccessStatus::Revoked,
            false => AccessStatus::Valid,
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
            self.status(grant, then) == AccessStatus::Valid
                && later.status(grant, now) != AccessStatus::Valid
        })
    }

    /// Whether a user of that name, or of one that looks the same, is shut out.
    pub fn is_banned(&self, user: &UserName) -> bool {
        !self.banned.is_empty()
            && name_skeletons(user).iter().any(|face| self.banned.contains(face))
    }

    /// The next moment at which a grant ends.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
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
pub struct ConfusableNames {
    /// The later one.
    pub user: UserName,
    /// The one it looks like.
    pub like: UserName,
}

/// What a name looks like, written small and as it stands: without width (NFKC, UAX #15), case, and
/// what tells look-alike letters apart (the skeleton of UTS #39). Two names that share one of
/// theirs are one name: `ANA` is `ana` written small, `biII` is `bill` as it stands.
pub fn name_skeletons(name: &UserName) -> [String; 2] {
    let wide: String = name.as_str().nfkc().filter(|c| *c != ' ').collect();
    [wide.to_lowercase(), wide].map(|text| {
        let skeleton: String = unicode_security::skeleton(&text).collect();
        skeleton.to_lowercase()
    })
}

/// Whether nobody can tell one name from the other.
pub fn is_confusable(one: &UserName, other: &UserName) -> bool {
    let others = name_skeletons(other);
    name_skeletons(one).iter().any(|face| others.contains(face))
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
            rooms: GrantedRooms::Named(vec![RoomName::parse("ops").unwrap()]),
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
        assert_eq!(list.find("secret", at(100)), Err(AccessDenied::Expired));
        assert_eq!(list.find("secre", at(0)), Err(AccessDenied::Unknown));
        assert_eq!(list.find("", at(0)), Err(AccessDenied::Unknown));
        assert_eq!(list.next_expiry(at(0)), Some(at(100)));
        assert_eq!(AccessList::default().find("secret", at(0)), Err(AccessDenied::Unknown));
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
        assert!(one.allows(Action::Send, &ops) && !one.allows(Action::Join, &dev));
        assert_eq!(one.default_room().unwrap(), ops);
        one.role = Role::Admin;
        assert!(one.allows(Action::Send, &dev));
        assert_eq!(one.default_room().unwrap(), RoomName::lobby());
    }

    #[test]
    fn statuses() {
        let given = grant("ana", "x");
        let list =
            |grants: Vec<Grant>, banned: &[UserName]| AccessList::new(grants, banned).unwrap();
        assert_eq!(list(vec![given.clone()], &[]).status(&given, at(0)), AccessStatus::Valid);
        assert_eq!(list(vec![], &[]).status(&given, at(0)), AccessStatus::Revoked);
        assert_eq!(
            list(vec![given.clone()], &[UserName::clean("ANA")]).status(&given, at(0)),
            AccessStatus::Banned
        );
        let longer = Grant { expires: Some(at(9)), ..given.clone() };
        assert_eq!(list(vec![longer.clone()], &[]).status(&given, at(0)), AccessStatus::Valid);
        assert_eq!(list(vec![longer], &[]).status(&given, at(9)), AccessStatus::Revoked);
        let other = Grant { role: Role::Reader, ..given.clone() };
        assert_eq!(list(vec![other], &[]).status(&given, at(0)), AccessStatus::Changed);
    }

    #[test]
    fn a_list_nobody_can_read_lets_nobody_in_and_puts_nobody_out() {
        let given = Grant { expires: Some(at(9)), ..grant("ana", "x") };
        let banned = [UserName::clean("bob")];
        let list = AccessList::new(vec![given.clone()], &banned).unwrap().shut();
        assert_eq!(list.find("x", at(0)), Err(AccessDenied::Unknown));
        assert_eq!((list.len(), list.status(&given, at(0))), (0, AccessStatus::Valid));
        assert_eq!(list.status(&given, at(9)), AccessStatus::Revoked, "an end is known beforehand");
        assert_eq!(
            list.guest_status(&UserName::clean("BOB")),
            AccessStatus::Banned,
            "and so is a ban"
        );
    }

    #[test]
    fn who_proves_nothing_stays_only_where_nobody_must() {
        let (eve, list) = (UserName::clean("eve"), AccessList::default());
        assert_eq!(list.clone().guest_status(&eve), AccessStatus::Valid);
        assert_eq!(list.strict(true).guest_status(&eve), AccessStatus::Revoked);
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
