//! The hub: the one thread that owns all rooms and delivers every message.
//!
//! The hub handles [`Command`]s from sessions and operators, and from the log writer batches of
//! [`Committed`] messages and deletions, one after the other. So a key rotation, a join or a leave always falls between
//! two messages, and rooms need no locks.
//!
//! Each turn of [`Hub::run`] does the first of these that is due: rotate keys; flush presence
//! frames; close sessions of a server that stops; deliver a committed batch, and then the waiting commands; run the waiting commands.
//! After the commands, the rooms that a member lost access to get new keys. A room that a member left
//! gets a new key before its next message.
//!
//! This file holds the state, the loop and the dispatch of commands. The work is done in siblings:
//! `membership` (enter, join, resume, leave, quit), `presence` (joins and leaves, user lists),
//! `delivery` (encode once, fan out), `rotation` (keys), `access` (revocation, bans, kicks), `redaction`
//! (deleted messages), `drain` (the end of all sessions) and `status_queries` (the questions of operators).
//!
//! Deliberately absent: waiting for a reader (what its socket does not take stays in the bounded send
//! queue of its session), waiting for the store (sessions read the room log on blocking threads), and
//! checks of rights for single frames (sessions do them before they send a command). The hub is a
//! thread and not a task because the fan-out to a large room would block a runtime worker for too long.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::command::{Command, Commands};
use super::committed::Committed;
use super::config::HubConfig;
use super::deletion::DeletionCount;
use super::drain_schedule::DrainSchedule;
use super::elsewhere::Elsewhere;
use super::log_event::LogEvent;
use super::log_writer_stats::LogWriterStats;
use super::opening::RoomOpenings;
use super::peer::Peer;
use super::presence_changes::PresenceChanges;
use super::room::Room;
use super::rooms_full_log::RoomsFullLog;
use crate::net::uring::UringSender;
use crate::policy::access::AccessList;
use crate::protocol::{RoomName, SessionId, Timestamp};
use crate::server::counters::Counters;
use crate::store::RoomCount;
use crate::sys::clock::wall_clock;
use crate::sys::fault_points;

/// The number of messages from which on no further batch is added to a delivery.
const MAX_DELIVERY_MESSAGES: usize = 1024;

/// Commands that run in one turn; then batches are served again.
const MAX_COMMANDS_PER_TURN: usize = 64;

/// From this many members on, the hub waits for batches that are about to arrive and delivers them
/// together, because a write to every member costs more than a commit.
const LARGE_ROOM_MEMBERS: usize = 64;
/// The longest such wait.
const MAX_BATCH_WAIT: Duration = Duration::from_millis(2);

/// The state of the hub.
pub struct Hub {
    pub(super) rooms: HashMap<RoomName, Room>,
    pub(super) sessions: HashMap<SessionId, SessionRooms>,
    /// Rooms in `rooms` that have no message yet, so that the store does not have them.
    pub(super) rooms_without_messages: usize,
    pub(super) rooms_full: RoomsFullLog,
    /// Sessions that have ended and still have messages in flight to the room log.
    pub(super) departing: Vec<Arc<Peer>>,
    /// The rooms that the store has, as a number. The hub reads nothing else of it.
    pub(super) stored_rooms: Arc<dyn RoomCount>,
    /// Rooms that are about to get their first member.
    pub(super) openings: RoomOpenings,
    pub(super) config: HubConfig,
    pub(super) counters: Arc<Counters>,
    pub(super) next_rotation: Option<Instant>,
    pub(super) oldest_key_noted_at: Instant,
    /// Rooms that a member lost access to; their keys are rotated after the current commands.
    pub(super) rotation_pending: BTreeSet<RoomName>,
    pub(super) deletions: Arc<DeletionCount>,
    /// The access list that was last enforced, and when.
    pub(super) access: Arc<AccessList>,
    pub(super) access_enforced_at: Timestamp,
    /// Rooms with presence frames in send queues that are not flushed yet, and when to flush them.
    pub(super) pending_presence: BTreeSet<RoomName>,
    pub(super) presence_flush_at: Option<Instant>,
    /// The sessions that are to be closed, once the server drains, and when the next of them are.
    pub(super) draining: Option<DrainSchedule>,
    pub(super) drain_step_at: Option<Instant>,
    /// Who is on the other nodes, and what they are told; `None` without a cluster.
    pub(super) cluster: Option<(Elsewhere, PresenceChanges)>,
    /// Sends to many sockets with one system call, if the kernel allows io_uring.
    pub(super) uring: Option<UringSender>,
}

