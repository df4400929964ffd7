//! Every state of standard input, output and error, in every mode of `chat-client`: each has one expected outcome.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::support::client::{Client, command};
use crate::support::programs;
use crate::support::server::Server;

const INPUT: &[u8] = b"uno\ndos\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pipe,
    Listen,
    Send,
    History,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Closed,
    Null,
    Directory,
    File,
    Pipe,
    /// Non-blocking, and the writer is late.
    NonBlocking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Closed,
    File,
    Full,
    /// A pipe whose reader has gone.
    Broken,
    /// Non-blocking, full, and the reader is late.
    NonBlocking,
}

const MODES: [Mode; 4] = [Mode::Pipe, Mode::Listen, Mode::Send, Mode::History];
const INPUTS: [Input; 6] =
    [Input::Closed, Input::Null, Input::Directory, Input::File, Input::Pipe, Input::NonBlocking];
const OUTPUTS: [Output; 5] =
    [Output::Closed, Output::File, Output::Full, Output::Broken, Output::NonBlocking];

/// The exit code, with every other descriptor in order.
fn expected_of_input(mode: Mode, input: Input) -> i32 {
    match (mode, input) {
        // They never read.
        (Mode::Listen | Mode::History, _) => 0,
        (_, Input::Closed | Input::Directory) => 74,
        (Mode::Send, Input::Null) => 65,
        _ => 0,
    }
}

fn expected_of_output(mode: Mode, output: Output) -> i32 {
    match (mode, output) {
        // It prints nothing.
        (Mode::Send, _) => 0,
        (_, Output::Closed | Output::Full) => 74,
        _ => 0,
    }
}

/// What is in the room afterwards.
fn stored(mode: Mode, input: Input) -> Vec<&'static str> {
    match (mode, input) {
        (Mode::Listen | Mode::History, _) => vec!["kept"],
        (_, Input::Closed | Input::Directory | Input::Null) => vec![],
        (Mode::Send, _) => vec!["uno\ndos"],
        (Mode::Pipe, _) => vec!["uno", "dos"],
    }
}

struct Finished {
    code: Option<i32>,
    printed: String,
    errors: String,
}

/// What happens beside the client: a late writer, a late reader.
#[derive(Default)]
struct Beside {
    writer: Option<PipeWriter>,
    reader: Option<PipeReader>,
    filler: usize,
}

struct Table {
    server: Server,
    folder: tempfile::TempDir,
    rooms: u32,
}

impl Table {
    fn new() -> Table {
        Table { server: Server::start(), folder: tempfile::tempdir().unwrap(), rooms: 0 }
    }

    /// A room of its own for each row, with one message where the mode prints it.
    fn room(&mut self, mode: Mode) -> String {
        self.rooms += 1;
        let room = format!("r{}", self.rooms);
        if matches!(mode, Mode::Listen | Mode::History) {
            let sent =
                Client::pipe(&["send", "--url", &self.server.url(), "-r", &room, "kept"], b"");
            assert_eq!(sent.code, Some(0), "{}", sent.errors);
        }
        room
    }

    fn arguments(&self, mode: Mode, room: &str) -> Vec<String> {
        let url = self.server.url();
        let words: Vec<&str> = match mode {
            Mode::Pipe => vec![&url],
            Mode::Listen => vec![&url, "-l", "--since", "all", "-n", "1"],
            Mode::Send => vec!["send", "--url", &url],
            Mode::History => vec!["history", "--url", &url],
        };
        words.into_iter().chain(["-r", room]).map(str::to_owned).collect()
    }

