//! `chat-server ctl`: asks the running server by its admin socket, and shows what it says.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::server::admin::socket::AdminRequest;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest answer.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// No socket is configured.
    #[error(
        "no admin socket: set admin.socket in the configuration (the same the server uses), or RUNTIME_DIRECTORY"
    )]
    Nowhere,
    /// Nobody answers there.
    #[error("no server answers at {path}: {source}; is it running, with this configuration?")]
    NoServer {
        /// The socket.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody is there and says nothing.
    #[error("the server at {path} has said nothing for {} s; see its log", PATIENCE.as_secs())]
    Silent {
        /// The socket.
        path: String,
    },
    /// The server said no.
    #[error("{0}")]
    Refused(String),
}

/// Asks one thing.
pub fn ask(socket: Option<&Path>, wish: &AdminRequest) -> Result<Value, CtlError> {
    let path = socket.ok_or(CtlError::Nowhere)?;
    let error = |source: io::Error| {
        let path = path.display().to_string();
        match source.kind() {
            // What a time limit on a socket comes to (socket(7)).
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => CtlError::Silent { path },
            _ => CtlError::NoServer { path, source },
        }
    };
    let mut stream = UnixStream::connect(path).map_err(error)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(error)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(error)?;
    let mut question = serde_json::to_string(wish).expect("plain words");
    question.push('\n');
    stream.write_all(question.as_bytes()).map_err(error)?;
    let mut answer = String::new();
    let mut reader = BufReader::new(io::Read::take(stream, MOST_BYTES));
    reader.read_line(&mut answer).map_err(error)?;
    let answer: Value = serde_json::from_str(&answer)
        .map_err(|_| CtlError::Refused("the server broke off; see its log".into()))?;
    match answer["ok"].as_bool() {
        Some(true) => Ok(answer),
        _ => Err(CtlError::Refused(answer["error"].as_str().unwrap_or("refused").to_owned())),
    }
}

/// An answer for a person: `name  value` lines, or a table.
pub fn show(answer: &Value) -> String {
    let mut out = String::new();
    let Some(object) = answer.as_object() else { return out };
    for (name, value) in object.iter().filter(|(name, _)| *name != "ok") {
        match value.as_array() {
            Some(rows) => out.push_str(&table(rows)),
            None => out.push_str(&format!("{name:<18} {}\n", cell(value))),
        }
    }
    if out.is_empty() { "done\n".into() } else { out }
}

fn table(rows: &[Value]) -> String {
    let Some(first) = rows.first().and_then(Value::as_object) else { return "none\n".into() };
    let mut names: Vec<&String> = first.keys().collect();
    for row in rows.iter().filter_map(Value::as_object) {
        for name in row.keys().filter(|name| !first.contains_key(*name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let lines: Vec<Vec<String>> = std::iter::once(names.iter().map(|n| n.to_string()).collect())
        .chain(rows.iter().map(|row| names.iter().map(|name| cell(&row[*name])).collect()))
        .collect();
    let widths: Vec<usize> = (0..names.len())
        .map(|column| lines.iter().map(|line| width(&line[column])).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (cell, wide) in line.iter().zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(wide - width(cell) + 2));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

fn width(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_shown_as_lines_or_as_a_table() {
        assert_eq!(show(&json!({"ok": true})), "done\n");
        assert_eq!(show(&json!({"ok": true, "ended": 2})), "ended              2\n");
        let rows =
            json!({"ok": true, "rooms": [{"room": "ops", "seq": 7}, {"room": "ñandú", "seq": 12}]});
        assert_eq!(show(&rows), "room   seq\nops    7\nñandú  12\n");
        assert_eq!(show(&json!({"ok": true, "rooms": []})), "none\n");
    }
}
