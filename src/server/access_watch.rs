//! Keeps access up to date while the server runs: rereads the access file when it changes, and ends
//! the sessions whose access was revoked or has expired.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::access_sync::{AccessSync, Isolation};
use super::audit::{self, Operator};
use super::authenticator::Authenticator;
use super::context::Context;
use super::rooms::command::Command;
use crate::config::{Auth, AuthMode};
use crate::policy::bans::Restriction;
use crate::protocol::{RoomName, UserName};
use crate::sys::clock::wall_clock;

/// How often the access file is checked for changes. `chat-server token` also notifies the server.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long the file system may take for the access file.
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the hub may take to end the sessions that lost their access.
const HUB_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The error text for an operator when access was changed but the hub does not answer.
pub const NOT_ENFORCED: &str =
    "sessions that lost their access are still open: the server does not answer; see its log";

/// Rereads the access file and ends the sessions that lost their access. Returns after the last of
/// them was evicted, so none of them receives anything later.
///
/// Gives the number of ended sessions; `None` if the hub does not answer in time. It ends them as
/// soon as it runs again.
/// The server log gets an audit line per access token that is new or gone; `by` caused the change.
pub async fn reread(context: &Context, by: Operator) -> Option<usize> {
    sync(context).await;
    off_event_loop(context, || {
        let active = context.active_config.load_full();
        move |authenticator: &Authenticator| {
            let before = authenticator.read(&active.config.auth);
            audit::log_token_changes(&before, &authenticator.list(), by);
        }
    })
    .await;
    enforce(context).await
}

/// Reads the access file at the start. If the file system does not answer in time, no user can register
/// until it does.
pub async fn read_first(authenticator: &Arc<Authenticator>, auth: &Auth) {
    let reserved = authenticator.reserve().await;
    let (reader, auth) = (authenticator.clone(), auth.clone());
    let read = tokio::task::spawn_blocking(move || {
        reader.read(&auth);
        drop(reserved);
    });
    if tokio::time::timeout(READ_TIMEOUT, read).await.is_err() {
        authenticator.close();
    }
}

/// Runs a file operation on a thread of the blocking pool, one at a time. `prepare` is called when no
/// other one runs. Gives `None`, and lets no user register, if the file system does not answer in
/// time; the operation then ends later.
async fn off_event_loop<T, F>(context: &Context, prepare: impl FnOnce() -> F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce(&Authenticator) -> T + Send + 'static,
{
    let ended = async {
        let reserved = context.authenticator.reserve().await;
        let (operation, authenticator) = (prepare(), context.authenticator.clone());
        let operation = move || {
            let outcome = operation(&authenticator);
            drop(reserved);
            outcome
        };
        tokio::task::spawn_blocking(operation).await.ok()
    };
    let ended = tokio::time::timeout(READ_TIMEOUT, ended).await;
    ended.unwrap_or_else(|_| {
        context.authenticator.close();
        None
    })
}

/// Rereads the access file when it changes and enforces expiry times, until `stop`.
pub async fn watch(context: Arc<Context>, stop: CancellationToken) {
    let both = async { tokio::join!(watch_file(&context), watch_expiry(&context)) };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = both => {}
    }
}

/// From now on the access file follows the access list of the cluster. To be called before any connection is
/// accepted.
pub async fn share(context: &Context, access: Arc<AccessSync>) {
    // It is called once.
    let _ = context.access_sync.set(access);
    reread(context, Operator::AccessFile).await;
}

/// In a cluster, carries changes of the access file over to the list of the cluster, and the other way. Returns
/// whether that is possible again after it was not.
async fn sync(context: &Context) -> bool {
    let Some(sync) = context.access_sync.get() else { return false };
    let (syncing, authenticator) = (sync.clone(), context.authenticator.clone());
    let synced = async {
        // Not while another thread reads or changes the file.
        let reserved = authenticator.reserve().await;
        let syncing = move || {
            syncing.sync();
            drop(reserved);
        };
        tokio::task::spawn_blocking(syncing).await
    };
    if tokio::time::timeout(READ_TIMEOUT, synced).await.is_err() {
        sync.is_late();
    }
    follow_isolation(context, sync)
}

