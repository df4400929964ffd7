//! `chat-server token`: makes, lists, replaces and revokes access tokens.

use std::path::Path;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::answers;
use super::args::{ConfigArgs, NewToken, TokenCommand, TokenRights};
use super::ctl;
use super::output::{format_answer, print, print_error};
use crate::config::Config;
use crate::credentials::access_file::{AccessFile, AccessFileError, GeneratedToken, TokenRecord};
use crate::policy::access::{self, AccessList, Grant};
use crate::policy::rights::Role;
use crate::protocol::hex::hex;
use crate::protocol::{Timestamp, mask};
use crate::server::access_watch;
use crate::server::admin::request::AdminRequest;
use crate::server::error::{CtlError, ServerError};
use crate::sys::clock::wall_clock;

/// Carries out the command. Standard output gets the access token or the list, for programs; notes
/// for people go to standard error.
pub fn run(config: &ConfigArgs, command: &TokenCommand) -> Result<(), ServerError> {
    let config = Config::load(&config.command_sources())?;
    match command {
        TokenCommand::Add(token) => add(&config, token),
        TokenCommand::List { json } => list(&config, *json),
        TokenCommand::Rotate { id } => rotate(&config, id),
        TokenCommand::Revoke { id } => revoke(&config, id),
    }
}

fn add(config: &Config, wanted: &NewToken) -> Result<(), ServerError> {
    if wanted.declare {
        return declare(&wanted.rights);
    }
    let made = make(config, &wanted.rights)?;
    print_error(&made.note(config));
    print(format!("{}\n", &*made.token).as_bytes())
}

/// Prints a table for the configuration file.
fn declare(rights: &TokenRights) -> Result<(), ServerError> {
    let (generated, record) = generate(rights, None);
    record.grant().map_err(ServerError::Usage)?;
    let table = toml::to_string(&record).unwrap_or_default();
    print_error(
        "the first line is the access token, shown only now; add the table to the configuration file",
    );
    print(format!("{}\n\n[[auth.users]]\n{table}", &*generated.token).as_bytes())
}

/// An access token that was stored just now.
pub struct MadeToken {
    /// The access token, which can't be shown again.
    pub token: Zeroizing<String>,
    /// What was stored of it.
    pub record: TokenRecord,
    /// Whether a running server knows it.
    notified: String,
}

impl MadeToken {
    /// A note for the operator.
    pub fn note(&self, config: &Config) -> String {
        let (id, path) = (self.record.id(), config.auth.access_file.display());
        format!("access token {id} (in {path}), shown only now; {}", self.notified)
    }
}

/// Makes an access token, stores its hash, and notifies the running server.
pub fn make(config: &Config, rights: &TokenRights) -> Result<MadeToken, ServerError> {
    let (generated, record) = generate(rights, Some(SystemTime::now()));
    let grant = record.grant().map_err(ServerError::Usage)?;
    let path = &config.auth.access_file;
    AccessFile::change(path, |file| -> Result<(), ServerError> {
        let mut grants = grants_of(path, file)?;
        grants.splice(0..0, config.auth.users.clone());
        grants.push(grant);
        AccessList::new(grants).map_err(|error| ServerError::Usage(error.to_string()))?;
        file.tokens.push(record.clone());
        Ok(())
    })??;
    // The access token exists now, so it is shown even if the server can't be notified.
    let notified = notify_server(config).unwrap_or_else(|error| format!("but {error}"));
    Ok(MadeToken { token: generated.token, record, notified })
}

fn generate(rights: &TokenRights, created: Option<SystemTime>) -> (GeneratedToken, TokenRecord) {
    let generated = GeneratedToken::generate();
    let rooms = match rights.room.as_slice() {
        [] => vec!["lobby".into()],
        rooms => rooms.to_vec(),
    };
    let expires = rights.expires.map(|after| Timestamp::from_system(SystemTime::now() + after));
    let record = TokenRecord {
        user: rights.user.to_string(),
        rooms,
        role: rights.role.clone(),
        hash: generated.hash.clone(),
        expires: expires.map(|at| at.to_string()),
        created: created.map(|at| Timestamp::from_system(at).to_string()),
    };
    (generated, record)
}

fn grants_of(path: &Path, file: &AccessFile) -> Result<Vec<Grant>, AccessFileError> {
    let grants = file.tokens.iter().map(TokenRecord::grant).collect::<Result<Vec<_>, _>>();
    grants.map_err(|reason| AccessFileError::Malformed { path: path.into(), reason })
}

