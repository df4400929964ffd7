//! P25: every command of `ctl` and `token` against a server that runs, was stopped, hangs, or belongs to another user.
//! What the command says is what is so, and each act of a running server leaves one audit line.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::access::TOKENS;
use crate::support::eventually;
use crate::support::server::Server;
use crate::support::wire::Wire;

/// A user who owns nothing here; it needs no entry in /etc/passwd.
const OTHER_UID: u32 = 61_234;

/// What a command does to a running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It reads, by the admin socket.
    Ask,
    /// It acts, by the admin socket; the server log has an audit line with this action.
    Act(&'static str),
    /// It reads the access file.
    Read,
    /// It changes the access file.
    Change(&'static str),
}

/// Every command. `ID1` and `ID2` stand for the ids of two access tokens.
const COMMANDS: [(&str, Kind); 22] = [
    ("ctl status", Kind::Ask),
    ("ctl top", Kind::Ask),
    ("ctl log-level", Kind::Ask),
    ("ctl log-level info --for 1m", Kind::Act("log_level")),
    ("ctl rooms", Kind::Ask),
    ("ctl rooms --all", Kind::Ask),
    ("ctl sessions", Kind::Ask),
    ("ctl bans", Kind::Ask),
    ("ctl rotate", Kind::Act("rotate")),
    ("ctl reload", Kind::Act("reload")),
    ("ctl kick ana", Kind::Act("kick")),
    ("ctl ban eve", Kind::Act("ban")),
    ("ctl unban eve", Kind::Act("unban")),
    ("ctl mute eve --for 1h", Kind::Act("mute")),
    ("ctl unmute eve", Kind::Act("unmute")),
    ("ctl delete lobby 1", Kind::Act("delete")),
    ("ctl room delete lobby", Kind::Act("room_delete")),
    ("token list", Kind::Read),
    ("token add --user eve", Kind::Change("token_add")),
    ("token rotate ID1", Kind::Change("token_rotate")),
    ("token revoke ID2", Kind::Change("token_revoke")),
    // The last one, because the server exits.
    ("ctl drain", Kind::Act("drain")),
];

/// A server with access tokens of three users.
struct Table {
    server: Server,
    ids: [String; 2],
}

/// How a command ended.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Table {
    /// Starts the server, and connects one of the users.
    async fn start() -> (Self, Wire) {
        let server = Server::with(TOKENS).start();
        let token = server.token("ana", &[]);
        let ids = ["bob", "mal"].map(|user| {
            server.token(user, &[]);
            server.token_id(user)
        });
        let mut ana = Wire::connect(&server).await;
        ana.send(json!({"type": "register", "protocol": 1, "access_token": token})).await;
        ana.next_of("encryption_key").await;
        ana.send_chat_and_wait("lobby", "id", "a pasted secret").await;
        eventually("the first acts are logged", || server.event_count("audit") == 3);
        (Table { server, ids }, ana)
    }

    fn words<'a>(&'a self, command: &'a str) -> Vec<&'a str> {
        let word = |word| match word {
            "ID1" => &*self.ids[0],
            "ID2" => &*self.ids[1],
            other => other,
        };
        command.split(' ').map(word).collect()
    }

    fn run(&self, command: &str) -> Ended {
        self.server.run(&self.words(command)).into()
    }

    /// The users with access tokens and their ids, by the access file.
    fn tokens(&self) -> Vec<(String, String)> {
        let list = self.server.run_ok(&["token", "list", "--json"]);
        let rows = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        rows.map(|row| (word(&row["user"]), word(&row["id"]))).collect()
    }

    /// Whether the access tokens are those that the commands of the table make.
    fn assert_tokens_are_changed(&self) {
        let tokens = self.tokens();
        let users: Vec<&str> = tokens.iter().map(|(user, _)| &**user).collect();
        assert_eq!(users, ["ana", "bob", "eve"], "bob's is replaced, mal's is revoked");
        assert_ne!(tokens[1].1, self.ids[0]);
    }

    /// The audit lines after those of the start.
    fn audit(&self) -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let lines = self.server.log().into_iter().filter(|line| line["event"] == "audit");
        lines.skip(3).map(|line| (word(&line["action"]), word(&line["by"]))).collect()
    }
}

/// Checks the output: an access token where one is made, and otherwise nothing where the command fails; notes and
/// errors in one line.
fn assert_output(command: &str, ended: &Ended, code: i32, note: &str) {
    let Ended { code: found, out, err } = ended;
    assert_eq!(*found, Some(code), "{command}: {err}");
    assert!(err.contains(note), "{command}: {err}");
    assert_eq!(err.lines().count(), usize::from(!note.is_empty()), "{command}: {err}");
    let makes_token = ["token add", "token rotate"].iter().any(|start| command.starts_with(start));
    match makes_token && note != NOT_ALLOWED {
        true => assert!(out.starts_with("sct_") && out.lines().count() == 1, "{command}: {out}"),
        // `token revoke` prints nothing else.
        false => assert_eq!(out.is_empty(), code != 0 || command.starts_with("token revoke")),
    }
}

