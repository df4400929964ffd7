//! A real `chat-server`, started with its own configuration file on a free port.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

use super::certificates::certificates;
use super::endpoint::{AccessTokens, Endpoint};
use super::stall::Stall;
use super::{Mode, TIMEOUT, eventually, log_schema, programs, sparse_store};

/// How to start a server.
pub struct Builder {
    config: String,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    mode: Mode,
}

/// A running server, killed on drop.
pub struct Server {
    child: Child,
    address: String,
    log: Log,
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    guard: Option<Guard>,
}

/// What clients of a secured server need.
#[derive(Clone)]
struct Guard {
    tokens: Arc<AccessTokens>,
    ca: PathBuf,
}

type Log = Arc<Mutex<Vec<String>>>;

impl Server {
    /// Starts a server with the built-in defaults and a free port.
    pub fn start() -> Server {
        Server::with("").start()
    }

    /// Prepares a server with this configuration and a free port.
    pub fn with(config: &str) -> Builder {
        let (environment, wrapper) = (Vec::new(), Vec::new());
        Builder { config: config.into(), environment, wrapper, mode: Mode::Open }
    }

    /// `127.0.0.1:4321`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `ws://127.0.0.1:4321`, or `wss://…`
    pub fn url(&self) -> String {
        let scheme = if self.guard.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}", self.address)
    }

    /// Where the server is and how to connect to it.
    pub fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::from(&self.address);
        match &self.guard {
            None => endpoint,
            Some(guard) => endpoint.with_tls(&guard.ca).with_tokens(guard.tokens.clone()),
        }
    }

    /// Makes the user's access token now, so that no later measurement includes it.
    pub fn prepare_token(&self, user: &str) {
        self.guard.iter().for_each(|guard| drop(guard.tokens.of(user)));
    }

    /// The options and environment variables with which `chat-client` connects as this user.
    pub fn client_credentials(&self, user: &str) -> (Vec<String>, Vec<(&'static str, String)>) {
        let Some(guard) = &self.guard else { return Default::default() };
        let ca = guard.ca.display().to_string();
        let variables =
            vec![("CHAT_ACCESS_TOKEN", guard.tokens.of(user)), ("SSL_CERT_FILE", ca.clone())];
        (vec!["--ca-file".into(), ca], variables)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("chat-server.toml")
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Runs `chat-server` with other arguments and this server's configuration and folders.
    pub fn run(&self, arguments: &[&str]) -> std::process::Output {
        run(self.folder.path(), &self.environment, arguments)
    }

    /// Runs `chat-server`, which must succeed, and gives its standard output.
    pub fn run_ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        printed
    }

    /// Makes an access token for a user.
    pub fn token(&self, user: &str, arguments: &[&str]) -> String {
        let arguments: Vec<&str> =
            ["token", "add", "--user", user].iter().chain(arguments).copied().collect();
        self.run_ok(&arguments).trim().to_owned()
    }

    /// The id of a user's access token.
    pub fn token_id(&self, user: &str) -> String {
        let list = self.run_ok(&["token", "list", "--json"]);
        let mut rows = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let row = rows.find(|row| row["user"] == user).expect(user);
        row["id"].as_str().unwrap().to_owned()
    }

    /// Sends the server a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }

    /// The server log so far, as objects.
    pub fn log(&self) -> Vec<Value> {
        self.log_lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The server log so far, as lines.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// How many events of this kind are in the server log.
    pub fn event_count(&self, event: &str) -> usize {
        self.log().iter().filter(|line| line["event"] == event).count()
    }

    /// Waits for an event and gives the last of its kind.
    pub fn wait_for_event(&self, event: &str) -> Value {
        eventually(&format!("event {event} in {:#?}", self.log_lines()), || {
            self.event_count(event) > 0
        });
        self.log().into_iter().rfind(|line| line["event"] == event).unwrap()
    }

    /// Resident memory in bytes, by the kernel's count.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The number of open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The sockets that the server has open. Files come and go, as the readers of the store do.
    pub fn sockets(&self) -> usize {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let targets =
            descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }

    /// The CPU time used so far in seconds, user and system.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// Whether the server still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Stops the server with SIGTERM.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait();
    }

    /// Waits until the server exits.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not end: {:#?}", self.log_lines());
            std::thread::sleep(super::POLL_INTERVAL);
        }
    }

    /// Starts a server on a copy of another's configuration and state, without its wrapper.
    pub fn copy_of(original: &Server) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", original.folder.path().display()))
            .arg(folder.path())
            .status();
        assert!(copied.unwrap().success());
        let (mut child, log) = spawn(folder.path(), &original.environment, &[], "0");
        let address = listening(&mut child, &log);
        let (environment, wrapper) = (original.environment.clone(), Vec::new());
        let guard = original.guard.clone();
        Server { child, address, log, folder, environment, wrapper, guard }
    }

    /// Holds every line so far against docs/logging.schema.json, as each test does at its end.
    fn assert_log_fits_schema(&self) {
        if let Some(violation) = log_schema::violation(&self.log_lines()) {
            panic!("{violation}");
        }
    }

    /// Starts the server again with the same configuration, state and port.
    pub fn start_again(&mut self) {
        self.begin_again();
        self.address = listening(&mut self.child, &self.log);
    }

    /// The same, but does not wait until the server listens.
    pub fn begin_again(&mut self) {
        self.assert_log_fits_schema();
        let port = self.address.rsplit(':').next().unwrap().to_owned();
        let (child, log) = spawn(self.folder.path(), &self.environment, &self.wrapper, &port);
        (self.child, self.log) = (child, log);
    }
}

