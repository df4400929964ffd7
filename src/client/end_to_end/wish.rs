//! A change of a room that somebody asked for: made as a commit, and made anew when another one came first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::frames;
use super::problem::{Kind, Problem};
use super::trust::shell_word;
use crate::client::random::random_number;
use crate::mls::device::{KeyPackageError, Newcomer};
use crate::mls::group::{Change, MAX_ADDS};
use crate::policy::commit_rules::Roster;
use crate::policy::upkeep::{COMMIT_TRIES, commit_pause};
use crate::protocol::device::{DeviceId, UserKey};
use crate::protocol::frame::Keys;
use crate::protocol::{MessageId, RoomName, Timestamp};

/// Users whose key packages are asked for at once.
const USERS_AT_ONCE: usize = 4;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the room, and add these users.
    Create(Vec<String>),
    /// Add these users.
    Add(Vec<String>),
    /// Remove these users, with all their devices, and these devices.
    Remove(Vec<String>, Vec<DeviceId>),
    /// Make these users admins.
    Promote(Vec<String>),
    /// Make these admins ordinary members.
    Demote(Vec<String>),
}

/// How far it is.
#[derive(Debug)]
pub enum Stage {
    /// Something can be done as soon as the log was read to its end.
    Ready,
    /// Key packages were asked for.
    Asking,
    /// A commit was sent.
    Sent(MessageId),
    /// Another commit came first: not before this.
    Pausing(Instant),
    /// It is done, and this is said about it.
    Done(String),
}

/// A change of a room that somebody asked for.
pub struct Wish {
    /// The room.
    pub room: RoomName,
    /// What is asked for.
    pub action: Action,
    /// How far it is.
    pub stage: Stage,
    /// Whether a person asked for it, who is told how it ends.
    pub is_asked: bool,
    tries: u32,
    /// Whether a commit of it was read in the log.
    has_changed: bool,
    /// The devices that the next commit adds.
    collected: Vec<Newcomer>,
}

/// What to do next about a wish.
pub enum Next {
    /// Ask for key packages, by this frame.
    Ask(String),
    /// Make a commit that changes this.
    Change(Change),
    /// Nothing is left to do; this is said about it.
    Done(String),
    /// It can't be done.
    Fail(String),
}

impl Wish {
    /// A new wish.
    pub fn new(room: RoomName, action: Action, is_asked: bool) -> Self {
        Wish {
            room,
            action,
            is_asked,
            stage: Stage::Ready,
            tries: 0,
            has_changed: false,
            collected: Vec::new(),
        }
    }

    /// What to do next, in a room with these members.
    pub fn next(&self, roster: &Roster, own: (&str, &UserKey)) -> Next {
        if let Some(refusal) = self.refusal(roster, own) {
            return Next::Fail(refusal);
        }
        let is_in = |user: &&String| roster.leaves.values().any(|leaf| leaf.user == **user);
        let room = &self.room;
        match &self.action {
            Action::Create(users) | Action::Add(users) => {
                let missing: VecDeque<&String> = users.iter().filter(|user| !is_in(user)).collect();
                if missing.is_empty() {
                    return Next::Done(match users.as_slice() {
                        [] if roster.terms.admins.contains(own.1) => {
                            format!("{room} is open, and you are an admin of it")
                        }
                        [] => format!("{room} is open, and you are in it"),
                        users => format!("in {room} now: {}", users.join(", ")),
                    });
                }
                let asked = missing.into_iter().take(USERS_AT_ONCE).cloned().collect();
                Next::Ask(frames::get_keys(room, asked))
            }
            Action::Remove(users, devices) => {
                let is_meant = |user: &String, device: &DeviceId| {
                    users.contains(user) || devices.contains(device)
                };
                let found: BTreeSet<DeviceId> = roster
                    .leaves
                    .values()
                    .filter(|leaf| is_meant(&leaf.user, &leaf.device))
                    .map(|leaf| leaf.device)
                    .collect();
                match found.is_empty() {
                    true if self.has_changed => {
                        let mut names = users.clone();
                        names.extend(devices.iter().map(DeviceId::to_string));
                        Next::Done(format!("no longer in {room}: {}", names.join(", ")))
                    }
                    true => {
                        let devices = devices.iter().map(DeviceId::to_string);
                        let names: Vec<String> = users.iter().cloned().chain(devices).collect();
                        Next::Fail(no_such_member(room, &names.join(", ")))
                    }
                    false => Next::Change(Change { removes: found, ..Change::default() }),
                }
            }
            Action::Promote(users) => self.next_admins(roster, users, true),
            Action::Demote(users) => self.next_admins(roster, users, false),
        }
    }

    /// The same for users who are to be admins, or no longer.
    fn next_admins(&self, roster: &Roster, users: &[String], are_to_be: bool) -> Next {
        let room = &self.room;
        let keys: BTreeMap<&str, UserKey> =
            roster.leaves.values().map(|leaf| (leaf.user.as_str(), leaf.user_key)).collect();
        let absent: Vec<&str> =
            users.iter().map(String::as_str).filter(|user| !keys.contains_key(user)).collect();
        if !absent.is_empty() {
            return Next::Fail(no_such_member(room, &absent.join(", ")));
        }
        let admins = &roster.terms.admins;
        let others: BTreeSet<UserKey> = users
            .iter()
            .filter_map(|user| keys.get(user.as_str()).copied())
            .filter(|key| admins.contains(key) != are_to_be)
            .collect();
        if others.is_empty() {
            let is_admin = |(_, key): &(&&str, &UserKey)| admins.contains(key);
            let names: Vec<&str> = keys.iter().filter(is_admin).map(|(user, _)| *user).collect();
            return Next::Done(format!("admins of {room} now: {}", names.join(", ")));
        }
        match are_to_be {
            true => Next::Change(Change { promotes: others, ..Change::default() }),
            false if admins.is_subset(&others) => Next::Fail(format!(
                "{room} would have no admin; make another member one first: chat-client room promote {room} NAME"
            )),
            false => Next::Change(Change { demotes: others, ..Change::default() }),
        }
    }

