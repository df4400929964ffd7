//! One run of the command: its answer, its end, its environment.

use std::process::Command;
use std::time::{Duration, Instant};

use super::support::{FAST, Files, bot, bot_named, runs, said_by, say, wait_until_said};
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::server::Server;

#[test]
fn a_command_that_hangs_is_ended_with_all_its_processes_and_told() {
    let server = Server::start();
    let files = Files::new();
    let pids = files.path("pids");
    // The command and a child of it ignore SIGTERM.
    let command = format!(
        "read -r json; trap '' TERM; case $json in *hang*) echo $$ >>{pids}; (echo $(exec sh -c 'echo $PPID') >>{pids}; sleep 1000); sleep 1000;; *) echo pong;; esac"
    );
    let bot = bot(&server, &command, &["--exec-timeout", "300ms"]);
    say(&server, "ann", "hang\nping\n");
    wait_until_said(&server, &bot, "bot", &["pong"]);
    assert!(bot.errors().contains("longer than 300ms"), "{}", bot.errors());
    assert!(bot.errors().contains("message 1 in lobby"), "{}", bot.errors());
    let pids = files.lines("pids");
    assert_eq!(pids.len(), 2);
    eventually("the processes have ended", || !pids.iter().any(|pid| runs(pid)));
}

#[test]
fn a_command_that_prints_without_end_is_ended_and_the_next_message_is_handled() {
    let server = Server::with(FAST).start();
    let command = "read -r json; case $json in *hang*) exec yes;; *) echo pong;; esac";
    let bot = bot(&server, command, &["--exec-timeout", "500ms"]);
    say(&server, "ann", "hang\nping\n");
    eventually("the next answer", || {
        said_by(&server, "bot").last().is_some_and(|text| text == "pong")
    });
    let errors = bot.errors();
    assert!(errors.contains("longer than 500ms") && errors.contains("not sent"), "{errors}");
}

#[test]
fn a_signal_ends_the_command_and_what_it_printed_is_stored() {
    let server = Server::start();
    let files = Files::new();
    let command = format!("cat >/dev/null; echo one; echo $$ >{}; sleep 1000", files.path("pid"));
    let mut bot = bot(&server, &command, &[]);
    say(&server, "ann", "go\ngo on\n");
    eventually("the command runs", || files.lines("pid").len() == 1);
    bot.wait_for_text("go on");
    bot.signal("TERM");
    let ended = bot.wait_for_exit(Duration::from_secs(20));
    assert!(!runs(&files.lines("pid")[0]), "{}", ended.errors);
    assert!(ended.errors.contains("messages that were not handled: 2"), "{}", ended.errors);
    assert_eq!(said_by(&server, "bot"), ["one"]);
}

#[test]
fn a_process_left_in_the_background_keeps_no_message_waiting() {
    let server = Server::start();
    let files = Files::new();
    let command =
        format!("cat >/dev/null; sleep 1000 & echo $! >>{}; echo pong", files.path("pids"));
    let bot = bot(&server, &command, &[]);
    say(&server, "ann", "one\ntwo\n");
    wait_until_said(&server, &bot, "bot", &["pong", "pong"]);
    let left = files.lines("pids");
    assert!(left.len() == 2 && left.iter().all(|pid| runs(pid)), "{left:?} run on");
    assert!(Command::new("kill").args(&left).status().unwrap().success());
}

#[test]
fn a_line_that_cannot_be_sent_is_told_and_the_others_are_sent() {
    let server = Server::start();
    let command = r"cat >/dev/null; printf 'one\nt\377o\nthree\n'; head -c 20000 /dev/zero | tr '\0' x; echo; echo five";
    let bot = bot(&server, command, &[]);
    say(&server, "ann", "go\n");
    wait_until_said(&server, &bot, "bot", &["one", "three", "five"]);
    let errors = bot.errors();
    assert!(errors.contains("line 2 of the reply can't be sent: it is not UTF-8"), "{errors}");
    assert!(
        errors.contains("a reply can't be sent: it has more than the 4096 characters"),
        "{errors}"
    );
}

