//! The commands that sessions and operators send to the hub, and the hub's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::config::HubConfig;
use super::elsewhere::ElsewhereChange;
use super::opening::RoomOpening;
use super::peer::Peer;
use super::question::Question;
use super::room::SharedKeyRing;
use super::status::{HubStatus, RoomStatus, SendQueuesStatus, SessionStatus};
use crate::crypto::key_ring::LastKey;
use crate::policy::access::AccessList;
use crate::policy::ip_network::IpNetwork;
use crate::protocol::frame::{ErrorFrame, Position};
use crate::protocol::{CloseCode, ErrorCode, RoomName, Seq, SessionId, UserName};

/// [`Command::Leave`] and [`Command::Who`] that may wait for the hub, from all sessions together.
/// Each takes less than 512 bytes.
const MAX_WAITING_REQUESTS: usize = 4096;

/// The sending end of the hub's command queue. The queue is bounded by its senders: a session waits
/// for the answer to [`Command::Enter`], [`Command::Join`] and [`Command::GoLive`], and for a permit
/// before it sends [`Command::Leave`] or [`Command::Who`], which have no answer.
pub struct CommandSender {
    queue: mpsc::UnboundedSender<Command>,
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicU64>,
}

/// The receiving end, which belongs to the hub.
pub struct Commands {
    queue: mpsc::UnboundedReceiver<Command>,
    waiting: Arc<AtomicU64>,
}

/// The hub's command queue.
pub fn queue() -> (CommandSender, Commands) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(MAX_WAITING_REQUESTS));
    let waiting = Arc::<AtomicU64>::default();
    let commands = Commands { queue: receiver, waiting: waiting.clone() };
    (CommandSender { queue: sender, permits, waiting }, commands)
}

impl Commands {
    /// Waits for the next command; `None` after the last sender is gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Command> {
        let command = self.queue.recv().await;
        self.count(command)
    }

    /// The next command, if one waits.
    pub fn try_recv(&mut self) -> Option<Command> {
        let command = self.queue.try_recv().ok();
        self.count(command)
    }

    fn count(&self, command: Option<Command>) -> Option<Command> {
        self.waiting.fetch_sub(u64::from(command.is_some()), Ordering::Relaxed);
        command
    }
}

impl CommandSender {
    /// Queues a command; fails if the hub has ended.
    pub fn send(&self, command: Command) -> Result<(), HubEnded> {
        // Counted first, so that the count never falls below zero.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.queue.send(command).map_err(|_| HubEnded)
    }

    /// Commands that wait for the hub.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Queues the command that is made with a permit; waits while there is none.
    pub async fn send_with_permit(&self, command: impl FnOnce(OwnedSemaphorePermit) -> Command) {
        if let Ok(permit) = self.permits.clone().acquire_owned().await {
            // If the hub has ended, the session ends too.
            let _ = self.send(command(permit));
        }
    }
}

/// The hub has ended, so it carries out nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubEnded;

/// `retry_after_ms` for a room that may not be created.
const ROOMS_FULL_RETRY_AFTER_MS: u64 = 60_000;

/// A command for the hub.
pub enum Command {
    /// A session has registered and enters its first rooms.
    Enter(Arc<Peer>, Vec<RoomEntry>, oneshot::Sender<EnterAnswer<Vec<Membership>>>),
    /// A session joins one more room.
    Join(Arc<Peer>, RoomEntry, oneshot::Sender<EnterAnswer<Membership>>),
    /// A message is to be sent to a room that has none yet: may the room be created?
    AdmitRoom(RoomName, oneshot::Sender<Result<(), EnterError>>),
    /// A session that resumes has replayed every message up to this seq and asks to go live.
    GoLive(Arc<Peer>, RoomName, Seq, oneshot::Sender<GoLiveOutcome>),
    /// A session leaves a room.
    Leave(Arc<Peer>, RoomName, OwnedSemaphorePermit),
    /// A session has ended.
    Quit(Arc<Peer>),
    /// Send the session the list of a room's users.
    Who(Arc<Peer>, RoomName, OwnedSemaphorePermit),
    /// Rotate the keys of all rooms now; the text is the cause for the server log. The answer comes
    /// when they are rotated.
    Rotate(&'static str, oneshot::Sender<()>),
    /// Use this configuration from now on.
    Reconfigure(HubConfig),
    /// Answer the question whether the hub makes progress.
    Ping(Arc<Question>),
    /// Report counters and sizes.
    Status(oneshot::Sender<HubStatus>),
    /// Report what waits in the send queues.
    SendQueues(oneshot::Sender<SendQueuesStatus>),
    /// Evict every session that this access list no longer allows. The answer is their number.
    Access(Arc<AccessList>, oneshot::Sender<usize>),
    /// Evict every session, because this node does not know any more whose access was revoked.
    EndIsolated,
    /// Evict the selected sessions. The answer is their number.
    Kick(SessionSelector, oneshot::Sender<usize>),
    /// The members of rooms on other nodes have changed. The permit bounds how many of these wait.
    Elsewhere(Vec<ElsewhereChange>, OwnedSemaphorePermit),
    /// List the rooms.
    Rooms(oneshot::Sender<Vec<RoomStatus>>),
    /// List the sessions.
    Sessions(oneshot::Sender<Vec<SessionStatus>>),
    /// Close every session with this code, each as soon as its last messages are answered, and all of them
    /// well before this moment.
    Drain(CloseCode, Instant),
}

/// The sessions that an operator means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionSelector {
    /// Those of this user, or of a confusable name.
    User(UserName),
    /// The one with this id.
    Session(SessionId),
    /// Those whose client has an address in this network.
    Network(IpNetwork),
}

