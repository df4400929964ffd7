//! A user of end-to-end rooms: real `chat-client` processes with one folder of state.

use std::path::{Path, PathBuf};

use secure_chat::protocol::Timestamp;

use crate::support::client::{Client, Finished, command};
use crate::support::server::Server;
use crate::support::{TIMEOUT, eventually};

/// A user on one device.
pub struct Member {
    /// The user's name.
    pub name: String,
    /// The folder of the device's state.
    pub home: PathBuf,
    url: String,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    _folder: Option<tempfile::TempDir>,
}

impl Member {
    /// A user of the server who has no keys yet.
    pub fn new(server: &Server, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("device");
        Member { _folder: Some(folder), ..Member::at(server, name, &home) }
    }

    /// The user whose device has its state in this folder.
    pub fn at(server: &Server, name: &str, home: &Path) -> Self {
        let (options, environment) = server.client_credentials(name);
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value));
        Member {
            name: name.to_owned(),
            home: home.to_owned(),
            url: server.url(),
            options,
            environment: environment.collect(),
            _folder: None,
        }
    }

    /// The same user through another address.
    pub fn through(mut self, url: &str) -> Self {
        self.url = url.to_owned();
        self
    }

    /// The same device with another access token.
    pub fn holding(mut self, token: &str) -> Self {
        self.environment.retain(|(name, _)| name != "CHAT_ACCESS_TOKEN");
        self.environment.push(("CHAT_ACCESS_TOKEN".to_owned(), token.to_owned()));
        self
    }

    /// A client of this user, not started.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = command();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["--url", &self.url, "--user", &self.name]);
        command.arg("--e2e-home").arg(&self.home).args(&self.options).args(arguments);
        command
    }

    /// Starts a client.
    pub fn start(&self, arguments: &[&str]) -> Client {
        Client::spawn(self.command(arguments))
    }

    /// Runs a client to its end, with an empty standard input.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let mut client = self.start(arguments);
        client.end_input();
        client.finish(TIMEOUT)
    }

    /// Runs a client that must succeed.
    pub fn run_ok(&self, arguments: &[&str]) -> Finished {
        let finished = self.run(arguments);
        assert_eq!(finished.code, Some(0), "{} {arguments:?}: {finished:?}", self.name);
        finished
    }

    /// Pipes a text into a client.
    pub fn pipe(&self, text: &str, arguments: &[&str]) -> Finished {
        let mut client = self.start(arguments);
        client.write(text);
        client.end_input();
        client.finish(TIMEOUT)
    }

    /// Sends one message, which must succeed.
    pub fn send(&self, room: &str, text: &str) {
        self.run_ok(&["-r", room, "send", text]);
    }

    /// A listener that says so on standard error when it waits to be let in.
    pub fn wait_outside(&self, room: &str) -> Client {
        let client = self.start(&["-r", room, "--listen"]);
        eventually("it waits to be let in", || client.errors().contains("waiting to be let into"));
        client
    }

    /// A listener that is in the room. It shows what is said from now on, also before it is connected.
    pub fn listen(&self, room: &str) -> Client {
        let now = Timestamp::from_system(std::time::SystemTime::now()).to_string();
        self.start(&["-r", room, "--listen", "--since", &now])
    }
}

/// A room that `admin` opened for the others, who listen.
pub fn open_room(room: &str, admin: &Member, others: &[&Member]) -> Vec<Client> {
    let clients: Vec<Client> = others.iter().map(|member| member.wait_outside(room)).collect();
    let names: Vec<&str> = others.iter().map(|member| member.name.as_str()).collect();
    let mut arguments = vec!["room", "create", room];
    let names = names.join(",");
    if !names.is_empty() {
        arguments.extend(["--add", &names]);
    }
    admin.run_ok(&arguments);
    for client in &clients {
        eventually("it was let in", || client.errors().contains("let into"));
    }
    // Each newcomer changes the room once more: it renews its keys.
    eventually("each has renewed its keys", || {
        let members = admin.run_ok(&["room", "members", room]);
        members.lines.iter().all(|line| !line.contains("\"keys_renewed\":null"))
    });
    clients
}