/// A session and the rooms it is in.
pub(super) struct SessionRooms {
    pub(super) peer: Arc<Peer>,
    pub(super) rooms: Vec<RoomName>,
}

impl Hub {
    /// A hub without rooms.
    pub fn new(
        config: HubConfig,
        stored_rooms: Arc<dyn RoomCount>,
        deletions: Arc<DeletionCount>,
        access: Arc<AccessList>,
        counters: Arc<Counters>,
    ) -> Self {
        Hub {
            rooms: HashMap::new(),
            sessions: HashMap::new(),
            rooms_without_messages: 0,
            rooms_full: RoomsFullLog::default(),
            departing: Vec::new(),
            stored_rooms,
            openings: RoomOpenings::default(),
            config,
            counters,
            next_rotation: None,
            oldest_key_noted_at: Instant::now(),
            rotation_pending: BTreeSet::new(),
            deletions,
            access,
            access_enforced_at: wall_clock(),
            pending_presence: BTreeSet::new(),
            presence_flush_at: None,
            draining: None,
            drain_step_at: None,
            cluster: None,
            uring: UringSender::new(),
        }
    }

    /// Makes it the hub of a node in a cluster, which notes joins and leaves in `changes`.
    pub fn in_cluster(mut self, changes: PresenceChanges) -> Self {
        self.cluster = Some((Elsewhere::default(), changes));
        self
    }

    /// Runs until the log writer has ended.
    pub async fn run(
        mut self,
        mut commands: Commands,
        mut events: mpsc::Receiver<LogEvent>,
        log_writer: Arc<LogWriterStats>,
    ) {
        loop {
            let rotation = sleep_until(self.next_rotation);
            let presence = sleep_until(self.presence_flush_at);
            let drain_step = sleep_until(self.drain_step_at);
            tokio::select! {
                biased;
                () = rotation => {
                    self.catch_panic(Hub::rotate_expired_keys);
                }
                () = presence => {
                    self.catch_panic(Hub::flush_pending_presence);
                }
                () = drain_step => {
                    self.catch_panic(Hub::close_due_sessions);
                }
                // The log writer ends last, after it has committed every draft.
                event = events.recv() => match event {
                    Some(event) => {
                        self.receive_event(event, &mut events, &log_writer).await;
                        // Under load there is always a next batch; commands must not starve.
                        self.run_commands(None, &mut commands);
                    }
                    None => return,
                },
                Some(command) = commands.recv() => self.run_commands(Some(command), &mut commands),
            }
        }
    }

    /// Delivers a batch, with those that follow it. Another event ends the batch and comes after it.
    async fn receive_event(
        &mut self,
        event: LogEvent,
        events: &mut mpsc::Receiver<LogEvent>,
        log_writer: &LogWriterStats,
    ) {
        let next = match event {
            LogEvent::Committed(mut batch) => {
                let next = self.extend_batch(&mut batch, events, log_writer).await;
                if !self.catch_panic(|hub| hub.deliver(&batch)) {
                    self.catch_panic(|hub| hub.close_undelivered(&batch));
                }
                next
            }
            other => Some(other),
        };
        match next {
            Some(LogEvent::Deleted(deletion)) => {
                self.catch_panic(|hub| hub.tell_deletion(deletion));
            }
            Some(LogEvent::Noted(deletion, ended)) => {
                self.catch_panic(|hub| hub.tell_noted(&deletion, &ended));
            }
            Some(LogEvent::Told(told)) => told.answer(),
            Some(LogEvent::NewEpoch(rooms)) => {
                self.catch_panic(|hub| hub.begin_epoch(&rooms));
            }
            Some(LogEvent::Committed(_)) | None => {}
        }
    }

