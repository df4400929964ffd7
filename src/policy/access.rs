//! Access: what each access token allows, and the list of all access tokens and bans.
//!
//! A grant names a user, rooms, a role and perhaps an expiry. It stores only the SHA-256 of its
//! access token; the token has 256 random bits, so a slow password hash is not needed.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::bans::Bans;
use super::confusable_names::{ConfusableNames, name_skeletons};
use super::rights::{Action, Decision, Role, RoomRelation, decide};
use crate::protocol::{RoomName, Timestamp, UserName};

/// The rooms that a grant covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantedRooms {
    /// Every room.
    All,
    /// The named rooms.
    Named(Vec<RoomName>),
}

/// The rights of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Identifies the grant for operators: eight hexadecimal digits.
    pub id: String,
    /// The user that the access token proves.
    pub user: UserName,
    /// The rooms it covers.
    pub rooms: GrantedRooms,
    /// The role in those rooms.
    pub role: Role,
    /// From this moment on, the grant is void; `None` is never.
    pub expires: Option<Timestamp>,
    /// SHA-256 of the access token.
    pub digest: [u8; 32],
}

impl Grant {
    /// Whether it allows `action` to a session that is in `room`.
    pub fn allows(&self, action: Action, room: &RoomName) -> bool {
        self.decide(action, room, true) == Decision::Allowed
    }

    /// Decides about `action` in `room` by the table of rights; `joined`: whether the session is in
    /// the room.
    pub fn decide(&self, action: Action, room: &RoomName, joined: bool) -> Decision {
        let relation = match (self.covers(room), joined) {
            (false, _) => RoomRelation::NotGranted,
            (true, false) => RoomRelation::NotJoined,
            (true, true) => RoomRelation::Joined,
        };
        decide(self.role, action, relation)
    }

    /// The room of a client that names none, as every basic client: the lobby if the grant covers it, else the
    /// first room that is not end-to-end.
    pub fn default_room(&self) -> Option<RoomName> {
        let lobby = RoomName::lobby();
        match &self.rooms {
            _ if self.covers(&lobby) => Some(lobby),
            GrantedRooms::All => Some(lobby),
            GrantedRooms::Named(rooms) => rooms.iter().find(|room| !room.is_end_to_end()).cloned(),
        }
    }

    /// Whether it allows the same user the same for as long, whatever its access token.
    pub fn has_same_rights(&self, other: &Grant) -> bool {
        let same_token = Grant { id: other.id.clone(), digest: other.digest, ..self.clone() };
        same_token == *other
    }

    /// Whether it has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expiry| expiry <= now)
    }

    fn covers(&self, room: &RoomName) -> bool {
        match &self.rooms {
            // Who may enter such a room is told by its name; the session checks it (`enter::may_enter`).
            _ if room.is_direct() => true,
            _ if self.role == Role::Admin => true,
            GrantedRooms::All => true,
            GrantedRooms::Named(rooms) => rooms.contains(room),
        }
    }
}

/// Why an access token is refused. Clients get the same text for `Unknown` and `Expired`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessDenied {
    /// No grant has this access token.
    Unknown,
    /// The grant has expired.
    Expired,
    /// The user is banned.
    Banned,
    /// The source of the list can't be read at the moment, so it is not known.
    Unavailable,
}

/// The status of a session's access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessStatus {
    /// Unchanged.
    Valid,
    /// Other rooms, another role or another user.
    Changed,
    /// Revoked or expired.
    Revoked,
    /// The user is banned.
    Banned,
    /// The client's address is banned.
    AddressBanned,
}

/// All grants, and the bans and mutes in force.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    grants: Vec<Arc<Grant>>,
    by_digest: HashMap<[u8; 32], Arc<Grant>>,
    bans: Arc<Bans>,
    /// Whether every session needs a grant.
    strict: bool,
    /// Whether the source of the list can't be read, so that it lets no session in.
    closed: bool,
}

impl AccessList {
    /// A list of grants. Fails if two users have names that people can't tell apart.
    pub fn new(grants: Vec<Grant>) -> Result<Self, ConfusableNames> {
        let mut known: HashMap<String, &UserName> = HashMap::new();
        for grant in &grants {
            for skeleton in name_skeletons(&grant.user) {
                let first = *known.entry(skeleton).or_insert(&grant.user);
                if *first != grant.user {
                    return Err(ConfusableNames { user: grant.user.clone(), like: first.clone() });
                }
            }
        }
        let grants: Vec<Arc<Grant>> = grants.into_iter().map(Arc::new).collect();
        let by_digest = grants.iter().map(|grant| (grant.digest, grant.clone())).collect();
        Ok(AccessList { grants, by_digest, ..AccessList::default() })
    }

    /// The same list with these bans and mutes in force.
    pub fn with_bans(mut self, bans: Arc<Bans>) -> Self {
        self.bans = bans;
        self
    }