/// A room that a session enters.
#[derive(Clone)]
pub struct RoomEntry {
    /// The room.
    pub room: RoomName,
    /// Whether the session resumes: it first replays the messages it missed, and receives no live
    /// message before [`Command::GoLive`].
    pub resuming: bool,
    /// Where its log ends. Only for a room without members, so the hub asks for it.
    pub opening: Option<Arc<RoomOpening>>,
}

/// The answer to [`Command::Enter`] and [`Command::Join`].
pub type EnterAnswer<T> = Result<T, NotEntered>;

/// Why a session has not entered.
pub enum NotEntered {
    /// The hub does not know where the logs of these rooms end. The session reads that, and enters again with
    /// the openings.
    Unread(Vec<(RoomName, Arc<RoomOpening>)>),
    /// It may not enter.
    Refused(EnterError),
}

impl From<EnterError> for NotEntered {
    fn from(error: EnterError) -> Self {
        NotEntered::Refused(error)
    }
}

/// Why a session can't enter a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnterError {
    /// The room log can't be read.
    Unreadable,
    /// The room does not exist, and as many exist as `limits.rooms` allows.
    RoomsFull(RoomName),
    /// The room is end-to-end encrypted, and the client has not said that it can do that.
    E2eOnly(RoomName),
}

impl EnterError {
    /// The error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            EnterError::Unreadable => ErrorCode::StorageFailed,
            EnterError::RoomsFull(_) => ErrorCode::RoomsFull,
            EnterError::E2eOnly(_) => ErrorCode::E2eOnly,
        }
    }

    /// The `error` frame for the client.
    pub fn frame(&self) -> ErrorFrame {
        match self {
            EnterError::Unreadable => ErrorFrame::new(
                self.code(),
                "the server can't read the room log at the moment; try again later",
            ),
            EnterError::RoomsFull(room) => ErrorFrame {
                room: Some(room.to_string()),
                retry_after_ms: Some(ROOMS_FULL_RETRY_AFTER_MS),
                ..ErrorFrame::new(
                    self.code(),
                    "this room does not exist, and the server has as many rooms as limits.rooms \
                     allows; use an existing room, or try again later",
                )
            },
            EnterError::E2eOnly(room) => ErrorFrame {
                room: Some(room.to_string()),
                ..ErrorFrame::new(
                    self.code(),
                    "this room is end-to-end encrypted; a version of chat-client that supports this can enter it",
                )
            },
        }
    }

    /// The close code of a session that can't enter its first rooms, and the cause in the server log.
    pub fn close(&self) -> (CloseCode, &'static str) {
        match self {
            EnterError::Unreadable => (CloseCode::TryLater, "history_failed"),
            EnterError::RoomsFull(_) => (CloseCode::TryLater, "rooms_full"),
            EnterError::E2eOnly(_) => (CloseCode::Policy, "refused"),
        }
    }
}

/// A room that a session is in.
pub struct Membership {
    /// The room.
    pub room: RoomName,
    /// The room's key ring.
    pub ring: SharedKeyRing,
    /// The key that opened the session's last message in the room.
    pub last_key: LastKey,
    /// The room's position when the session entered.
    pub at: Position,
}

/// The answer to [`Command::GoLive`].
#[derive(Debug, PartialEq, Eq)]
pub enum GoLiveOutcome {
    /// The session gets every further message live.
    Live,
    /// The session must first replay more from the room log.
    Behind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_without_an_answer_wait_while_many_are_queued() {
        let (sender, mut commands) = queue();
        let mut permits = Vec::new();
        for _ in 0..MAX_WAITING_REQUESTS {
            let question = Arc::<Question>::default();
            let command = |permit| {
                permits.push(permit);
                Command::Ping(question)
            };
            sender.send_with_permit(command).await;
        }
        let mut last = None;
        let mut waiting = std::pin::pin!(sender.send_with_permit(|permit| {
            last = Some(permit);
            Command::Ping(Arc::default())
        }));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        // Other commands are not delayed, and a command that was carried out makes room.
        assert!(sender.send(Command::Ping(Arc::default())).is_ok());
        permits.pop();
        waiting.await;
        assert_eq!(sender.waiting(), MAX_WAITING_REQUESTS as u64 + 2);
        let queued = std::iter::from_fn(|| commands.try_recv()).count();
        assert_eq!((queued, sender.waiting()), (MAX_WAITING_REQUESTS + 2, 0));
        drop(commands);
        assert_eq!(sender.send(Command::Ping(Arc::default())), Err(HubEnded));
    }
}
