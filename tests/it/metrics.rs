//! `/metrics`, the page that describes it, the alerts and the dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::metrics::{METRICS, Samples, get};
use crate::support::server::Server;
use crate::support::stall::Stall;
use crate::support::wire::Wire;
use crate::support::{Mode, eventually, python};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The promtool that scripts/test installs.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: run scripts/test, which installs it");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

/// What a page or the server says of a metric: type, unit and label.
pub type Described = BTreeMap<String, [String; 3]>;

/// The rows of the table in docs/metrics.md. Each has a meaning.
pub fn described_by_the_page() -> Described {
    let page = file("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.map(|(name, rest)| {
        let cells: Vec<&str> = rest.trim_end_matches('|').split('|').map(str::trim).collect();
        let [kind, unit, label, meaning, _bad] = cells[..] else { panic!("{name}: {cells:?}") };
        assert!(!meaning.is_empty(), "{name}");
        (name.to_owned(), [kind, unit, label].map(str::to_owned))
    })
    .collect()
}

/// The same from an answer in OpenMetrics.
pub fn described_by_the_server(text: &str) -> Described {
    let mut described = Described::new();
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "TYPE", family, kind] => {
                let suffix = match kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                names.insert(family.to_owned(), format!("{family}{suffix}"));
                let row = [kind.to_owned(), String::new(), String::new()];
                described.insert(format!("{family}{suffix}"), row);
            }
            ["#", "UNIT", family, unit] => {
                described.get_mut(&names[family]).unwrap()[1] = unit.to_owned();
            }
            ["#", ..] => {}
            [sample, _value] => {
                let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
                let label = labels.split('=').next().unwrap();
                if let Some(row) = described.get_mut(name) {
                    row[2] = label.to_owned();
                }
            }
            _ => panic!("{line}"),
        }
    }
    described
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_describes_what_the_server_serves_and_promtool_finds_nothing() {
    // TLS, a history on disk, a room and a backup: every metric has a value.
    let server = Server::with(METRICS).mode(Mode::Secured).start();
    let (mut ana, _) = Wire::full(server.endpoint(), "ana", "ops").await;
    ana.send_chat_and_wait("ops", "1", "hola").await;
    let backup = server.state().join("copy");
    server.run_ok(&["backup", backup.to_str().unwrap()]);
    eventually("the disk is measured and the backup noted", || {
        let samples = Samples::of(&server);
        samples.has("chat_disk_free_bytes") && samples.has("chat_last_backup_timestamp_seconds")
    });
    let (head, text) = get(&server, "/metrics", OPEN_METRICS);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(&format!("content-type: {content_type}")), "{head}");
    let (served, mut described) = (described_by_the_server(&text), described_by_the_page());
    // Those of a cluster are in cluster_operators.rs.
    described.retain(|name, _| !name.starts_with("chat_cluster_"));
    let only_in = |one: &Described, other: &Described| -> Vec<_> {
        let rows = one.iter().filter(|(name, row)| other.get(*name) != Some(*row));
        rows.map(|(name, row)| (name.clone(), row.clone())).collect()
    };
    let differences = (only_in(&served, &described), only_in(&described, &served));
    assert_eq!(differences, (vec![], vec![]), "only the server has, only docs/metrics.md has");
    let parsed = read_by_python(&text);
    assert_eq!(parsed, described.len().to_string(), "metrics that Python read");

    assert_eq!(words_of(&text, "chat_sessions_closed_total"), reasons_of_session_closed());

    let (head, text) = get(&server, "/metrics", "*/*");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    promtool(&["check", "metrics"], &text);
}

/// The values of the label of a metric.
fn words_of(text: &str, metric: &str) -> BTreeSet<String> {
    let samples = text.lines().filter_map(|line| line.strip_prefix(metric));
    samples.filter_map(|rest| Some(rest.split('"').nth(1)?.to_owned())).collect()
}

