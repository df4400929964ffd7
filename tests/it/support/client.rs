//! A real `chat-client`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{TIMEOUT, eventually, programs};

/// A running client, killed on drop.
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines,
    errors: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Client {
    /// Starts a client with a clean environment and an open standard input.
    pub fn start(arguments: &[&str]) -> Client {
        Client::start_with(arguments, &[])
    }

    /// Starts a client with these environment variables.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Client {
        let mut command = command();
        command.args(arguments).envs(environment.iter().copied());
        Client::spawn(command)
    }

    /// Starts a client that ignores no signal, also where the tests run under nohup(1) or in the background
    /// of a script, which ignore some.
    pub fn start_with_default_signals(arguments: &[&str]) -> Client {
        let client = command();
        let mut command = Command::new("env");
        command.env_clear();
        for (name, value) in client.get_envs() {
            command.env(name, value.expect("it is set"));
        }
        command.arg("--default-signal=HUP,INT,TERM").arg(client.get_program()).args(arguments);
        Client::spawn(command)
    }

    /// Starts a command whose program is, or becomes, a client.
    pub fn spawn(mut command: Command) -> Client {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = collect(child.stdout.take().unwrap());
        let errors = collect(child.stderr.take().unwrap());
        Client { input: child.stdin.take(), child, output, errors }
    }

    /// Pipes `input` through a client and waits until it exits.
    pub fn pipe(arguments: &[&str], input: &[u8]) -> Finished {
        let mut client = Client::start(arguments);
        let mut pipe = client.input.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // The client may exit before it has read everything.
            let _ = pipe.write_all(&input);
        });
        let finished = client.finish(TIMEOUT);
        writer.join().unwrap();
        finished
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to the client's standard input. A client that has ended takes nothing more, which is no
    /// error here: its exit code and its errors tell why it ended.
    pub fn write(&mut self, text: &str) {
        match self.input.as_mut().unwrap().write_all(text.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        }
    }

    /// Sends a signal, such as `TERM`, to the client.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(sent.success(), "{name} to {pid}");
    }

    /// Closes the client's standard input.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// The lines on standard output so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    /// The lines on standard output so far, as JSON objects.
    pub fn frames(&self) -> Vec<Value> {
        self.lines().iter().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Standard error so far.
    pub fn errors(&self) -> String {
        self.errors.lock().unwrap().join("\n")
    }

    /// Waits for a printed object for which `is_it` holds.
    pub fn wait_for(&self, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Value {
        let mut found = None;
        eventually(what, || {
            found = self.frames().into_iter().find(|frame| is_it(frame));
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits for a printed message with this text.
    pub fn wait_for_text(&self, text: &str) -> Value {
        self.wait_for(&format!("message {text:?}; errors: {}", self.errors()), |frame| {
            frame["type"] == "chat_message" && frame["content"] == text
        })
    }

    /// Closes standard input and waits until the client exits, `timeout` at most.
    pub fn finish(mut self, timeout: Duration) -> Finished {
        self.input = None;
        self.wait_for_exit(timeout)
    }

    /// Waits until the client exits while its standard input stays open, `timeout` at most.
    pub fn wait_for_exit(&mut self, timeout: Duration) -> Finished {
        let deadline = Instant::now() + timeout;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let errors = self.errors();
            assert!(Instant::now() < deadline, "the client did not exit; standard error: {errors}");
            std::thread::sleep(super::POLL_INTERVAL);
        };
        // The pipes close with the process, so the reading threads end at once.
        eventually("the output is read", || Arc::strong_count(&self.output) == 1);
        eventually("the errors are read", || Arc::strong_count(&self.errors) == 1);
        let (code, signal) = (status.code(), status.signal());
        Finished { code, signal, lines: self.lines(), errors: self.errors() }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that has exited.
#[derive(Debug)]
pub struct Finished {
    /// The exit code.
    pub code: Option<i32>,
    /// The signal that ended the client.
    pub signal: Option<i32>,
    /// Standard output.
    pub lines: Vec<String>,
    /// Standard error.
    pub errors: String,
}

impl Finished {
    /// The texts of the printed messages.
    pub fn texts(&self) -> Vec<String> {
        self.lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).expect(line))
            .filter(|frame| frame["type"] == "chat_message")
            .map(|frame| frame["content"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The client with a clean environment.
pub fn command() -> Command {
    let mut command = Command::new(programs::client());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LANG", "C.UTF-8")
        .env("USER", "tester");
    command
}

fn collect(from: impl std::io::Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let into = lines.clone();
    std::thread::spawn(move || {
        let from = BufReader::new(from).lines().map_while(Result::ok);
        from.for_each(|line| into.lock().unwrap().push(line));
        drop(into);
    });
    lines
}
