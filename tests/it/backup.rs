//! `chat-server backup` and `chat-server restore` (promise P26), through the real binaries.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::server::{Server, command};
use crate::support::stall::Stall;
use crate::support::wire::Wire;
use crate::support::{eventually, load_lock, programs};

/// No rate limit.
const FAST: &str = "[limits]\nrate_messages = 1000000\nrate_bytes = 1000000000\n";
const ROOM: &str = "lobby";
/// The longest that an ack may take on a busy machine while a backup is made.
const MAX_ACK_WAIT: Duration = Duration::from_secs(2);
/// Between two messages of the sender under load.
const PAUSE: Duration = Duration::from_millis(5);

fn say(server: &Server, texts: &[String]) {
    let lines: String = texts.iter().map(|text| text.clone() + "\n").collect();
    let sent = Client::pipe(&[&server.url(), "-u", "ci"], lines.as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
}

fn numbered(prefix: &str, numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(|number| format!("{prefix}-{number}")).collect()
}

fn history(server: &Server) -> Vec<String> {
    Client::pipe(&["history", "--url", &server.url(), "--since", "all"], b"").texts()
}

/// Reads `count` messages with a cursor: texts, and gaps as [reason, after, next].
fn read(server: &Server, cursor: &Path, count: usize) -> Vec<Value> {
    let (url, cursor, count) = (server.url(), cursor.display().to_string(), count.to_string());
    let arguments = ["-l", "--since", "all", "--cursor", &cursor, "-n", &count, "--timeout", "10s"];
    let done = Client::pipe(&[&[url.as_str()][..], &arguments].concat(), b"");
    assert_eq!(done.code, Some(0), "{done:?}");
    let told = done.lines.iter().filter_map(|line| {
        let line: Value = serde_json::from_str(line).expect(line);
        match line["type"].as_str() {
            Some("chat_message") => Some(line["content"].clone()),
            Some("gap") => Some(json!([line["reason"], line["after"], line["next"]])),
            _ => None,
        }
    });
    told.collect()
}

fn values(texts: &[String]) -> Vec<Value> {
    texts.iter().map(|text| Value::from(text.as_str())).collect()
}

/// A file of mode 0600.
fn secret(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn history_folder(server: &Server) -> PathBuf {
    server.state().join("history")
}

/// Every file below a folder with its content, without locks and SQLite's index of its log.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(content(&path));
        } else if !name.ends_with(".lock") && !name.ends_with("-shm") {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// What a refused command printed: one line with these words, and this exit code.
#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    for word in words {
        assert!(error.contains(word), "without {word:?}: {error}");
    }
}

/// Runs `chat-server` with one more environment variable.
fn run_with(server: &Server, variable: (&str, &str), arguments: &[&str]) -> Output {
    let folder = server.state().parent().unwrap().to_owned();
    command(&folder, &[])
        .args(arguments)
        .arg("--config")
        .arg(server.config_file())
        .env(variable.0, variable.1)
        .output()
        .unwrap()
}

/// A stopped server with its own empty history, on which a backup can be restored.
fn another() -> Server {
    let mut server = Server::with(FAST).start();
    assert!(server.stop().success());
    server
}

/// What a sender under load noted: each text whose ack came, with its seq.
#[derive(Default)]
struct Load {
    acked: Mutex<Vec<(u64, String)>>,
    /// The longest wait for an ack.
    longest: Mutex<Duration>,
    stopped: AtomicBool,
}

impl Load {
    fn note_wait(&self, wait: Duration) {
        let mut longest = self.longest.lock().unwrap();
        *longest = wait.max(*longest);
    }

    fn acked(&self) -> Vec<(u64, String)> {
        self.acked.lock().unwrap().clone()
    }
}

