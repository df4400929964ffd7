//! The bots of docs/bots.md, run exactly as the page has them.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::server::Server;
use crate::support::{eventually, programs};

/// A bot in its own process group, which is killed on drop.
struct Bot(Child);

impl Drop for Bot {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

struct BotTest {
    server: Server,
    folder: tempfile::TempDir,
}

impl BotTest {
    fn open() -> BotTest {
        BotTest { server: Server::start(), folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a program of the block in docs/bots.md whose second line names the bot.
    fn bot(&self, name: &str, arguments: &[&str]) -> Command {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bots.md");
        let page = std::fs::read_to_string(page).unwrap();
        let block = page
            .split("```sh\n")
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap())
            .find(|block| block.lines().nth(1).unwrap().starts_with(&format!("# {name}")))
            .unwrap_or_else(|| panic!("docs/bots.md has no {name}"));
        assert!(block.lines().count() < 10, "{name} is longer than nine lines");
        let program = self.path(name);
        std::fs::write(&program, block).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = self.with_url("sh");
        command.arg(program).args(arguments);
        command
    }

    fn with_url(&self, program: impl AsRef<OsStr>) -> Command {
        let ours = programs::client();
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(program);
        command
            .env("PATH", format!("{}:{path}", ours.parent().unwrap().display()))
            .env("CHAT_URL", self.server.url())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, mut bot: Command) -> Bot {
        Bot(bot.stdout(Stdio::null()).process_group(0).spawn().unwrap())
    }

    /// Sends a message to a room as `ann`.
    fn send_chat(&self, room: &str, text: &str) {
        let output = self
            .with_url(programs::client())
            .args(["-u", "ann", "-r", room, "send", text])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The messages of a room, as `user: text`.
    fn messages(&self, room: &str) -> Vec<String> {
        let history = self
            .with_url(programs::client())
            .args(["-u", "reader", "-r", room, "--output", "json", "history"])
            .output()
            .unwrap();
        assert!(history.status.success(), "{}", String::from_utf8_lossy(&history.stderr));
        String::from_utf8(history.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|line| line["type"] == "chat_message")
            .map(|line| {
                let word = |field: &str| line[field].as_str().unwrap().to_owned();
                format!("{}: {}", word("username"), word("content"))
            })
            .collect()
    }
}

#[test]
fn the_disk_alert_sends_only_above_its_limit() {
    let test = BotTest::open();
    let quiet = test.bot("disk-alert", &["/"]).env("LIMIT", "101").status().unwrap();
    assert!(quiet.success());
    assert_eq!(test.messages("ops"), [""; 0]);
    let loud = test.bot("disk-alert", &["/"]).env("LIMIT", "0").output().unwrap();
    assert!(loud.status.success(), "{}", String::from_utf8_lossy(&loud.stderr));
    let messages = test.messages("ops");
    assert_eq!(messages.len(), 1);
    assert!(messages[0].starts_with("disk: disk / is "), "{messages:?}");
}

#[test]
fn the_log_watch_sends_new_error_lines() {
    let test = BotTest::open();
    let file = test.path("app.log");
    std::fs::write(&file, "ERROR from before\n").unwrap();
    let _bot = test.run(test.bot("log-watch", &[file.to_str().unwrap()]));
    // Only lines after `tail` opened the file count, and nothing shows when that is; so write until it works.
    eventually("the complaint is in the room", || {
        let mut log = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
        std::io::Write::write_all(&mut log, b"all is well\nERROR disk on fire\n").unwrap();
        test.messages("ops").contains(&"watch: ERROR disk on fire".to_owned())
    });
    let messages = test.messages("ops");
    assert!(messages.iter().all(|line| line == "watch: ERROR disk on fire"), "{messages:?}");
}

#[test]
fn the_uptime_bot_answers_only_requests() {
    let test = BotTest::open();
    let _bot = test.run(test.bot("uptime-bot", &[]));
    eventually("an answer", || {
        test.send_chat("ops", "nothing of interest");
        test.send_chat("ops", "!uptime");
        test.messages("ops").iter().any(|line| line.starts_with("uptime: up "))
    });
    let answers = |messages: &[String], who: &str| {
        messages.iter().filter(|line| line.starts_with(who)).count()
    };
    let messages = test.messages("ops");
    let asked = messages.iter().filter(|line| *line == "ann: !uptime").count();
    assert!(
        answers(&messages, "uptime: ") <= asked,
        "it answers only what it was asked: {messages:?}"
    );
}

#[test]
fn the_bridge_copies_messages_both_ways_without_a_loop() {
    let test = BotTest::open();
    let _there = test.run(test.bot("bridge", &["ops", "dev"]));
    let _back = test.run(test.bot("bridge", &["dev", "ops"]));
    eventually("it is carried over", || {
        test.send_chat("ops", "hola");
        test.messages("dev").contains(&"bridge: ann: hola".to_owned())
    });
    eventually("and back", || {
        test.send_chat("dev", "adios");
        test.messages("ops").contains(&"bridge: ann: adios".to_owned())
    });
    let everything = [test.messages("ops"), test.messages("dev")].concat();
    assert!(!everything.iter().any(|line| line.contains("bridge: bridge")), "{everything:?}");
}

#[test]
fn the_logger_resumes_after_a_restart() {
    let test = BotTest::open();
    let file = test.path("ops.jsonl");
    let lines = || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let content = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["content"].clone()
        };
        text.lines().map(content).collect::<Vec<_>>()
    };
    test.send_chat("ops", "before it");
    let bot = test.run(test.bot("logger", &[file.to_str().unwrap()]));
    eventually("the first line and its cursor", || {
        let cursor = std::fs::read_to_string(test.path("ops.jsonl.cursor")).unwrap_or_default();
        lines() == ["before it"] && cursor.contains("\"seq\":1}")
    });
    drop(bot);
    test.send_chat("ops", "while it was away");
    let _again = test.run(test.bot("logger", &[file.to_str().unwrap()]));
    eventually("what it missed, and nothing twice", || {
        lines() == ["before it", "while it was away"]
    });
}
