//! `chat-server token`: gives, lists and takes back access tokens.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::args::{NewToken, TokenCommand};
use super::ctl::{self, CtlError};
use crate::config::Config;
use crate::credentials::access_file::{AccessFile, AccessFileError, GeneratedToken, TokenRecord};
use crate::policy::access::{AccessList, Grant};
use crate::policy::rights::Role;
use crate::protocol::Timestamp;
use crate::server::admin::socket::AdminRequest;
use crate::server::error::ServerError;

/// What is said on standard output, and on standard error.
pub struct CommandOutput {
    /// For programs: the token alone, or a list.
    pub out: String,
    /// For the person beside.
    pub note: String,
}

/// Does it.
pub fn run(config: &Config, verb: &TokenCommand) -> Result<CommandOutput, ServerError> {
    match verb {
        TokenCommand::Add(wish) => add(config, wish),
        TokenCommand::List { json } => list(config, *json),
        TokenCommand::Revoke { id } => revoke(config, id),
    }
}

fn add(config: &Config, wish: &NewToken) -> Result<CommandOutput, ServerError> {
    let fresh = GeneratedToken::make();
    let now = SystemTime::now();
    let declared = TokenRecord {
        user: wish.user.clone(),
        rooms: if wish.room.is_empty() { vec!["lobby".into()] } else { wish.room.clone() },
        role: wish.role.clone(),
        hash: fresh.hash.clone(),
        expires: wish.expires.map(|after| Timestamp::from_system(now + after).to_string()),
        created: Some(Timestamp::from_system(now).to_string()),
    };
    let grant = declared.grant().map_err(ServerError::Usage)?;
    let id = grant.id.clone();
    let mut out = format!("{}\n", *fresh.token);
    if wish.declare {
        let table = toml::to_string(&TokenRecord { created: None, ..declared }).unwrap_or_default();
        out.push_str(&format!("\n[[auth.users]]\n{table}"));
        let note =
            "the first line is the access token, shown only now; the table belongs into the \
            configuration file"
                .into();
        return Ok(CommandOutput { out, note });
    }
    let path = &config.auth.access_file;
    AccessFile::change(path, |file| -> Result<(), ServerError> {
        let mut grants = grants_of(path, file)?;
        grants.splice(0..0, config.auth.users.clone());
        grants.push(grant);
        AccessList::new(grants, &[]).map_err(|error| ServerError::Usage(error.to_string()))?;
        file.tokens.push(declared);
        Ok(())
    })??;
    // It is made and must be shown, whatever became of the telling.
    let told = tell(config).unwrap_or_else(|error| format!("but {error}"));
    Ok(CommandOutput { out, note: format!("access token {id}, shown only now; {told}") })
}

fn grants_of(path: &Path, file: &AccessFile) -> Result<Vec<Grant>, AccessFileError> {
    let grants = file.tokens.iter().map(TokenRecord::grant).collect::<Result<Vec<_>, _>>();
    grants.map_err(|reason| AccessFileError::Malformed { path: path.into(), reason })
}

fn list(config: &Config, json: bool) -> Result<CommandOutput, ServerError> {
    let file = AccessFile::read(&config.auth.access_file)?.unwrap_or_default();
    let declared = config.auth.users.iter().map(|grant| grant.id.clone()).collect::<Vec<_>>();
    let now = Timestamp::from_system(SystemTime::now());
    let rows: Vec<serde_json::Value> = config
        .raw
        .auth
        .users
        .iter()
        .chain(&file.tokens)
        .map(|one| {
            let over = one.grant().is_ok_and(|grant| grant.is_expired(now));
            let place =
                if declared.iter().any(|id| id == one.id()) { "configuration" } else { "file" };
            // Where it opens, whatever was raw.
            let rooms = match one.rooms.as_slice() {
                _ if one.role == Role::Admin.word() => vec!["*".to_owned()],
                [] => vec!["lobby".to_owned()],
                rooms => rooms.to_vec(),
            };
            serde_json::json!({
                "id": one.id(), "user": one.user, "rooms": rooms, "role": one.role,
                "created": one.created, "expires": one.expires, "expired": over, "in": place,
            })
        })
        .collect();
    let out = match json {
        true => rows.iter().map(|row| format!("{row}\n")).collect(),
        false => ctl::show(&serde_json::json!({"tokens": rows})),
    };
    let banned = match file.banned.as_slice() {
        [] => String::new(),
        names => format!("banned: {}", names.join(", ")),
    };
    Ok(CommandOutput { out, note: banned })
}

fn revoke(config: &Config, id: &str) -> Result<CommandOutput, ServerError> {
    let path = &config.auth.access_file;
    if config.auth.users.iter().any(|grant| grant.id == id) {
        return Err(ServerError::Usage(format!(
            "{id} is declared in the configuration file; take it out there and reload"
        )));
    }
    let taken = AccessFile::change(path, |file| {
        let before = file.tokens.len();
        file.tokens.retain(|declared| declared.id() != id);
        before - file.tokens.len()
    })?;
    if taken == 0 {
        return Err(ServerError::Usage(format!(
            "there is no access token {id}; chat-server token list names them"
        )));
    }
    let done = format!("{id} is revoked");
    match tell(config) {
        Ok(told) => Ok(CommandOutput { out: String::new(), note: format!("{done}; {told}") }),
        Err(error) => Err(ServerError::Untold { done, error }),
    }
}

/// Tells the server, if one runs, and waits until it has acted.
fn tell(config: &Config) -> Result<String, CtlError> {
    match ctl::ask(config.admin.socket.as_deref(), &AdminRequest::Access) {
        Ok(answer) => Ok(match answer["ended"].as_u64() {
            Some(0) | None => "the server knows".into(),
            Some(ended) => format!("the server knows, and has ended its sessions: {ended}"),
        }),
        // Nobody is asked there; a server that runs elsewhere looks at the file by itself.
        Err(CtlError::Nowhere | CtlError::NoServer { .. }) => Ok(format!(
            "a running server sees it within {}",
            humantime::format_duration(2 * crate::server::authenticator::LOOK_EVERY)
        )),
        Err(error) => Err(error),
    }
}

/// `30d` as clap wants it.
pub fn parse_age(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(age) if !age.is_zero() && age <= Duration::from_secs(36_500 * 86_400) => Ok(age),
        _ => Err("a number with a unit, as in 12h or 30d".into()),
    }
}