#[test]
fn an_endless_line_takes_little_memory() {
    let server = Server::start();
    let command = r"cat >/dev/null; head -c 100000000 /dev/zero | tr '\0' x; echo; echo end";
    let bot = bot(&server, command, &[]);
    say(&server, "ann", "go\n");
    wait_until_said(&server, &bot, "bot", &["end"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", bot.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 60_000, "{peak} kB");
}

#[test]
fn a_count_ends_the_bot_after_its_last_answer() {
    let server = Server::start();
    let mut bot = bot(&server, "sleep 0.3; echo one; echo two", &["-n", "1"]);
    say(&server, "ann", "go\n");
    let ended = bot.wait_for_exit(Duration::from_secs(20));
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(ended.texts(), ["go"]);
    assert_eq!(said_by(&server, "bot"), ["one", "two"]);
}

#[test]
fn a_bot_whose_reader_has_gone_answers_what_it_took_and_ends() {
    let server = Server::start();
    let program = crate::support::programs::client();
    let mut child = Command::new("sh")
        .args(["-c", "\"$0\" \"$@\" | head -n 1"])
        .arg(program)
        .args([&server.url(), "-u", "bot", "-l", "--exec", "read -r _; sleep 1; echo late"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the bot is registered", || server.event_count("session_opened") == 1);
    say(&server, "ann", "one\ntwo\n");
    eventually("the bot has ended", || child.try_wait().unwrap().is_some());
    assert_eq!(said_by(&server, "bot"), ["late", "late"]);
}

#[test]
fn a_bot_answers_another_client_of_its_own_user() {
    let server = Server::start();
    let bot = bot_named("ann", &server, "cat >/dev/null; echo pong", &[]);
    say(&server, "ann", "ping\n");
    wait_until_said(&server, &bot, "ann", &["ping", "pong"]);
    say(&server, "ann", "ping\n");
    wait_until_said(&server, &bot, "ann", &["ping", "pong", "ping", "pong"]);
}

#[test]
fn a_reply_after_a_long_silence_gets_the_whole_timeout() {
    let server = Server::start();
    let bot = bot(&server, "sleep 2; echo late", &["--timeout", "1s"]);
    say(&server, "ann", "go\n");
    wait_until_said(&server, &bot, "bot", &["late"]);
    say(&server, "ann", "go on\n");
    wait_until_said(&server, &bot, "bot", &["late", "late"]);
    eventually("only the bot is left, in its first session", || {
        server.event_count("session_closed") == server.event_count("session_opened") - 1
    });
}

#[test]
fn the_command_gets_the_message_and_no_access_token() {
    let config = "[auth]\nmode = \"token\"\n";
    let server = Server::with(config).start();
    let (ann, token) = (server.token("ann", &[]), server.token("bot", &[]));
    let files = Files::new();
    let text = server.url();
    for (number, options) in [&[][..], &["--exec-pass-token"]].into_iter().enumerate() {
        let file = files.path(&number.to_string());
        let command =
            format!("cat >/dev/null; env | grep ^CHAT_ >{file}.new; mv {file}.new {file}");
        let usual = [&text[..], "-l", "-n", "1", "--exec", &command];
        let variables =
            [("CHAT_ACCESS_TOKEN", &token[..]), ("CHAT_USER", "ignored"), ("CHAT_REPLAY", "1")];
        let mut bot = Client::start_with(&[&usual[..], options].concat(), &variables);
        eventually("the bot is registered", || {
            server.event_count("session_opened") == 2 * number + 1
        });
        let sent = Client::start_with(
            &["send", "--id", &format!("q{number}"), "--url", &text, "hola"],
            &[("CHAT_ACCESS_TOKEN", &ann)],
        )
        .finish(Duration::from_secs(20));
        assert_eq!(sent.code, Some(0), "{}", sent.errors);
        let ended = bot.wait_for_exit(Duration::from_secs(20));
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        let mut variables = files.lines(&number.to_string());
        variables.retain(|variable| !variable.starts_with("CHAT_TIMESTAMP=20"));
        variables.sort();
        let (id, seq) = (format!("CHAT_ID=q{number}"), format!("CHAT_SEQ={}", number + 1));
        let url = format!("CHAT_URL={text}");
        let mut expected = vec![
            &id[..],
            "CHAT_REPLAY=",
            "CHAT_ROOM=lobby",
            &seq,
            &url,
            "CHAT_USER=bot",
            "CHAT_USERNAME=ann",
            "CHAT_VERIFIED=true",
        ];
        let passed = format!("CHAT_ACCESS_TOKEN={token}");
        if number == 1 {
            expected.insert(0, &passed);
        }
        assert_eq!(variables, expected);
    }
}

#[test]
fn a_bot_whose_parent_ignores_sigchld_knows_how_its_command_ended() {
    let server = Server::start();
    let program = crate::support::programs::client();
    let script = "trap '' CHLD; exec \"$0\" \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(program)
        .args([
            &server.url(),
            "-u",
            "bot",
            "-l",
            "-n",
            "1",
            "--exec",
            "cat >/dev/null; echo pong; exit 3",
        ])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the bot is registered", || server.event_count("session_opened") == 1);
    say(&server, "ann", "go\n");
    let deadline = Instant::now() + crate::support::TIMEOUT;
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("exit status: 3"), "{errors}");
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert_eq!(said_by(&server, "bot"), ["pong"]);
}
