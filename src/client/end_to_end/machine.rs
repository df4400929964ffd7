//! The state of end-to-end rooms on a connection, and the effect of each frame on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::frames;
use super::home::EndToEndOptions;
use super::identity::{Identity, packages};
use super::invitation::Invitation;
use super::problem::{Kind, Problem};
use super::session::{Session, Start, reads};
use super::trust::StepError;
use super::wish::{Action, Stage, Wish};
use crate::conversation::client::backfill::BackfillStart;
use crate::conversation::client::conversation::Conversation;
use crate::conversation::client::sealed_frame::{EndToEndFrame, Entry};
use crate::mls::device::{Device, put_seen_key};
use crate::mls::rows::{Room, Status};
use crate::mls::{State, StateError, Step};
use crate::protocol::device::{DeviceId, UserKey};
use crate::protocol::frame::{Joined, Position, Welcome};
use crate::protocol::{Epoch, MessageId, RoomName, Seq};
use crate::sys::clock::wall_clock;

/// The device of this client, and the end-to-end rooms that it is in.
pub struct EndToEnd {
    pub(super) state: State,
    pub(super) options: EndToEndOptions,
    pub(super) identity: Identity,
    pub(super) sessions: BTreeMap<RoomName, Session>,
    pub(super) invitations: BTreeMap<RoomName, Invitation>,
    pub(super) wish: Option<Wish>,
    /// Lines for standard error.
    pub(super) notes: VecDeque<String>,
    /// Other lines to be shown.
    pub(super) lines: VecDeque<String>,
    /// Why the run can't go on, once everything before it was shown.
    pub(super) problem: Option<Problem>,
    /// When to look again, if a pause is all that holds something back.
    pub(super) wake_at: Option<Instant>,
    since: Option<BackfillStart>,
    /// What was said last about somebody who has no keys.
    pub(super) told: Option<String>,
    has_work: bool,
    /// Whether the server leaves out numbers in the logs of rooms.
    is_sparse: bool,
    /// The rooms from which this device was removed in this run, until it is known that nobody has added it again.
    pub(super) just_removed: BTreeSet<RoomName>,
    /// The messages of earlier runs that were sent again on this connection.
    pub(super) resent: BTreeSet<(RoomName, MessageId)>,
    /// The rooms whose logs the server was asked to go on with, and the last entry that was read in each.
    resumed: BTreeMap<RoomName, Seq>,
}

impl EndToEnd {
    /// Opens the device's state, or makes a new one. `since` is where rooms without a read position are shown from.
    pub fn open(options: EndToEndOptions, since: Option<BackfillStart>) -> Result<Self, Problem> {
        let mut state = State::open(&options.folder, options.key.as_deref())?;
        let identity = Identity::load(&mut state)?;
        Ok(EndToEnd {
            state,
            options,
            identity,
            sessions: BTreeMap::new(),
            invitations: BTreeMap::new(),
            wish: None,
            notes: VecDeque::new(),
            lines: VecDeque::new(),
            problem: None,
            wake_at: None,
            since,
            told: None,
            is_sparse: false,
            has_work: false,
            just_removed: BTreeSet::new(),
            resent: BTreeSet::new(),
            resumed: BTreeMap::new(),
        })
    }

    /// The device's id, for `register`.
    pub fn device_id(&self) -> DeviceId {
        self.identity.id()
    }

    /// The other users of the rooms for direct messages.
    pub fn direct_users(&self) -> Vec<String> {
        self.options.direct.values().cloned().collect()
    }

    /// Asks for a change of a room.
    pub fn wish(&mut self, room: RoomName, action: Action) {
        self.wish = Some(Wish::new(room, action, true));
        self.has_work = true;
    }

    /// What is to be said about the change that was asked for, once it is done.
    pub fn outcome(&self) -> Option<&str> {
        match &self.wish.as_ref().filter(|wish| wish.is_asked)?.stage {
            Stage::Done(text) => Some(text),
            _ => None,
        }
    }

    /// When to call [`Self::settle`] again, if nothing else happens.
    pub fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Whether [`Self::settle`] may have something to do.
    pub(super) fn take_work(&mut self) -> bool {
        let is_due = self.wake_at.is_some_and(|at| at <= Instant::now());
        if is_due {
            self.wake_at = None;
        }
        std::mem::take(&mut self.has_work) || is_due
    }

    /// A room in which this device never was.
    pub fn room_without_archive(&self) -> Option<&RoomName> {
        let is_new = |session: &&Session| session.status.is_none();
        self.sessions.values().find(is_new).map(|session| &session.room)
    }

