//! `chat-server ctl status` for people: one screen of 80 columns and 24 lines.
//!
//! A line with something wrong begins with `!`, also without colour. A line whose fields the answer does
//! not have, because the server is an older one, is left out.

use std::time::Duration;

use serde_json::Value;

use super::cluster_line::cluster_line;
use super::table::{cell, printable};
use super::units::{bytes, count, rate, span, things};
use super::wrapping::wrap;

/// The size of the screen; the last line is left to the prompt.
const COLUMNS: usize = 80;
const LINES: usize = 23;
/// Where the values begin: after the mark and the label.
const LABEL_WIDTH: usize = 13;
const INDENT: usize = 2 + LABEL_WIDTH;
/// The longest value in lines, as long as the screen has space.
const MAX_VALUE_LINES: usize = 3;

/// Formats the answer to `ctl status`; `color` marks what is wrong in red too.
pub fn format(answer: &Value, color: bool) -> String {
    let mut shown = String::new();
    for max_lines in (1..=MAX_VALUE_LINES).rev() {
        shown = screen(&Screen { answer, color, max_lines });
        if shown.lines().count() <= LINES {
            break;
        }
    }
    shown
}

fn screen(screen: &Screen<'_>) -> String {
    let groups = [
        [screen.state(), screen.cluster(), screen.sessions(), screen.rooms()].concat(),
        screen.rates(),
        [screen.send_queues(), screen.log_writer(), screen.appends()].concat(),
        [
            screen.disk(),
            screen.backup(),
            screen.keys(),
            screen.certificate(),
            screen.tokens(),
            screen.reload(),
            screen.log(),
        ]
        .concat(),
    ];
    let groups: Vec<&Vec<String>> = groups.iter().filter(|group| !group.is_empty()).collect();
    let lines: usize = 1 + groups.iter().map(|group| group.len()).sum::<usize>();
    // The groups are set apart while there is space for it.
    let blanks = groups.len().saturating_sub(1);
    let separator = if lines + blanks <= LINES { "\n" } else { "" };
    let body: Vec<String> = groups.iter().map(|group| group.concat()).collect();
    format!("{}{}", screen.title(), body.join(separator))
}

struct Screen<'a> {
    answer: &'a Value,
    color: bool,
    /// The longest value, in lines.
    max_lines: usize,
}

