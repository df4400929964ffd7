//! Who is let in: the access list in force, where it comes from, and what guessing costs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::client_info::ClientInfo;
use super::context::Context;
use super::rooms::hub::Command;
use crate::config::{Auth, AuthMode};
use crate::conversation::server::registration::{Dialect, Registration, Rejection};
use crate::credentials::access_file::{AccessFile, AccessFileError};
use crate::policy::access::{AccessDenied, AccessList, Grant};
use crate::policy::auth_throttle::AuthThrottle;
use crate::policy::client_network::ClientNetwork;
use crate::policy::rights::Action;
use crate::protocol::{CloseCode, ErrorCode, Timestamp, UserName};

/// How often the access file is looked at, beside being told of a change.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the hub may take to end the sessions of those who lost their access.
const HUB_ANSWER: Duration = Duration::from_secs(10);

/// What an operator is told who took access away while the hub does not answer.
pub const NOT_UPHELD: &str =
    "sessions that should end have not yet: the server does not answer; see its log";

/// A file's inode, and when it and what it says were changed; `None` where it is not there.
type Stamp = Option<(u64, u64, SystemTime)>;

/// The gate of the server.
pub struct Authenticator {
    file: PathBuf,
    list: ArcSwap<AccessList>,
    /// What the file looked like when it was last read, to know when to read it again.
    seen: Mutex<Stamp>,
    throttle: Mutex<AuthThrottle>,
    started: Instant,
}

