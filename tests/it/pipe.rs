//! What `chat-client` in a pipe promises of its input, its output, its cursor and its end.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::{Client, Finished, command};
use crate::support::server::Server;
use crate::support::{TIMEOUT, eventually};

const FAST: &str = "[limits]\nrate_messages = 1000000\nrate_bytes = 1000000000\n";
const SLOW: &str = "[limits]\nrate_messages = 10\nrate_per = \"1s\"\n";

fn numbers(first: u64, last: u64) -> String {
    (first..=last).map(|number| format!("{number}\n")).collect()
}

fn history(server: &Server, options: &[&str]) -> Finished {
    let url = server.url();
    let usual = ["history", "--url", &url];
    let arguments: Vec<&str> = usual.into_iter().chain(options.iter().copied()).collect();
    Client::pipe(&arguments, b"")
}

/// The numbers in `line 3-5, 9` of an error.
fn named_lines(errors: &str) -> Vec<u64> {
    let Some((_, rest)) = errors.split_once("not known to be stored: line ") else { return vec![] };
    let words =
        rest.split([',', '\n', ' ']).filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let rest_of_input = rest.contains("every line after");
    let mut words: Vec<&str> = words.collect();
    if rest_of_input {
        words.pop();
    }
    let range = |word: &str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        first.parse::<u64>().unwrap()..=last.parse().unwrap()
    };
    words.into_iter().flat_map(range).collect()
}

#[test]
fn a_signal_stops_reading_and_the_lines_that_are_not_stored_are_named() {
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let server = Server::with(SLOW).start();
        let mut client = Client::start_with_default_signals(&[&server.url(), "-q"]);
        client.write(&numbers(1, 300));
        eventually("some lines are stored", || server.event_count("session_opened") == 1);
        let before = Instant::now();
        client.signal(name);
        let ended = client.wait_for_exit(TIMEOUT);
        assert!(before.elapsed() < Duration::from_secs(10), "{name}: {:?}", before.elapsed());
        assert_eq!((ended.code, ended.signal), (None, Some(number)), "{name}: {}", ended.errors);
        assert!(ended.errors.contains(&format!("ended by SIG{name}")), "{}", ended.errors);
        let stored: Vec<u64> =
            history(&server, &[]).texts().iter().map(|text| text.parse().unwrap()).collect();
        let named = named_lines(&ended.errors);
        let all: Vec<u64> = (1..=300).collect();
        let missing: Vec<u64> = all
            .into_iter()
            .filter(|line| !stored.contains(line) && !named.contains(line))
            .collect();
        assert!(
            missing.is_empty(),
            "{name}: neither stored nor named: {missing:?}\n{}",
            ended.errors
        );
        assert!(!named.is_empty(), "{name}: the test needs lines that are not stored");
    }
}