    /// A room in which this device is not a member yet.
    pub fn room_outside(&self) -> Option<&RoomName> {
        let is_outside = |session: &&Session| session.status != Some(Status::Member);
        self.sessions.values().find(is_outside).map(|session| &session.room)
    }

    pub(super) fn fail(&mut self, problem: Problem) {
        if let Some((user, key)) = &problem.seen
            && let Err(error) = self.state.step(|step| put_seen_key(step, user, key))
        {
            self.notes.push_back(error.to_string());
        }
        self.problem.get_or_insert(problem);
    }

    /// Runs a step with the device.
    pub(super) fn step<T>(
        &mut self,
        work: impl FnOnce(&Step<'_>, &Device) -> Result<T, StepError>,
    ) -> Result<T, Problem> {
        let device = self.identity.device()?;
        Ok(self.state.step(|step| work(step, device))?)
    }

    /// A connection begins: the server is asked to go on with the logs where the groups are.
    pub fn connecting(&mut self, conversation: &mut Conversation) {
        let read = self.state.step(|step| {
            let mut read = Vec::new();
            for name in Room::names(step)? {
                read.extend(Room::load(step, &name)?);
            }
            Ok::<_, StateError>(read)
        });
        let rooms = match read {
            Ok(rooms) => rooms,
            Err(error) => return self.fail(error.into()),
        };
        let mut positions = BTreeMap::new();
        self.resumed.clear();
        self.resent.clear();
        // The server sends Welcomes again.
        self.invitations.clear();
        for room in rooms {
            let epoch = room.log_epoch.as_deref().and_then(Epoch::parse);
            if let (true, Some(epoch)) = (reads(room.status), epoch) {
                let position = Position { epoch, seq: room.applied };
                positions.insert(room.name.to_string(), position);
                self.resumed.insert(room.name, room.applied);
            }
        }
        conversation.set_log_positions(positions);
    }

    /// The server registered the client.
    pub fn registered(&mut self, welcome: Option<&Welcome>, conversation: &mut Conversation) {
        if let Err(problem) = self.begin(welcome, conversation) {
            self.fail(problem);
        }
        self.has_work = true;
    }

    fn begin(
        &mut self,
        welcome: Option<&Welcome>,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let known = welcome.and_then(|welcome| Some((welcome, welcome.e2e.as_ref()?)));
        let Some((welcome, e2e)) = known else {
            return Err(Problem::new(
                Kind::NotSupported,
                "this server does not know end-to-end rooms; they need chat-server 0.2 or later",
            ));
        };
        let now = wall_clock();
        let is_new = self.identity.name(&mut self.state, &self.options, &welcome.username, now)?;
        if is_new {
            let key = self.own()?.1;
            self.notes.push_back(format!(
                "made the keys of {} in {}; {0}'s key is {key}",
                welcome.username,
                self.options.folder.display()
            ));
        }
        self.is_sparse = e2e.sparse;
        let left = e2e.key_packages;
        let (made, certificate) = self.step(|step, device| {
            Ok((packages(step, device, left, now)?, device.certificate_bytes().to_vec()))
        })?;
        if !made.is_empty() {
            let device = self.identity.id().to_string();
            conversation.push_frame(frames::put_keys(&device, &certificate, &made));
        }
        for (name, head) in &welcome.rooms {
            if name.is_end_to_end() {
                self.enter(name, head, e2e.write_only.contains(name), conversation)?;
            }
        }
        Ok(())
    }

    /// The session is in a room whose log has this end.
    fn enter(
        &mut self,
        name: &RoomName,
        head: &Position,
        is_write_only: bool,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let is_sparse = self.is_sparse;
        let (stored, is_as_before) = self.step(|step, _| {
            let mut stored = Room::load(step, name)?;
            let is_as_before = match &mut stored {
                Some(room) => room.note_sparse(step, is_sparse)?,
                None => true,
            };
            Ok((stored, is_as_before))
        })?;
        if !is_as_before {
            return Err(Problem::evidence(format!(
                "the server numbers the entries of {name} in another way than before: it lost or restored the record, \
                 or shows another one"
            )));
        }
        let resumed = self.resumed.get(name).copied();
        if let Some(read) = resumed.filter(|read| head.seq < *read) {
            return Err(shorter(name, head.seq, read));
        }
        let session = self.sessions.entry(name.clone()).or_insert_with(|| {
            let known = conversation.read_positions().position(name.as_str());
            let start = match (known, self.since) {
                (Some(position), _) => Start::After(position.seq),
                (None, Some(since)) => Start::Sought(since),
                (None, None) => Start::After(head.seq),
            };
            Session::new(name.clone(), head.epoch.clone(), head.seq, start)
        });
        let is_first = session.status.is_none();
        session.connected(head, resumed.is_some(), is_write_only);
        session.is_sparse = is_sparse;
        session.take(stored.as_ref());
        if self.just_removed.contains(name) {
            conversation.push_frame(frames::get_info(name));
        }
        let is_asked = self.wish.as_ref().is_some_and(|wish| wish.room == *name);
        if is_first && session.status != Some(Status::Member) && !is_asked {
            self.notes.push_back(match session.status {
                Some(Status::Outdated) => outdated(name),
                Some(Status::Removed) => {
                    conversation.push_frame(frames::get_info(name));
                    format!("this device was removed from {name}; an admin can add it again")
                }
                Some(Status::Creating | Status::Joining) => format!("coming into {name} …"),
                _ => {
                    // Perhaps another device of this user is in the room, or a Welcome is on its way.
                    conversation.push_frame(frames::get_info(name));
                    return Ok(());
                }
            });
        }
        Ok(())
    }

    /// A frame about an end-to-end room.
    pub fn receive(&mut self, frame: EndToEndFrame<'_>, conversation: &mut Conversation) {
        self.has_work = true;
        if let Err(problem) = self.take_frame(frame, conversation) {
            self.fail(problem);
        }
    }

    fn take_frame(
        &mut self,
        frame: EndToEndFrame<'_>,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        match frame {
            EndToEndFrame::Entry(entry) => {
                if let Some(session) = self.session(&entry.room) {
                    session.live(&entry)?;
                    if session.is_full() {
                        self.settle(conversation);
                    }
                }
            }
            EndToEndFrame::Page { room, entries, more, reached } => {
                self.page(&room, &entries, (more, reached), conversation)?;
            }
            EndToEndFrame::Gap(gap) => {
                if let Some(session) = self.session(&gap.room) {
                    session.gap(&gap)?;
                }
            }
            EndToEndFrame::Redacted(text, redacted) => {
                if let Some(session) = self.session(&redacted.room)
                    && session.redacted(redacted.seq)?
                {
                    self.lines.push_back(text.to_owned());
                }
            }
            EndToEndFrame::Joined(joined) => self.joined(&joined, conversation)?,
            EndToEndFrame::Welcome(welcome) => self.invited(&welcome, conversation),
            EndToEndFrame::Blob(blob) => self.blob(&blob, conversation)?,
            EndToEndFrame::Keys(keys) => self.keys(&keys, conversation)?,
            EndToEndFrame::Error(error) => self.error(&error)?,
            EndToEndFrame::RoomKey(room) => {
                return Err(Problem::evidence(format!(
                    "the server sent a key for {room}, whose messages it must not be able to read; nothing is \
                     encrypted with it"
                )));
            }
            EndToEndFrame::Info(info) => self.described(&info, conversation)?,
            EndToEndFrame::Ack(ack) => self.acked(&ack)?,
        }
        Ok(())
    }