/// Sends a message every [`PAUSE`], until it is stopped.
async fn send(address: String, load: Arc<Load>) {
    let (mut wire, _) = Wire::full(&address, "load", ROOM).await;
    let mut due = Instant::now();
    for number in 1.. {
        let text = format!("load-{number}");
        let begun = Instant::now();
        wire.send_chat_in(ROOM, &format!("id-{number}"), &text).await;
        let seq = wire.next_of("ack").await["seq"].as_u64().unwrap();
        load.note_wait(begun.elapsed());
        load.acked.lock().unwrap().push((seq, text));
        if load.stopped.load(Ordering::Relaxed) {
            return;
        }
        due += PAUSE;
        tokio::time::sleep_until(due.into()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p26_a_backup_under_load_restored_elsewhere_loses_nothing_unsaid() {
    let _lock = load_lock();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (backup, sealed) = (file("chat.backup"), file("sealed.backup"));
    let passphrase = secret(folder.path(), "passphrase", b"correct horse battery staple\n");
    let mut server = Server::with(FAST).start();
    server.token("ana", &[]);
    // One reader that is away from now on, and one that goes on reading after the backup.
    let (away, reading) = (folder.path().join("away"), folder.path().join("reading"));
    tokio::task::block_in_place(|| {
        say(&server, &numbered("first", 1..=50));
        assert_eq!(read(&server, &away, 50).len(), 50);
        assert_eq!(read(&server, &reading, 50).len(), 50);
    });
    let load = Arc::new(Load::default());
    let sender = tokio::spawn(send(server.address().into(), load.clone()));
    eventually("100 acks", || load.acked().len() >= 100);
    let before = load.acked();
    let told = tokio::task::block_in_place(|| server.run_ok(&["backup", "--json", &backup]));
    let told: Value = serde_json::from_str(&told).unwrap();
    let during = load.acked().len() - before.len();
    assert!(during > 0, "the server stored nothing during the backup, so it was not under load");
    assert_eq!((&told["access"], &told["key"]), (&json!(true), &json!(false)));
    let with_key = ["backup", &sealed, "--with-key", "--passphrase-file", &passphrase];
    tokio::task::block_in_place(|| server.run_ok(&with_key));
    let so_far = load.acked().len();
    eventually("50 more acks", || load.acked().len() >= so_far + 50);
    load.stopped.store(true, Ordering::Relaxed);
    sender.await.unwrap();
    let longest = *load.longest.lock().unwrap();
    assert!(longest < MAX_ACK_WAIT, "an ack took {longest:?} while backups were made");
    let end = 50 + load.acked().len();
    let rest = tokio::task::block_in_place(|| read(&server, &reading, end - 50));
    assert_eq!(rest.len(), end - 50);
    assert_eq!(server.wait_for_event("audit")["action"], "backup");
    server.kill();

    // Elsewhere, with the key as a file.
    let mut other = another();
    let key = history_folder(&server).join("history.key").display().to_string();
    other.run_ok(&["restore", &backup, "--key-file", &key]);
    other.start_again();
    let found = other.wait_for_event("history_found")["message"].to_string();
    assert!(
        found.contains(&format!("restored from a backup of {}", told["made"].as_str().unwrap()))
    );
    let stored = tokio::task::block_in_place(|| history(&other));
    let count = told["messages"].as_u64().unwrap() as usize;
    let sent =
        |count: usize| [numbered("first", 1..=50), numbered("load", 1..=count - 50)].concat();
    assert_eq!(stored, sent(count), "lost, double, phantom or disordered");
    assert!((50 + before.len()..end).contains(&count), "{count} of {} acked before", before.len());
    for (seq, text) in &before {
        assert_eq!(stored[*seq as usize - 1], *text);
    }
    assert!(other.run_ok(&["token", "list", "--json"]).contains("\"ana\""));
    // Everybody is told, then gets everything, and is told nothing more.
    tokio::task::block_in_place(|| {
        say(&other, &numbered("new", 1..=3));
        let mut everything = [stored.clone(), numbered("new", 1..=3)].concat();
        for (cursor, after) in [(&away, 50), (&reading, end)] {
            let mut expected = vec![json!(["epoch", after, 1])];
            expected.extend(values(&everything));
            assert_eq!(read(&other, cursor, everything.len()), expected);
            say(&other, &numbered("more", after..=after));
            assert_eq!(read(&other, cursor, 1), [json!(format!("more-{after}"))]);
            everything.extend(numbered("more", after..=after));
        }
    });

    // Elsewhere, with the key that is in the backup. It opens with the passphrase only.
    let mut third = another();
    let untouched = content(&third.state());
    let wrong = secret(folder.path(), "wrong", b"incorrect horse\n");
    let refused = third.run(&["restore", &sealed, "--passphrase-file", &wrong]);
    assert_refused(&refused, 74, &["sealed.backup", "the passphrase is wrong"]);
    assert_eq!(content(&third.state()), untouched);
    third.run_ok(&["restore", &sealed, "--passphrase-file", &passphrase]);
    third.start_again();
    let stored = tokio::task::block_in_place(|| history(&third));
    assert_eq!(stored, sent(stored.len()));
    assert!(stored.len() >= 50 + before.len());
}

#[test]
fn a_backup_is_private_holds_no_clear_text_and_never_replaces_a_file() {
    let mut server = Server::start();
    server.token("walter", &[]);
    say(&server, &numbered("secret", 1..=3));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.backup");
    let name = file.display().to_string();
    let printed = server.run_ok(&["backup", &name]);
    assert!(printed.contains("3 messages in 1 rooms, access file"), "{printed}");
    assert!(printed.contains("history.key") && printed.lines().count() == 1, "{printed}");
    let found = file.metadata().unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    for word in ["secret-1", "walter", "lobby"] {
        let clear = bytes.windows(word.len()).any(|found| found == word.as_bytes());
        assert!(!clear, "{word} is in the file");
    }
    assert_refused(&server.run(&["backup", &name]), 74, &[&name, "exists"]);
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    let nowhere = folder.path().join("missing/chat.backup").display().to_string();
    assert_refused(&server.run(&["backup", &nowhere]), 74, &["missing"]);
    assert_refused(&server.run(&["backup", "-"]), 2, &["standard output"]);
    let readable = folder.path().join("readable");
    std::fs::write(&readable, "x").unwrap();
    std::fs::set_permissions(&readable, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (other, readable) = (format!("{name}2"), readable.display().to_string());
    let refused = server.run(&["backup", &other, "--with-key", "--passphrase-file", &readable]);
    assert_refused(&refused, 74, &["chmod 600"]);
    // A stopped server's history is backed up just as well, and stays as it was.
    assert!(server.stop().success());
    let before = std::fs::read(history_folder(&server).join("history.sqlite3")).unwrap();
    server.run_ok(&["backup", &other]);
    assert_eq!(std::fs::read(history_folder(&server).join("history.sqlite3")).unwrap(), before);
    server.start_again();
    assert_eq!(server.event_count("history_found"), 0, "{:?}", server.log_lines());
    // Nor does one of a killed server, which holds also what is only in the write-ahead log.
    say(&server, &numbered("late", 4..=5));
    server.kill();
    let printed = server.run_ok(&["backup", &format!("{name}3")]);
    assert!(printed.contains("5 messages in 1 rooms"), "{printed}");
    server.start_again();
    assert_eq!(server.event_count("history_found"), 0, "{:?}", server.log_lines());
    assert_eq!(history(&server).len(), 5);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn histories_that_are_not_on_disk_are_refused_in_plain_words() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("chat.backup").display().to_string();
    let memory = Server::with("[history]\nstore = \"memory\"\n").start();
    assert_refused(&memory.run(&["backup", &name]), 2, &["history.store", "disk"]);
    assert_refused(&memory.run(&["restore", &name]), 2, &["history.store", "disk"]);
    let server = another();
    std::fs::remove_dir_all(history_folder(&server)).unwrap();
    assert_refused(&server.run(&["backup", &name]), 74, &["no history to back up"]);
    assert!(!history_folder(&server).exists() && !Path::new(&name).exists());
}

#[test]
fn a_restore_refuses_a_running_server_and_a_newer_history() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("chat.backup").display().to_string();
    say(&server, &numbered("old", 1..=5));
    server.run_ok(&["backup", &name]);
    say(&server, &numbered("newer", 6..=8));
    assert_refused(&server.run(&["restore", &name]), 74, &["a server uses this history", "stop"]);
    assert_eq!(history(&server).len(), 8);
    assert!(server.stop().success());
    let before = content(&server.state());
    let year = "20";
    let refused = server.run(&["restore", &name]);
    assert_refused(&refused, 74, &["holds messages that the backup lacks: 3", year, "--replace"]);
    assert_eq!(content(&server.state()), before, "something was touched");
    // Also after a crash, when the newest messages are only in the write-ahead log.
    server.start_again();
    say(&server, &numbered("newest", 9..=9));
    server.kill();
    let before = content(&server.state());
    assert_refused(
        &server.run(&["restore", &name]),
        74,
        &["that the backup lacks: 4", "--replace"],
    );
    assert_eq!(content(&server.state()), before, "something was touched");
    // What is replaced is moved aside, and can itself be put back.
    let output = server.run(&["restore", &name, "--replace"]);
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{notes}");
    let aside = server.state().join("history.replaced-1");
    assert!(notes.contains(&aside.display().to_string()) && notes.contains("lacks: 4"), "{notes}");
    server.start_again();
    assert_eq!(history(&server), numbered("old", 1..=5));
    assert!(server.stop().success());
    std::fs::rename(history_folder(&server), folder.path().join("restored")).unwrap();
    std::fs::rename(aside, history_folder(&server)).unwrap();
    server.start_again();
    assert_eq!(history(&server).len(), 9);
}

#[test]
fn a_restore_refuses_whatever_is_not_a_sound_backup_and_touches_nothing() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let named = |name: &str| path(name).display().to_string();
    say(&server, &numbered("kept", 1..=40));
    server.run_ok(&["backup", &named("good")]);
    assert!(server.stop().success());
    let good = std::fs::read(path("good")).unwrap();
    std::fs::write(path("text"), "no backup at all\n".repeat(10)).unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("cut"), &good[..good.len() - 4096]).unwrap();
    std::fs::copy(history_folder(&server).join("history.sqlite3"), path("store")).unwrap();
    let change = |name: &str, sql: &str| {
        std::fs::write(path(name), &good).unwrap();
        rusqlite::Connection::open(path(name)).unwrap().execute_batch(sql).unwrap();
    };
    change("newer", "PRAGMA user_version = 900");
    change("form", "UPDATE backup SET value = '99' WHERE name = 'form'");
    change("missing", "DELETE FROM records WHERE seq = 7");
    change("ids", "UPDATE ids SET seq = 3 WHERE seq = 4");
    change("swapped", "UPDATE records SET sealed = (SELECT sealed FROM records WHERE seq = 1)");
    change("trigger", "CREATE TRIGGER t AFTER INSERT ON ids BEGIN DELETE FROM records; END");
    let other = another();
    let key = history_folder(&other).join("history.key").display().to_string();
    let before = content(&server.state());
    for (name, words) in [
        ("none", &["No such file"][..]),
        ("text", &["not a backup"]),
        ("empty", &["not a backup", "too short"]),
        ("store", &["not a backup", "it is the history itself"]),
        ("cut", &["damaged"]),
        ("newer", &["newer chat-server", "900"]),
        ("form", &["newer chat-server", "99"]),
        ("missing", &["damaged", "should hold 40 messages"]),
        ("ids", &["damaged"]),
        ("swapped", &["damaged"]),
        ("trigger", &["damaged"]),
    ] {
        let name = named(name);
        let refused = server.run(&["restore", &name, "--replace"]);
        assert_refused(&refused, 74, &[words, &[&name]].concat());
    }
    let refused = server.run(&["restore", &named("good"), "--replace", "--key-file", &key]);
    assert_refused(&refused, 74, &["under another at-rest key", "--key-file"]);
    assert_eq!(content(&server.state()), before, "something was touched");
    // Changed bytes: refused, or in a place that holds nothing.
    for at in (100..good.len()).step_by(good.len() / 60) {
        let mut changed = good.clone();
        changed[at] ^= 0x20;
        std::fs::write(path("changed"), &changed).unwrap();
        let output = server.run(&["restore", &named("changed"), "--replace"]);
        if output.status.success() {
            server.start_again();
            assert_eq!(history(&server), numbered("kept", 1..=40), "byte {at}");
            assert!(server.stop().success());
        }
    }
    // No key at all.
    let target = another();
    std::fs::remove_dir_all(history_folder(&target)).unwrap();
    let refused = target.run(&["restore", &named("good")]);
    assert_refused(&refused, 2, &["does not hold the at-rest key", "--key-file"]);
    assert!(!history_folder(&target).exists());
}

#[test]
fn a_key_for_a_public_key_is_left_to_age() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("chat.backup").display().to_string();
    let recipient = "age1neq7kjr9nk7dvnx9wjz4fjjjenylzrj536tcrr5z3h8zmsmul32sureyhk";
    let refused = server.run(&["backup", &name, "--with-key", "--recipient", &recipient[..40]]);
    assert_refused(&refused, 2, &["--recipient must be a public key"]);
    let printed = server.run_ok(&["backup", &name, "--with-key", "--recipient", recipient]);
    assert!(printed.contains("with the at-rest key, encrypted"), "{printed}");
    let target = another();
    std::fs::remove_dir_all(history_folder(&target)).unwrap();
    assert_refused(&target.run(&["restore", &name]), 2, &["encrypted", "--passphrase-file"]);
    let passphrase = secret(folder.path(), "passphrase", b"correct horse\n");
    let refused = target.run(&["restore", &name, "--passphrase-file", &passphrase]);
    assert_refused(&refused, 74, &["chat.backup", "age -d"]);
}