    /// Why this user may not do it, as the rules for commits say.
    fn refusal(&self, roster: &Roster, (name, key): (&str, &UserKey)) -> Option<String> {
        let is_about_admins = matches!(self.action, Action::Promote(_) | Action::Demote(_));
        if is_about_admins && self.room.is_direct() {
            return Some("direct messages have no admins".to_owned());
        }
        let is_of_others = match &self.action {
            Action::Create(users) | Action::Add(users) => users.iter().any(|user| user != name),
            Action::Remove(users, devices) => {
                let is_other = |device: &DeviceId| {
                    roster.leaves.values().any(|leaf| leaf.device == *device && leaf.user != name)
                };
                users.iter().any(|user| user != name) || devices.iter().any(is_other)
            }
            Action::Promote(_) | Action::Demote(_) => true,
        };
        let may = roster.terms.admins.contains(key) || self.room.is_direct();
        (is_of_others && !may)
            .then(|| format!("only an admin of {} can do this, and {name} is none", self.room))
    }

    /// The devices in an answer that can be added to a room with these members.
    pub fn newcomers(
        &self,
        keys: &Keys<'_>,
        roster: &Roster,
        now: Timestamp,
    ) -> Result<Vec<Newcomer>, Problem> {
        let mut found = Vec::new();
        for (user, devices) in &keys.users {
            let before = found.len();
            let mut expired = false;
            for keys in devices {
                let content = frames::decode(&keys.key_package);
                let newcomer = match Newcomer::read(&content, now) {
                    Ok(newcomer) => newcomer,
                    Err(KeyPackageError::Expired) => {
                        expired = true;
                        continue;
                    }
                    Err(error) => {
                        return Err(Problem::evidence(format!(
                            "the key package of {user}'s device {} is not signed by {user}: {error}",
                            keys.device
                        )));
                    }
                };
                let certificate = &newcomer.certificate;
                if certificate.user != **user || certificate.device().to_string() != *keys.device {
                    return Err(Problem::evidence(format!(
                        "the server gave a key package of {}'s device {} as one of {user}'s device {}",
                        certificate.user,
                        certificate.device(),
                        keys.device
                    )));
                }
                let device = certificate.device();
                if !roster.leaves.values().any(|leaf| leaf.device == device) {
                    found.push(newcomer);
                }
            }
            if found.len() == before {
                let why = match expired {
                    true => "the keys of this user's devices have expired",
                    false => "this user has no device that can be added",
                };
                return Err(Problem::new(
                    Kind::Pending,
                    format!("{user} can't be added: {why}; {}", come_first(user, &self.room)),
                ));
            }
        }
        Ok(found)
    }

    /// Takes devices that can be added. Returns the request for more, as long as one commit can add them.
    pub fn collect(&mut self, adds: Vec<Newcomer>, roster: &Roster) -> Option<String> {
        self.collected.extend(adds);
        let (Action::Create(users) | Action::Add(users)) = &self.action else { return None };
        let is_there = |user: &&String| {
            roster.leaves.values().any(|leaf| leaf.user == **user)
                || self.collected.iter().any(|newcomer| newcomer.certificate.user == **user)
        };
        let asked: Vec<String> =
            users.iter().filter(|user| !is_there(user)).take(USERS_AT_ONCE).cloned().collect();
        let has_place = self.collected.len() <= MAX_ADDS / 2;
        (has_place && !asked.is_empty()).then(|| frames::get_keys(&self.room, asked))
    }

    /// The devices for the next commit, as many as it can add.
    pub fn take_collected(&mut self) -> Vec<Newcomer> {
        let mut collected = std::mem::take(&mut self.collected);
        collected.truncate(MAX_ADDS);
        collected
    }

    /// Another commit came first. An error after too many tries.
    pub fn lost(&mut self, now: Instant) -> Result<(), Problem> {
        self.collected.clear();
        self.tries += 1;
        if self.tries >= COMMIT_TRIES {
            let text = format!("others keep changing {}; try again", self.room);
            return Err(Problem::new(Kind::Pending, text));
        }
        self.stage = Stage::Pausing(now + commit_pause(self.tries, random_number()));
        Ok(())
    }

    /// Looks again later, without counting it as a try.
    pub fn wait(&mut self, until: Instant) {
        self.stage = Stage::Pausing(until);
    }

    /// The commit was read in the log.
    pub fn done(&mut self) {
        self.has_changed = true;
        self.stage = Stage::Ready;
    }

    /// The pause is over, or there is none.
    pub fn is_due(&mut self, now: Instant) -> bool {
        if let Stage::Pausing(until) = self.stage
            && until <= now
        {
            self.stage = Stage::Ready;
        }
        matches!(self.stage, Stage::Ready)
    }
}

fn no_such_member(room: &RoomName, names: &str) -> String {
    format!("{room} has no such member: {names}")
}

/// What somebody does who has no keys on the server yet.
pub fn come_first(user: &str, room: &RoomName) -> String {
    if room.is_direct() {
        return format!("{user} runs once: chat-client -r @ and your name");
    }
    format!(
        "{user} runs once: chat-client -r {room}; then: chat-client room add {room} {}",
        shell_word(user)
    )
}
