//! The programs of docs/http.md that send and read over HTTP: Alertmanager, Grafana, GitHub, cron, a page in a
//! browser, a loop of curl, and nginx between. Each block of the page is used as it stands, but for its address.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::browser::{Browser, Site};
use crate::http::{Answer, FAST, curl, parse};
use crate::http_follow::{numbered, say};
use crate::support::certificates::certificates;
use crate::support::nginx::Nginx;
use crate::support::server::Server;
use crate::support::{TIMEOUT, eventually};

const TOKENS: &str = "[auth]\nmode = \"token\"\n[limits]\nrate_messages = 100000\n";
/// The address in the page.
const DOCUMENTED: &str = "https://chat.example";

/// Kills the process and its children on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

fn start(mut command: Command) -> Running {
    use std::os::unix::process::CommandExt as _;
    Running(command.process_group(0).spawn().unwrap())
}

/// The block of docs/http.md in this language that contains a word.
fn block(language: &str, word: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http.md");
    let page = std::fs::read_to_string(page).unwrap();
    let fence = format!("```{language}\n");
    let blocks = page.split(&fence).skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("\n```").next());
    blocks.find(|block| block.contains(word)).expect(word).to_owned()
}

fn http(server: &Server) -> String {
    server.url().replacen("ws", "http", 1)
}

/// Texts of a room, read with this access token.
fn texts(server: &Server, room: &str, token: &str) -> Vec<String> {
    let header = format!("Authorization: Bearer {token}");
    curl(server, &format!("/rooms/{room}?since=all"), &["-H", &header]).texts()
}

/// Runs a command of the page with bash.
fn bash(command: &str, folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut bash = Command::new("bash");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    bash.args(["-o", "pipefail", "-c", command]).current_dir(folder).env("PATH", path);
    bash.envs(variables.iter().copied());
    bash
}