#[test]
fn a_key_without_a_history_is_moved_aside_and_a_mount_point_is_refused() {
    let mut source = Server::start();
    say(&source, &numbered("kept", 1..=5));
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("chat.backup").display().to_string();
    source.run_ok(&["backup", &name]);
    let key = history_folder(&source).join("history.key").display().to_string();
    let mut target = another();
    let history_of_target = history_folder(&target);
    let other_key = std::fs::read(history_of_target.join("history.key")).unwrap();
    std::fs::remove_file(history_of_target.join("history.sqlite3")).unwrap();
    let output = target.run(&["restore", &name, "--key-file", &key]);
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    let aside = history_of_target.join("history.key.replaced-1");
    assert!(notes.contains(&aside.display().to_string()), "{notes}");
    assert_eq!(std::fs::read(aside).unwrap(), other_key);
    target.start_again();
    assert_eq!(history(&target), numbered("kept", 1..=5));
    // A folder that can't be exchanged, because it is a mount point.
    assert!(source.stop().success());
    let before = content(&source.state());
    let script = format!(
        "mount --bind {history} {history} && {program} restore {name} --config {config}",
        history = history_folder(&source).display(),
        program = programs::server().display(),
        config = source.config_file().display(),
    );
    let refused = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("STATE_DIRECTORY", source.state())
        .output()
        .unwrap();
    assert_refused(&refused, 74, &["can't be replaced in one step", "move the files in it away"]);
    assert_eq!(content(&source.state()), before, "something was touched");
}