#[test]
fn a_signal_ends_a_listener_and_a_blocked_one_at_once() {
    let server = Server::with(FAST).start();
    let mut quiet = Client::start(&[&server.url(), "-l"]);
    eventually("it listens", || server.event_count("session_opened") == 1);
    quiet.signal("TERM");
    let ended = quiet.wait_for_exit(TIMEOUT);
    assert_eq!((ended.signal, ended.errors.as_str()), (Some(15), ""));

    let text = format!("{}\n", "x".repeat(1000)).repeat(300);
    Client::pipe(&[&server.url(), "-q"], text.as_bytes());
    let mut blocked = command()
        .args([&server.url(), "-l", "--since", "all"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // One byte shows that it prints; then nothing is read.
    blocked.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let kill = std::process::Command::new("kill").arg(blocked.id().to_string()).status().unwrap();
    assert!(kill.success());
    let mut status = None;
    eventually("the blocked listener ends", || {
        status = blocked.try_wait().unwrap();
        status.is_some()
    });
}

#[test]
fn an_ignored_hangup_stays_ignored() {
    let server = Server::start();
    let script = "trap '' HUP; exec \"$0\" \"$@\"";
    let mut nohup = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(command().get_program())
        .args([&server.url(), "-l", "-n", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it listens", || server.event_count("session_opened") == 1);
    let kill = std::process::Command::new("kill").args(["-HUP", &nohup.id().to_string()]).status();
    assert!(kill.unwrap().success());
    Client::pipe(&["send", "--url", &server.url(), "after the hangup"], b"");
    let mut printed = String::new();
    nohup.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(printed.contains("after the hangup"), "{printed}");
    assert_eq!(nohup.wait().unwrap().code(), Some(0));
}

#[test]
fn a_client_that_was_stopped_gives_up_nothing() {
    let server = Server::with(SLOW).start();
    let mut client = Client::start(&[&server.url(), "-q", "--timeout", "2s"]);
    client.write(&numbers(1, 30));
    eventually("it sends", || server.event_count("session_opened") == 1);
    client.signal("STOP");
    std::thread::sleep(Duration::from_secs(4));
    client.signal("CONT");
    let ended = client.finish(TIMEOUT);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(history(&server, &[]).texts().len(), 30);
}

#[test]
fn a_reader_that_looks_away_costs_nothing() {
    // The pipe is full long before the last ack.
    let server = Server::with(SLOW).start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    let line = "x".repeat(3000);
    let lines: String = (1..=60).map(|number| format!("{number} {line}\n")).collect();
    std::fs::write(&file, lines).unwrap();
    let client = command()
        .args([&server.url(), "--timeout", "2s"])
        .stdin(std::fs::File::open(&file).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(6));
    let output = client.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.matches("\"chat_message\"").count(), 60, "{errors}");
}

#[test]
fn the_cursor_is_the_place_of_the_last_printed_line() {
    let server = Server::with(FAST).start();
    Client::pipe(&[&server.url(), "-q"], numbers(1, 1200).as_bytes());
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let seq = || {
        let text = std::fs::read_to_string(&cursor).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["rooms"]["lobby"]["seq"].as_u64().unwrap()
    };
    let path = cursor.to_str().unwrap();
    let url = server.url();
    for first in [1, 3, 5] {
        let ended = Client::pipe(&[&url, "-l", "--since", "all", "--cursor", path, "-n", "2"], b"");
        assert_eq!(ended.texts(), [first.to_string(), (first + 1).to_string()]);
        assert_eq!(seq(), first + 1);
    }
    let ended = history(&server, &["--cursor", path, "-n", "1"]);
    assert_eq!((ended.texts(), seq()), (vec!["7".to_owned()], 7));
    assert_eq!(history(&server, &["--cursor", path, "--until", "9"]).texts(), ["8", "9"]);
    assert_eq!(seq(), 9);
    let rest = history(&server, &["--cursor", path]);
    assert_eq!((rest.texts().len(), seq()), (1191, 1200));
    // With nothing to read, nothing moves.
    assert_eq!(history(&server, &["--cursor", path]).lines.len(), 0);
    Client::pipe(&[&url, "-q"], b"new\n");
    assert_eq!(history(&server, &["--cursor", path]).texts(), ["new"]);
    assert_eq!(seq(), 1201);
}

#[test]
fn two_rooms_keep_their_own_place_when_the_count_is_reached() {
    let server = Server::with(FAST).start();
    for room in ["a", "b"] {
        Client::pipe(&[&server.url(), "-q", "-r", room], numbers(1, 5).as_bytes());
    }
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let path = cursor.to_str().unwrap();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let read = history(&server, &["-r", "a", "-r", "b", "--cursor", path, "-n", "2"]);
        let frames = read.lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        seen.extend(
            frames.map(|frame| (frame["room"].to_string(), frame["seq"].as_u64().unwrap())),
        );
    }
    seen.sort();
    let expected: Vec<(String, u64)> = ["\"a\"", "\"b\""]
        .iter()
        .flat_map(|room| (1..=5).map(|seq| ((*room).to_owned(), seq)))
        .collect();
    assert_eq!(seen, expected, "everything once");
}

#[test]
fn a_file_that_was_full_has_every_message_in_whole_lines() {
    let server = Server::with(FAST).start();
    Client::pipe(&[&server.url(), "-q"], numbers(1, 500).as_bytes());
    let folder = tempfile::tempdir().unwrap();
    let (file, cursor) = (folder.path().join("log"), folder.path().join("cursor"));
    let run = |before: &str| {
        let script = format!("{before} exec \"$0\" \"$@\" >>\"$FILE\"");
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .arg(command().get_program())
            .args(["history", "--url", &server.url(), "--cursor"])
            .arg(&cursor)
            .env("FILE", &file)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // A limit of the file size fails like a full disk: a part of the write is done, the rest is not.
    let (code, errors) = run("ulimit -f 20;");
    assert_eq!(code, Some(74), "{errors}");
    assert!(errors.contains("standard output can't be written"), "{errors}");
    let (code, errors) = run("");
    assert_eq!(code, Some(0), "{errors}");
    let mut seqs: Vec<u64> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line)["seq"].as_u64().unwrap())
        .collect();
    seqs.dedup();
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs, (1..=500).collect::<Vec<_>>(), "at least once");
}