impl Builder {
    /// The server stalls at the fault point of `stall`, between its begin and its end.
    pub fn stalling_at(self, stall: &Stall) -> Self {
        let (name, value) = stall.variable();
        self.env(name, &value)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs the server under another command, such as `prlimit`.
    pub fn wrapped_in(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Over the store in memory of this name.
    pub fn over(self, store: &str) -> Self {
        let environment = sparse_store::environment(store);
        environment.into_iter().fold(self, |server, (name, value)| server.env(name, value))
    }

    /// Starts an open or a secured server.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Starts the server and waits until it listens.
    pub fn start(mut self) -> Server {
        if let Some(store) = sparse_store::of_this_test() {
            self = self.over(store);
        }
        let folder = tempfile::tempdir().unwrap();
        let guard = (self.mode == Mode::Secured).then(|| self.guard(folder.path()));
        std::fs::create_dir_all(folder.path().join("state")).unwrap();
        std::fs::create_dir_all(folder.path().join("run")).unwrap();
        std::fs::write(folder.path().join("chat-server.toml"), &self.config).unwrap();
        let (mut child, log) = spawn(folder.path(), &self.environment, &self.wrapper, "0");
        let address = listening(&mut child, &log);
        let (environment, wrapper) = (self.environment, self.wrapper);
        Server { child, address, log, folder, environment, wrapper, guard }
    }

    /// Turns on token mode and TLS, whatever the configuration says.
    fn guard(&mut self, folder: &Path) -> Guard {
        certificates(folder);
        let file = |name: &str| folder.join(name).display().to_string();
        for (name, value) in [
            ("CHAT_SERVER_AUTH__MODE", "token".into()),
            ("CHAT_SERVER_LISTEN__TLS__CERTIFICATE", file("cert.pem")),
            ("CHAT_SERVER_LISTEN__TLS__KEY", file("key.pem")),
        ] {
            self.environment.push((name.into(), value));
        }
        let (home, environment) = (folder.to_owned(), self.environment.clone());
        let tokens = AccessTokens::new(move |user| {
            let output = run(&home, &environment, &["token", "add", "--room", "*", "--user", user]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        });
        Guard { tokens: Arc::new(tokens), ca: folder.join("ca.pem") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let lines = self.log_lines();
            eprintln!("log of the server at {} ({} lines):", self.address, lines.len());
            for line in lines.iter().rev().take(40).rev() {
                eprintln!("  {line}");
            }
        } else {
            self.assert_log_fits_schema();
        }
    }
}

/// `chat-server` with a clean environment and its folders inside `folder`.
pub fn command(folder: &Path, wrapper: &[String]) -> Command {
    let program = programs::server();
    let mut command = match wrapper.split_first() {
        None => Command::new(&program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(&program);
            command
        }
    };
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("STATE_DIRECTORY", folder.join("state"))
        .env("RUNTIME_DIRECTORY", folder.join("run"));
    command
}

fn run(
    folder: &Path,
    environment: &[(String, String)],
    arguments: &[&str],
) -> std::process::Output {
    command(folder, &[])
        .args(arguments)
        .arg("--config")
        .arg(folder.join("chat-server.toml"))
        .envs(environment.iter().cloned())
        .output()
        .unwrap()
}

fn spawn(
    folder: &Path,
    environment: &[(String, String)],
    wrapper: &[String],
    port: &str,
) -> (Child, Log) {
    let mut child = command(folder, wrapper)
        .arg("--config")
        .arg(folder.join("chat-server.toml"))
        .args(["--port", port])
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Log::default();
    let lines = log.clone();
    let output = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        output.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
    });
    let errors = BufReader::new(child.stderr.take().unwrap());
    let lines = log.clone();
    std::thread::spawn(move || {
        let errors = errors.lines().map_while(Result::ok);
        errors.for_each(|line| lines.lock().unwrap().push(format!("stderr: {line}")));
    });
    (child, log)
}

fn listening(child: &mut Child, log: &Log) -> String {
    let mut address = None;
    eventually("the server listens", || {
        let lines = log.lock().unwrap().clone();
        address = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["event"] == "listening")
            .and_then(|line| line["address"].as_str().map(str::to_owned));
        if address.is_none()
            && let Some(status) = child.try_wait().unwrap()
        {
            panic!("the server ended with {status} before it listened: {lines:#?}");
        }
        address.is_some()
    });
    address.unwrap()
}
