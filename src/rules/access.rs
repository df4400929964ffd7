//! Who may do what: access tokens' grants, and one table of rights.
//!
//! A grant names a user, rooms, a role and perhaps an end. Only the SHA-256 of its access token is
//! known here; the token has 256 random bits, so nothing slower is needed against guessing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use unicode_normalization::UnicodeNormalization as _;

use crate::words::{RoomName, Timestamp, UserName};

/// What a role is called, and what it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads and never speaks.
    Reader,
    /// Speaks and never reads: an alert, a cron job.
    Writer,
    /// Both.
    Member,
    /// Both, in every room.
    Admin,
}

/// What somebody may want in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Be in it, and have its key.
    Enter,
    /// Get what is said, live.
    Hear,
    /// Get what was said: `history` and `resume`.
    Read,
    /// Say something.
    Speak,
    /// Know who is there, who comes and who goes.
    See,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Reader, Role::Writer, Role::Member, Role::Admin];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Writer => "writer",
            Role::Member => "member",
            Role::Admin => "admin",
        }
    }

    /// The role of that word.
    pub fn parse(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }

    /// The table of rights, for rooms the grant names.
    pub fn may(self, verb: Verb) -> bool {
        match (self, verb) {
            (_, Verb::Enter) | (Role::Member | Role::Admin, _) => true,
            (Role::Reader, verb) => verb != Verb::Speak,
            (Role::Writer, verb) => verb == Verb::Speak,
        }
    }
}

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
    /// Whether it allows `verb` in `room`.
    pub fn allows(&self, verb: Verb, room: &RoomName) -> bool {
        self.role.may(verb) && self.reaches(room)
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
    /// Revoked, over, or banned.
    Gone,
}

/// Every grant there is.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    grants: Vec<Arc<Grant>>,
    banned: BTreeSet<String>,
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
        Ok(AccessList { grants: grants.into_iter().map(Arc::new).collect(), banned })
    }

    /// The grant of an access token. Compares with every one there is, each in constant time.
    pub fn find(&self, token: &str, now: Timestamp) -> Result<Arc<Grant>, Denied> {
        let digest = digest(token);
        let mut found = None;
        for grant in &self.grants {
            if bool::from(grant.digest.ct_eq(&digest)) {
                found = Some(grant);
            }
        }
        match found {
            None => Err(Denied::Unknown),
            Some(grant) if grant.is_over(now) => Err(Denied::Expired),
            Some(grant) if self.is_banned(&grant.user) => Err(Denied::Banned),
            Some(grant) => Ok(grant.clone()),
        }
    }

    /// What became of a grant that was given out earlier.
    pub fn fate(&self, grant: &Grant, now: Timestamp) -> Fate {
        let same = |known: &&Arc<Grant>| known.digest == grant.digest;
        match self.grants.iter().find(same) {
            None => Fate::Gone,
            Some(_) if self.is_banned(&grant.user) => Fate::Gone,
            Some(known) if known.is_over(now) => Fate::Gone,
            Some(known) if known.as_ref() == grant => Fate::Stands,
            Some(known) => {
                let unended = Grant { expires: known.expires, ..grant.clone() };
                if **known == unended { Fate::Stands } else { Fate::Changed }
            }
        }
    }

    /// Whether a user of that name, or of one that looks the same, is shut out.
    pub fn is_banned(&self, user: &UserName) -> bool {
        !self.banned.is_empty() && faces(user).iter().any(|face| self.banned.contains(face))
    }

    /// The next moment at which a grant ends.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.grants.iter().filter_map(|grant| grant.expires).filter(|end| *end > now).min()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
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
    fn the_table_of_rights() {
        for (role, may) in [
            (Role::Reader, [true, true, true, false, true]),
            (Role::Writer, [true, false, false, true, false]),
            (Role::Member, [true; 5]),
            (Role::Admin, [true; 5]),
        ] {
            let verbs = [Verb::Enter, Verb::Hear, Verb::Read, Verb::Speak, Verb::See];
            assert_eq!(verbs.map(|verb| role.may(verb)), may, "{role:?}");
            assert_eq!(Role::parse(role.word()), Some(role));
        }
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
            Fate::Gone
        );
        let longer = Grant { expires: Some(at(9)), ..given.clone() };
        assert_eq!(list(vec![longer.clone()], &[]).fate(&given, at(0)), Fate::Stands);
        assert_eq!(list(vec![longer], &[]).fate(&given, at(9)), Fate::Gone);
        let other = Grant { role: Role::Reader, ..given.clone() };
        assert_eq!(list(vec![other], &[]).fate(&given, at(0)), Fate::Changed);
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
