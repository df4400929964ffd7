//! Tests of end-to-end rooms without a network: several devices, and a log that keeps the server's one rule.

mod batches;
mod crash;
mod evidence;
mod hostile;
mod hpke;
mod measure;
mod races;
mod rooms;
mod sparse;
mod state;
mod vectors;
mod withheld;

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::apply::apply;
use super::archived::Archived;
use super::crypto::sealed_with;
use super::device::{Device, Newcomer};
use super::entry::{Applied, Body, LogEntry};
use super::error::RoomError;
use super::group::{Change, MadeCommit};
use super::room::{self, Outgoing, Position};
use super::rows::Room;
use super::state::{State, StateError, Step};
use crate::crypto::secret_key::{DeviceSecret, UserSecret};
use crate::policy::commit_rules::Roster;
use crate::protocol::device::DeviceId;
use crate::protocol::room_terms::RoomTerms;
use crate::protocol::{MessageId, RoomName, Seq, Timestamp};

const NOW: i64 = 1_790_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((NOW + seconds) * 1_000_000)
}

fn ops() -> RoomName {
    RoomName::parse("ops").unwrap()
}

fn id(text: &str) -> MessageId {
    MessageId::parse(text).unwrap()
}

/// A user with a key.
struct User {
    name: &'static str,
    secret: UserSecret,
}

impl User {
    fn new(name: &'static str) -> Self {
        User { name, secret: UserSecret::fresh() }
    }

    fn certify(&self, device: &DeviceSecret) -> Vec<u8> {
        let period = ((NOW - 86_400) as u64, (NOW + 300 * 86_400) as u64);
        self.secret.certify(self.name, device.public(), period).unwrap()
    }
}

/// A device with its folder.
struct Member {
    folder: TempDir,
    state: State,
}

impl Member {
    fn new(user: &User) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        let mut state = State::open(folder.path(), None).unwrap();
        let secret = DeviceSecret::fresh();
        let certificate = user.certify(&secret);
        state.step(|step| Device::store(step, &secret, &certificate)).unwrap();
        Member { folder, state }
    }

    fn step<T>(
        &mut self,
        work: impl FnOnce(&Step<'_>, &Device) -> Result<T, RoomError>,
    ) -> Result<T, RoomError> {
        self.state.step(|step| {
            let device = Device::load(step)?.ok_or(StateError::Damaged("no device"))?;
            work(step, &device)
        })
    }

    fn id(&mut self) -> DeviceId {
        self.step(|_, device| Ok(device.id())).unwrap()
    }

    fn newcomer(&mut self) -> Newcomer {
        let package = self.step(|step, device| Ok(device.make_key_package(step, false, at(0))?));
        Newcomer::read(&package.unwrap().content, at(0)).unwrap()
    }

    fn room(&mut self) -> Room {
        self.step(|step, _| Ok(Room::load(step, &ops())?.unwrap())).unwrap()
    }

    fn roster(&mut self) -> Roster {
        self.step(|step, _| room::roster(step, &ops())).unwrap()
    }

    fn say(&mut self, name: &str, text: &str) -> Result<Outgoing, RoomError> {
        self.step(|step, device| room::say(step, device, &ops(), (&id(name), text), at(1)))
    }

    fn change(&mut self, name: &str, change: Change) -> Result<Outgoing, RoomError> {
        self.step(|step, device| room::change(step, device, &ops(), &id(name), change, at(2)))
    }

    fn owed(&mut self) -> Vec<Outgoing> {
        self.step(|step, device| room::owed(step, device, &ops())).unwrap()
    }

    fn apply(&mut self, entry: &Entry) -> Result<Applied, RoomError> {
        self.hear(entry.as_log())
    }

    /// Reads an entry with what the server says about it.
    fn hear(&mut self, entry: LogEntry<'_>) -> Result<Applied, RoomError> {
        self.step(|step, device| apply(step, device, &ops(), entry))
    }

    /// Reads the log to its end.
    fn read(&mut self, log: &Log) -> Vec<Applied> {
        let applied = self.room().applied;
        log.entries
            .iter()
            .filter(|entry| entry.seq > applied)
            .map(|entry| self.hear(entry.told(log)).unwrap())
            .collect()
    }

    fn texts(&mut self) -> Vec<String> {
        let read = |step: &Step<'_>| Archived::after(step, &ops(), Seq(0), 10_000);
        let archived = self.step(|step, _| Ok(read(step)?)).unwrap();
        archived.into_iter().map(|message| message.text).collect()
    }

    fn authenticator(&mut self) -> Vec<u8> {
        self.step(|step, _| room::epoch_authenticator(step, &ops())).unwrap()
    }

    fn join(&mut self, log: &Log, seq: Seq) -> Result<Roster, RoomError> {
        let made = log.commits[&seq].clone();
        let entry = log.entry(seq).content.clone();
        let welcome = made.welcome.unwrap_or_default();
        self.step(|step, device| {
            room::join(step, device, &ops(), (&welcome, &made.tree), (seq, &entry))
        })
    }

    fn come_in(&mut self, name: &str, log: &Log) -> Result<Outgoing, RoomError> {
        let base = log.base();
        let made = log.commits[&base].clone();
        let place = Position { applied: base, base };
        self.step(|step, device| {
            let files = (&made.info[..], &made.tree[..]);
            let come_in = room::come_in(step, device, &ops(), &id(name), files, place, at(3))?;
            Ok(come_in.0)
        })
    }
}

