//! The answers to `ctl` for people.
//!
//! Fields that this version does not know, because the server is a newer one, are not shown in the
//! screens and tables here; `--json` prints them all.

use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::Value;

use super::args::CtlCommand;
use super::ban_output::{format_act, format_bans, format_sessions};
use super::output::{format_answer, format_reload};
use super::status_screen;
use super::table::{self, Column};
use super::units;
use crate::server::admin::everywhere::{ACCESS_LIST, FAILED, NOT_CONNECTED, SHARED, UNANSWERED};
use crate::server::error::CtlError;

const USERS: [Column; 5] = [
    Column::text("user", "USER"),
    Column::count("messages", "MESSAGES"),
    Column::count("frames", "FRAMES"),
    Column::bytes("bytes", "RECEIVED"),
    Column::count("refused", "REFUSED"),
];

const BUSY_ROOMS: [Column; 5] = [
    Column::text("room", "ROOM"),
    Column::count("messages", "MESSAGES"),
    Column::bytes("bytes", "TEXT"),
    Column::count("deliveries", "DELIVERIES"),
    Column::count("refused", "REFUSED"),
];

const ADDRESSES: [Column; 7] = [
    Column::text("address", "ADDRESS"),
    Column::count("messages", "MESSAGES"),
    Column::count("frames", "FRAMES"),
    Column::bytes("bytes", "RECEIVED"),
    Column::count("refused", "REFUSED"),
    Column::count("connections", "CONNECTS"),
    Column::count("connections_refused", "REFUSED CONNECTS"),
];

const ROOMS: [Column; 7] = [
    Column::text("room", "ROOM"),
    Column::count("members", "MEMBERS"),
    Column::count("recent", "IN 15 MIN"),
    Column::seconds("last_message_seconds", "LAST (AGO)"),
    Column::count("seq", "SEQ"),
    Column::count("kept", "KEPT"),
    Column::seconds("key_seconds", "KEY AGE"),
];

const NODES: [Column; 5] = [
    Column::text("node", "NODE"),
    Column::count("sessions", "SESSIONS"),
    Column::count("rooms", "ROOMS"),
    Column::seconds("seconds", "UP"),
    Column::text("wrong", "WRONG"),
];

const NODE: [Column; 1] = [Column::text("node", "NODE")];

/// Formats the answer to a command that asked all nodes of the cluster.
pub fn format_all_nodes(command: &CtlCommand, answer: &Value) -> String {
    let rows = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let text = match command {
        CtlCommand::Status => table::format(&rows("nodes"), &NODES),
        CtlCommand::Rooms { .. } => {
            let columns: Vec<Column> = NODE.into_iter().chain(ROOMS).collect();
            table::format(&rows("rooms"), &columns)
        }
        _ => format_sessions(answer),
    };
    text.split_inclusive('\n').map(printable_line).collect()
}

/// Whether the server has asked all nodes: a version that does not know that answers for itself.
pub fn is_of_all_nodes(answer: &Value) -> bool {
    let is_list = |name: &&str| answer[*name].as_array().is_some_and(|rows| names_nodes(rows));
    ["nodes", "rooms", "sessions"].iter().any(is_list)
}

fn names_nodes(rows: &[Value]) -> bool {
    rows.iter().all(|row| row["node"].is_string())
}

/// The error for the nodes that did not answer, or could not do what was asked.
pub fn missing_nodes(answer: &Value) -> Option<CtlError> {
    let words = |name: &str| {
        let words = answer[name].as_array()?.iter().filter_map(Value::as_str);
        Some(words.collect::<Vec<_>>().join("; "))
    };
    let failed = words(FAILED).map(|failed| format!("these servers failed: {failed}"));
    let missing: Vec<String> =
        failed.into_iter().chain(unreached(answer, words(UNANSWERED))).collect();
    (!missing.is_empty()).then(|| CtlError::Refused(missing.join("; ")))
}

/// Which nodes were not reached, what that means, and the next step.
fn unreached(answer: &Value, unanswered: Option<String>) -> Option<String> {
    let is_list = is_of_all_nodes(answer);
    let names = unanswered.clone().unwrap_or_else(|| "none is known".into());
    match answer[ACCESS_LIST].as_str() {
        // Each node takes a change of access from the list by itself.
        Some(SHARED) => Some(format!(
            "these servers did not confirm it within a second: {}; it is in the access list of the cluster, from which \
             each server takes it when it reaches it",
            unanswered?
        )),
        Some(reason) => Some(format!(
            "it is in force on this server alone: {reason}; the other servers ({names}) take it over by themselves when \
             this one reaches the list again, so don't repeat it"
        )),
        None if answer[NOT_CONNECTED] == true => Some(format!(
            "the engine does not answer this server, so it asked no other server ({names}); try again when chat-server \
             ctl status shows the engine connected"
        )),
        None if is_list => Some(format!(
            "these servers did not answer within a second, and are not in the list: {}",
            unanswered?
        )),
        None => Some(format!(
            "these servers did not answer within a second, and may not have done it: {}; try again",
            unanswered?
        )),
    }
}