#[test]
fn alertmanager_tells_a_room_by_both_kinds_of_receiver() {
    let server = Server::with(TOKENS).start();
    let token = server.token("alertmanager", &["--room", "ops", "--role", "writer"]);
    let reader = server.token("ana", &["--room", "ops"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, &token).unwrap();
    let config = block("yaml", "webhook_configs")
        .replace(DOCUMENTED, &http(&server))
        .replace("/etc/alertmanager/chat-token", &file.display().to_string())
        .replace("group_wait: 10s", "group_wait: 100ms");
    for (number, (receiver, said)) in
        [("chat", "[firing] DiskFull: 3 % are left on db1"), ("chat-by-slack", "[FIRING:1]")]
            .into_iter()
            .enumerate()
    {
        let path = folder.path().join(format!("{receiver}.yml"));
        let config = config.replace("receiver: chat", &format!("receiver: {receiver}"));
        std::fs::write(&path, config).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let mut command = Command::new("prometheus-alertmanager");
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.path={}", folder.path().join(receiver).display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap());
        let _alertmanager = start(command);
        let alert = json!([{"labels": {"alertname": "DiskFull", "instance": "db1"},
            "annotations": {"summary": "3 % are left on db1"}}]);
        eventually("Alertmanager takes the alert", || {
            let sent = Command::new("curl")
                .args(["-s", "-f", "--json", &alert.to_string()])
                .arg(format!("http://{address}/api/v2/alerts"))
                .status();
            sent.unwrap().success()
        });
        eventually(&format!("the alert is told by {receiver}"), || {
            let found = texts(&server, "ops", &reader);
            found.get(number).is_some_and(|text| {
                text.starts_with(said) && text.contains("DiskFull") && text.contains("3 % are left")
            })
        });
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(!log.contains("Notify"), "{log}");
    }
}

fn post(server: &Server, room: &str, arguments: &[&str]) -> Answer {
    curl(server, &format!("/rooms/{room}"), arguments)
}

#[test]
fn github_and_grafana_send_as_they_are_set_up() {
    let server = Server::with(TOKENS).start();
    let token = server.token("github", &["--room", "dev", "--role", "writer"]);
    let reader = server.token("ana", &["--room", "dev"]);
    let secret = format!("github:{token}");
    let push = json!({"ref": "refs/heads/main", "compare": "https://github.com/ana/app/compare/a...b",
        "commits": [{"id": "b"}], "head_commit": {"message": "Fix it & more"}, "pusher": {"name": "ana"},
        "repository": {"full_name": "ana/app"}, "sender": {"login": "ana"}})
    .to_string();
    let delivery = "X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958";
    let line = "ana/app: ana pushed 1 commit to branch main (Fix it & more): https://github.com/ana/app/compare/a...b";
    let json_type = ["-H", "Content-Type: application/json"];
    for status in [201, 200] {
        let event = ["-u", &secret, "-H", "X-GitHub-Event: push", "-H", delivery, "-d", &push];
        let answer = post(&server, "dev", &[&json_type[..], &event[..]].concat());
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["id"], "72d3162e-cc78-11e3-81ab-4c9367dc0958");
        assert_eq!(answer.json()["duplicate"] == true, status == 200);
    }
    let form = format!("payload={push}");
    let event = ["-u", &secret, "-H", "X-GitHub-Event: push", "--data-urlencode", &form];
    assert_eq!(post(&server, "dev", &event).status, 201);
    // A large event: it is cut to a line, not refused for its size.
    let commits: Vec<Value> =
        (0..2000).map(|id| json!({"id": id, "message": "x".repeat(100)})).collect();
    let mut large: Value = serde_json::from_str(&push).unwrap();
    large["commits"] = commits.into();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("large"), large.to_string()).unwrap();
    let file = format!("@{}", folder.path().join("large").display());
    let event = ["-u", &secret, "-H", "X-GitHub-Event: push", "--data-binary", &file];
    assert_eq!(post(&server, "dev", &[&json_type[..], &event[..]].concat()).status, 201);
    let many = line.replace("1 commit", "2000 commits");
    assert_eq!(texts(&server, "dev", &reader), [line, line, &many]);

    // Grafana: what its documentation shows, with the credentials of its contact point.
    let contact = block("yaml", "contactPoints");
    assert!(
        contact.contains(&format!("url: {DOCUMENTED}/rooms/ops"))
            && contact.contains("authorization_scheme: Bearer")
    );
    let bot = server.token("grafana", &["--room", "ops"]);
    let grafana = json!({"receiver": "chat", "status": "firing", "orgId": 1, "version": "1", "title": "[FIRING:1]",
        "alerts": [{"status": "firing", "labels": {"alertname": "High memory usage"}, "annotations": {}}],
        "message": "**Firing**\n\nLabels:\n - alertname = High memory usage\n"});
    let access = format!("Authorization: Bearer {bot}");
    let body = grafana.to_string();
    let sent = post(&server, "ops", &[&json_type[..], &["-H", &access, "-d", &body]].concat());
    assert_eq!(sent.status, 201, "{sent:?}");
    assert_eq!(texts(&server, "ops", &bot), [grafana["message"].as_str().unwrap()]);
    // Slack's senders look at `ok`.
    let slack =
        post(&server, "ops", &[&json_type[..], &["-H", &access, "-d", r#"{"text":"x"}"#]].concat());
    assert_eq!(slack.json()["ok"], true);
    assert!(sent.json().get("ok").is_none());
}

#[test]
fn commands_of_the_page_that_name_a_server_work_with_one() {
    let server = Server::with(TOKENS).start();
    let token = server.token("ci", &["--room", "ops"]);
    let folder = tempfile::tempdir().unwrap();
    let run = |command: &str, variables: &[(&str, &str)]| {
        let command = command.replace(DOCUMENTED, &http(&server));
        let output = bash(&command, folder.path(), variables).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        parse(&format!("HTTP/1.1 201 x\r\n\r\n{}", String::from_utf8(output.stdout).unwrap()))
            .json()
    };
    let access = ("CHAT_ACCESS_TOKEN", token.as_str());
    let stored = run(&block("sh", "curl -K -"), &[access]);
    assert_eq!(stored["seq"], 1);
    let workflow = [
        access,
        ("GITHUB_REPOSITORY", "ana/app"),
        ("GITHUB_WORKFLOW", "CI"),
        ("GITHUB_RUN_ID", "77"),
    ];
    let stored = run(&block("sh", "$GITHUB_RUN_ID"), &workflow);
    assert_eq!(stored["id"], "77");
    // The line of the crontab, after the five fields of the time, with the file that holds the access token.
    let line = block("sh", "0 3 * * *");
    let command = line.splitn(6, ' ').nth(5).unwrap();
    let program = folder.path().join("backup");
    std::fs::write(&program, "#!/bin/sh\necho no space left\nexit 1\n").unwrap();
    std::fs::write(
        folder.path().join("token.curl"),
        format!("header = \"Authorization: Bearer {token}\"\n"),
    )
    .unwrap();
    let _ = Command::new("chmod").arg("755").arg(&program).status();
    let command = command
        .replace("/var/log/backup.log", "backup.log")
        .replace("curl -sS", "curl -K token.curl -sS");
    run(&command, &[]);
    assert_eq!(
        texts(&server, "ops", &token),
        ["the build is green", "ana/app: CI failed", "backup failed: no space left"]
    );
}

#[test]
fn the_page_of_ten_lines_shows_each_message_once_over_a_restart() {
    let page = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", page.local_addr().unwrap());
    let mut server = Server::with(&format!("[listen]\norigins = [{origin:?}]\n{FAST}")).start();
    let documented = block("html", "EventSource");
    let html = documented
        .replace(DOCUMENTED, &http(&server))
        // Reports the texts that it shows, with the separator of words that the test reads.
        + "<script>setInterval(() => fetch('/report/' + log.textContent.trim().split('\\n').join('|')), 200)</script>";
    assert!(html.contains("new EventSource"));
    let send = |server: &Server, text: &str| {
        let answer = curl(server, "/rooms/ops?user=ana", &["-d", text]);
        assert_eq!(answer.status, 201, "{answer:?}");
    };
    send(&server, "uno");
    let site = Site::serve(page, html);
    let profile = tempfile::tempdir().unwrap();
    let _browser = Browser::open(profile.path(), &format!("{}/", site.origin));
    let shows = |words: &str| {
        let deadline = std::time::Instant::now() + 3 * TIMEOUT;
        let mut last = String::new();
        while std::time::Instant::now() < deadline {
            last = site.reported.recv_timeout(3 * TIMEOUT).expect("a report of the page");
            if last.replace("%20", " ").replace("%3A", ":").replace("%7C", "|") == words {
                return;
            }
        }
        panic!("{last} instead of {words}");
    };
    shows("ana: uno");
    send(&server, "dos");
    shows("ana: uno|ana: dos");
    server.kill();
    server.start_again();
    send(&server, "tres");
    shows("ana: uno|ana: dos|ana: tres");
}

#[test]
fn the_loop_of_curl_misses_nothing_over_restarts() {
    let mut server = Server::with(FAST).start();
    let folder = tempfile::tempdir().unwrap();
    let script = block("sh", "last-id")
        .replace("sleep 5", "sleep 0.2")
        .replace("/rooms/ops", "/rooms/lobby");
    let url = http(&server);
    let mut command = bash(&script, folder.path(), &[("CHAT", &url)]);
    command.stderr(Stdio::null());
    let _loop = start(command);
    let read = || {
        let text =
            std::fs::read_to_string(folder.path().join("messages.jsonl")).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
        lines.map(|line| line["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for round in 0..3 {
        say(&server, &numbered(round * 50 + 1, round * 50 + 50));
        eventually("the loop has read", || read().len() >= round * 50 + 20);
        server.kill();
        server.start_again();
    }
    eventually("the loop has read all", || read().len() >= 150);
    assert_eq!(read(), numbered(1, 150));
}

#[test]
fn through_nginx_messages_are_not_held_back_and_clients_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let pair = certificates(folder.path());
    let config =
        "[auth]\nmode = \"token\"\n[limits]\nrate_messages = 100000\nconnections_per_address = 4\n";
    let server = Server::with(config).start();
    let token = server.token("ana", &["--room", "ops"]);
    let nginx = Nginx::in_front_of(server.address(), &[&pair]);
    let ca = folder.path().join("ca.pem").display().to_string();
    let curl = |from: &str, path: &str, arguments: &[&str]| {
        let mut command = Command::new("curl");
        command
            .args(["-s", "-N", "-i", "--max-time", "60", "--cacert", &ca, "--interface", from])
            .args(["-4", "-H", &format!("Authorization: Bearer {token}")])
            .args(arguments)
            .arg(format!("https://{}{path}", nginx.address(0)));
        command
    };
    let follow = |from: &str, accept: &str| {
        let name = folder.path().join(format!("{from}-{}", accept.len()));
        let output = std::fs::File::create(&name).unwrap();
        let mut command = curl(from, "/rooms/ops?follow=true&since=all", &["-H", accept]);
        command.stdout(output);
        (start(command), name)
    };
    let (lines, events) = ("Accept: */*", "Accept: text/event-stream");
    let followers: Vec<_> =
        [("127.0.0.7", lines), ("127.0.0.7", events), ("127.0.0.8", lines), ("127.0.0.8", events)]
            .into_iter()
            .map(|(from, accept)| follow(from, accept))
            .collect();
    eventually("all follow", || server.event_count("session_opened") == 4);
    for text in ["uno", "dos"] {
        let sent = curl("127.0.0.9", "/rooms/ops", &["-d", text]).output().unwrap();
        assert!(String::from_utf8_lossy(&sent.stdout).contains("201 Created"), "{sent:?}");
        for (_, name) in &followers {
            let place = name.display();
            eventually(&format!("{text} passes through: {place}"), || {
                std::fs::read_to_string(name).unwrap().contains(&format!("\"content\":\"{text}\""))
            });
        }
    }
    for opened in server.log().iter().filter(|line| line["event"] == "session_opened") {
        let peer = opened["peer"].as_str().unwrap();
        assert!(
            ["127.0.0.7", "127.0.0.8"].iter().any(|address| peer.starts_with(address)),
            "{opened}"
        );
    }
    // Two connections of each are in use, of four.
    let _more: Vec<_> = (0..2).map(|_| follow("127.0.0.7", lines)).collect();
    eventually("six follow", || server.event_count("session_opened") == 6);
    let full = curl("127.0.0.7", "/rooms/ops", &[]).output().unwrap();
    let full = parse(&String::from_utf8(full.stdout).unwrap());
    assert_eq!(full.refusal(), (429, "rate_limited".to_owned()));
    let other = curl("127.0.0.8", "/rooms/ops", &[]).output().unwrap();
    assert!(String::from_utf8_lossy(&other.stdout).starts_with("HTTP/1.1 200"));
}