#[test]
fn an_access_file_that_is_there_is_kept_because_tokens_may_be_revoked_since() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("chat.backup").display().to_string();
    server.token("ana", &[]);
    server.run_ok(&["backup", &name]);
    server.run_ok(&["token", "revoke", &server.token_id("ana")]);
    server.token("bob", &[]);
    assert!(server.stop().success());
    let output = server.run(&["restore", &name]);
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && notes.contains("access.json was kept"), "{notes}");
    let listed = server.run_ok(&["token", "list", "--json"]);
    assert!(listed.contains("bob") && !listed.contains("ana"), "{listed}");
    server.run_ok(&["restore", &name, "--replace-access"]);
    let listed = server.run_ok(&["token", "list", "--json"]);
    assert!(listed.contains("ana") && !listed.contains("bob"), "{listed}");
    assert!(server.state().join("access.json.replaced-1").exists());
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let mut server = Server::start();
    say(
        &server,
        &(1..=100).map(|number| format!("{number} {}", "x".repeat(3000))).collect::<Vec<_>>(),
    );
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let name = folder.path().join("chat.backup").display().to_string();
    server.run_ok(&["backup", &name]);
    assert!(server.stop().success());
    // A small disk in a mount namespace of its own.
    let run_on_small_disk = |state: &Path, arguments: &str| {
        let script = format!(
            "mount -t tmpfs -o size=128k none {small} && {program} {arguments} --config {config}; code=$?; \
             find {small} -type f -size +0; exit $code",
            small = small.display(),
            program = programs::server().display(),
            config = server.config_file().display(),
        );
        std::process::Command::new("unshare")
            .args(["-rm", "sh", "-c", &script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("STATE_DIRECTORY", state)
            .output()
            .unwrap()
    };
    let target = small.join("chat.backup").display().to_string();
    let refused = run_on_small_disk(&server.state(), &format!("backup {target}"));
    assert_refused(&refused, 74, &[&target, "no space left"]);
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "", "left behind");
    let key = history_folder(&server).join("history.key");
    let arguments = format!("restore {name} --key-file {}", key.display());
    let refused = run_on_small_disk(&small, &arguments);
    assert_refused(&refused, 74, &["no space left"]);
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "", "left behind");
    // A limit on the size of a file is told apart.
    let limited = |state: &Path, arguments: &[&str]| {
        std::process::Command::new("prlimit")
            .args(["--fsize=131072", "--"])
            .arg(programs::server())
            .args(arguments)
            .arg("--config")
            .arg(server.config_file())
            .env_clear()
            .env("STATE_DIRECTORY", state)
            .output()
            .unwrap()
    };
    let target = folder.path().join("limited.backup").display().to_string();
    let refused = limited(&server.state(), &["backup", &target]);
    assert_refused(&refused, 74, &[&target, "ulimit -f"]);
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let refused = limited(&empty, &["restore", &name, "--key-file", &key.display().to_string()]);
    assert_refused(&refused, 74, &["ulimit -f"]);
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    let left = names(folder.path());
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("limited")), "{left:?}");
}