#[test]
fn a_file_that_ends_within_a_line_is_continued_on_a_new_line() {
    let server = Server::start();
    Client::pipe(&[&server.url(), "-q"], b"uno\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    std::fs::write(&file, "{\"half\":").unwrap();
    let status = command()
        .args(["history", "--url", &server.url(), "--cursor"])
        .arg(folder.path().join("cursor"))
        .stdout(std::fs::File::options().append(true).open(&file).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    let text = std::fs::read_to_string(&file).unwrap();
    let (first, second) = text.split_once('\n').unwrap();
    assert_eq!(first, "{\"half\":");
    assert_eq!(serde_json::from_str::<Value>(second).unwrap()["content"], "uno");
}

#[test]
fn a_cursor_file_has_one_user() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let path = cursor.to_str().unwrap();
    std::fs::write(&cursor, "").unwrap();
    let mut first = Client::start(&[&server.url(), "-l", "--cursor", path]);
    eventually("it listens", || server.event_count("session_opened") == 1);
    let second = Client::pipe(&[&server.url(), "-l", "--cursor", path], b"");
    assert_eq!(second.code, Some(73));
    assert!(second.errors.contains("in use by another chat-client"), "{}", second.errors);
    first.signal("TERM");
    first.wait_for_exit(TIMEOUT);
    assert_eq!(history(&server, &["--cursor", path]).code, Some(0));
}

#[test]
fn a_start_above_the_newest_message_is_a_gap_and_then_live() {
    let server = Server::start();
    Client::pipe(&[&server.url(), "-q"], b"uno\n");
    let mut listener = Client::start(&[&server.url(), "-l", "--since", "1795705200", "-n", "1"]);
    let gap = listener.wait_for("the gap", |frame| frame["type"] == "gap");
    assert_eq!((gap["reason"].as_str(), gap["next"].as_u64()), (Some("future"), Some(2)), "{gap}");
    Client::pipe(&[&server.url(), "-q"], b"dos\n");
    assert_eq!(listener.wait_for_exit(TIMEOUT).texts(), ["dos"]);
}

#[test]
fn moments_are_understood_and_until_ends_the_history() {
    let server = Server::start();
    Client::pipe(&[&server.url(), "-q"], b"1\n2\n3\n");
    let frames = history(&server, &[]).lines;
    let third: Value = serde_json::from_str(&frames[2]).unwrap();
    // A time after the first two lets no clock decide.
    std::thread::sleep(Duration::from_millis(5));
    let between = now();
    std::thread::sleep(Duration::from_millis(5));
    Client::pipe(&[&server.url(), "-q"], b"4\n5\n");
    let texts = |options: &[&str]| history(&server, options).texts();
    let seconds = format!("@{}", unix_seconds(&between));
    assert_eq!(texts(&["--since", &between]), ["4", "5"]);
    assert_eq!(texts(&["--since", &seconds]), ["4", "5"]);
    assert_eq!(texts(&["--until", &between]), ["1", "2", "3"]);
    assert_eq!(texts(&["--until", &between, "-n", "2"]), ["2", "3"]);
    assert_eq!(texts(&["--until", third["timestamp"].as_str().unwrap(), "-n", "1"]), ["3"]);
    assert_eq!(texts(&["--since", "1", "--until", "4"]), ["2", "3", "4"]);
    assert_eq!(texts(&["--until", "4", "-n", "3"]), ["2", "3", "4"]);
    assert_eq!(texts(&["-n", "2"]), ["4", "5"], "the newest two");
    assert_eq!(texts(&["--since", "10m", "-n", "2"]), ["1", "2"], "the first two since then");
    let all = history(&server, &["--until", "all"]);
    assert_eq!(all.code, Some(2), "{}", all.errors);
}

fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    jiff::Timestamp::from_microsecond(i64::try_from(since.as_micros()).unwrap())
        .unwrap()
        .to_string()
}