#[derive(Clone)]
struct Entry {
    seq: Seq,
    id: MessageId,
    author: usize,
    is_commit: bool,
    content: Vec<u8>,
}

impl Entry {
    fn as_log(&self) -> LogEntry<'_> {
        let Entry { seq, id, is_commit, content, .. } = self;
        let body = if *is_commit { Body::Commit(content) } else { Body::Message(content) };
        let at = i64::try_from(seq.0).map(at).ok();
        LogEntry { seq: *seq, id: Some(id), user: None, device: None, at, base: None, body }
    }

    /// The entry with what an honest server says about it.
    fn told(&self, log: &Log) -> LogEntry<'_> {
        let user = log.users.get(self.author).copied();
        let device = log.devices.get(self.author).copied();
        LogEntry { user, device, base: Some(log.base_before(self.seq)), ..self.as_log() }
    }
}

/// A room's log, as the server keeps it.
#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    commits: BTreeMap<Seq, MadeCommit>,
    /// The names of the authors, if the server says them.
    users: Vec<&'static str>,
    /// And their devices.
    devices: Vec<DeviceId>,
    /// The key of each content that was ever handed over.
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    StaleBase,
    IdConflict,
}

impl Log {
    fn base(&self) -> Seq {
        self.base_before(Seq(u64::MAX))
    }

    /// The newest commit before a place.
    fn base_before(&self, seq: Seq) -> Seq {
        let is_before = |entry: &&Entry| entry.is_commit && entry.seq < seq;
        self.entries.iter().rev().find(is_before).map_or(Seq(0), |entry| entry.seq)
    }

    fn entry(&self, seq: Seq) -> &Entry {
        &self.entries[usize::try_from(seq.0).unwrap() - 1]
    }

    /// Notes what was on the wire, even if the server refuses it. Two messages never have one key.
    fn note(&mut self, outgoing: &Outgoing) {
        if outgoing.commit.is_some() {
            return;
        }
        let key = sealed_with::key_of(&outgoing.content).expect("a message is sealed");
        let before = self.keys.insert(key, outgoing.content.clone());
        if let Some(before) = before {
            assert!(before == outgoing.content, "one key for two messages");
        }
    }

    fn append(&mut self, author: usize, outgoing: &Outgoing) -> Result<Seq, Refusal> {
        self.note(outgoing);
        let Outgoing { id, base, content, commit, .. } = outgoing;
        let same = |entry: &&Entry| entry.author == author && entry.id == *id;
        if let Some(entry) = self.entries.iter().find(same) {
            return match entry.content == *content {
                true => Ok(entry.seq),
                false => Err(Refusal::IdConflict),
            };
        }
        if *base != self.base() {
            return Err(Refusal::StaleBase);
        }
        let seq = Seq(self.entries.len() as u64 + 1);
        self.entries.push(Entry {
            seq,
            id: id.clone(),
            author,
            is_commit: commit.is_some(),
            content: content.clone(),
        });
        if let Some(commit) = commit {
            self.commits.insert(seq, commit.clone());
        }
        Ok(seq)
    }
}

fn terms(user: &User) -> RoomTerms {
    RoomTerms {
        room: ops(),
        host: "chat.example".into(),
        generation: 1,
        admins: [user.secret.public()].into(),
        removed: [].into(),
    }
}

/// Ana's room: she has created it, and added the others.
fn room_of(ana: &User, first: &mut Member, others: &mut [&mut Member]) -> Log {
    let mut log = Log::default();
    let start = Position { applied: Seq(0), base: Seq(0) };
    let created = first
        .step(|step, device| room::create(step, device, &terms(ana), &id("create"), start, at(0)));
    log.append(0, &created.unwrap()).unwrap();
    first.read(&log);
    if others.is_empty() {
        return log;
    }
    let adds = others.iter_mut().map(|other| other.newcomer()).collect();
    let added = first.change("add", Change { adds, ..Change::default() }).unwrap();
    let seq = log.append(0, &added).unwrap();
    first.read(&log);
    for other in others {
        other.join(&log, seq).unwrap();
    }
    log
}

/// What a device is told of places without an entry for it.
fn no_entry(first: u64, body: Body<'static>) -> LogEntry<'static> {
    LogEntry { seq: Seq(first), id: None, user: None, device: None, at: None, base: None, body }
}

/// What a commit states.
fn stated() -> Vec<u8> {
    super::facts::encode_stated(at(1))
}
