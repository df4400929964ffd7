//! Decides which users may register: by the access list in force, which is read from the access
//! file and the configuration, and by the auth throttle, which slows down guessing.
//!
//! It decides at registration only. `access_watch` rereads the access file and ends the sessions
//! that lost their access.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OwnedMutexGuard;
use zeroize::Zeroizing;

use super::ban_schedule::{BanSchedule, now};
use super::client_info::ClientInfo;
use crate::config::{Auth, AuthMode};
use crate::conversation::server::registration::{Registration, Rejection};
use crate::credentials::access_file::{AccessFile, AccessFileError};
use crate::policy::access::{self, AccessDenied, AccessList, Grant};
use crate::policy::auth_throttle::AuthThrottle;
use crate::policy::bans::Restriction;
use crate::policy::client_network::ClientNetwork;
use crate::policy::ip_network::IpNetwork;
use crate::policy::rights::{Action, reading};
use crate::protocol::{CloseCode, ErrorCode, UserName};
use crate::sys::clock::wall_clock;
use crate::sys::fault_points;

/// Inode, ctime and mtime of the access file; `None` if there is no file.
type FileVersion = Option<(u64, u64, SystemTime)>;

/// Holds the access list in force and the auth throttle.
pub struct Authenticator {
    access_file: PathBuf,
    list: ArcSwap<AccessList>,
    /// The bans and mutes of the access file that was read last. Locked while `list` gets others.
    bans: Mutex<BanSchedule>,
    /// The version of the access file that was read last.
    last_read: Mutex<FileVersion>,
    throttle: Mutex<AuthThrottle>,
    /// Locked by the only thread that may read the file or look at it, however long that takes.
    reading: Arc<tokio::sync::Mutex<()>>,
    /// Whether a thread took too long, so that the file has to be read again.
    is_late: AtomicBool,
    /// Whether the access list of the cluster can't be reached, so that the file may be out of date.
    is_isolated: AtomicBool,
    started: Instant,
}

impl Authenticator {
    /// With an empty access list, until [`read`](Self::read) is called.
    pub fn new(auth: &Auth) -> Self {
        Authenticator {
            access_file: auth.access_file.clone(),
            list: ArcSwap::default(),
            bans: Mutex::default(),
            last_read: Mutex::default(),
            throttle: Mutex::default(),
            reading: Arc::default(),
            is_late: AtomicBool::new(false),
            is_isolated: AtomicBool::new(false),
            started: Instant::now(),
        }
    }

    /// The access list in force.
    pub fn list(&self) -> Arc<AccessList> {
        self.list.load_full()
    }

    /// Builds the access list from the access file and the users declared in the configuration.
    ///
    /// If the file can't be used, no user can register, because the file might ban any of them: clients
    /// are asked to try again later. Sessions that exist stay until the file can be read again.
    ///
    /// Gives the access list that was in force before.
    pub fn read(&self, auth: &Auth) -> Arc<AccessList> {
        // Held until the end, so that of two simultaneous calls only one sees the change.
        let mut last_read = self.last_read();
        self.is_late.store(false, Ordering::Relaxed);
        fault_points::point("access_read");
        let version = self.file_version();
        let read = AccessFile::read(&self.access_file).map(Option::unwrap_or_default);
        let list = read.and_then(|file| Ok((self.build_list(&file, auth)?, file)));
        let mut bans = self.bans.lock();
        let list = match list {
            Ok((list, file)) => {
                bans.replace(&file, now());
                list
            }
            Err(error) => {
                tracing::error!(event = "access_unreadable", reason = %error,
                    "the access file can't be used; no user can register");
                AccessList::clone(&self.list.load()).closed()
            }
        };
        *last_read = version;
        let list = list.with_bans(Arc::new(bans.in_force()));
        let list = if self.is_isolated.load(Ordering::SeqCst) { list.closed() } else { list };
        let before = self.list.swap(Arc::new(list.strict(auth.mode == AuthMode::Token)));
        // Again after the swap, because a node that is isolated meanwhile may have closed the earlier list.
        if self.is_isolated.load(Ordering::SeqCst) {
            self.list.rcu(|list| AccessList::clone(list).closed());
        }
        before
    }

    /// Lifts the bans and mutes whose time is over. `None` if nothing has changed; otherwise those that
    /// were lifted, and the new access list is in force.
    pub fn lift_ended_bans(&self) -> Option<Vec<Restriction>> {
        let mut bans = self.bans.lock();
        let ended = bans.update(now())?;
        let in_force = Arc::new(bans.in_force());
        self.list.rcu(|list| AccessList::clone(list).with_bans(in_force.clone()));
        Some(ended)
    }

