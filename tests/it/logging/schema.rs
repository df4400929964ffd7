//! docs/logging.schema.json: it says the same as the table of docs/logging.md, and as a complete implementation of JSON
//! Schema reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::log_schema::{SCHEMA, check_line, event_schema};
use crate::support::python;
use crate::support::server::Server;
use crate::support::wire::Wire;

/// Levels, and fields with `?` behind those that are not in every line.
type Listed = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

fn table() -> Listed {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logging.md");
    let page = std::fs::read_to_string(path).unwrap();
    let words = |cell: &str| {
        let words = cell.split(',').map(|word| word.trim().to_owned());
        words.filter(|word| !word.is_empty()).collect()
    };
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let event = cells.next().unwrap().trim_matches('`').to_owned();
        (event, (words(cells.next().unwrap()), words(cells.next().unwrap())))
    })
    .collect()
}

fn by_schema() -> Listed {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let events = SCHEMA["oneOf"].as_array().unwrap().iter();
    events
        .map(|schema| {
            let level = &schema["properties"]["level"];
            let levels = match level["enum"].as_array() {
                Some(levels) => levels.iter().map(text).collect(),
                None => BTreeSet::from([text(&level["const"])]),
            };
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let fields = schema["properties"].as_object().unwrap().keys();
            let fields = fields.filter(|name| !["event", "level"].contains(&name.as_str()));
            let fields = fields.map(|name| match required.contains(&json!(name)) {
                true => name.clone(),
                false => format!("{name}?"),
            });
            (text(&schema["properties"]["event"]["const"]), (levels, fields.collect()))
        })
        .collect()
}

#[test]
fn the_table_of_events_says_the_same_as_the_schema() {
    let (table, schema) = (table(), by_schema());
    for (event, listed) in &table {
        assert_eq!(Some(listed), schema.get(event), "{event}: docs/logging.md, and the schema");
    }
    assert_eq!(table.len(), schema.len());
}

/// A line with one thing wrong in it.
fn broken(line: &Value) -> Vec<Value> {
    let event = event_schema(line["event"].as_str().unwrap()).unwrap();
    let with = |name: &str, value: Value| {
        let mut line = line.clone();
        line[name] = value;
        line
    };
    let mut broken = vec![
        with("color", json!("red")),
        with("event", json!("nothing_of_this_name")),
        with("timestamp", json!("2026-11-26 19:00:00")),
        with("level", json!("notice")),
        with("message", json!(7)),
    ];
    for (name, value) in line.as_object().unwrap() {
        let mut without = line.clone();
        without.as_object_mut().unwrap().remove(name);
        broken.push(without);
        broken.push(with(name, if value.is_string() { json!(1) } else { json!("one") }));
        if value.is_u64() && event["properties"].get(name).is_some() {
            broken.push(with(name, json!(-1)));
        }
    }
    broken
}

#[tokio::test]
async fn a_complete_implementation_of_json_schema_comes_to_the_same_verdicts() {
    let mut server = Server::with("[log]\nlevel = \"trace\"\n").start();
    let (mut ana, _) = Wire::full(server.address(), "ana", "ops").await;
    ana.send(json!({"type": "chat_message", "room": "ops", "id": "a", "content": "x"})).await;
    ana.next_error().await;
    server.run_ok(&["ctl", "ban", "eve"]);
    server.signal("USR2");
    server.wait_for_event("status");
    server.stop();
    server.wait_for_event("stopped");
    let lines = server.log();
    assert!(lines.len() > 8, "{lines:#?}");
    let all: Vec<Value> =
        lines.iter().flat_map(|line| [vec![line.clone()], broken(line)].concat()).collect();
    let mut child = python::script("log_schema.py")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logging.schema.json"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text: String = all.iter().map(|line| format!("{line}\n")).collect();
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    let verdicts = String::from_utf8(output.stdout).unwrap();
    assert_eq!(verdicts.lines().count(), all.len());
    for (line, verdict) in all.iter().zip(verdicts.lines()) {
        let own = check_line(line);
        assert_eq!(own.is_ok(), verdict == "ok", "{own:?}, and jsonschema: {verdict}: {line}");
    }
    assert_eq!(verdicts.lines().filter(|verdict| *verdict == "ok").count(), {
        // Also a line without an optional field.
        all.iter().filter(|line| check_line(line).is_ok()).count()
    });
    assert!(lines.iter().all(|line| check_line(line).is_ok()));
}
