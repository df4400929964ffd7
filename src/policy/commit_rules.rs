//! When a commit in an end-to-end room counts, and when it is void: one function over plain facts.
//!
//! All members decide alike, because the function sees only what all of them have: the group before the commit, and
//! the commit. The server's word and the pins of a member are not among the facts. A void commit keeps its place in
//! the room log, and everybody passes over it.
//!
//! The same function is asked before a commit is sent and after one was received. That the commit's signatures are
//! right (RFC 9420, section 12.4) has been checked before.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::Timestamp;
use crate::protocol::device::{DeviceId, UserKey};
use crate::protocol::room_terms::RoomTerms;

/// Devices that a room can have, at most.
pub const MAX_DEVICES: usize = 400;

/// A leaf of the group's tree: a device, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The name of the user.
    pub user: String,
    /// The key of the user.
    pub user_key: UserKey,
    /// The device.
    pub device: DeviceId,
    /// The certificate is valid from then on, in seconds since 1970.
    pub not_before: u64,
    /// The certificate is valid until then, in seconds since 1970.
    pub not_after: u64,
}

/// The group before the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The leaves by their place in the tree.
    pub leaves: BTreeMap<u32, Leaf>,
    /// The terms of the room.
    pub terms: RoomTerms,
}

/// The author of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The member at this place.
    Member(u32),
    /// A device that comes in by its own commit (RFC 9420, section 12.4.3.2). Its leaf is in [`CommitFacts::path`].
    Newcomer,
}

/// A commit, as far as the rules are concerned. A leaf whose certificate is not one is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFacts {
    /// Who made it.
    pub author: Author,
    /// When, by the word of the author, which is signed.
    pub stated_at: Timestamp,
    /// The new leaf of the author, if the commit has an update path.
    pub path: Option<Option<Leaf>>,
    /// The leaves that are added.
    pub adds: Vec<Option<Leaf>>,
    /// The places of the leaves that are removed.
    pub removes: Vec<u32>,
    /// The terms from now on, if the commit changes them.
    pub terms: Option<Option<RoomTerms>>,
    /// Proposals of the kind ExternalInit.
    pub external_inits: usize,
    /// Proposals by reference: made before the commit, perhaps by somebody else.
    pub by_reference: usize,
    /// Proposals of any other kind, and extensions of the group that the rules do not know.
    pub others: usize,
}

/// The reason why a commit is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum VoidReason {
    /// Its author is not in the group.
    #[error("its author is not in the room")]
    UnknownAuthor,
    /// Something rides in it that its author did not make, or that is not used here.
    #[error("it has a proposal that is not allowed")]
    ForbiddenProposal,
    /// A certificate is wrong, or not valid at the stated time.
    #[error("the certificate of a device is not valid")]
    Certificate,
    /// The author's new leaf belongs to somebody else.
    #[error("it gives its author another name, key or device")]
    ChangedIdentity,
    /// Only an admin may add another user's device.
    #[error("its author may not add devices of other users")]
    MayNotAdd,
    /// Only an admin may remove another user's device.
    #[error("its author may not remove devices of other users")]
    MayNotRemove,
    /// Nobody is at the place, or it is the author's own, or it comes twice.
    #[error("it removes a device that it can't remove")]
    ImpossibleRemoval,
    /// Only an admin may change the terms.
    #[error("its author may not change the terms of the room")]
    MayNotChangeTerms,
    /// The room, its host or its generation would change, or the terms are malformed.
    #[error("it changes what can't change in a room")]
    FixedTerms,
    /// A removed device is not named among the removed ones.
    #[error("it does not note the device that it removes")]
    RemovalNotNoted,
    /// No admin would be in the room.
    #[error("it leaves the room without an admin")]
    NoAdmin,
    /// An admin would not be in the room. So a user who is added again is an ordinary member, whatever it was before.
    #[error("it leaves an admin who is not in the room")]
    AbsentAdmin,
    /// One name would have two keys, or one key two names.
    #[error("it gives a user two keys, or a key two users")]
    TwoKeys,
    /// A device would be in the room twice.
    #[error("it adds a device that is in the room")]
    DeviceTwice,
    /// The device was removed.
    #[error("it adds a device that was removed")]
    RemovedDevice,
    /// The newcomer's user is not in the room.
    #[error("a device of a user who is not in the room let itself in")]
    Stranger,
    /// A newcomer's commit does more than let it in.
    #[error("a device that let itself in changed something else")]
    NewcomerDoesMore,
    /// A third user in a room for direct messages.
    #[error("it brings a third user into direct messages")]
    ThirdUser,
    /// More than [`MAX_DEVICES`].
    #[error("it brings more than {MAX_DEVICES} devices into the room")]
    TooManyDevices,
}