fn list(config: &Config, json: bool) -> Result<(), ServerError> {
    let file = AccessFile::read(&config.auth.access_file)?.unwrap_or_default();
    let now = wall_clock();
    let declared = config.raw.auth.users.iter();
    let rows: Vec<serde_json::Value> = declared
        .chain(&file.tokens)
        .map(|record| {
            let expired = record.grant().is_ok_and(|grant| grant.is_expired(now));
            let is_declared = config.auth.users.iter().any(|grant| grant.id == record.id());
            // The rooms the token gives access to, which may be more than the record names.
            let rooms = match record.rooms.as_slice() {
                _ if record.role == Role::Admin.word() => vec!["*".to_owned()],
                [] => vec!["lobby".to_owned()],
                rooms => rooms.to_vec(),
            };
            serde_json::json!({
                "id": record.id(), "user": record.user, "rooms": rooms, "role": record.role,
                "created": record.created, "expires": record.expires, "expired": expired,
                "in": if is_declared { "configuration" } else { "file" },
            })
        })
        .collect();
    let banned = file.banned.iter().filter_map(|entry| Some(entry.ban().ok()??.target()));
    let banned: Vec<String> = banned.collect();
    if !banned.is_empty() {
        print_error(&format!("banned: {}", banned.join(", ")));
    }
    let out = match json {
        true => rows.iter().map(|row| format!("{row}\n")).collect(),
        false => format_answer(&serde_json::json!({"tokens": rows})),
    };
    print(out.as_bytes())
}

/// The new access token has the user, rooms, role and expiry of the old one, which is void from here
/// on. Its id is another, because an id is the beginning of the hash.
fn rotate(config: &Config, id: &str) -> Result<(), ServerError> {
    check_id(config, id)?;
    let generated = GeneratedToken::generate();
    let now = SystemTime::now();
    let new_id = AccessFile::change(&config.auth.access_file, |file| {
        let record = file.tokens.iter_mut().find(|record| record.id() == id);
        let record = record.ok_or_else(|| no_such_token(id))?;
        if record.grant().is_ok_and(|grant| grant.is_expired(Timestamp::from_system(now))) {
            return Err(ServerError::Usage(format!(
                "the access token {id} has expired, so a new one with its expiry would be void; \
                 make one with: chat-server token add"
            )));
        }
        record.hash = generated.hash.clone();
        record.created = Some(Timestamp::from_system(now).to_string());
        Ok(record.id().to_owned())
    })??;
    let path = config.auth.access_file.display();
    let done = format!("access token {new_id} replaces {id}");
    let notified = notify_server(config);
    if let Ok(notified) = &notified {
        print_error(&format!("{done} (in {path}), shown only now; {notified}"));
    }
    // The access token exists now, so it is printed even if the server can't be notified.
    print(format!("{}\n", &*generated.token).as_bytes())?;
    notified.map(drop).map_err(|error| ServerError::NotNotified { done, error })
}

fn revoke(config: &Config, id: &str) -> Result<(), ServerError> {
    check_id(config, id)?;
    let removed = AccessFile::change(&config.auth.access_file, |file| {
        let (removed, kept) =
            std::mem::take(&mut file.tokens).into_iter().partition(|record| record.id() == id);
        file.tokens = kept;
        removed
    })?;
    let removed: Vec<TokenRecord> = removed;
    let Some(user) = removed.first().map(|record| record.user.clone()) else {
        return Err(no_such_token(id));
    };
    let done = format!("{id} is revoked");
    match notify_server(config) {
        Ok(notified) => {
            let path = config.auth.access_file.display();
            print_error(&format!("{done} (in {path}); {notified}"));
            ctl::note_end_to_end_rooms(config.admin.socket.as_deref(), &user);
            Ok(())
        }
        Err(error) => Err(ServerError::NotNotified { done, error }),
    }
}

/// Refuses what can't be the id of an access token in the access file.
fn check_id(config: &Config, id: &str) -> Result<(), ServerError> {
    if mask::contains_access_token(id) {
        let digest = access::digest(id.trim());
        let id = hex(&digest[..4]);
        return Err(ServerError::Usage(format!(
            "this is an access token, not its id; its id is {id}"
        )));
    }
    if config.auth.users.iter().any(|grant| grant.id == id) {
        return Err(ServerError::Usage(format!(
            "{id} is declared in the configuration file; change it there and reload"
        )));
    }
    Ok(())
}

fn no_such_token(id: &str) -> ServerError {
    ServerError::Usage(format!(
        "there is no access token {id}; chat-server token list shows their ids"
    ))
}

/// Has the running server, if there is one, reread the access file, and waits until it has acted.
fn notify_server(config: &Config) -> Result<String, CtlError> {
    match ctl::ask(config.admin.socket.as_deref(), &AdminRequest::Access) {
        Ok(answer) => match (answers::missing_nodes(&answer), answer["ended"].as_u64()) {
            (Some(missing), _) => Err(missing),
            (None, Some(0) | None) => Ok("the server has been notified".into()),
            (None, Some(ended)) => {
                Ok(format!("the server has been notified; it ended sessions: {ended}"))
            }
        },
        // A server may still run elsewhere; it notices the change of the file by itself.
        Err(CtlError::NoSocket | CtlError::NoServer { .. }) => Ok(format!(
            "no server answers; one that uses this file notices it within {}",
            humantime::format_duration(2 * access_watch::POLL_INTERVAL)
        )),
        Err(error) => Err(error),
    }
}