    fn session(&mut self, room: &str) -> Option<&mut Session> {
        self.sessions.get_mut(&RoomName::parse(room)?)
    }

    fn joined(
        &mut self,
        joined: &Joined<'_>,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let (Some(name), Some(epoch)) = (RoomName::parse(&joined.room), &joined.epoch) else {
            return Ok(());
        };
        let head = Position { epoch: epoch.clone(), seq: joined.seq };
        self.enter(&name, &head, joined.write_only, conversation)
    }

    fn page(
        &mut self,
        room: &str,
        entries: &[Entry<'_>],
        (more, reached): (bool, Option<Seq>),
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(name) = RoomName::parse(room) else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(&name) else { return Ok(()) };
        if session.reads() {
            session.page(entries, more, reached)?;
            if session.is_full() {
                self.settle(conversation);
            }
            return Ok(());
        }
        if let Some(invitation) = self.invitations.get_mut(&name) {
            invitation.page(entries);
        }
        self.come_in(&name, conversation)
    }

    /// The user's name and key.
    pub(super) fn own(&self) -> Result<(String, UserKey), Problem> {
        let certificate = &self.identity.device()?.certificate;
        Ok((certificate.user.clone(), certificate.user_key))
    }
}

/// What is said of a log that ends before what was read of it.
fn shorter(name: &RoomName, head: Seq, read: Seq) -> Problem {
    Problem::evidence(format!(
        "the record of {name} ends at #{head}, and this device has read #{read}"
    ))
}

/// What is said to a device whose state is older than its words.
pub fn outdated(name: &RoomName) -> String {
    format!(
        "this device has said something in {name} that its state does not know: the folder is a copy or was \
         restored from a backup; nothing is encrypted with it any more; to start anew with another key: chat-client device renew"
    )
}