/// Decides whether a commit counts.
pub fn check(before: &Roster, commit: &CommitFacts) -> Result<(), VoidReason> {
    if commit.by_reference > 0 || commit.others > 0 {
        return Err(VoidReason::ForbiddenProposal);
    }
    let changes = Changes::read(before, commit)?;
    match commit.author {
        Author::Member(_) => check_member(before, &changes, commit.external_inits)?,
        Author::Newcomer => check_newcomer(before, &changes, commit.external_inits)?,
    }
    check_terms(before, &changes)?;
    check_result(before, &changes)
}

/// What a commit changes, with everything in it known to be in order by itself.
struct Changes<'a> {
    /// The author's leaf from now on.
    author: &'a Leaf,
    /// The author has a leaf before.
    place: Option<u32>,
    adds: Vec<&'a Leaf>,
    removed: BTreeMap<u32, &'a Leaf>,
    terms: &'a RoomTerms,
}

impl<'a> Changes<'a> {
    fn read(before: &'a Roster, commit: &'a CommitFacts) -> Result<Self, VoidReason> {
        let at = commit.stated_at;
        let valid = |leaf: &'a Option<Leaf>| {
            leaf.as_ref().filter(|leaf| leaf.is_valid_at(at)).ok_or(VoidReason::Certificate)
        };
        let path = commit.path.as_ref().map(valid).transpose()?;
        let place = match commit.author {
            Author::Member(place) => Some(place),
            Author::Newcomer => None,
        };
        let author = match place {
            Some(place) => {
                let old = before.leaves.get(&place).ok_or(VoidReason::UnknownAuthor)?;
                let new = path.unwrap_or(old);
                if !new.is_same_device(old) {
                    return Err(VoidReason::ChangedIdentity);
                }
                if !new.is_valid_at(at) {
                    return Err(VoidReason::Certificate);
                }
                new
            }
            None => path.ok_or(VoidReason::UnknownAuthor)?,
        };
        let adds = commit.adds.iter().map(valid).collect::<Result<_, _>>()?;
        let mut removed = BTreeMap::new();
        for place in &commit.removes {
            let leaf = before.leaves.get(place).ok_or(VoidReason::ImpossibleRemoval)?;
            let again = removed.insert(*place, leaf).is_some();
            if again || commit.author == Author::Member(*place) {
                return Err(VoidReason::ImpossibleRemoval);
            }
        }
        let terms = match &commit.terms {
            None => &before.terms,
            Some(terms) => terms.as_ref().ok_or(VoidReason::FixedTerms)?,
        };
        Ok(Changes { author, place, adds, removed, terms })
    }
}

/// A member's commit: what the author may do to others.
fn check_member(
    before: &Roster,
    changes: &Changes<'_>,
    external_inits: usize,
) -> Result<(), VoidReason> {
    if external_inits > 0 {
        return Err(VoidReason::ForbiddenProposal);
    }
    // A new leaf has the name and the key of the one before.
    let author = changes.author;
    let is_admin = before.is_admin(author);
    for leaf in &changes.adds {
        // The other of two users who write to each other is added once, and then adds devices by itself.
        let is_first_contact = before.terms.room.is_direct() && !before.has_user(leaf);
        if !(leaf.is_same_user(author) || is_admin || is_first_contact) {
            return Err(VoidReason::MayNotAdd);
        }
    }
    let may_remove = |leaf: &&Leaf| leaf.is_same_user(author) || is_admin;
    match changes.removed.values().all(may_remove) {
        true => Ok(()),
        false => Err(VoidReason::MayNotRemove),
    }
}

