//! The line about the cluster on the screen of `ctl status`.

use std::time::Duration;

use serde_json::Value;

use super::table::{cell, printable};
use super::units::{span, things};

/// The engine and the other nodes; `None` for a server without a cluster.
pub fn cluster_line(cluster: &Value) -> Option<String> {
    let is_connected = cluster["engine_connected"].as_bool()?;
    let rows = |name: &str| cluster[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let words = |name: &str| {
        let words: Vec<String> =
            rows(name).iter().filter_map(Value::as_str).map(printable).collect();
        (!words.is_empty()).then(|| words.join(", "))
    };
    let named = |name: &str, more: &str| {
        let named =
            rows(name).iter().map(|row| format!("{} ({})", cell(&row["node"]), cell(&row[more])));
        let named: Vec<String> = named.collect();
        (!named.is_empty()).then(|| named.join(", "))
    };
    let engine = match is_connected {
        true => {
            let seconds = cluster["engine_connected_seconds"].as_u64().unwrap_or_default();
            format!("engine connected for {}", span(Duration::from_secs(seconds)))
        }
        false => {
            let silent = cluster["engine_answered_seconds_ago"].as_f64().unwrap_or_default();
            format!("ENGINE LOST {silent:.0} s ago")
        }
    };
    // What is wrong comes first: a long line is cut.
    let mut parts = vec![engine];
    parts.extend(words("engine_problems").map(|problems| format!("UNSAFE: {problems}")));
    parts.extend(named("absent", "reason").map(|absent| format!("ABSENT: {absent}")));
    parts.extend(words("engine_absent").map(|servers| format!("engine servers silent: {servers}")));
    let behind = rows("streams").iter().filter_map(|row| row["behind"].as_u64()).max();
    parts.extend(
        behind.filter(|behind| *behind > 0).map(|it| format!("{} behind", things(it, "message"))),
    );
    parts.push(match named("nodes", "sessions") {
        None => "no other node".into(),
        Some(nodes) => format!("other nodes (sessions): {nodes}"),
    });
    Some(parts.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_comes_first() {
        let mut cluster = json!({"engine_connected": true, "engine_connected_seconds": 7200,
            "nodes": [{"node": "node-2", "sessions": 12}], "streams": [{"behind": 0}]});
        let line = cluster_line(&cluster).unwrap();
        assert_eq!(line, "engine connected for 2 h; other nodes (sessions): node-2 (12)");
        cluster["engine_connected"] = false.into();
        cluster["engine_answered_seconds_ago"] = 7.2.into();
        cluster["absent"] = json!([{"node": "node-3", "reason": "not heard for 45 s"}]);
        let line = cluster_line(&cluster).unwrap();
        assert!(
            line.starts_with("ENGINE LOST 7 s ago; ABSENT: node-3 (not heard for 45 s); "),
            "{line}"
        );
        assert_eq!(cluster_line(&Value::Null), None);
    }
}