/// The reasons that docs/logging.md lists.
fn reasons_of_session_closed() -> BTreeSet<String> {
    let page = file("docs/logging.md");
    let (_, section) = page.split_once("## Reasons of `session_closed`").unwrap();
    let section = section.split("\n## ").next().unwrap();
    section.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The strict parser of OpenMetrics in Python's client library; gives the number of metrics.
fn read_by_python(text: &str) -> String {
    let script = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
        print(len(list(read(sys.stdin.read()))))";
    let mut child = Command::new(python::interpreter())
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_figures_follow_what_happens() {
    let config = format!(
        "{METRICS}[limits]\nconnections_per_address = 2\noutbound_bytes = 67108864\n\
        rate_messages = 100000\nrate_bytes = 1000000000\nmessage_chars = 8000\n"
    );
    let server = Server::with(&config).start();
    let before = Samples::of(&server);
    for (sample, value) in [
        ("chat_ready", 1.0),
        ("chat_part_healthy{part=\"log_writer\"}", 1.0),
        ("chat_sessions{protocol=\"basic\"}", 0.0),
        ("chat_rooms", 0.0),
        ("chat_messages_total", 0.0),
        ("chat_config_last_reload_successful", 1.0),
    ] {
        assert_eq!(before.value(sample), value, "{sample}");
    }
    assert!(!before.has("chat_oldest_key_age_seconds"), "there is no room");
    assert!(!before.has("chat_certificate_expiry_timestamp_seconds"), "there is no certificate");

    let bob = Wire::register(server.endpoint().bound_to("127.0.0.5"), "Bob").await;
    let (mut ana, _) = Wire::full(server.endpoint().bound_to("127.0.0.6"), "ana", "ops").await;
    // The third connection of an address is one too many.
    let office = server.endpoint().bound_to("127.0.0.7");
    let (slow, _) = Wire::full(office.clone(), "slow", "ops").await;
    let _second = Wire::full(office.clone(), "second", "lobby").await;
    Wire::try_connect(office).await.err().expect("a third connection is refused");
    server.run_ok(&["ctl", "ban", "--address", "203.0.113.7"]);
    let banned = server.endpoint().header("x-forwarded-for", "203.0.113.7");
    Wire::try_connect(banned).await.err().expect("a banned address is refused");
    ana.send_chat_and_wait("ops", "1", "hola").await;
    ana.send(json!({"type": "x"})).await;
    ana.next_of("error").await;
    server.run_ok(&["ctl", "rotate"]);
    server.run_ok(&["ctl", "reload"]);
    let happened = |samples: &Samples| {
        samples.value("chat_sessions{protocol=\"basic\"}") == 1.0
            && samples.value("chat_sessions{protocol=\"full\"}") == 3.0
            && samples.value("chat_deliveries_total") >= 1.0
            // The connections that were refused have ended.
            && samples.value("chat_connections") == 4.0
    };
    eventually("sessions and connections are counted", || happened(&Samples::of(&server)));
    let now = Samples::of(&server);
    for (sample, value) in [
        ("chat_connections_refused_total{reason=\"full_address\"}", 1.0),
        ("chat_connections_refused_total{reason=\"full\"}", 0.0),
        ("chat_connections_refused_total{reason=\"banned\"}", 1.0),
        ("chat_sessions_opened_total{protocol=\"full\"}", 3.0),
        ("chat_rooms", 2.0),
        ("chat_messages_total", 1.0),
        ("chat_refused_total{code=\"unknown_type\"}", 1.0),
        ("chat_commits_total", 1.0),
        ("chat_commit_duration_seconds_count", 1.0),
        ("chat_send_to_ack_duration_seconds_count", 1.0),
        ("chat_send_to_ack_duration_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("chat_key_rotations_total", 1.0),
        ("chat_append_queue_bytes", 0.0),
        ("chat_history_rooms", 1.0),
    ] {
        assert_eq!(now.value(sample), value, "{sample}");
    }
    let sum = |name: &str| now.value(&format!("{name}_duration_seconds_sum"));
    assert!(sum("chat_commit") > 0.0 && sum("chat_send_to_ack") >= sum("chat_commit"));
    assert!(now.value("chat_oldest_key_age_seconds") < 20.0, "the keys were rotated");
    let reloaded = "chat_config_last_reload_success_timestamp_seconds";
    assert!(now.value(reloaded) > before.value(reloaded));
    let started = "process_start_time_seconds";
    assert_eq!(now.value(started), before.value(started));
    assert!(now.value(reloaded) > now.value(started));
    // As many descriptors as the system counts; the request has one of its own.
    let counted = now.value("process_open_fds");
    assert!((counted - server.descriptors() as f64).abs() < 4.0, "{counted}");

    // A client that reads nothing has bytes waiting, until it is gone.
    let (long, mut sent) = ("x".repeat(8000), 0);
    while Samples::of(&server).value("chat_send_queue_bytes") < 100_000.0 {
        assert!(sent < 10_000, "nothing waits after {sent} messages");
        for _ in 0..200 {
            ana.send_chat_in("ops", &format!("long-{sent}"), &long).await;
            sent += 1;
        }
        for _ in 0..200 {
            ana.next_of("ack").await;
        }
    }
    assert!(Samples::of(&server).value("chat_send_queues_waiting") >= 1.0);
    drop(slow);
    drop(bob);
    eventually("nothing waits, and both sessions are closed", || {
        let samples = Samples::of(&server);
        let closed = ["closed_by_peer", "connection_lost"].map(|reason| {
            samples.value(&format!("chat_sessions_closed_total{{reason=\"{reason}\"}}"))
        });
        samples.value("chat_send_queue_bytes") == 0.0
            && samples.value("chat_send_queues_waiting") == 0.0
            && samples.value("chat_sessions{protocol=\"basic\"}") == 0.0
            && closed.iter().sum::<f64>() == 2.0
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_are_complete_while_the_hub_hangs() {
    let Some(stall) = Stall::at("hub", "the metrics while the hub hangs") else { return };
    let server = Server::with(METRICS).stalling_at(&stall).start();
    let (mut ana, _) = Wire::full(server.address(), "ana", "ops").await;
    stall.begin();
    eventually("the open question is told", || {
        Samples::of(&server).value("chat_part_answer_seconds{part=\"hub\"}") > 1.0
    });
    ana.send_chat_in("ops", "1", "hola").await;
    ana.next_of("ack").await;
    let samples = Samples::of(&server);
    assert_eq!(samples.value("chat_sessions{protocol=\"full\"}"), 1.0);
    assert_eq!(samples.value("chat_messages_total"), 1.0, "it is stored, though not delivered");
    eventually("the hub is told", || {
        let samples = Samples::of(&server);
        samples.value("chat_part_healthy{part=\"hub\"}") == 0.0
            && samples.value("chat_ready") == 0.0
    });
    assert_eq!(Samples::of(&server).value("chat_part_healthy{part=\"log_writer\"}"), 1.0);
    stall.end();
}

#[test]
fn a_wrong_access_token_and_a_failed_reload_are_counted() {
    let server = Server::with(&format!("{METRICS}[auth]\nmode = \"token\"\n")).start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for token in ["sct_one", "sct_two"] {
            let mut wire = Wire::connect(server.endpoint()).await;
            let register = json!({"type": "register", "protocol": 1, "username": "x",
                "access_token": token});
            wire.send(register).await;
            assert_eq!(wire.next().await["code"], "unauthorized");
        }
    });
    let samples = Samples::of(&server);
    assert_eq!(samples.value("chat_auth_failures_total"), 2.0);
    assert_eq!(samples.value("chat_refused_total{code=\"unauthorized\"}"), 2.0);
    let read = samples.value("chat_config_last_reload_success_timestamp_seconds");
    std::fs::write(server.config_file(), "[nonsense]\n").unwrap();
    assert!(!server.run(&["ctl", "reload"]).status.success());
    let samples = Samples::of(&server);
    assert_eq!(samples.value("chat_config_last_reload_successful"), 0.0);
    assert_eq!(samples.value("chat_config_last_reload_success_timestamp_seconds"), read);
}

/// The words of an expression that could be metrics of the server.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let metrics = words.filter(|word| word.starts_with("chat_") || word.starts_with("process_"));
    metrics.map(str::to_owned).collect()
}

/// Fails if the expression uses a metric that the server does not have.
fn assert_metrics_exist(expression: &str, known: &Described) -> usize {
    let used = metrics_in(expression);
    for metric in &used {
        let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|end| metric.strip_suffix(end));
        let histogram = parts.filter_map(|name| known.get(name)).any(|row| row[0] == "histogram");
        assert!(histogram || known.contains_key(metric), "{metric} in {expression}");
        if let Some(row) = known.get(metric) {
            assert_ne!(row[0], "histogram", "{metric} needs _bucket, _sum or _count: {expression}");
        }
    }
    used.len()
}

#[test]
fn the_alerts_are_right_and_say_what_to_do() {
    promtool(&["check", "rules", "etc/alerts.yml"], "");
    let tested = promtool(&["test", "rules", "tests/alerts.yml"], "");
    assert!(tested.contains("SUCCESS"), "{tested}");
    let known = described_by_the_page();
    let text = file("etc/alerts.yml");
    let unit_tests = file("tests/alerts.yml");
    let mut alerts = 0;
    for alert in text.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let (expression, annotations) = alert.split_once("annotations:").expect(name);
        let used = assert_metrics_exist(expression, &known);
        assert!(used > 0 || expression.contains("up{job"), "{name}");
        for key in ["summary: \"", "description: >-", "runbook: \"docs/"] {
            assert!(annotations.contains(key), "{name}: {key}");
        }
        assert!(
            alert.contains("severity: critical") || alert.contains("severity: warning"),
            "{name}"
        );
        assert!(
            unit_tests.contains(&format!("\"{name}\"")),
            "{name} has no test in tests/alerts.yml"
        );
        let link = annotations.split("runbook: \"").nth(1).unwrap().split('"').next().unwrap();
        assert_section_exists(link);
        alerts += 1;
    }
    assert!(alerts > 15, "{alerts}");
}

/// Whether the file has a heading that Markdown viewers give this anchor.
fn assert_section_exists(link: &str) {
    let (page, anchor) = link.split_once('#').unwrap_or_else(|| panic!("{link} names no section"));
    let text = file(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let mut anchors = headings.map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect::<String>()
    });
    assert!(anchors.any(|known| known == anchor), "{link}");
}

#[test]
fn the_dashboard_uses_metrics_that_exist() {
    let known = described_by_the_page();
    let dashboard: Value = serde_json::from_str(&file("etc/grafana-dashboard.json")).unwrap();
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    let mut used = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(cells.insert((x, y)), "another panel is there: {panel}");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            assert!(assert_metrics_exist(expression, &known) > 0, "{expression}");
            assert!(expression.contains("job=\"$job\""), "{expression}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel}");
            used.extend(metrics_in(expression));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        assert_metrics_exist(annotation["expr"].as_str().unwrap(), &known);
    }
    // Nearly every metric is on it.
    let shown = |name: &&String| used.iter().any(|metric| metric.starts_with(name.as_str()));
    let missing: Vec<_> = known.keys().filter(|name| !shown(name)).collect();
    assert!(missing.len() <= 4, "{missing:?}");
}