/// A newcomer's commit: another device of a user who is in the room, and nothing else.
fn check_newcomer(
    before: &Roster,
    changes: &Changes<'_>,
    external_inits: usize,
) -> Result<(), VoidReason> {
    if external_inits != 1 {
        return Err(VoidReason::ForbiddenProposal);
    }
    let newcomer = changes.author;
    if !before.has_user(newcomer) {
        return Err(VoidReason::Stranger);
    }
    // It may take the place of its own old leaf.
    let only_itself = changes.removed.values().all(|leaf| leaf.device == newcomer.device);
    match only_itself && changes.adds.is_empty() && *changes.terms == before.terms {
        true => Ok(()),
        false => Err(VoidReason::NewcomerDoesMore),
    }
}

/// The terms: who may change what of them, and that removals are noted.
fn check_terms(before: &Roster, changes: &Changes<'_>) -> Result<(), VoidReason> {
    let (old, new) = (&before.terms, changes.terms);
    if (&new.room, &new.host, new.generation) != (&old.room, &old.host, old.generation) {
        return Err(VoidReason::FixedTerms);
    }
    // A newcomer that replaces its own leaf goes on.
    let gone: BTreeSet<DeviceId> = match changes.place {
        Some(_) => changes.removed.values().map(|leaf| leaf.device).collect(),
        None => BTreeSet::new(),
    };
    if new != old {
        let noted: BTreeSet<DeviceId> = old.removed.union(&gone).copied().collect();
        let only_noted = new.admins == old.admins && new.removed == noted;
        if !only_noted && !before.is_admin(changes.author) {
            return Err(VoidReason::MayNotChangeTerms);
        }
    }
    match gone.is_subset(&new.removed) {
        true => Ok(()),
        false => Err(VoidReason::RemovalNotNoted),
    }
}

/// The group after the commit.
fn check_result(before: &Roster, changes: &Changes<'_>) -> Result<(), VoidReason> {
    let stays = before.leaves.iter().filter(|(place, _)| {
        !changes.removed.contains_key(place) && changes.place != Some(**place)
    });
    let after: Vec<&Leaf> = stays
        .map(|(_, leaf)| leaf)
        .chain([changes.author])
        .chain(changes.adds.iter().copied())
        .collect();
    let (mut keys, mut names, mut devices) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for leaf in &after {
        let key = *keys.entry(leaf.user.as_str()).or_insert(leaf.user_key);
        let name = *names.entry(leaf.user_key).or_insert(leaf.user.as_str());
        if key != leaf.user_key || name != leaf.user {
            return Err(VoidReason::TwoKeys);
        }
        if !devices.insert(leaf.device) {
            return Err(VoidReason::DeviceTwice);
        }
        if changes.terms.removed.contains(&leaf.device) {
            return Err(VoidReason::RemovedDevice);
        }
    }
    if after.len() > MAX_DEVICES {
        return Err(VoidReason::TooManyDevices);
    }
    if changes.terms.room.is_direct() {
        // Nobody administers direct messages.
        return match names.len() {
            _ if !changes.terms.admins.is_empty() => Err(VoidReason::FixedTerms),
            0..=2 => Ok(()),
            _ => Err(VoidReason::ThirdUser),
        };
    }
    let is_in = |key: &UserKey| names.contains_key(key);
    match changes.terms.admins.iter().all(is_in) {
        _ if !changes.terms.admins.iter().any(is_in) => Err(VoidReason::NoAdmin),
        true => Ok(()),
        false => Err(VoidReason::AbsentAdmin),
    }
}

impl Roster {
    /// Whether the leaf's user administers the room.
    pub fn is_admin(&self, leaf: &Leaf) -> bool {
        self.terms.admins.contains(&leaf.user_key)
    }

    /// Whether the leaf's user has a device in the room.
    fn has_user(&self, user: &Leaf) -> bool {
        self.leaves.values().any(|leaf| leaf.is_same_user(user))
    }
}

impl Leaf {
    fn is_valid_at(&self, at: Timestamp) -> bool {
        let seconds = u64::try_from(at.micros().div_euclid(1_000_000));
        seconds.is_ok_and(|seconds| (self.not_before..=self.not_after).contains(&seconds))
    }

    fn is_same_user(&self, other: &Leaf) -> bool {
        self.user_key == other.user_key && self.user == other.user
    }

    fn is_same_device(&self, other: &Leaf) -> bool {
        self.is_same_user(other) && self.device == other.device
    }
}
