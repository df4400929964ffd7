//! Runs the command for one message: writes the message to its standard input, hands on the lines
//! that it prints, and keeps its time limit.
//!
//! The command leads a process group of its own. Its answer is over when it has ended and its pipe is
//! empty; a process that it leaves behind keeps nothing waiting and runs on. At the time limit, and
//! when the client itself is to end, the whole group ends.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::answer::Answer;
use super::environment::Environment;
use crate::client::driver::sleep_until;
use crate::client::exit_code::print_error;
use crate::sys::process_group::ProcessGroup;

/// How long the pipe of a command that has ended may stay open without a byte.
const PIPE_TIMEOUT: Duration = Duration::from_millis(100);
/// How long a process group has to end after SIGTERM, and after SIGKILL.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the end of a process group is looked for.
const END_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Bytes per read.
const READ_BYTES: usize = 64 * 1024;
/// Bytes that are read at most after the command has ended: the largest pipe of a user (pipe(7)).
const MAX_BYTES_AFTER_END: usize = 1024 * 1024;
/// The pause before the command is started again where the system lacks processes or memory.
const SPAWN_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// One run of the command.
pub struct Run {
    /// The message as one JSON line, for standard input.
    pub json: Vec<u8>,
    /// Variables of this run.
    pub environment: Environment,
    /// The message, for errors.
    pub name: String,
}

/// An event of one run of the command.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// A line that the command printed.
    Line(String),
    /// The command has ended, and every line came. `false`: because the client is to end.
    Ended(bool),
}

/// The command of `--exec`.
pub struct Command {
    /// For `sh -c`.
    pub text: String,
    /// How long one run may take.
    pub timeout: Duration,
}

impl Command {
    /// Runs the command for each message, one after the other, until `stop` is set or closed.
    pub async fn run_all(
        self,
        mut runs: mpsc::Receiver<Run>,
        output: mpsc::Sender<Output>,
        mut stop: watch::Receiver<bool>,
    ) {
        while let Some(run) = runs.recv().await {
            let finished = self.run(run, &output, &mut stop).await;
            if output.send(Output::Ended(finished)).await.is_err() || !finished {
                return;
            }
        }
    }

    /// Whether the command ended by itself or by its time limit, or can't be started.
    async fn run(
        &self,
        run: Run,
        output: &mpsc::Sender<Output>,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let child = tokio::select! {
            biased;
            () = stopped(stop) => return false,
            child = self.spawn(&run.environment) => child,
        };
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                print_error(&format!("--exec: the command can't be started: {error}"));
                return true;
            }
        };
        let running = Running::new(child, run.json, run.name);
        running.finish(self.timeout, output, stop).await
    }

    async fn spawn(&self, environment: &Environment) -> io::Result<Child> {
        let mut told = false;
        loop {
            let mut command = tokio::process::Command::new("sh");
            command.arg("-c").arg(&self.text).stdin(Stdio::piped()).stdout(Stdio::piped());
            for (name, value) in environment {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            let error = match command.process_group(0).kill_on_drop(true).spawn() {
                Ok(child) => return Ok(child),
                Err(error) => error,
            };
            let lacks = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
            if !Errno::from_io_error(&error).is_some_and(|errno| lacks.contains(&errno)) {
                return Err(error);
            }
            if !std::mem::replace(&mut told, true) {
                let text = "--exec: the command can't be started at the moment";
                print_error(&format!("{text}: {error}; trying again"));
            }
            sleep(SPAWN_RETRY_PAUSE).await;
        }
    }
}

/// A command that was started.
struct Running {
    child: Child,
    group: ProcessGroup,
    /// `None` when everything is written, or the command reads no more.
    stdin: Option<ChildStdin>,
    /// The part of the message that is not written to `stdin` yet.
    input: Vec<u8>,
    /// `None` when everything is read.
    stdout: Option<ChildStdout>,
    answer: Answer,
    name: String,
    /// Set when the command has ended: how long its pipe is read, and how many bytes.
    after_end: Option<(Instant, usize)>,
}

impl Running {
    fn new(mut child: Child, input: Vec<u8>, name: String) -> Self {
        Running {
            group: ProcessGroup::led_by(child.id()),
            stdin: child.stdin.take(),
            input,
            stdout: child.stdout.take(),
            answer: Answer::new(),
            name,
            after_end: None,
            child,
        }
    }

