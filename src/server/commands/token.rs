//! `chat-server token`: gives, lists and takes back access tokens.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::args::{NewToken, TokenVerb};
use super::ctl::{self, CtlFault};
use crate::config::Config;
use crate::credentials::access_file::{AccessFault, AccessFile, Declared, FreshToken};
use crate::policy::access::{AccessList, Grant};
use crate::policy::rights::Role;
use crate::protocol::Timestamp;
use crate::server::admin::socket::Wish;
use crate::server::error::StartFault;

/// What is said on standard output, and on standard error.
pub struct Said {
    /// For programs: the token alone, or a list.
    pub out: String,
    /// For the person beside.
    pub note: String,
}

/// Does it.
pub fn run(config: &Config, verb: &TokenVerb) -> Result<Said, StartFault> {
    match verb {
        TokenVerb::Add(wish) => add(config, wish),
        TokenVerb::List { json } => list(config, *json),
        TokenVerb::Revoke { id } => revoke(config, id),
    }
}

fn add(config: &Config, wish: &NewToken) -> Result<Said, StartFault> {
    let fresh = FreshToken::make();
    let now = SystemTime::now();
    let declared = Declared {
        user: wish.user.clone(),
        rooms: if wish.room.is_empty() { vec!["lobby".into()] } else { wish.room.clone() },
        role: wish.role.clone(),
        hash: fresh.hash.clone(),
        expires: wish.expires.map(|after| Timestamp::from_system(now + after).to_string()),
        created: Some(Timestamp::from_system(now).to_string()),
    };
    let grant = declared.grant().map_err(StartFault::Usage)?;
    let id = grant.id.clone();
    let mut out = format!("{}\n", *fresh.token);
    if wish.declare {
        let table = toml::to_string(&Declared { created: None, ..declared }).unwrap_or_default();
        out.push_str(&format!("\n[[auth.users]]\n{table}"));
        let note =
            "the first line is the access token, shown only now; the table belongs into the \
            configuration file"
                .into();
        return Ok(Said { out, note });
    }
    let path = &config.auth.access_file;
    AccessFile::change(path, |file| -> Result<(), StartFault> {
        let mut grants = grants_of(path, file)?;
        grants.splice(0..0, config.auth.users.clone());
        grants.push(grant);
        AccessList::new(grants, &[]).map_err(|fault| StartFault::Usage(fault.to_string()))?;
        file.tokens.push(declared);
        Ok(())
    })??;
    // It is made and must be shown, whatever became of the telling.
    let told = tell(config).unwrap_or_else(|fault| format!("but {fault}"));
    Ok(Said { out, note: format!("access token {id}, shown only now; {told}") })
}

fn grants_of(path: &Path, file: &AccessFile) -> Result<Vec<Grant>, AccessFault> {
    let grants = file.tokens.iter().map(Declared::grant).collect::<Result<Vec<_>, _>>();
    grants.map_err(|reason| AccessFault::Malformed { path: path.into(), reason })
}

fn list(config: &Config, json: bool) -> Result<Said, StartFault> {
    let file = AccessFile::read(&config.auth.access_file)?.unwrap_or_default();
    let declared = config.auth.users.iter().map(|grant| grant.id.clone()).collect::<Vec<_>>();
    let now = Timestamp::from_system(SystemTime::now());
    let rows: Vec<serde_json::Value> = config
        .written
        .auth
        .users
        .iter()
        .chain(&file.tokens)
        .map(|one| {
            let over = one.grant().is_ok_and(|grant| grant.is_over(now));
            let place =
                if declared.iter().any(|id| id == one.id()) { "configuration" } else { "file" };
            // Where it opens, whatever was written.
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
    Ok(Said { out, note: banned })
}

fn revoke(config: &Config, id: &str) -> Result<Said, StartFault> {
    let path = &config.auth.access_file;
    if config.auth.users.iter().any(|grant| grant.id == id) {
        return Err(StartFault::Usage(format!(
            "{id} is declared in the configuration file; take it out there and reload"
        )));
    }
    let taken = AccessFile::change(path, |file| {
        let before = file.tokens.len();
        file.tokens.retain(|declared| declared.id() != id);
        before - file.tokens.len()
    })?;
    if taken == 0 {
        return Err(StartFault::Usage(format!(
            "there is no access token {id}; chat-server token list names them"
        )));
    }
    let done = format!("{id} is revoked");
    match tell(config) {
        Ok(told) => Ok(Said { out: String::new(), note: format!("{done}; {told}") }),
        Err(fault) => Err(StartFault::Untold { done, fault }),
    }
}

/// Tells the server, if one runs, and waits until it has acted.
fn tell(config: &Config) -> Result<String, CtlFault> {
    match ctl::ask(config.admin.socket.as_deref(), &Wish::Access) {
        Ok(answer) => Ok(match answer["ended"].as_u64() {
            Some(0) | None => "the server knows".into(),
            Some(ended) => format!("the server knows, and has ended its sessions: {ended}"),
        }),
        // Nobody is asked there; a server that runs elsewhere looks at the file by itself.
        Err(CtlFault::Nowhere | CtlFault::NoServer { .. }) => Ok(format!(
            "a running server sees it within {}",
            humantime::format_duration(2 * crate::server::authenticator::LOOK_EVERY)
        )),
        Err(fault) => Err(fault),
    }
}

/// `30d` as clap wants it.
pub fn parse_age(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(age) if !age.is_zero() && age <= Duration::from_secs(36_500 * 86_400) => Ok(age),
        _ => Err("a number with a unit, as in 12h or 30d".into()),
    }
}
