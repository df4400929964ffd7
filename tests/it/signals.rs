//! Signals that a careless parent leaves blocked.

use std::process::Command;
use std::time::Duration;

use crate::bots::support::{say, wait_until_said};
use crate::support::client::Client;
use crate::support::python;
use crate::support::server::Server;

/// Blocks every signal that can be blocked, and becomes another program.
const BLOCK_ALL: &str = "import os, signal, sys\n\
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n\
    os.execv(sys.argv[1], sys.argv[1:])";

/// The signals that a process blocks (proc_pid_status(5)).
fn blocked(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim().to_owned()
}

#[test]
fn signals_that_the_parent_blocked_are_obeyed() {
    let python = python::interpreter().display().to_string();
    let mut server = Server::with("").wrapped_in(&[&python, "-c", BLOCK_ALL]).start();
    let mut command = Command::new(&python);
    command.args(["-c", BLOCK_ALL]).arg(crate::support::programs::client()).args([
        &server.url(),
        "-l",
        "-u",
        "bot",
        "--exec",
        "cat >/dev/null; grep SigBlk /proc/self/status | cut -f2",
    ]);
    let mut bot = Client::spawn(command);
    crate::support::eventually("the bot is there", || server.event_count("session_opened") == 1);
    say(&server, "ana", "hola\n");
    let none = "0".repeat(16);
    wait_until_said(&server, &bot, "bot", &[&none]);
    assert_eq!((blocked(server.pid()), blocked(bot.pid())), (none.clone(), none));
    bot.signal("TERM");
    let ended = bot.wait_for_exit(Duration::from_secs(20));
    assert_eq!(ended.signal, Some(15), "{}", ended.errors);
    server.stop();
}