    /// Adds the batches that wait already, so that one write per socket serves them all. For a large
    /// room it also waits shortly for the drafts that are in flight. Returns the other event that followed.
    async fn extend_batch(
        &self,
        batch: &mut Vec<Committed>,
        events: &mut mpsc::Receiver<LogEvent>,
        log_writer: &LogWriterStats,
    ) -> Option<LogEvent> {
        let deadline = tokio::time::Instant::now() + MAX_BATCH_WAIT;
        loop {
            while batch.len() < MAX_DELIVERY_MESSAGES
                && let Ok(event) = events.try_recv()
            {
                match event {
                    LogEvent::Committed(more) => batch.extend(more),
                    other => return Some(other),
                }
            }
            if !self.is_worth_extending(batch) || !log_writer.has_in_flight() {
                return None;
            }
            match timeout_at(deadline, events.recv()).await {
                Ok(Some(LogEvent::Committed(more))) => batch.extend(more),
                Ok(Some(other)) => return Some(other),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    fn is_worth_extending(&self, batch: &[Committed]) -> bool {
        let room = batch.last().and_then(|newest| self.rooms.get(&newest.room));
        batch.len() < MAX_DELIVERY_MESSAGES
            && room.is_some_and(|room| room.members.len() >= LARGE_ROOM_MEMBERS)
    }

    fn run_commands(&mut self, first: Option<Command>, commands: &mut Commands) {
        let waiting = std::iter::from_fn(|| commands.try_recv());
        for command in first.into_iter().chain(waiting).take(MAX_COMMANDS_PER_TURN) {
            self.catch_panic(|hub| hub.run_command(command));
        }
        self.catch_panic(Hub::rotate_pending_rooms);
    }

    /// Runs one step of work. A panic ends that step only; the hub and its rooms continue. Returns
    /// whether there was none.
    fn catch_panic(&mut self, step: impl FnOnce(&mut Hub)) -> bool {
        catch_unwind(AssertUnwindSafe(|| {
            step(self);
            fault_points::point("hub");
        }))
        .is_ok()
    }

    /// Runs one command. An answer that is no longer waited for is dropped.
    fn run_command(&mut self, command: Command) {
        match command {
            Command::Enter(peer, rooms, answer) => self.enter(&peer, rooms, answer),
            Command::Join(peer, room, answer) => self.join(&peer, room, answer),
            Command::AdmitRoom(room, answer) => drop(answer.send(self.admit_room(&room))),
            Command::GoLive(peer, room, after, answer) => {
                let _ = answer.send(self.go_live(&peer, &room, after));
            }
            Command::Leave(peer, room, _permit) => self.leave(&peer, &room),
            Command::Quit(peer) => self.quit(peer),
            Command::Who(peer, room, _permit) => self.send_user_list(&peer, &room),
            Command::Rotate(cause, answer) => {
                self.rotate_all(cause);
                let _ = answer.send(());
            }
            Command::Reconfigure(config) => self.reconfigure(config),
            Command::Drain(close, deadline) => self.drain(close, deadline),
            Command::Access(list, answer) => {
                let _ = answer.send(self.enforce_access(&list));
            }
            Command::EndIsolated => self.end_isolated(),
            Command::Kick(selected, answer) => {
                let _ = answer.send(self.kick(&selected));
            }
            Command::Elsewhere(changes, _permit) => self.announce_elsewhere(changes),
            Command::Rooms(answer) => {
                let _ = answer.send(self.room_statuses());
            }
            Command::Sessions(answer) => {
                let _ = answer.send(self.session_statuses());
            }
            Command::Ping(question) => {
                question.answer();
                self.note_oldest_key_sometimes();
            }
            Command::Status(answer) => {
                let _ = answer.send(self.hub_status());
            }
            Command::SendQueues(answer) => {
                let _ = answer.send(self.send_queues_status());
            }
        }
    }

    fn reconfigure(&mut self, config: HubConfig) {
        if config.outbound_bytes != self.config.outbound_bytes {
            for SessionRooms { peer, .. } in self.sessions.values() {
                peer.outbound.set_max_bytes(config.outbound_bytes);
            }
        }
        self.config = config;
        self.schedule_rotation();
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