    /// The bans and mutes of the access file, as they were read last.
    pub fn bans(&self) -> MutexGuard<'_, BanSchedule> {
        self.bans.lock()
    }

    /// The banned network of a client; `None` if it is not banned.
    pub fn banned_network(&self, client_info: ClientInfo) -> Option<IpNetwork> {
        client_info.banned_network(self.list.load().bans())
    }

    /// Whether the access file has changed since it was read last.
    pub fn file_has_changed(&self) -> bool {
        self.is_late.load(Ordering::Relaxed) || *self.last_read() != self.file_version()
    }

    /// Waits until no other thread reads the file, and keeps others from it.
    pub async fn reserve(&self) -> OwnedMutexGuard<()> {
        self.reading.clone().lock_owned().await
    }

    /// Lets no user register until the file was read again, because reading it takes too long.
    pub fn close(&self) {
        if !self.is_late.swap(true, Ordering::Relaxed) {
            tracing::error!(
                event = "access_unreadable",
                reason = "reading it takes too long",
                "the access file can't be used; no user can register"
            );
        }
        self.list.rcu(|list| AccessList::clone(list).closed());
    }

    /// Lets no user register while the access list of the cluster can't be reached. When it can, the file must be
    /// [read](Self::read) again.
    pub fn isolate(&self, is_isolated: bool) {
        self.is_isolated.store(is_isolated, Ordering::SeqCst);
        if is_isolated {
            self.list.rcu(|list| AccessList::clone(list).closed());
        }
    }

    /// Whether no user may register, because the access list of the cluster can't be reached.
    pub fn is_isolated(&self) -> bool {
        self.is_isolated.load(Ordering::SeqCst)
    }

    /// Decides about a `register`. In token mode, sets its user to the one that the access token
    /// proves, and drops resume positions in rooms whose history the token does not allow to read.
    ///
    /// Gives the grant of the access token; `None` in open mode.
    pub fn admit(
        &self,
        mode: AuthMode,
        client_info: ClientInfo,
        registration: &mut Registration,
    ) -> Result<Option<Arc<Grant>>, Rejection> {
        if self.banned_network(client_info).is_some() {
            return Err(address_banned());
        }
        let token = registration.access_token.as_ref();
        let grant = self.find_grant(mode, client_info, &registration.user, token)?;
        if let Some(grant) = &grant {
            authorize(grant, registration)?;
        }
        Ok(grant)
    }

    /// Decides about a request that is no session: gives its user and the grant of its access token. In
    /// open mode the user is `named`.
    pub fn admit_request(
        &self,
        mode: AuthMode,
        client_info: ClientInfo,
        named: UserName,
        token: Option<Zeroizing<String>>,
    ) -> Result<(UserName, Option<Arc<Grant>>), Rejection> {
        let grant = self.find_grant(mode, client_info, &named, token.as_ref())?;
        Ok((grant.as_ref().map_or(named, |grant| grant.user.clone()), grant))
    }

    /// The grant of the access token; `None` in open mode, where `named` is the user.
    fn find_grant(
        &self,
        mode: AuthMode,
        client_info: ClientInfo,
        named: &UserName,
        token: Option<&Zeroizing<String>>,
    ) -> Result<Option<Arc<Grant>>, Rejection> {
        match mode {
            // The file may ban this user.
            AuthMode::Open if self.list.load().is_closed() => Err(unavailable()),
            AuthMode::Open if self.list.load().is_banned(named) => Err(banned()),
            AuthMode::Open => Ok(None),
            AuthMode::Token => self.authenticate(client_info, token).map(Some),
        }
    }

    fn authenticate(
        &self,
        client_info: ClientInfo,
        token: Option<&Zeroizing<String>>,
    ) -> Result<Arc<Grant>, Rejection> {
        let Some(token) = token else {
            return Err(unauthorized(
                "this server requires an access token; its operator makes one with \
                 chat-server token add",
            ));
        };
        let digest = access::digest(token);
        // A right access token is let in whatever its network's throttle says.
        self.list.load().find_by_digest(&digest, wall_clock()).map_err(|denied| match denied {
            AccessDenied::Banned => banned(),
            AccessDenied::Unavailable => unavailable(),
            // The same text for both, so that it does not reveal which access tokens exist.
            AccessDenied::Unknown | AccessDenied::Expired => self
                .throttle_wrong_token(client_info, &digest)
                .unwrap_or_else(|| unauthorized("this access token is not valid or has expired")),
        })
    }

    /// Counts a wrong access token. Gives the answer instead of `unauthorized`, if its network has
    /// to wait before another one is looked at.
    fn throttle_wrong_token(
        &self,
        client_info: ClientInfo,
        digest: &[u8; 32],
    ) -> Option<Rejection> {
        // A proxy that does not name its clients must not be throttled for all of them.
        if client_info.is_proxy {
            return None;
        }
        let network = ClientNetwork::of(client_info.address);
        let now = self.started.elapsed();
        let mut throttle = self.throttle();
        if throttle.has_counted(network, digest, now) {
            return None;
        }
        let Some(wait) = throttle.wait_time(network, now) else {
            throttle.record_failure(network, digest, now);
            return None;
        };
        let seconds = wait.as_secs() + 1;
        Some(Rejection {
            code: ErrorCode::RateLimited,
            close: CloseCode::TryLater,
            message: format!("too many wrong access tokens; try again in {seconds} s"),
        })
    }

    fn build_list(&self, file: &AccessFile, auth: &Auth) -> Result<AccessList, AccessFileError> {
        let malformed =
            |reason| AccessFileError::Malformed { path: self.access_file.clone(), reason };
        let mut grants = auth.users.clone();
        for record in &file.tokens {
            grants.push(record.grant().map_err(malformed)?);
        }
        AccessList::new(grants).map_err(|error| malformed(error.to_string()))
    }

    fn file_version(&self) -> FileVersion {
        use std::os::unix::fs::MetadataExt as _;
        let path = &self.access_file;
        // A symbolic link that leads nowhere is not the same as no file.
        let metadata = std::fs::metadata(path).or_else(|_| path.symlink_metadata()).ok()?;
        // A change of mode or owner sets ctime, a change of content sets mtime, and a new file has
        // another inode.
        let ctime = metadata.ctime_nsec() as u64 ^ (metadata.ctime() as u64).rotate_left(32);
        Some((metadata.ino(), ctime, metadata.modified().ok()?))
    }

    fn last_read(&self) -> MutexGuard<'_, FileVersion> {
        self.last_read.lock()
    }

    fn throttle(&self) -> MutexGuard<'_, AuthThrottle> {
        self.throttle.lock()
    }
}