#[test]
fn a_backup_that_is_killed_leaves_a_file_that_the_next_one_removes() {
    if !programs::have_faults("a_backup_that_is_killed_leaves_a_file_that_the_next_one_removes") {
        return;
    }
    let server = Server::start();
    say(&server, &numbered("kept", 1..=5));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.backup");
    let name = file.display().to_string();
    let names = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    for point in ["backup_copied", "backup_written"] {
        let killed = run_with(&server, ("CHAT_TEST_ABORT", point), &["backup", &name]);
        assert_eq!(killed.status.code(), None, "{point} was not reached: {killed:?}");
        let names = names();
        assert!(names.len() == 1 && names[0].ends_with(".part"), "{point}: {names:?}");
    }
    // SQLite keeps a journal beside its copy; it may even be left alone.
    for name in [&names()[0], ".chat-server-backup-0000000000000000.part"] {
        std::fs::write(folder.path().join(format!("{name}-journal")), "journal").unwrap();
    }
    server.run_ok(&["backup", &name]);
    assert_eq!(names(), ["chat.backup"]);
    assert_eq!(history(&server).len(), 5);
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_history_or_the_new_one() {
    if !programs::have_faults("a_restore_that_is_killed_leaves_the_old_history_or_the_new_one") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("chat.backup").display().to_string();
    let source = Server::start();
    say(&source, &numbered("restored", 1..=5));
    source.run_ok(&["backup", &name]);
    let key = history_folder(&source).join("history.key").display().to_string();
    let restore = ["restore", &name, "--replace", "--key-file", &key];
    for in_place in [false, true] {
        for (point, done) in
            [("restore_copied", false), ("restore_built", false), ("restore_exchanged", true)]
        {
            let mut target = Server::start();
            say(&target, &numbered("old", 1..=3));
            assert!(target.stop().success());
            if in_place {
                std::fs::remove_dir_all(history_folder(&target)).unwrap();
            }
            let killed = run_with(&target, ("CHAT_TEST_ABORT", point), &restore);
            assert_eq!(killed.status.code(), None, "{point} was not reached: {killed:?}");
            target.start_again();
            let expected = match (done, in_place) {
                (true, _) => numbered("restored", 1..=5),
                (false, true) => Vec::new(),
                (false, false) => numbered("old", 1..=3),
            };
            assert_eq!(history(&target), expected, "{point}, in place: {in_place}");
            // The same command again completes it, and no part is left.
            assert!(target.stop().success());
            target.run_ok(&restore);
            let found = content(&target.state());
            let part = found.keys().find(|path| path.display().to_string().contains("restoring"));
            assert_eq!(part, None, "{point}, in place: {in_place}");
            target.start_again();
            assert_eq!(history(&target), numbered("restored", 1..=5), "{point}");
        }
    }
}

#[test]
fn files_of_backup_and_restore_belong_to_the_owner_of_their_folder() {
    const SERVICE_UID: u32 = 61_234;
    let mut server = Server::start();
    if server.state().metadata().unwrap().uid() != 0 {
        eprintln!("skipped: only root can give files to another user");
        return;
    }
    say(&server, &numbered("kept", 1..=3));
    server.token("ana", &[]);
    assert!(server.stop().success());
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("chat.backup").display().to_string();
    chown(folder.path(), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    let history = history_folder(&server);
    for path in [&server.state(), &history] {
        chown(path, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    }
    for path in content(&server.state()).into_keys() {
        chown(path, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    }
    chown(history.join("history.lock"), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    chown(server.state().join("access.lock"), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    server.run_ok(&["backup", &name]);
    assert_eq!(Path::new(&name).metadata().unwrap().uid(), SERVICE_UID);
    std::fs::remove_file(server.state().join("access.json")).unwrap();
    server.run_ok(&["restore", &name]);
    let mut folders = vec![server.state()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(path.metadata().unwrap().uid(), SERVICE_UID, "{}", path.display());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(server.state().join("access.json").exists());
    assert!(server.state().join("history.replaced-1").exists());
}

#[test]
fn two_backups_at_the_same_time_do_not_disturb_each_other() {
    let test = "two_backups_at_the_same_time_do_not_disturb_each_other";
    let Some(stall) = Stall::at("backup_copied", test) else { return };
    let server = Server::start();
    say(&server, &numbered("kept", 1..=5));
    let folder = tempfile::tempdir().unwrap();
    let named = |name: &str| folder.path().join(name).display().to_string();
    stall.begin();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let (name, value) = stall.variable();
            run_with(&server, (name, &value), &["backup", &named("first")])
        });
        // The first one has a complete copy and waits.
        eventually("a part of 4 KiB or more", || {
            let mut entries = std::fs::read_dir(folder.path()).unwrap().flatten();
            entries.any(|entry| entry.metadata().is_ok_and(|found| found.len() >= 4096))
        });
        server.run_ok(&["backup", &named("second")]);
        stall.end();
        let first = first.join().unwrap();
        assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    });
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    let names: Vec<_> = names.iter().map(std::fs::DirEntry::file_name).collect();
    assert_eq!(names, ["first", "second"]);
}

/// The fenced `sh` blocks of docs/backup.md, in order.
fn documented_commands() -> String {
    let page = include_str!("../../docs/backup.md");
    let mut commands = String::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => commands.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    commands
}

#[test]
fn the_commands_of_the_page_about_backups_work_as_they_stand() {
    let mut server = Server::start();
    say(&server, &numbered("kept", 1..=3));
    server.token("ana", &[]);
    let folder = tempfile::tempdir().unwrap();
    let tools = folder.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    // In place of sudo and systemd: the commands run as they stand, and the server stops when told.
    let tool = |name: &str, script: &str| {
        let path = tools.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    tool("sudo", "exec \"$@\"");
    let pid = server.pid();
    tool(
        "systemctl",
        &format!(
            "[ $1 != stop ] || {{ kill -TERM {pid}; \
             while grep '^State:' /proc/{pid}/status | grep -qv Z; do sleep 0.1; done; }}"
        ),
    );
    let program = programs::server();
    let path = format!(
        "{}:{}:{}",
        tools.display(),
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let commands = documented_commands();
    assert!(commands.contains("backup") && commands.contains("restore"), "{commands}");
    let output = std::process::Command::new("sh")
        .args(["-euxc", &commands])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder.path())
        .env("CHAT_SERVER_CONFIG", server.config_file())
        .env("STATE_DIRECTORY", server.state())
        .env("RUNTIME_DIRECTORY", server.state().parent().unwrap().join("run"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.wait();
    server.start_again();
    assert_eq!(history(&server), numbered("kept", 1..=3));
}