/// Formats the answer to a command.
pub fn format(command: &CtlCommand, answer: &Value) -> String {
    let text = match command {
        // Colours are control characters; all others are left out there, too.
        CtlCommand::Status => return status_screen::format(answer, is_color()),
        CtlCommand::Top { .. } => format_top(answer),
        CtlCommand::Rooms { .. } => format_rooms(answer),
        CtlCommand::Reload => format_reload(answer),
        CtlCommand::Bans => format_bans(answer),
        CtlCommand::Sessions { .. } => format_sessions(answer),
        CtlCommand::Ban(_) | CtlCommand::Unban(_) | CtlCommand::Mute(_) | CtlCommand::Unmute(_) => {
            format_act(command, answer)
        }
        _ => format_answer(answer),
    };
    text.split_inclusive('\n').map(printable_line).collect()
}

/// The line without anything that could control a terminal.
fn printable_line(line: &str) -> String {
    match line.strip_suffix('\n') {
        Some(line) => format!("{}\n", table::printable(line)),
        None => table::printable(line),
    }
}

/// The error for a part of the answer that the server could not give.
pub fn missing(command: &CtlCommand, answer: &Value) -> Option<CtlError> {
    let problem = |name: &str| answer[name].as_str().filter(|state| *state != "ok");
    let missing = match command {
        CtlCommand::Status => match (problem("hub")?, problem("health")) {
            (hub, Some(health)) => format!("{hub}: {health}"),
            (hub, None) => hub.to_owned(),
        },
        CtlCommand::Rooms { all: true, .. } if answer["total"].is_null() => {
            "the running server is an older one, which lists only the rooms with members; restart \
             it with the new version"
                .to_owned()
        }
        CtlCommand::Rooms { .. } => {
            format!("a part of the list is not known: {}", problem("history")?)
        }
        _ => return None,
    };
    Some(CtlError::Refused(missing))
}

fn format_top(answer: &Value) -> String {
    let span = units::span(Duration::from_secs(answer["seconds"].as_u64().unwrap_or(0)));
    let mut out = format!("the last {span}");
    if answer["lower_bounds"].as_bool() == Some(true) {
        out.push_str("; there were too many names to count each: some counts are too low");
    }
    out.push('\n');
    let groups: [(&str, &[Column]); 3] =
        [("users", &USERS), ("rooms", &BUSY_ROOMS), ("addresses", &ADDRESSES)];
    for (name, columns) in groups {
        let rows = answer[name].as_array().map(Vec::as_slice).unwrap_or_default();
        if !rows.is_empty() {
            out.push('\n');
            out.push_str(&table::format(rows, columns));
        }
    }
    if out.lines().count() == 1 {
        out.push_str("nothing happened\n");
    }
    out
}

fn format_rooms(answer: &Value) -> String {
    let rows = answer["rooms"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut out = table::format(rows, &ROOMS);
    let more = answer["total"].as_u64().unwrap_or(0).saturating_sub(rows.len() as u64);
    if more > 0 {
        out.push_str(&format!("and {}; -n shows more\n", units::things(more, "more room")));
    }
    out
}

/// Whether colours are wanted: on a terminal, unless NO_COLOR is set (no-color.org).
fn is_color() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_that_did_not_answer_are_an_error_that_names_them() {
        assert!(missing_nodes(&json!({"ended": 3, "nodes": 2})).is_none());
        let answer = json!({"failed": ["b: the hub does not answer"], "unanswered": ["c", "d"]});
        let error = missing_nodes(&answer).unwrap().to_string();
        for part in ["b: the hub does not answer", "c; d", "try again"] {
            assert!(error.contains(part), "{error}");
        }
        // What was done, and whether it must be repeated, depends on what it was.
        for (answer, part) in [
            (json!({"access_list": "shared", "unanswered": ["c"]}), "each server takes it when"),
            (json!({"access_list": "no connection", "not_connected": true}), "don't repeat it"),
            (json!({"ended": 0, "not_connected": true}), "try again when"),
            (json!({"nodes": [{"node": "a"}], "unanswered": ["c"]}), "are not in the list: c"),
        ] {
            let error = missing_nodes(&answer).unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(missing_nodes(&json!({"access_list": "shared", "ended": 1})).is_none());
    }

    #[test]
    fn an_answer_of_one_server_alone_is_not_taken_for_that_of_all_nodes() {
        let of_all = [json!({"nodes": [{"node": "a"}]}), json!({"sessions": [{"node": "a"}]})];
        let of_one = [json!({"sessions": 3, "rooms": 2}), json!({"rooms": [{"room": "lobby"}]})];
        assert!(of_all.iter().all(is_of_all_nodes) && !of_one.iter().any(is_of_all_nodes));
        let table = format_all_nodes(
            &CtlCommand::Status,
            &json!({"nodes": [{"node": "a", "sessions": 3, "rooms": 2, "wrong": ["disk"]}]}),
        );
        assert!(table.contains("NODE") && table.contains("disk"), "{table}");
    }
}