/// Lets nobody in, and later ends all sessions, while the list of the cluster can't be reached in token mode:
/// it may have revoked any access. Returns whether it can be reached again.
fn follow_isolation(context: &Context, sync: &AccessSync) -> bool {
    let Some(isolation) = sync.take_change(Instant::now()) else { return false };
    let is_token_mode = context.active_config.load().config.auth.mode == AuthMode::Token;
    let is_isolated = isolation != Isolation::None && is_token_mode;
    let reason = sync.problem().unwrap_or_default();
    match isolation {
        Isolation::None => {
            tracing::info!(
                event = "access_shared",
                "the access list of the cluster is reached again"
            );
        }
        Isolation::Closed | Isolation::Ended => {
            tracing::error!(
                event = "access_not_shared",
                reason,
                "the access list of the cluster can't be reached; in token mode nobody is let in, and after \
                 30 s the sessions are ended"
            );
        }
    }
    context.authenticator.isolate(is_isolated);
    if is_isolated && isolation == Isolation::Ended {
        // If the hub has ended, the server ends.
        let _ = context.hub.send(Command::EndIsolated);
    }
    isolation == Isolation::None
}

async fn watch_file(context: &Context) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        // The file itself does not show that users may be let in again.
        let is_to_reread = sync(context).await;
        let changed = off_event_loop(context, || Authenticator::file_has_changed).await;
        if (changed == Some(true) || is_to_reread)
            && let Some(ended) = reread(context, Operator::AccessFile).await
        {
            tracing::info!(
                event = "access_reread",
                tokens = context.authenticator.list().len() as u64,
                ended = ended as u64,
                "the access file has changed"
            );
        }
    }
}

async fn watch_expiry(context: &Context) {
    let now = wall_clock;
    let mut last_check = now();
    loop {
        // Expiry is exact; the wall clock may jump, so it is checked at least every POLL_INTERVAL.
        let until_expiry = context
            .authenticator
            .list()
            .next_expiry(now())
            .map_or(POLL_INTERVAL, |expiry| expiry.since(now()));
        tokio::time::sleep(until_expiry.min(POLL_INTERVAL)).await;
        context.refusals.report_left_out();
        if let Some(ended) = context.authenticator.lift_ended_bans() {
            ended.iter().for_each(log_ended);
            enforce(context).await;
        }
        let previous_check = std::mem::replace(&mut last_check, now());
        let next_expiry = context.authenticator.list().next_expiry(previous_check);
        if next_expiry.is_some_and(|expiry| expiry <= last_check) {
            enforce(context).await;
        }
    }
}

fn log_ended(ended: &Restriction) {
    let (kind, target) = (ended.kind(), ended.target());
    let user = ended.user().map(UserName::as_str);
    let address = ended.network().map(|_| ended.target());
    let room = ended.room().map(RoomName::as_str);
    tracing::info!(
        event = "ban_ended",
        kind,
        user,
        address,
        room,
        "the time of this ban or mute is over: {target}"
    );
}

/// Warns when no user can register: token mode without any access token.
pub fn warn_if_nobody_has_access(auth: &Auth, tokens: usize) {
    if auth.mode == AuthMode::Token && tokens == 0 {
        let file = auth.access_file.display();
        tracing::warn!(event = "nobody_has_access", file = %file,
            "{file} contains no access token; make one with: chat-server token add --user NAME");
    }
}

/// Has the hub end every session that the access list in force does not allow. Gives what
/// [`reread`] gives.
async fn enforce(context: &Context) -> Option<usize> {
    let (answer, answered) = oneshot::channel();
    // If the hub has ended, the wait below ends at once.
    let _ = context.hub.send(Command::Access(context.authenticator.list(), answer));
    let ended = tokio::time::timeout(HUB_ANSWER_TIMEOUT, answered).await.ok().and_then(Result::ok);
    if ended.is_none() {
        tracing::error!(
            event = "access_not_upheld",
            "the hub does not answer; sessions that lost their access stay open until it does"
        );
    }
    ended
}
