//! The output of the commands about sessions, bans and mutes, for people.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::CtlCommand;
use super::table::format_any;
use crate::protocol::Timestamp;

/// Rooms of a session that are named in a table.
const MAX_SHOWN_ROOMS: usize = 3;

/// The answer to `ban`, `unban`, `mute` and `unmute` in one sentence.
pub fn format_act(command: &CtlCommand, answer: &Value) -> String {
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let (kind, target) = (text("kind"), text("target"));
    let what = match &*kind {
        "mute" => format!("the user {target}"),
        kind => format!("the {kind} {target}"),
    };
    let place = match answer["room"].as_str() {
        Some(room) => format!(" in the room {room}"),
        None => String::new(),
    };
    let until = match answer["until"].as_str() {
        Some(until) => format!("until {}", short_time(until)),
        None => "until this is lifted".to_owned(),
    };
    let replaced = match answer["replaced"].as_bool() {
        Some(true) => ", in place of an earlier entry",
        _ => "",
    };
    match command {
        CtlCommand::Ban(_) => {
            let ended = &answer["ended"];
            format!("done: {what} is banned {until}{replaced}; sessions ended: {ended}\n")
        }
        CtlCommand::Mute(_) => format!("done: {what} is muted{place} {until}{replaced}\n"),
        CtlCommand::Unban(_) => format!("done: {what} is no longer banned\n"),
        _ => format!("done: {what} is no longer muted{place}\n"),
    }
}

/// The table of `ctl bans`: the time that is left, and the day of the beginning.
pub fn format_bans(answer: &Value) -> String {
    let rows = answer["bans"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |row: &Value| {
        let left = match row["seconds_left"].as_u64() {
            Some(seconds) => short_duration(seconds),
            None => "-".to_owned(),
        };
        let since = row["since"].as_str().map_or("-".to_owned(), short_time);
        let target = match (row["target"].as_str(), row["room"].as_str()) {
            (Some(target), Some(room)) => format!("{target} in {room}"),
            (target, _) => target.unwrap_or_default().to_owned(),
        };
        json!({
            "kind": row["kind"], "target": target, "left": left, "since": since, "by": row["by"],
            "why": row["why"],
        })
    };
    format_any(&rows.iter().map(row).collect::<Vec<_>>())
}

/// The table of `ctl sessions`: what fits into 80 columns as a rule; `--json` has everything.
pub fn format_sessions(answer: &Value) -> String {
    let rows = answer["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |row: &Value| {
        let names = row["rooms"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        let more = match names.len().saturating_sub(MAX_SHOWN_ROOMS) {
            0 => String::new(),
            more => format!(",+{more}"),
        };
        let rooms = format!("{}{more}", names[..names.len().min(MAX_SHOWN_ROOMS)].join(","));
        let is_muted_somewhere = row["muted_in"].as_array().is_some_and(|rooms| !rooms.is_empty());
        let muted = match (row["muted"].as_bool(), is_muted_somewhere) {
            (Some(true), _) => "muted",
            (_, true) => "partly",
            _ => "-",
        };
        let mut shown = json!({
            "session": row["session"], "user": row["user"], "peer": row["peer"],
            "age": short_duration(row["seconds"].as_u64().unwrap_or(0)), "sent": row["sent"],
            "received": row["received"], "waiting": row["waiting_bytes"], "muted": muted,
            "rooms": rooms,
        });
        if row["node"].is_string() {
            shown["node"] = row["node"].clone();
        }
        shown
    };
    format_any(&rows.iter().map(row).collect::<Vec<_>>())
}

/// `2026-11-26 18:40 UTC`
fn short_time(text: &str) -> String {
    match Timestamp::parse(text).map(|time| time.to_string()) {
        Some(time) if time.len() > 16 => format!("{} UTC", time[..16].replace('T', " ")),
        _ => text.to_owned(),
    }
}

/// The two largest units: `6days 4h`.
fn short_duration(seconds: u64) -> String {
    let whole = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    let units: Vec<&str> = whole.split(' ').take(2).collect();
    units.join(" ")
}
