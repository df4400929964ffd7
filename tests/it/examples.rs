//! The examples of README.md, README.es.md and docs/*.md, run as they stand.
//!
//! Every block of shell code is run, unless the line before it is a comment `<!-- not run by the tests: … -->`, or it is
//! a whole program of docs/bots.md, which tests/it/bots/examples.rs runs, or it needs root (`sudo`). A command that
//! listens must print what is sent
//! meanwhile; any other must end with 0 and leave standard error empty.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::server::Server;
use crate::support::{eventually, programs};

const MARK: &str = "<!-- not run by the tests: ";

/// A command of a page, with the place where it stands.
struct Example {
    place: String,
    command: String,
}

/// Kills the process group on drop.
struct Group(std::process::Child);

impl Drop for Group {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        // Most commands have ended by then.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> =
        docs.filter(|page| page.extension().is_some_and(|kind| kind == "md")).collect();
    pages.sort();
    pages.splice(0..0, [root.join("README.md"), root.join("README.es.md")]);
    pages
}

/// The commands of a page that are run.
fn examples(page: &Path) -> Vec<Example> {
    let text = std::fs::read_to_string(page).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut number = 0;
    while number < lines.len() {
        let fence = lines[number];
        number += 1;
        if !fence.starts_with("```") {
            continue;
        }
        let start = number;
        while lines[number] != "```" {
            number += 1;
        }
        let block = &lines[start..number];
        number += 1;
        let is_marked = start >= 2 && lines[start - 2].starts_with(MARK);
        let is_program = block.first().is_some_and(|line| line.starts_with("#!"));
        let console = match fence {
            "```sh" => false,
            "```console" => true,
            _ => continue,
        };
        let needs_root = block.iter().any(|line| line.split(' ').any(|word| word == "sudo"));
        if is_marked || is_program || needs_root {
            continue;
        }
        let mut command = String::new();
        for (index, line) in block.iter().enumerate() {
            let line = match (console, command.is_empty()) {
                (true, true) => match line.strip_prefix("$ ") {
                    Some(line) => line,
                    // What a command prints.
                    None => continue,
                },
                _ => line,
            };
            command.push_str(line);
            command.push('\n');
            let code = line.split("  #").next().unwrap().trim_end();
            if code.ends_with('|') || code.ends_with('\\') || line.trim().is_empty() {
                continue;
            }
            let place = format!("{}:{}", page.file_name().unwrap().display(), start + index + 1);
            found.push(Example { place, command: std::mem::take(&mut command) });
        }
    }
    found
}

struct World {
    server: Server,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let world = World { server: Server::start(), folder: tempfile::tempdir().unwrap() };
        // The programs that the examples name.
        for name in ["answer", "responde"] {
            let program = world.folder.path().join(name);
            std::fs::write(&program, "#!/bin/sh\necho an answer\n").unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        world
    }

    fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", format!("{}:{path}", programs::client().parent().unwrap().display()))
            .env("HOME", self.folder.path())
            .env("USER", "tester")
            .env("LANG", "C.UTF-8")
            .env("CHAT_URL", self.server.url())
            .env("CHAT", self.server.url().replacen("ws", "http", 1))
            .envs([("JOB", "7"), ("N", "7")])
            .stdin(Stdio::null());
        command
    }

    fn client(&self, arguments: &[&str]) -> String {
        let output = self.command("chat-client").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self, Example { place, command }: &Example) {
        let file = |name: &str| self.folder.path().join(name);
        let open = |name: &str| std::fs::File::create(file(name)).unwrap();
        let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
        let child = self
            .command("bash")
            .args(["-o", "pipefail", "-c", command])
            .stdout(open("printed"))
            .stderr(open("errors"))
            .process_group(0)
            .spawn()
            .unwrap();
        let mut group = Group(child);
        if !command.contains("--listen") {
            eventually(&format!("{place} ends: {command}"), || {
                group.0.try_wait().unwrap().is_some()
            });
            let status = group.0.wait().unwrap();
            assert!(status.success(), "{place}: {status}: {command}{}", read("errors"));
        } else if command.contains("--exec") {
            // Its answer is in the room of the question.
            eventually(&format!("{place} answers: {command}"), || {
                ["ops", "lobby"].iter().any(|room| {
                    self.client(&["-u", "ann", "-r", room, "send", "!ping"]);
                    let history = self.client(&["history", "-r", room, "--output", "plain"]);
                    ["an answer", "pong"].iter().any(|answer| history.contains(answer))
                })
            });
        } else {
            let text = format!("said at {place}");
            eventually(&format!("{place} prints: {command}{}", read("errors")), || {
                self.client(&["-u", "ann", "-r", "ops", "send", &text]);
                read("printed").contains(&text)
            });
            assert!(!read("printed").contains("null"), "{place}: {}", read("printed"));
        }
        assert_eq!(read("errors"), "", "{place}: {command}");
    }
}

#[test]
fn every_example_runs_as_it_stands() {
    let mut run = 0;
    for page in pages() {
        // A server of its own per page: no page reads what another one sent.
        let examples = examples(&page);
        if !examples.is_empty() {
            let world = World::new();
            examples.iter().for_each(|example| world.run(example));
            run += examples.len();
        }
    }
    assert!(run >= 15, "only {run} examples were found");
}