    /// Whether the command ended by itself or by its time limit.
    async fn finish(
        mut self,
        timeout: Duration,
        output: &mpsc::Sender<Output>,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let mut buffer = vec![0; READ_BYTES];
        let deadline = Instant::now().checked_add(timeout);
        let mut finished = true;
        while self.after_end.is_none() || self.stdout.is_some() || !self.answer.is_empty() {
            let runs = self.after_end.is_none();
            // After the end, everything that is in the pipe is read, whatever waits.
            let reads = !runs || self.answer.has_room();
            let pipe_deadline = self.after_end.map(|(deadline, _)| deadline);
            tokio::select! {
                biased;
                status = self.child.wait(), if runs => self.ended(Some(status)),
                () = stopped(stop), if runs => {
                    finished = false;
                    self.end().await;
                }
                read = read(&mut self.stdout, &mut buffer), if reads => match read {
                    Ok(count) => self.take(&buffer[..count]),
                    Err(error) => {
                        self.report(&format!("the command's output can't be read: {error}"));
                        self.take(&[]);
                    }
                },
                () = sleep_until(pipe_deadline), if self.stdout.is_some() => self.take(&[]),
                () = sleep_until(deadline), if runs => self.end_late(timeout).await,
                written = write(&mut self.stdin, &self.input) => match written {
                    Ok(count) => {
                        self.input.drain(..count);
                        if self.input.is_empty() {
                            self.stdin = None;
                        }
                    }
                    Err(error) => {
                        self.stdin = None;
                        // A command need not read its input.
                        if error.kind() != io::ErrorKind::BrokenPipe {
                            self.report(&format!("the command's input can't be written: {error}"));
                        }
                    }
                },
                permit = output.reserve(), if !self.answer.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(line) = self.answer.next_line() {
                            permit.send(Output::Line(line));
                        }
                    }
                    Err(_) => return false,
                },
            }
        }
        finished
    }

    /// Takes what the command printed; nothing is the end.
    fn take(&mut self, printed: &[u8]) {
        self.answer.feed(printed);
        let is_last = match &mut self.after_end {
            None => printed.is_empty(),
            Some((_, bytes_left)) => {
                *bytes_left = bytes_left.saturating_sub(printed.len());
                printed.is_empty() || *bytes_left == 0
            }
        };
        if is_last {
            self.answer.finish();
            self.stdout = None;
        }
        for error in self.answer.take_errors() {
            self.report(&error);
        }
    }

    /// The command has ended. What it left in the background runs on.
    fn ended(&mut self, status: Option<io::Result<ExitStatus>>) {
        self.group.leave();
        self.stdin = None;
        self.after_end = Some((Instant::now() + PIPE_TIMEOUT, MAX_BYTES_AFTER_END));
        match status {
            Some(Ok(status)) if !status.success() => {
                self.report(&format!("the command ended with {status}"));
            }
            Some(Err(error)) => self.report(&format!("how the command ended is unknown: {error}")),
            Some(Ok(_)) | None => {}
        }
    }

    /// The command took too long. Lines that wait for the server are not sent: a command that prints
    /// without end would occupy the bot and the room for hours.
    async fn end_late(&mut self, timeout: Duration) {
        let time = humantime::format_duration(timeout);
        let lines = match self.answer.discard() {
            0 => String::new(),
            lines => format!("; lines that are not sent: {lines}"),
        };
        self.report(&format!("the command took longer than {time} and is ended{lines}"));
        self.stdout = None;
        self.end().await;
    }

    /// Ends the command and its process group.
    async fn end(&mut self) {
        self.group.terminate();
        if !self.ends_in_time().await {
            self.group.kill();
            if !self.ends_in_time().await {
                self.report("a process of the command can't be ended");
            }
        }
        self.ended(None);
    }

    async fn ends_in_time(&mut self) -> bool {
        let until = Instant::now() + END_TIMEOUT;
        loop {
            let runs = matches!(self.child.try_wait(), Ok(None));
            if !runs && !self.group.exists() {
                return true;
            }
            if until <= Instant::now() {
                return false;
            }
            sleep(END_POLL_INTERVAL).await;
        }
    }

    fn report(&self, text: &str) {
        print_error(&format!("--exec: {text} ({})", self.name));
    }
}

/// Waits until the client is to end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Reads the next bytes; never, where everything is read.
async fn read(stdout: &mut Option<ChildStdout>, buffer: &mut [u8]) -> io::Result<usize> {
    match stdout {
        Some(stdout) => stdout.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// Writes some bytes; never, where everything is written.
async fn write(stdin: &mut Option<ChildStdin>, bytes: &[u8]) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.write(bytes).await,
        None => std::future::pending().await,
    }
}
