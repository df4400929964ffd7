//! The output of the commands: results on standard output, errors and notes on standard error.

use std::io::{self, ErrorKind, Write as _};

use serde_json::Value;

use super::table::{cell, format_any, printable};
use crate::protocol::mask;
use crate::server::error::ServerError;

/// Writes to standard output. A closed pipe (`| head -1`) is not an error.
pub fn print(bytes: &[u8]) -> Result<(), ServerError> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Prints help or the version, in colour on a terminal.
pub fn print_help(help: &clap::Error) -> Result<(), ServerError> {
    written(help.print().and_then(|()| io::stdout().flush()))
}

fn written(result: io::Result<()>) -> Result<(), ServerError> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(ServerError::Output(error)),
        _ => Ok(()),
    }
}

/// Writes an error or a note to standard error, each line after `chat-server: `. It may quote an
/// argument or a file, so secrets in it are hidden and it is cut.
pub fn print_error(text: &str) {
    for line in mask::secrets(text).lines() {
        eprintln!("chat-server: {line}");
    }
}

/// Formats an answer of the server for people: `name  value` lines, and a table per array.
pub fn format_answer(answer: &Value) -> String {
    let mut out = String::new();
    let Some(object) = answer.as_object() else { return out };
    for (name, value) in object.iter().filter(|(name, _)| *name != "ok") {
        let name = printable(name);
        match value.as_array() {
            Some(words) if words.first().is_some_and(Value::is_string) => {
                out.push_str(&format!("{name:<18} {}\n", cell(value)));
            }
            Some(rows) => out.push_str(&format_any(rows)),
            None => out.push_str(&format!("{name:<18} {}\n", cell(value))),
        }
    }
    if out.is_empty() { "done\n".into() } else { out }
}

/// Formats the answer to `ctl reload` for people.
pub fn format_reload(answer: &Value) -> String {
    let keys = |name: &str| {
        let keys = answer[name].as_array().map(Vec::as_slice).unwrap_or_default();
        keys.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let changed = match keys("changed") {
        keys if keys.is_empty() => "nothing".to_owned(),
        keys => keys,
    };
    let mut out =
        format!("done: the configuration is in force; changed since the start: {changed}\n");
    let waiting = keys("restart_needed");
    if !waiting.is_empty() {
        out.push_str(&format!("not in force until the next start: {waiting}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_formatted_as_lines_or_tables() {
        assert_eq!(format_answer(&json!({"ok": true})), "done\n");
        assert_eq!(format_answer(&json!({"ok": true, "ended": 2})), "ended              2\n");
        let rows =
            json!({"ok": true, "rooms": [{"room": "ops", "seq": 7}, {"room": "ñandú", "seq": 12}]});
        assert_eq!(format_answer(&rows), "room   seq\nops    7\nñandú  12\n");
        assert_eq!(format_answer(&json!({"ok": true, "rooms": []})), "none\n");
        let words = json!({"ok": true, "restart_needed": ["listen.port", "admin.socket"]});
        assert_eq!(format_answer(&words), "restart_needed     listen.port,admin.socket\n");
    }

    #[test]
    fn a_reload_names_the_keys_in_force_and_the_others() {
        let answer = json!({"ok": true, "changed": [], "restart_needed": []});
        let unchanged = "done: the configuration is in force; changed since the start: nothing\n";
        assert_eq!(format_reload(&answer), unchanged);
        let answer =
            json!({"changed": ["keys.grace", "log.level"], "restart_needed": ["admin.socket"]});
        assert_eq!(
            format_reload(&answer),
            "done: the configuration is in force; changed since the start: keys.grace, log.level\n\
             not in force until the next start: admin.socket\n"
        );
    }
}
