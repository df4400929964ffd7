//! A real `chat-client`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{TIMEOUT, eventually, programs};

/// A running client; killed when dropped.
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines,
    errors: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Client {
    /// Starts it with a clean environment and an open standard input.
    pub fn start(arguments: &[&str]) -> Client {
        Client::start_with(arguments, &[])
    }

    /// The same with variables.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Client {
        let mut child = command()
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = collect(child.stdout.take().unwrap());
        let errors = collect(child.stderr.take().unwrap());
        Client { input: child.stdin.take(), child, output, errors }
    }

    /// Pipes `input` through it and waits for the end.
    pub fn pipe(arguments: &[&str], input: &[u8]) -> Finished {
        let mut client = Client::start(arguments);
        let mut pipe = client.input.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // It may end before it has read everything.
            let _ = pipe.write_all(&input);
        });
        let finished = client.finish(TIMEOUT);
        writer.join().unwrap();
        finished
    }

    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Closes its standard input.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// What it printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    /// What it printed so far, as objects.
    pub fn frames(&self) -> Vec<Value> {
        self.lines().iter().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// What it said on standard error so far.
    pub fn errors(&self) -> String {
        self.errors.lock().unwrap().join("\n")
    }

    /// Waits for a printed object.
    pub fn wait_for(&self, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Value {
        let mut found = None;
        eventually(what, || {
            found = self.frames().into_iter().find(|frame| is_it(frame));
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits for a message that says so.
    pub fn wait_for_text(&self, text: &str) -> Value {
        self.wait_for(&format!("message {text:?}; errors: {}", self.errors()), |frame| {
            frame["type"] == "chat_message" && frame["content"] == text
        })
    }

    /// Waits for its end, within `patience`.
    pub fn finish(mut self, patience: Duration) -> Finished {
        self.input = None;
        self.wait_for_exit(patience)
    }

    /// Waits for its end while its input stays open.
    pub fn wait_for_exit(&mut self, patience: Duration) -> Finished {
        let deadline = Instant::now() + patience;
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            let errors = self.errors();
            assert!(Instant::now() < deadline, "the client did not end; it said: {errors}");
            std::thread::sleep(super::POLL_INTERVAL);
        };
        // The pipes end with the process: the collecting threads are through in a moment.
        eventually("the output is read", || Arc::strong_count(&self.output) == 1);
        eventually("the errors are read", || Arc::strong_count(&self.errors) == 1);
        Finished { code, lines: self.lines(), errors: self.errors() }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub lines: Vec<String>,
    /// Standard error.
    pub errors: String,
}

impl Finished {
    /// The texts of the messages it printed.
    pub fn texts(&self) -> Vec<String> {
        self.lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).expect(line))
            .filter(|frame| frame["type"] == "chat_message")
            .map(|frame| frame["content"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The program with a clean environment.
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