impl Screen<'_> {
    fn number(&self, name: &str) -> Option<u64> {
        self.answer[name].as_u64()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.answer[name].as_str().map(printable)
    }

    /// The words of an array, with commas.
    fn words(&self, name: &str) -> String {
        let words = self.answer[name].as_array().map(Vec::as_slice).unwrap_or_default();
        words.iter().map(cell).collect::<Vec<_>>().join(", ")
    }

    fn age(&self, seconds: &Value) -> Option<String> {
        Some(format!("{} ago", span(Duration::from_secs(seconds.as_u64()?))))
    }

    /// Whether the server lists `about` as something wrong.
    fn is_wrong(&self, about: &str) -> bool {
        let wrong = self.answer["wrong"].as_array().map(Vec::as_slice).unwrap_or_default();
        wrong.iter().any(|found| found.as_str() == Some(about))
    }

    fn title(&self) -> String {
        let mut parts = vec![self.text("server").unwrap_or_else(|| "chat-server".into())];
        parts.extend(self.number("pid").map(|pid| format!("pid {pid}")));
        let up = self.number("seconds").map(Duration::from_secs);
        parts.extend(up.map(|up| format!("up {}", span(up))));
        let started = self.text("started");
        parts.extend(
            started
                .map(|started| format!("since {}", started.split('.').next().unwrap_or_default())),
        );
        format!("{}\n", parts.join(", "))
    }

    /// A line with a label, wrapped to the screen. `about` is what `wrong` calls it.
    fn line(&self, about: &str, label: &str, value: &str) -> Vec<String> {
        self.marked(self.is_wrong(about), label, wrap(value, COLUMNS - INDENT, self.max_lines))
    }

    fn marked(&self, is_wrong: bool, label: &str, values: Vec<String>) -> Vec<String> {
        let mark = if is_wrong { '!' } else { ' ' };
        let lines = values.into_iter().enumerate().map(|(index, value)| {
            let (mark, label) = if index == 0 { (mark, label) } else { (' ', "") };
            let line = format!("{mark} {label:<LABEL_WIDTH$}{value}");
            match is_wrong && self.color {
                true => format!("\u{1b}[1;31m{}\u{1b}[0m\n", line.trim_end()),
                false => format!("{}\n", line.trim_end()),
            }
        });
        lines.collect()
    }

    fn state(&self) -> Vec<String> {
        let mut modes = Vec::new();
        modes.extend(self.text("mode").map(|mode| format!("{mode} mode")));
        modes.extend(
            self.text("store")
                .map(|store| format!("history on {store}").replace("on memory", "in memory")),
        );
        let durable = self.answer["durable"].as_bool();
        modes.extend(durable.map(|durable| if durable { "durable" } else { "not durable" }.into()));
        let health = self.text("health").unwrap_or_else(|| "unknown".into());
        match health.as_str() {
            "ok" => self.line("state", "state", &format!("ready; {}", modes.join(", "))),
            problems => {
                let problems =
                    wrap(&format!("NOT READY: {problems}"), COLUMNS - INDENT, MAX_VALUE_LINES);
                let mut lines = self.marked(self.is_wrong("state"), "state", problems);
                lines.extend(self.line("", "", &modes.join(", ")));
                lines
            }
        }
    }

    fn cluster(&self) -> Vec<String> {
        let line = cluster_line(&self.answer["cluster"]);
        line.map(|line| self.line("cluster", "cluster", &line)).unwrap_or_default()
    }

    fn sessions(&self) -> Vec<String> {
        let Some(sessions) = self.number("sessions") else { return Vec::new() };
        let mut value = count(sessions);
        if let (Some(full), Some(basic)) =
            (self.number("sessions_full"), self.number("sessions_basic"))
        {
            let http = self.number("sessions_http").filter(|http| *http > 0);
            let http = http.map(|http| format!(", {} http", count(http))).unwrap_or_default();
            value += &format!(" ({} full, {} basic{http})", count(full), count(basic));
        }
        if let Some(connections) = self.number("connections") {
            value += &format!("; {}", things(connections, "connection"));
            if let Some(limit) = self.number("connections_limit") {
                value += &format!(" of {}", count(limit));
            }
        }
        self.line("connections", "sessions", &value)
    }

    fn rooms(&self) -> Vec<String> {
        let Some(rooms) = self.number("rooms") else { return Vec::new() };
        let mut value = format!("{} with members", count(rooms));
        if let Some(stored) = self.number("history_rooms") {
            value += &format!("; {} in the history", count(stored));
        }
        if let Some(limit) = self.number("rooms_limit") {
            value += &format!(", at most {}", count(limit));
        }
        self.line("rooms", "rooms", &value)
    }

    /// Totals, and rates over the last minutes. Soon after the start, the spans are shorter, and the
    /// header says so.
    fn rates(&self) -> Vec<String> {
        let rates = self.answer["rates"].as_array().map(Vec::as_slice).unwrap_or_default();
        let row = |cells: Vec<String>| {
            vec![cells.iter().map(|cell| format!("{cell:>18}")).collect::<String>()]
        };
        let mut header = vec!["since the start".to_owned()];
        header.extend(rates.iter().map(|rate| {
            let seconds = rate["seconds"].as_f64().unwrap_or_default().max(0.0);
            format!("per s, {}", span(Duration::from_secs(seconds.round() as u64)))
        }));
        let mut lines = Vec::new();
        for name in ["messages", "deliveries", "refused"] {
            let Some(total) = self.number(name) else { continue };
            let mut cells = vec![count(total)];
            cells.extend(rates.iter().map(|found| rate(found[name].as_f64().unwrap_or_default())));
            lines.extend(self.marked(self.is_wrong(name), name, row(cells)));
        }
        if lines.is_empty() {
            return lines;
        }
        lines.splice(0..0, self.marked(false, "", row(header)));
        let by_code = self.answer["refused_by_code"].as_object();
        let by_code: Vec<String> = by_code
            .into_iter()
            .flatten()
            .filter_map(|(code, number)| {
                Some(format!("{} {}", printable(code), count(number.as_u64()?)))
            })
            .collect();
        if !by_code.is_empty() {
            let seconds =
                self.answer["rates"].as_array().and_then(|rates| rates.last()?["seconds"].as_f64());
            let over = span(Duration::from_secs(seconds.unwrap_or_default().round() as u64));
            lines.extend(self.line("", "", &format!("in the last {over}: {}", by_code.join(", "))));
        }
        lines
    }

    fn send_queues(&self) -> Vec<String> {
        let Some(waiting) = self.number("send_queue_bytes") else {
            return match self.text("hub") {
                Some(hub) if hub != "ok" => {
                    self.line("hub", "send queues", &format!("unknown: {hub}"))
                }
                _ => Vec::new(),
            };
        };
        let mut value = format!("{} wait", bytes(waiting));
        let fullest = &self.answer["fullest_send_queue"];
        if let Some(most) = fullest["bytes"].as_u64() {
            let limit = self.number("send_queue_limit_bytes").unwrap_or_default();
            value += &format!(
                "; fullest {} of {}: {}, {}",
                bytes(most),
                bytes(limit),
                cell(&fullest["user"]),
                cell(&fullest["session"])
            );
        }
        self.line("send_queues", "send queues", &value)
    }

    fn log_writer(&self) -> Vec<String> {
        let Some(state) = self.text("log_writer") else { return Vec::new() };
        // What is wrong with it is in the state.
        let mut value = if state == "ok" { "ok".to_owned() } else { "fails".into() };
        if let (Some(messages), Some(waiting), Some(limit)) = (
            self.number("log_writer_messages"),
            self.number("log_writer_bytes"),
            self.number("log_writer_limit_bytes"),
        ) {
            value += &format!(
                "; {} wait, {} of {}",
                things(messages, "message"),
                bytes(waiting),
                bytes(limit)
            );
        }
        if let Some(commands) = self.number("hub_commands") {
            value += &format!("; hub: {} wait", things(commands, "command"));
        }
        self.line("queues", "log writer", &value)
    }

    fn appends(&self) -> Vec<String> {
        let failure = &self.answer["last_append_failure"];
        if let Some(age) = self.age(&failure["seconds_ago"]) {
            let messages = failure["messages"].as_u64().unwrap_or_default();
            let reason = cell(&failure["reason"]);
            let value = format!("{} refused {age}: {reason}", things(messages, "message"));
            return self.line("appends", "appends", &value);
        }
        match self.number("append_failures") {
            Some(0) => self.line("appends", "appends", "none refused since the start"),
            Some(failures) => {
                let value = format!("{} failed since the start", things(failures, "commit"));
                self.line("appends", "appends", &value)
            }
            None => Vec::new(),
        }
    }

    fn disk(&self) -> Vec<String> {
        let Some(stored) = self.number("history_bytes") else { return Vec::new() };
        let mut parts = Vec::new();
        parts.extend(self.number("wal_bytes").map(|wal| format!("write-ahead log {}", bytes(wal))));
        let damaged = self.number("damaged_bytes").filter(|damaged| *damaged > 0);
        parts.extend(damaged.map(|damaged| format!("damaged files {}", bytes(damaged))));
        let mut value = bytes(stored);
        if !parts.is_empty() {
            value += &format!(" ({})", parts.join(", "));
        }
        if let Some(free) = self.number("disk_free_bytes") {
            value += &format!("; {} free", bytes(free));
            if let Some(total) = self.number("disk_total_bytes") {
                value += &format!(" of {}", bytes(total));
            }
        }
        self.line("disk", "history", &value)
    }

    fn backup(&self) -> Vec<String> {
        let backup = &self.answer["last_backup"];
        match self.age(&backup["seconds_ago"]) {
            Some(age) => self.line("backup", "backup", &age),
            None if self.answer.get("last_backup").is_some() => {
                self.line("backup", "backup", "none known since the start")
            }
            None => Vec::new(),
        }
    }

    fn keys(&self) -> Vec<String> {
        let Some(rotations) = self.number("rotations") else { return Vec::new() };
        let time = |name| self.number(name).map(|seconds| span(Duration::from_secs(seconds)));
        let mut parts = Vec::new();
        parts.extend(time("oldest_key_seconds").map(|age| format!("the oldest is {age} old")));
        parts.extend(time("next_rotation_seconds").map(|next| format!("next rotation in {next}")));
        if parts.is_empty() {
            parts.push(format!("{} since the start", things(rotations, "rotation")));
        }
        self.line("keys", "room keys", &parts.join("; "))
    }

    fn certificate(&self) -> Vec<String> {
        let Some(seconds) = self.answer["certificate_seconds"].as_i64() else { return Vec::new() };
        let ends = self.text("certificate_expires").unwrap_or_default();
        let ends = ends.split('.').next().unwrap_or_default();
        let time = span(Duration::from_secs(seconds.unsigned_abs()));
        let value = match seconds {
            0.. => format!("ends in {time}, {ends}"),
            _ => format!("EXPIRED {time} ago, {ends}"),
        };
        self.line("certificate", "certificate", &value)
    }

    fn tokens(&self) -> Vec<String> {
        let Some(active) = self.number("tokens_active") else { return Vec::new() };
        if active == 0 && self.text("mode").as_deref() == Some("open") {
            return Vec::new();
        }
        let mut value = format!("{} active", count(active));
        match self.number("tokens_expiring") {
            Some(1) => value += "; 1 expires within 7 days",
            Some(expiring @ 2..) => value += &format!("; {} expire within 7 days", count(expiring)),
            _ => {}
        }
        if let Some(expired @ 1..) = self.number("tokens_expired") {
            value += &format!("; {} expired", count(expired));
        }
        self.line("tokens", "tokens", &value)
    }

    fn reload(&self) -> Vec<String> {
        let Some(state) = self.text("reload") else { return Vec::new() };
        let last = &self.answer["last_reload"];
        let mut value = match self.age(&last["seconds_ago"]) {
            Some(age) => format!("{age}, by {}", cell(&last["by"])),
            None => "none since the start".into(),
        };
        if state != "ok" {
            value += &format!(": {state}");
        }
        let waiting = self.words("restart_needed");
        if !waiting.is_empty() {
            value = format!("a restart is needed for {waiting}; last reload {value}");
        }
        self.line("reload", "reload", &value)
    }

    fn log(&self) -> Vec<String> {
        let Some(dropped) = self.number("log_lines_dropped") else { return Vec::new() };
        let value = match dropped {
            0 => "no line dropped".to_owned(),
            dropped => format!("{} dropped since the start", things(dropped, "line")),
        };
        self.line("log", "server log", &value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::commands::table::width;

    fn answer() -> Value {
        let text = r#"{
            "server": "chat-server/0.1.0", "version": "0.1.0", "pid": 4711,
            "started": "2026-11-23T10:02:11.000000Z", "seconds": 273600, "ready": true,
            "health": "ok", "problems": [], "wrong": [], "mode": "token", "store": "disk",
            "durable": true, "sessions": 1204, "sessions_full": 1180, "sessions_basic": 24,
            "connections": 1210, "connections_limit": 10000, "rooms": 38, "rooms_limit": 100000,
            "history_rooms": 112, "messages": 1204331, "deliveries": 88120004, "refused": 531,
            "rates": [
                {"minutes": 1, "seconds": 60.2, "messages": 12.4, "deliveries": 1204.4, "refused": 0.0},
                {"minutes": 15, "seconds": 900.1, "messages": 9.8, "deliveries": 980.0, "refused": 0.014}
            ],
            "refused_by_code": {"rate_limited": 12}, "hub": "ok", "send_queue_bytes": 1258291,
            "fullest_send_queue": {"session": "9f3c21", "user": "ana", "bytes": 317440},
            "send_queue_limit_bytes": 1048576, "log_writer": "ok", "log_writer_messages": 0,
            "log_writer_bytes": 0, "log_writer_limit_bytes": 16777216, "hub_commands": 0,
            "append_failures": 0, "last_append_failure": null, "history_bytes": 1288490188,
            "wal_bytes": 18874368, "damaged_bytes": 0, "disk_free_bytes": 13207024435,
            "disk_total_bytes": 42949672960, "last_backup": {"at": "", "seconds_ago": 15000},
            "rotations": 3, "oldest_key_seconds": 11520, "next_rotation_seconds": 74880,
            "certificate_expires": "2027-01-03T00:00:00.000000Z", "certificate_seconds": 3300000,
            "tokens": 13, "tokens_active": 12, "tokens_expired": 1, "tokens_expiring": 0,
            "reload": "ok", "last_reload": {"at": "", "seconds_ago": 11000, "by": "uid 0, pid 9"},
            "restart_needed": [], "log_lines_dropped": 0, "ok": true, "of a newer server": [1, 2]
        }"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_healthy_server_fits_one_screen() {
        let expected = "\
chat-server/0.1.0, pid 4711, up 3 d 4 h, since 2026-11-23T10:02:11
  state        ready; token mode, history on disk, durable
  sessions     1,204 (1,180 full, 24 basic); 1,210 connections of 10,000
  rooms        38 with members; 112 in the history, at most 100,000

                  since the start      per s, 1 min     per s, 15 min
  messages              1,204,331              12.4               9.8
  deliveries           88,120,004             1,204               980
  refused                     531                 0              0.01
               in the last 15 min: rate_limited 12

  send queues  1.2 MiB wait; fullest 310 KiB of 1.0 MiB: ana, 9f3c21
  log writer   ok; 0 messages wait, 0 B of 16 MiB; hub: 0 commands wait
  appends      none refused since the start

  history      1.2 GiB (write-ahead log 18 MiB); 12 GiB free of 40 GiB
  backup       4 h 10 min ago
  room keys    the oldest is 3 h 12 min old; next rotation in 20 h 48 min
  certificate  ends in 38 d 4 h, 2027-01-03T00:00:00
  tokens       12 active; 1 expired
  reload       3 h 3 min ago, by uid 0, pid 9
  server log   no line dropped
";
        assert_eq!(format(&answer(), false), expected);
    }

    #[test]
    fn everything_wrong_is_marked_and_still_fits() {
        let mut answer = answer();
        let wrong = [
            "state",
            "connections",
            "rooms",
            "refused",
            "send_queues",
            "queues",
            "appends",
            "disk",
            "keys",
            "certificate",
            "tokens",
            "reload",
            "log",
        ];
        answer["wrong"] = json!(wrong);
        let long = "messages can't be stored: appends to the room log have failed for 4711 s (1204 in \
                    a row); see append_failed in the server log; the hub has not answered for 12 s, so \
                    messages are not delivered; the event loop has not answered for 12 s";
        answer["health"] = json!(long);
        answer["log_writer"] = json!(long);
        let reason = "no space is left on the file system of the room log".repeat(9);
        answer["last_append_failure"] = json!({"seconds_ago": 61, "messages": 1, "reason": reason});
        answer["certificate_seconds"] = json!(-90_000);
        answer["tokens_expiring"] = json!(1);
        answer["damaged_bytes"] = json!(1 << 30);
        answer["restart_needed"] = json!(["listen.port", "admin.socket"]);
        answer["fullest_send_queue"]["user"] = json!("語".repeat(32));
        let codes = ["bad_token", "storage_full", "stale_key", "rate_limited", "unauthorized"];
        answer["refused_by_code"] = codes.iter().map(|code| (*code, json!(12_345))).collect();
        let screen = format(&answer, false);
        let marked = screen.lines().filter(|line| line.starts_with('!')).count();
        assert_eq!(marked, wrong.len(), "{screen}");
        assert!(screen.lines().count() <= LINES, "{screen}");
        assert!(screen.lines().all(|line| width(line) <= COLUMNS), "{screen}");
        for text in
            ["NOT READY: messages", "EXPIRED 1 d 1 h ago", "1 expires within", "listen.port"]
        {
            assert!(screen.contains(text), "{text}: {screen}");
        }
        let colored = format(&answer, true);
        assert!(colored.contains("\u{1b}[1;31m! state"), "{colored}");
        let plain = colored.replace("\u{1b}[1;31m", "").replace("\u{1b}[0m", "");
        assert_eq!(plain, screen, "colour changes nothing else");
    }

    #[test]
    fn an_answer_of_another_version_is_shown_as_far_as_it_goes() {
        let old = json!({
            "server": "chat-server/0.0.9", "pid": 1, "mode": "open", "sessions": 2, "rooms": 1,
            "messages": 7, "seconds": 61, "append_failures": 0, "log_writer": "ok", "health": "ok",
            "history_bytes": null, "reload": "ok", "tokens": 0, "rates": 7, "wrong": "no",
        });
        let screen = format(&old, false);
        assert!(screen.starts_with("chat-server/0.0.9, pid 1, up 1 min 1 s\n"), "{screen}");
        assert!(screen.contains("  messages                      7\n"), "{screen}");
        assert!(!screen.contains("null") && !screen.contains(" -"), "{screen}");
        assert!(format(&json!({}), false).contains("state        NOT READY: unknown"));
    }

    #[test]
    fn no_text_of_the_server_controls_the_terminal() {
        let mut answer = answer();
        for name in
            ["server", "health", "mode", "log_writer", "reload", "hub", "certificate_expires"]
        {
            answer[name] = json!("a\u{1b}[2J\r\n\u{202e}b");
        }
        answer["refused_by_code"] = json!({"\u{1b}[2J": 1});
        answer["restart_needed"] = json!(["\u{9b}2J"]);
        let screen = format(&answer, false);
        let is_plain = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
        assert!(screen.chars().all(is_plain), "{screen:?}");
    }
}