fn unix_seconds(moment: &str) -> String {
    let micros = moment.parse::<jiff::Timestamp>().unwrap().as_microsecond();
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[test]
fn no_timeout_is_too_long() {
    let server = Server::start();
    for timeout in ["18446744073709551615", "never", "1000y"] {
        let sent = Client::pipe(&[&server.url(), "-q", "--timeout", timeout], b"x\n");
        assert_eq!(sent.code, Some(0), "{timeout}: {}", sent.errors);
        let read = history(&server, &["--timeout", timeout, "-n", "1"]);
        assert_eq!(read.code, Some(0), "{timeout}: {}", read.errors);
    }
}

#[test]
fn an_id_of_a_json_line_is_stored_once_and_unknown_fields_are_refused() {
    let server = Server::start();
    let lines =
        b"{\"id\":\"job-7\",\"content\":\"once\"}\n{\"id\":\"job-7\",\"content\":\"once\"}\n\
        {\"content\":\"x\",\"rom\":\"ops\"}\n{\"content\":\"last\"}\n";
    for _ in 0..2 {
        let sent = Client::pipe(&[&server.url(), "--input", "json", "-q"], lines);
        assert_eq!(sent.code, Some(65), "{}", sent.errors);
        assert!(
            sent.errors.contains("line 3") && sent.errors.contains("\"rom\""),
            "{}",
            sent.errors
        );
    }
    assert_eq!(history(&server, &[]).texts(), ["once", "last", "last"]);
}

#[test]
fn files_of_other_systems_are_read_or_refused_by_name() {
    let server = Server::start();
    let sent = Client::pipe(&[&server.url()], b"\xef\xbb\xbfuno\r\ndos\r\n");
    assert_eq!((sent.code, sent.texts()), (Some(0), vec!["uno".to_owned(), "dos".to_owned()]));
    let sent = Client::pipe(&["send", "--url", &server.url()], b"\xef\xbb\xbfa\r\nb\r\n");
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    assert_eq!(history(&server, &["-n", "1"]).texts(), ["a\nb"]);
    let utf16 = b"\xff\xfeu\0n\0o\0\n\0d\0o\0s\0\n\0";
    for command in [&["--url"][..], &["send", "--url"]] {
        let url = server.url();
        let arguments: Vec<&str> = command.iter().copied().chain([&url[..]]).collect();
        let refused = Client::pipe(&arguments, utf16);
        assert_eq!(refused.code, Some(65), "{}", refused.errors);
        assert!(refused.errors.contains("UTF-16"), "{}", refused.errors);
        let nul = Client::pipe(&arguments, b"a\0b\n");
        assert_eq!(nul.code, Some(65), "{}", nul.errors);
    }
    assert_eq!(history(&server, &[]).texts().len(), 3);
}

#[test]
fn an_empty_variable_is_not_set() {
    let server = Server::start();
    let names = ["CHAT_URL", "CHAT_USER", "CHAT_ROOM", "CHAT_PIN", "CHAT_ACCESS_TOKEN"];
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (*name, "")).collect();
    let mut client = Client::start_with(&[&server.url()], &empty);
    client.write("hola\n");
    let ended = client.finish(TIMEOUT);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let frame: Value = serde_json::from_str(&ended.lines[0]).unwrap();
    assert_eq!((&frame["username"], &frame["room"]), (&"tester".into(), &"lobby".into()));
    let mut nobody = Client::start_with(&["history", "--timeout", "300ms"], &empty);
    let ended = nobody.wait_for_exit(TIMEOUT);
    // The default address; perhaps a server is there.
    assert_ne!(ended.code, Some(2), "{}", ended.errors);
    let broken = Client::start_with(&["history"], &[("CHAT_PIN", "xyz")]).wait_for_exit(TIMEOUT);
    assert_eq!(broken.code, Some(2));
    assert!(broken.errors.contains("CHAT_PIN"), "{}", broken.errors);
}

#[test]
fn a_pipe_prints_messages_and_with_options_everything_or_nothing() {
    let server = Server::start();
    let kinds = |ended: &Finished| -> Vec<String> {
        let kind = |line: &String| {
            serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned()
        };
        ended.lines.iter().map(kind).collect()
    };
    let usual = Client::pipe(&[&server.url()], b"uno\n");
    assert_eq!(kinds(&usual), ["chat_message"]);
    let everything = Client::pipe(&[&server.url(), "--events"], b"dos\n");
    for kind in ["user_joined", "user_list", "chat_message"] {
        assert!(kinds(&everything).contains(&kind.to_owned()), "{kind}: {:?}", everything.lines);
    }
    assert!(
        !everything.lines.iter().any(|line| line.contains("\"key\"")),
        "{:?}",
        everything.lines
    );
    let quiet = Client::pipe(&[&server.url(), "-q"], b"tres\n");
    assert_eq!((quiet.code, quiet.lines.len()), (Some(0), 0));
    let silent = Client::pipe(&["send", "--url", &server.url(), "cuatro"], b"");
    assert_eq!((silent.code, silent.lines.len()), (Some(0), 0));
    let ack = Client::pipe(
        &["send", "--url", &server.url(), "--output", "json", "--id", "i5", "cinco"],
        b"",
    );
    let ack: Value = serde_json::from_str(&ack.lines.concat()).unwrap();
    assert_eq!((&ack["type"], &ack["id"], &ack["seq"]), (&"ack".into(), &"i5".into(), &5.into()));
}

#[test]
fn refused_clients_name_their_lines_too() {
    let server = Server::with("[auth]\nmode = \"token\"\n").start();
    let mut client = Client::start(&[&server.url()]);
    client.write("uno\ndos\n");
    let ended = client.wait_for_exit(TIMEOUT);
    assert_eq!(ended.code, Some(77), "{}", ended.errors);
    // The refusal may come before the first line does.
    let names_them = ["every line after", "no line was read"];
    assert!(names_them.iter().any(|words| ended.errors.contains(words)), "{}", ended.errors);
}