    fn run(&self, arguments: &[String], input: Input, output: Output, error: Output) -> Finished {
        let mut beside = Beside::default();
        let mut redirections = String::new();
        let folder = self.folder.path();
        let printed = folder.join("printed");
        let errors = folder.join("errors");
        let stdin = match input {
            Input::Closed => {
                redirections.push_str(" <&-");
                Stdio::null()
            }
            Input::Null => Stdio::null(),
            Input::Directory => Stdio::from(File::open("/").unwrap()),
            Input::File => {
                let file = folder.join("input");
                std::fs::write(&file, INPUT).unwrap();
                Stdio::from(File::open(file).unwrap())
            }
            Input::Pipe | Input::NonBlocking => {
                let (reader, writer) = std::io::pipe().unwrap();
                if input == Input::NonBlocking {
                    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
                }
                beside.writer = Some(writer);
                Stdio::from(reader)
            }
        };
        let mut beside_of_stderr = Beside::default();
        let stdout = open_output(output, &printed, " >&-", &mut redirections, &mut beside);
        let stderr = open_output(error, &errors, " 2>&-", &mut redirections, &mut beside_of_stderr);
        let client = command();
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", &format!("exec \"$0\" \"$@\"{redirections}")])
            .arg(client.get_program())
            .args(arguments)
            .env_clear()
            .envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let mut child = shell.spawn().unwrap();
        drop(shell);
        if let Some(mut writer) = beside.writer {
            let late = if input == Input::NonBlocking { 200 } else { 0 };
            let (first, rest) = INPUT.split_at(2);
            // The client may end before it has read everything.
            let _ = writer.write_all(first);
            std::thread::sleep(Duration::from_millis(late));
            let _ = writer.write_all(rest);
        }
        let mut piped = Vec::new();
        if let Some(mut reader) = beside.reader {
            std::thread::sleep(Duration::from_millis(200));
            reader.read_to_end(&mut piped).unwrap();
            piped.drain(..beside.filler);
        }
        let deadline = std::time::Instant::now() + crate::support::TIMEOUT;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if std::time::Instant::now() > deadline {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
        let printed = if output == Output::NonBlocking {
            String::from_utf8(piped).unwrap()
        } else {
            read(&printed)
        };
        Finished { code: status.code(), printed, errors: read(&errors) }
    }

    fn check(&mut self, mode: Mode, input: Input, output: Output, error: Output, expected: i32) {
        let room = self.room(mode);
        let arguments = self.arguments(mode, &room);
        let ended = self.run(&arguments, input, output, error);
        let row = format!("{mode:?}, input {input:?}, output {output:?}, error {error:?}");
        let errors = &ended.errors;
        assert_eq!(ended.code, Some(expected), "{row}: {errors}");
        if error == Output::File {
            assert_eq!(
                errors.is_empty(),
                expected == 0,
                "{row}: told where something failed: {errors}"
            );
        }
        let texts = stored(mode, input);
        if matches!(output, Output::File | Output::NonBlocking) && mode != Mode::Send {
            let contents: Vec<serde_json::Value> = ended
                .printed
                .lines()
                .map(|line| {
                    serde_json::from_str::<serde_json::Value>(line).unwrap()["content"].clone()
                })
                .collect();
            assert_eq!(contents, texts, "{row}: printed");
        }
        let url = self.server.url();
        let history = Client::pipe(&["history", "--url", &url, "-r", &room], b"");
        assert_eq!(history.texts(), texts, "{row}: stored");
    }
}

fn open_output(
    output: Output,
    file: &Path,
    close: &str,
    redirections: &mut String,
    beside: &mut Beside,
) -> Stdio {
    match output {
        Output::Closed => {
            redirections.push_str(close);
            Stdio::null()
        }
        Output::File => Stdio::from(File::create(file).unwrap()),
        Output::Full => Stdio::from(File::options().write(true).open("/dev/full").unwrap()),
        Output::Broken => Stdio::from(std::io::pipe().unwrap().1),
        Output::NonBlocking => {
            let (reader, writer) = std::io::pipe().unwrap();
            rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
            while let Ok(written) = (&writer).write(&[b'x'; 4096]) {
                beside.filler += written;
            }
            beside.reader = Some(reader);
            Stdio::from(writer)
        }
    }
}

#[test]
fn every_state_of_standard_input_has_one_outcome() {
    let mut table = Table::new();
    for mode in MODES {
        for input in INPUTS {
            let expected = expected_of_input(mode, input);
            table.check(mode, input, Output::File, Output::File, expected);
        }
    }
}

#[test]
fn every_state_of_standard_output_has_one_outcome() {
    let mut table = Table::new();
    for mode in MODES {
        for output in OUTPUTS {
            let expected = expected_of_output(mode, output);
            table.check(mode, Input::File, output, Output::File, expected);
        }
    }
}

#[test]
fn the_state_of_standard_error_changes_no_outcome() {
    let mut table = Table::new();
    for mode in MODES {
        for error in [Output::Closed, Output::Full, Output::Broken] {
            table.check(mode, Input::File, Output::File, error, 0);
            let failed = expected_of_output(mode, Output::Full);
            table.check(mode, Input::File, Output::Full, error, failed);
        }
    }
}

#[test]
fn what_the_client_prints_about_itself_ends_by_the_same_rules() {
    let table = Table::new();
    for words in [&["--help"][..], &["--version"], &["man"], &["completions", "bash"]] {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        for output in OUTPUTS {
            let ended = table.run(&words, Input::Null, output, Output::File);
            let expected = expected_of_output(Mode::Pipe, output);
            assert_eq!(ended.code, Some(expected), "{words:?}, {output:?}: {}", ended.errors);
            assert_eq!(ended.errors.is_empty(), expected == 0, "{words:?}, {output:?}");
            if output == Output::File {
                assert!(!ended.printed.is_empty(), "{words:?}");
            }
        }
    }
}

#[test]
fn what_the_server_prints_about_itself_is_written_or_it_says_so() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for words in [
        &["--help"][..],
        &["--version"],
        &["help"],
        &["token", "--help"],
        &["man"],
        &["completions", "bash"],
        &["check"],
    ] {
        let run = |output: Stdio| {
            let mut server = Command::new(programs::server());
            server.args(words).stdin(Stdio::null()).stdout(output).output().unwrap()
        };
        let written = run(Stdio::piped());
        assert!(written.status.success() && !written.stdout.is_empty(), "{words:?}");
        let ended = run(full().into());
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(74), "{words:?}: {errors}");
        assert!(
            errors.contains("standard output can't be written: No space"),
            "{words:?}: {errors}"
        );
    }
}