    /// The bans and mutes in force.
    pub fn bans(&self) -> &Arc<Bans> {
        &self.bans
    }

    /// The same list; if `strict`, sessions without a grant have no access.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// The same list, for the time when its source can't be read: it lets no new session in, but
    /// existing sessions keep their access.
    pub fn closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// The grant of the access token with this SHA-256. It compares every digest in constant time,
    /// so its duration does not reveal which access tokens exist.
    pub fn find_by_digest(
        &self,
        digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Arc<Grant>, AccessDenied> {
        match self.find_digest(digest, |a, b| a.ct_eq(b).into()) {
            _ if self.closed => Err(AccessDenied::Unavailable),
            None => Err(AccessDenied::Unknown),
            Some(grant) if grant.is_expired(now) => Err(AccessDenied::Expired),
            Some(grant) if self.is_banned(&grant.user) => Err(AccessDenied::Banned),
            Some(grant) => Ok(grant.clone()),
        }
    }

    /// Always compares all grants, even after it has found one.
    fn find_digest(
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

    /// The status of a grant that a session got earlier.
    pub fn status(&self, grant: &Grant, now: Timestamp) -> AccessStatus {
        match self.by_digest.get(&grant.digest) {
            None => AccessStatus::Revoked,
            Some(_) if self.is_banned(&grant.user) => AccessStatus::Banned,
            Some(known) if known.is_expired(now) => AccessStatus::Revoked,
            Some(known) if known.as_ref() == grant => AccessStatus::Valid,
            Some(known) => {
                let with_new_expiry = Grant { expires: known.expires, ..grant.clone() };
                if **known == with_new_expiry { AccessStatus::Valid } else { AccessStatus::Changed }
            }
        }
    }

    /// The access status of a session without a grant.
    pub fn guest_status(&self, user: &UserName) -> AccessStatus {
        match self.is_banned(user) {
            true => AccessStatus::Banned,
            false if self.strict => AccessStatus::Revoked,
            false => AccessStatus::Valid,
        }
    }

    /// The grants that were valid at `then` and, by the `later` list, are no longer valid at `now`.
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

    /// Whether the name, or one that people can't tell apart from it, is banned.
    pub fn is_banned(&self, user: &UserName) -> bool {
        self.bans.bans_user(user)
    }

    /// Whether no session is let in, because the access file can't be used.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// All grants, expired ones included.
    pub fn grants(&self) -> &[Arc<Grant>] {
        &self.grants
    }

    /// The earliest expiry after `now`.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.grants.iter().filter_map(|grant| grant.expires).filter(|expiry| *expiry > now).min()
    }

    /// The number of grants that let a session in, expired ones included.
    pub fn len(&self) -> usize {
        if self.closed { 0 } else { self.grants.len() }
    }

    /// Whether no grant lets a session in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// SHA-256, the stored form of an access token.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::super::bans::Restriction;
    use super::*;

    impl AccessList {
        fn banning(self, banned: &[&str]) -> Self {
            let banned: Vec<Restriction> =
                banned.iter().map(|user| Restriction::BanUser(UserName::clean(user))).collect();
            self.with_bans(Arc::new(Bans::new(banned.iter())))
        }

        fn find(&self, token: &str, now: Timestamp) -> Result<Arc<Grant>, AccessDenied> {
            self.find_by_digest(&digest(token), now)
        }
    }

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
    fn only_the_exact_token_is_accepted_and_only_until_it_expires() {
        let mut ending = grant("ana", "secret");
        ending.expires = Some(at(100));
        let list = AccessList::new(vec![ending, grant("bob", "other")]).unwrap();
        assert_eq!(list.find("secret", at(99)).unwrap().user.as_str(), "ana");
        assert_eq!(list.find("secret", at(100)), Err(AccessDenied::Expired));
        assert_eq!(list.find("secre", at(0)), Err(AccessDenied::Unknown));
        assert_eq!(list.find("", at(0)), Err(AccessDenied::Unknown));
        assert_eq!(list.next_expiry(at(0)), Some(at(100)));
        assert_eq!(AccessList::default().find("secret", at(0)), Err(AccessDenied::Unknown));
    }

    #[test]
    fn every_access_token_takes_the_same_number_of_comparisons() {
        for count in 0..20 {
            let users = (0..count).map(|number| format!("user {number}"));
            let ending = |number| (number % 3 == 0).then(|| at(100));
            let grants = users
                .enumerate()
                .map(|(number, user)| Grant { expires: ending(number), ..grant(&user, &user) });
            let list = AccessList::new(grants.collect()).unwrap().banning(&["user 1"]);
            // The first, the middle and the last token; expired, banned, shorter, longer and
            // unknown ones.
            for number in 0..30 {
                for guess in [format!("user {number}"), format!("user {number}x"), "user".into()] {
                    let compared = std::cell::Cell::new(0);
                    let found = list.find_digest(&digest(&guess), |a, b| {
                        compared.set(compared.get() + 1);
                        a == b
                    });
                    assert_eq!(compared.get(), count, "{guess:?} of {count}");
                    let exists = number < count && guess == format!("user {number}");
                    assert_eq!(found.is_some(), exists, "{guess:?} of {count}");
                }
            }
        }
    }

    #[test]
    fn a_grant_covers_its_rooms_and_an_admin_grant_covers_all() {
        let (ops, dev) = (RoomName::parse("ops").unwrap(), RoomName::parse("dev").unwrap());
        let mut grant = grant("ana", "x");
        assert!(grant.allows(Action::Send, &ops) && !grant.allows(Action::Join, &dev));
        assert_eq!(grant.default_room().unwrap(), ops);
        grant.role = Role::Admin;
        assert!(grant.allows(Action::Send, &dev));
        assert_eq!(grant.default_room().unwrap(), RoomName::lobby());
    }

    #[test]
    fn status_of_a_grant_after_each_kind_of_change() {
        let given = grant("ana", "x");
        let list =
            |grants: Vec<Grant>, banned: &[&str]| AccessList::new(grants).unwrap().banning(banned);
        assert_eq!(list(vec![given.clone()], &[]).status(&given, at(0)), AccessStatus::Valid);
        assert_eq!(list(vec![], &[]).status(&given, at(0)), AccessStatus::Revoked);
        assert_eq!(list(vec![given.clone()], &["ANA"]).status(&given, at(0)), AccessStatus::Banned);
        let longer = Grant { expires: Some(at(9)), ..given.clone() };
        assert_eq!(list(vec![longer.clone()], &[]).status(&given, at(0)), AccessStatus::Valid);
        assert_eq!(list(vec![longer], &[]).status(&given, at(9)), AccessStatus::Revoked);
        let other = Grant { role: Role::Reader, ..given.clone() };
        assert_eq!(list(vec![other], &[]).status(&given, at(0)), AccessStatus::Changed);
    }

    #[test]
    fn a_closed_list_lets_no_session_in_but_existing_sessions_keep_their_access() {
        let given = Grant { expires: Some(at(9)), ..grant("ana", "x") };
        let list = AccessList::new(vec![given.clone()]).unwrap().banning(&["bob"]).closed();
        for token in ["x", "unknown"] {
            assert_eq!(list.find(token, at(0)), Err(AccessDenied::Unavailable));
        }
        assert_eq!((list.len(), list.status(&given, at(0))), (0, AccessStatus::Valid));
        assert_eq!(list.status(&given, at(9)), AccessStatus::Revoked, "expiry still applies");
        assert_eq!(
            list.guest_status(&UserName::clean("BOB")),
            AccessStatus::Banned,
            "bans still apply"
        );
    }

    #[test]
    fn sessions_without_a_grant_have_access_unless_the_list_is_strict() {
        let (eve, list) = (UserName::clean("eve"), AccessList::default());
        assert_eq!(list.clone().guest_status(&eve), AccessStatus::Valid);
        assert_eq!(list.strict(true).guest_status(&eve), AccessStatus::Revoked);
    }

    #[test]
    fn lost_gives_the_grants_that_became_invalid_between_two_lists() {
        let (ana, bob) = (grant("ana", "x"), Grant { expires: Some(at(9)), ..grant("bob", "y") });
        let both = AccessList::new(vec![ana.clone(), bob.clone()]).unwrap();
        let lost = |now, later: &AccessList, then| {
            let lost = both.lost(at(now), later, at(then));
            lost.map(|grant| grant.user.to_string()).collect::<Vec<_>>()
        };
        assert!(lost(0, &both, 8).is_empty());
        assert_eq!(lost(0, &both, 9), ["bob"], "only the expired grant");
        assert!(lost(9, &both, 10).is_empty());
        assert_eq!(lost(0, &AccessList::new(vec![bob]).unwrap(), 0), ["ana"]);
    }

    #[test]
    fn confusable_names_are_one_user_in_grants_and_bans() {
        for (name, other) in
            [("ana", "ANA"), ("ana", "аnа"), ("ana", "ａｎａ"), ("bill", "biII"), ("pal", "раl")]
        {
            let both = vec![grant(name, "x"), grant(other, "y")];
            assert!(AccessList::new(both).is_err(), "{name} {other}");
            let list = AccessList::new(vec![]).unwrap().banning(&[name]);
            assert!(list.is_banned(&UserName::clean(other)));
            assert!(!list.is_banned(&UserName::clean("anna")));
        }
        assert!(AccessList::new(vec![grant("ana", "x"), grant("anna", "y")]).is_ok());
        assert!(AccessList::new(vec![grant("ana", "x"), grant("ana", "y")]).is_ok());
    }
}
