//! From the command line to what is to be done: every refusal of a flag happens here.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::args::{Arguments, Command, Common, Input, Output};
use super::exit::Exit;
use super::input;
use crate::conversation::client::backfill::BackfillStart;
use crate::conversation::client::conversation::ConnectOptions;
use crate::conversation::client::line_splitter::Delimiter;
use crate::conversation::client::server_url::ServerUrl;
use crate::conversation::client::since::Since;
use crate::net::tls_client::TrustOptions;
use crate::protocol::{MessageId, RoomName, Seq, Timestamp};

/// The server of somebody who names none.
const USUAL_SERVER: &str = "ws://127.0.0.1:8765";
/// How long a pipe tries, unless told otherwise.
const USUAL_PATIENCE: Duration = Duration::from_secs(30);
/// Largest file with an access token.
const TOKEN_BYTES: u64 = 4096;

/// What a run of the pipe does.
pub struct RunOptions {
    /// Whom to talk to.
    pub target: ServerUrl,
    /// Whom TLS trusts.
    pub trust: TrustOptions,
    /// Who and where we want to be.
    pub wish: ConnectOptions,
    /// Where messages come from.
    pub source: Source,
    /// Whether it ends when everything is sent.
    pub stays: bool,
    /// How messages are printed; `None`: not at all.
    pub output: Option<Output>,
    /// The command for each message.
    pub exec: Option<String>,
    /// End after so many messages.
    pub count: Option<u64>,
    /// How long to wait without getting on.
    pub patience: Duration,
    /// Whether that was said in so many words.
    pub patience_told: bool,
    /// The cursor file.
    pub cursor: Option<PathBuf>,
}

/// Where messages come from.
pub enum Source {
    /// Standard input.
    Lines(Input, Delimiter),
    /// One text, perhaps under an id of the caller's.
    One(String, Option<MessageId>),
    /// Nowhere.
    Nothing,
    /// Nowhere; only what is kept is printed.
    History,
}

impl RunOptions {
    /// Makes sense of the command line.
    pub fn of(arguments: Arguments) -> Result<RunOptions, (Exit, String)> {
        let usage = |text: String| (Exit::Usage, text);
        let Arguments { verb, server, listen, follow, exec, input, nul, common } = arguments;
        let url = server.or(common.url.clone()).unwrap_or_else(|| USUAL_SERVER.into());
        let target = ServerUrl::parse(&url).map_err(usage)?;
        let rooms = rooms(&common).map_err(usage)?;
        let ending = if nul { Delimiter::Nul } else { Delimiter::Newline };
        let mut since = common.since.map(goal);
        let mut stays = follow || exec.is_some();
        let mut prints = true;
        let source = match verb {
            Some(Command::Send { id, text }) => {
                prints = false;
                let id = id
                    .map(|id| {
                        MessageId::parse(&id)
                            .ok_or_else(|| usage(format!("--id: {}", MessageId::RULE)))
                    })
                    .transpose()?;
                let text = match text.is_empty() {
                    true => input::read_whole().map_err(|error| (Exit::BadInput, error))?,
                    false => text.join(" "),
                };
                if text.is_empty() {
                    return Err((Exit::BadInput, "there is nothing to send".into()));
                }
                Source::One(text, id)
            }
            Some(Command::History) => {
                since = Some(match (since, common.count) {
                    (None, Some(count)) => BackfillStart::Newest(count),
                    (since, _) => since.unwrap_or(BackfillStart::After(Seq(0))),
                });
                Source::History
            }
            _ if listen => {
                stays = true;
                Source::Nothing
            }
            _ => Source::Lines(input, ending),
        };
        if common.pin.is_some() && !target.tls {
            let text = format!("--pin is about a certificate, and {target} has none; use wss://");
            return Err((Exit::Usage, text));
        }
        if common.insecure {
            super::exit::print_error(
                "warning: --insecure trusts any certificate; whoever is in between can read and write everything",
            );
        }
        let wish = ConnectOptions {
            username: user(&common),
            access_token: access_token(&common).map_err(usage)?,
            rooms,
            echo: prints,
            presence: prints && !matches!(source, Source::History),
            since,
        };
        Ok(RunOptions {
            target,
            trust: TrustOptions {
                ca_file: common.ca_file.clone(),
                insecure: common.insecure,
                pin: common.pin,
            },
            wish,
            source,
            stays,
            output: prints.then(|| common.output.unwrap_or_else(usual_output)),
            exec,
            count: common.count,
            patience: common.timeout.unwrap_or(USUAL_PATIENCE),
            patience_told: common.timeout.is_some(),
            cursor: common.cursor,
        })
    }
}

/// JSON for programs, plain for people.
fn usual_output() -> Output {
    use std::io::IsTerminal as _;
    if std::io::stdout().is_terminal() { Output::Plain } else { Output::Json }
}

/// The name to register with.
pub fn user(common: &Common) -> String {
    let login = || {
        ["USER", "LOGNAME"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()))
    };
    common.user.clone().or_else(login).or_else(user_of_process).unwrap_or_default()
}

/// The login name where the environment has none, as in cron: by the process's user (passwd(5)).
fn user_of_process() -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let own = std::fs::metadata("/proc/self").ok()?.uid().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').nth(2) == Some(&own))?;
    Some(line.split(':').next()?.to_owned())
}

fn rooms(common: &Common) -> Result<Vec<String>, String> {
    for room in &common.room {
        if RoomName::parse(room).is_none() {
            return Err(format!("--room {room:?}: {}", RoomName::RULE));
        }
    }
    Ok(common.room.clone())
}

/// The access token, from its file or from the environment; never from an argument.
pub fn access_token(common: &Common) -> Result<Option<String>, String> {
    let text = match &common.access_token_file {
        None => std::env::var("CHAT_ACCESS_TOKEN").ok(),
        Some(file) => {
            let wrong = |why: String| format!("--access-token-file {}: {why}", file.display());
            let size = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
            if size > TOKEN_BYTES {
                return Err(wrong("too large for an access token".into()));
            }
            Some(std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?)
        }
    };
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    Ok(text)
}

fn goal(since: Since) -> BackfillStart {
    match since {
        Since::All => BackfillStart::After(Seq(0)),
        Since::After(seq) => BackfillStart::After(seq),
        Since::Ago(ago) => {
            let moment = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
            BackfillStart::NotBefore(Timestamp::from_system(moment))
        }
    }
}
