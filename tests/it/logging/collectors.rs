//! The samples for collectors of logs in etc/.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::eventually;
use crate::support::server::Server;
use crate::support::wire::Wire;

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// A process that is killed on drop.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn rsyslog_writes_the_lines_as_they_came() {
    let mut server = Server::start();
    let (mut wire, _) = Wire::full(server.address(), "b\u{f3}b", "ops").await;
    let id = "a\u{202e}b\"\\";
    wire.send(serde_json::json!({"type": "chat_message", "room": "ops", "id": id, "content": "x"}))
        .await;
    wire.next_error().await;
    server.stop();
    server.wait_for_event("stopped");
    let lines = server.log_lines();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::create_dir(file("work")).unwrap();
    // As in Debian's rsyslog.conf, but with a socket of its own.
    let config = format!(
        "global(workDirectory=\"{}\" maxMessageSize=\"64k\")\n\
         module(load=\"imuxsock\" SysSock.Use=\"off\")\ninput(type=\"imuxsock\" Socket=\"{}\")\n{}",
        file("work").display(),
        file("log").display(),
        sample("rsyslog.conf").replace("/var/log/chat-server", &file("out").display().to_string()),
    );
    std::fs::write(file("conf"), config).unwrap();
    let child = Command::new("/usr/sbin/rsyslogd")
        .arg("-n")
        .arg("-f")
        .arg(file("conf"))
        .arg("-i")
        .arg(file("pid"))
        .stdin(Stdio::null())
        .spawn()
        .expect("rsyslogd is missing: run scripts/test");
    let _rsyslog = Killed(child);
    let socket = UnixDatagram::unbound().unwrap();
    eventually("rsyslogd listens", || socket.connect(file("log")).is_ok());
    for line in &lines {
        socket.send(format!("<30>Nov 26 19:00:00 chat-server[7]: {line}").as_bytes()).unwrap();
    }
    socket.send(b"<30>Nov 26 19:00:00 systemd[1]: Started chat-server.service").unwrap();
    let written = |name: &str| std::fs::read_to_string(file("out").join(name)).unwrap_or_default();
    eventually("every line is written", || {
        written("chat-server.json").lines().count() >= lines.len()
    });
    assert_eq!(written("chat-server.json").lines().collect::<Vec<_>>(), lines);
    let is_problem = |line: &&String| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["level"] == "warn" || line["level"] == "error"
    };
    let problems: Vec<&String> = lines.iter().filter(is_problem).collect();
    assert!(!problems.is_empty());
    eventually("every warning is written", || {
        written("problems.json").lines().count() >= problems.len()
    });
    assert_eq!(written("problems.json").lines().collect::<Vec<_>>(), problems);
}

/// Vector can't be installed here, so only the form of its sample is checked: it is TOML, and each input exists.
#[test]
fn the_sample_for_vector_connects_existing_parts() {
    let config: toml::Table = sample("vector.toml").parse().unwrap();
    let parts = |kind: &str| config[kind].as_table().unwrap().clone();
    let (sources, transforms) = (parts("sources"), parts("transforms"));
    for (name, part) in transforms.iter().chain(&parts("sinks")) {
        for input in part["inputs"].as_array().unwrap() {
            let input = input.as_str().unwrap();
            assert!(
                sources.contains_key(input) || transforms.contains_key(input),
                "{name}: {input}"
            );
        }
    }
}