/// Fits the registration to the grant; fails if the grant does not allow one of its rooms.
fn authorize(grant: &Grant, registration: &mut Registration) -> Result<(), Rejection> {
    registration.user = grant.user.clone();
    if registration.names_no_room()
        && let Some(room) = grant.default_room()
    {
        registration.choose_room(room);
    }
    for request in &mut registration.rooms {
        if !grant.allows(Action::Join, &request.room) {
            let room = &request.room;
            return Err(forbidden(format!("your access token does not allow the room {room}")));
        }
        if !grant.allows(reading(&request.room), &request.room) {
            request.resume = None;
        }
    }
    Ok(())
}

fn unauthorized(message: &str) -> Rejection {
    Rejection {
        code: ErrorCode::Unauthorized,
        close: CloseCode::Unauthorized,
        message: message.into(),
    }
}

fn forbidden(message: String) -> Rejection {
    Rejection { code: ErrorCode::Forbidden, close: CloseCode::Forbidden, message }
}

fn unavailable() -> Rejection {
    Rejection {
        code: ErrorCode::StorageFailed,
        close: CloseCode::TryLater,
        message:
            "the server can't check who may enter at the moment, because it can't use its access \
                  file; try again later"
                .into(),
    }
}

fn banned() -> Rejection {
    forbidden("this user is banned".into())
}

fn address_banned() -> Rejection {
    forbidden("this address is banned".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isolated_node_lets_nobody_in_until_the_file_is_read_after_it() {
        let home = tempfile::tempdir().unwrap();
        let access_file = home.path().join("access.json");
        let auth =
            Auth { mode: AuthMode::Token, allow_open: false, access_file, users: Vec::new() };
        let authenticator = Authenticator::new(&auth);
        authenticator.read(&auth);
        assert!(!authenticator.list().is_closed());
        authenticator.isolate(true);
        assert!(authenticator.list().is_closed());
        // Reading the file, which may be out of date, does not open it.
        authenticator.read(&auth);
        assert!(authenticator.list().is_closed());
        authenticator.isolate(false);
        authenticator.read(&auth);
        assert!(!authenticator.list().is_closed());
    }
}