impl Authenticator {
    /// Closed: nobody is on the list yet.
    pub fn new(auth: &Auth) -> Self {
        Authenticator {
            file: auth.access_file.clone(),
            list: ArcSwap::default(),
            seen: Mutex::default(),
            throttle: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// The list in force.
    pub fn list(&self) -> Arc<AccessList> {
        self.list.load_full()
    }

    /// Reads file and declared users. Where the file does not serve, nobody is let in, for it might
    /// ban anybody; the sessions there are stay until it says otherwise.
    pub fn read(&self, auth: &Auth) {
        let stamp = self.stamp();
        let read = AccessFile::read(&self.file).map(Option::unwrap_or_default);
        let list = read.and_then(|file| self.list_of(&file, auth));
        let list = list.unwrap_or_else(|error| {
            tracing::error!(event = "access_unreadable", reason = %error,
                "the access file does not serve; nobody is let in");
            AccessList::clone(&self.list.load()).shut()
        });
        self.list.store(Arc::new(list.strict(auth.mode == AuthMode::Token)));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
    }

    fn list_of(&self, file: &AccessFile, auth: &Auth) -> Result<AccessList, AccessFileError> {
        let malformed = |reason| AccessFileError::Malformed { path: self.file.clone(), reason };
        let mut grants = auth.users.clone();
        for declared in &file.tokens {
            grants.push(declared.grant().map_err(malformed)?);
        }
        let banned: Vec<UserName> = file.banned.iter().map(|name| UserName::clean(name)).collect();
        AccessList::new(grants, &banned).map_err(|error| malformed(error.to_string()))
    }

    fn stamp(&self) -> Stamp {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(&self.file).ok()?;
        // Mode and owner change ctime, content changes mtime, and a new file has another inode.
        let changed = found.ctime_nsec() as u64 ^ (found.ctime() as u64).rotate_left(32);
        Some((found.ino(), changed, found.modified().ok()?))
    }

    /// Whether the file is another than what was read last.
    fn has_changed(&self) -> bool {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) != self.stamp()
    }

    /// Decides about a `register`; says whom it is, and fits the wish to what the grant allows.
    pub fn admit(
        &self,
        mode: AuthMode,
        client_info: ClientInfo,
        opening: &mut Registration,
    ) -> Result<Option<Arc<Grant>>, Rejection> {
        let list = self.list.load();
        if mode == AuthMode::Open {
            return match list.is_banned(&opening.user) {
                true => Err(banned()),
                false => Ok(None),
            };
        }
        let from = ClientNetwork::of(client_info.address);
        // What came through a proxy that does not say for whom must not shut out everybody.
        let guarded = !client_info.is_proxy;
        let now = self.started.elapsed();
        let throttle = || self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = throttle().wait(from, now).filter(|_| guarded) {
            let seconds = wait.as_secs() + 1;
            return Err(Rejection {
                code: ErrorCode::RateLimited,
                close: CloseCode::TryLater,
                message: format!("too many wrong access tokens; try again in {seconds} s"),
            });
        }
        let Some(token) = &opening.access_token else {
            return Err(Rejection {
                code: ErrorCode::Unauthorized,
                close: CloseCode::Unauthorized,
                message: "this server wants an access token; its operator makes one with \
                    chat-server token add"
                    .into(),
            });
        };
        let grant = match list.find(token, Timestamp::from_system(SystemTime::now())) {
            Ok(grant) => grant,
            Err(AccessDenied::Banned) => return Err(banned()),
            // The same words for both: a stranger learns nothing about what exists.
            Err(AccessDenied::Unknown | AccessDenied::Expired) => {
                if guarded {
                    throttle().wrong(from, now);
                }
                return Err(Rejection {
                    code: ErrorCode::Unauthorized,
                    close: CloseCode::Unauthorized,
                    message: "this access token is not valid, or no longer".into(),
                });
            }
        };
        opening.user = grant.user.clone();
        if opening.dialect == Dialect::Basic
            && let Some(room) = grant.default_room()
        {
            opening.rooms[0].room = room;
        }
        for wish in &mut opening.rooms {
            if !grant.allows(Action::Join, &wish.room) {
                return Err(Rejection {
                    code: ErrorCode::Forbidden,
                    close: CloseCode::Forbidden,
                    message: format!("your access token is not for the room {}", wish.room),
                });
            }
            if !grant.allows(Action::ReadHistory, &wish.room) {
                wish.resume = None;
            }
        }
        Ok(Some(grant))
    }
}

fn banned() -> Rejection {
    Rejection {
        code: ErrorCode::Forbidden,
        close: CloseCode::Forbidden,
        message: "that name is shut out here".into(),
    }
}

/// Reads the list again and ends the sessions of those it no longer stands for. Answers when the
/// last of them is out: nothing more reaches them. How many that were; `None` where the hub does not
/// answer, and they go on until it does.
pub async fn renew(context: &Context) -> Option<usize> {
    let live = context.live.load_full();
    context.authenticator.read(&live.config.auth);
    enforce(context).await
}

/// Holds the list in force against every session; what it gives is what [`renew`] gives.
async fn enforce(context: &Context) -> Option<usize> {
    let (answer, answered) = oneshot::channel();
    // Where nobody takes it, there is nobody left who could answer.
    let _ = context.hub.send(Command::Access(context.authenticator.list(), answer));
    let ended = tokio::time::timeout(HUB_ANSWER, answered).await.ok().and_then(Result::ok);
    if ended.is_none() {
        tracing::error!(
            event = "access_not_upheld",
            "the hub does not answer; sessions whose access has ended go on until it does"
        );
    }
    ended
}

/// Looks after the access file and the ends of grants until the server stops.
pub async fn watch(context: Arc<Context>, stop: tokio_util::sync::CancellationToken) {
    let now = || Timestamp::from_system(SystemTime::now());
    let mut looked = now();
    loop {
        // An end is kept to the moment; the wall clock may jump, so it is looked at often.
        let end = context
            .authenticator
            .list()
            .next_expiry(now())
            .map_or(LOOK_EVERY, |end| end.since(now()));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(end.min(LOOK_EVERY)) => {}
        }
        if context.authenticator.has_changed()
            && let Some(ended) = renew(&context).await
        {
            tracing::info!(
                event = "access_reread",
                tokens = context.authenticator.list().len() as u64,
                ended = ended as u64,
                "the access file has changed"
            );
        }
        let before = std::mem::replace(&mut looked, now());
        if context.authenticator.list().next_expiry(before).is_some_and(|end| end <= looked) {
            enforce(&context).await;
        }
    }
}
