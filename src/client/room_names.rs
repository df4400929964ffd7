//! Names on the command line: the user's, and those of the rooms.

use std::collections::BTreeMap;

use super::args::Common;
use crate::protocol::RoomName;
use crate::sys::user::user_id;

/// The name to register with: `--user`, else the login name.
pub fn user(common: &Common) -> String {
    let login = || {
        ["USER", "LOGNAME"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()))
    };
    common.user.clone().or_else(login).or_else(user_of_process).unwrap_or_default()
}

/// The login name of the process's user id (passwd(5)), for an environment that has none, as cron's.
fn user_of_process() -> Option<String> {
    let uid = user_id()?.to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    Some(line.split(':').next()?.to_owned())
}

/// The names of the rooms, and the other users of those that are for direct messages, which are written `@user`.
pub fn rooms(common: &Common) -> Result<(Vec<String>, BTreeMap<RoomName, String>), String> {
    let (mut names, mut direct) = (Vec::new(), BTreeMap::new());
    for room in &common.room {
        let Some(other) = room.strip_prefix('@') else {
            if RoomName::parse(room).is_none() {
                return Err(format!("--room {room:?}: {}", RoomName::RULE));
            }
            names.push(room.clone());
            continue;
        };
        let own = user(common);
        check_other(room, other)?;
        if own == other {
            return Err(format!("--room {room:?}: these are messages to yourself"));
        }
        let name = RoomName::direct_of(&own, other);
        names.push(name.to_string());
        direct.insert(name, other.to_owned());
    }
    Ok((names, direct))
}

/// Refuses what no server keeps as a user's name.
fn check_other(room: &str, name: &str) -> Result<(), String> {
    let is_kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '\'');
    match !name.is_empty() && name.trim() == name && name.chars().all(is_kept) {
        true => Ok(()),
        false => Err(format!(
            "--room {room:?}: behind the @ stands a user's name, which has letters, digits, spaces and _ - . '"
        )),
    }
}