/// What the error says if the access file or its folder belongs to another user.
const NOT_ALLOWED: &str = "Permission denied";

#[tokio::test]
async fn p25_a_running_server_does_what_is_asked_and_logs_it_once() {
    let (mut table, _ana) = Table::start().await;
    for (command, kind) in COMMANDS {
        let note = match kind {
            Kind::Change(_) => "the server has been notified",
            _ => "",
        };
        assert_output(command, &table.run(command), 0, note);
    }
    assert!(table.server.wait().success());
    table.assert_tokens_are_changed();
    eventually("the log is read", || table.server.event_count("stopped") == 1);
    let expected: Vec<&str> = COMMANDS
        .iter()
        .filter_map(|(_, kind)| match kind {
            Kind::Act(action) | Kind::Change(action) => Some(*action),
            _ => None,
        })
        .collect();
    let audit = table.audit();
    let found: Vec<&str> = audit.iter().map(|(action, _)| &**action).collect();
    assert_eq!(found, expected);
    for (action, by) in &audit {
        // The server may notice a change of the file before the command tells it.
        let noticed = action.starts_with("token_") && by == "access file";
        assert!(noticed || by.starts_with("uid "), "{action}: {by}");
    }
}

#[tokio::test]
async fn p25_without_a_server_the_access_file_is_changed_and_nothing_else_is_done() {
    let (mut table, _ana) = Table::start().await;
    table.server.stop();
    for (command, kind) in COMMANDS {
        let (code, note) = match kind {
            Kind::Ask | Kind::Act(_) => (69, "no server answers at "),
            Kind::Read => (0, ""),
            Kind::Change(_) => (0, "no server answers; one that uses this file notices it"),
        };
        assert_output(command, &table.run(command), code, note);
    }
    table.assert_tokens_are_changed();
}

#[tokio::test]
async fn p25_a_server_that_hangs_is_named_and_does_nothing_later() {
    let (mut table, _ana) = Table::start().await;
    table.server.signal("STOP");
    let ended = std::thread::scope(|scope| {
        let table = &table;
        let runs = COMMANDS.map(|(command, _)| scope.spawn(move || table.run(command)));
        runs.map(|run| run.join().unwrap())
    });
    for ((command, kind), ended) in COMMANDS.iter().zip(&ended) {
        let (code, note) = match kind {
            Kind::Read => (0, ""),
            // The access token is shown only once.
            Kind::Change("token_add") => (0, "shown only now; but the server at "),
            Kind::Change("token_rotate") => (69, "replaces "),
            Kind::Change(_) => (69, " is revoked, but the server at "),
            _ => (69, " did not answer within 20 s"),
        };
        assert_output(command, ended, code, note);
    }
    table.server.signal("CONT");
    // Each request that nobody waits for is dropped. The server notices the changes of the file by itself.
    let requests = COMMANDS.iter().filter(|(_, kind)| *kind != Kind::Read).count();
    eventually("the requests are read", || {
        table.server.event_count("request_abandoned") == requests
    });
    eventually("the changes are noticed", || table.audit().len() >= 3);
    table.assert_tokens_are_changed();
    let mut audit = table.audit();
    audit.sort();
    let expected = ["token_add", "token_revoke", "token_rotate"]
        .map(|action| (action.to_owned(), "access file".to_owned()));
    assert_eq!(audit, expected);
    assert!(table.server.is_alive(), "it does not drain");
    let sessions = table.server.run_ok(&["ctl", "sessions"]);
    assert!(sessions.contains("ana"), "it kicks nobody: {sessions}");
    assert_eq!(table.server.run_ok(&["ctl", "bans"]), "none\n");
}

#[tokio::test]
async fn p25_another_users_server_is_left_alone_and_the_reason_given() {
    let (table, _ana) = Table::start().await;
    let state = table.server.state();
    let folder = state.parent().unwrap();
    if std::os::unix::fs::MetadataExt::uid(&folder.metadata().unwrap()) != 0 {
        eprintln!("skipped: only root can run a command as another user");
        return;
    }
    // As systemd makes them: others see the socket, but neither use it nor see the state.
    set_mode(folder, 0o755);
    set_mode(&folder.join("run"), 0o755);
    set_mode(&state, 0o700);
    let program = folder.join("chat-server");
    std::fs::copy(crate::support::programs::server(), &program).unwrap();
    let tokens = table.tokens();
    for (command, kind) in COMMANDS {
        let output = Command::new(&program)
            .env_clear()
            .env("STATE_DIRECTORY", &state)
            .env("RUNTIME_DIRECTORY", folder.join("run"))
            .args(table.words(command))
            .arg("--config")
            .arg(table.server.config_file())
            .uid(OTHER_UID)
            .gid(OTHER_UID)
            .output()
            .unwrap();
        let (code, note) = match kind {
            Kind::Ask | Kind::Act(_) => (69, "this user may not use the admin socket"),
            Kind::Read | Kind::Change(_) => (74, NOT_ALLOWED),
        };
        assert_output(command, &output.into(), code, note);
    }
    assert_eq!(table.tokens(), tokens);
    assert_eq!(table.audit(), []);
}

fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
