//! From the command line to the options of a run. Every refusal of a flag happens here, before
//! anything is connected.

use std::env::VarError;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::access_token_file::{read_access_token, warn_if_readable};
use super::args::{Arguments, Command, Common, Input, Output};
use super::end_to_end::{EndToEnd, EndToEndOptions};
use super::end_to_end_options::end_to_end_options;
use super::exit_code::{ExitCode, Refusal, print_error};
use super::input::{self, WholeError};
use super::room_names::{rooms, user};
use crate::conversation::client::backfill::{BackfillStart, Until};
use crate::conversation::client::conversation::ConnectOptions;
use crate::conversation::client::line_splitter::Delimiter;
use crate::conversation::client::server_url::ServerUrl;
use crate::conversation::since::Since;
use crate::net::dial::{Target, read_url_file};
use crate::net::tls_client::TrustOptions;
use crate::protocol::{MessageId, Seq, Timestamp};

/// The server where none is named.
const DEFAULT_SERVER: &str = "ws://127.0.0.1:8765";
/// `--timeout` where none is given.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// `--exec-timeout` where none is given.
const DEFAULT_EXEC_TIMEOUT: Duration = Duration::from_secs(60);

/// The validated options of a run.
pub struct RunOptions {
    /// The server.
    pub server: Target,
    /// Which certificates TLS trusts.
    pub trust: TrustOptions,
    /// The options of the registration.
    pub connect: ConnectOptions,
    /// Where messages come from.
    pub source: InputSource,
    /// Whether the run goes on after the end of standard input.
    pub follow: bool,
    /// The frames that are printed.
    pub printed: Printed,
    /// How it is printed; `None`: not at all.
    pub output: Option<Output>,
    /// `--exec`.
    pub exec: Option<ExecOptions>,
    /// End after this many messages.
    pub count: Option<u64>,
    /// How long the run goes on without progress.
    pub timeout: Duration,
    /// Whether `--timeout` was given.
    pub timeout_given: bool,
    /// The cursor file.
    pub cursor: Option<PathBuf>,
    /// The last message that `history` prints.
    pub until: Option<Until>,
    /// What the run wants of end-to-end rooms, if it has any.
    pub end_to_end: Option<EndToEndOptions>,
}

/// The frames that a run prints.
#[derive(Clone, Copy, Debug)]
pub struct Printed {
    /// Messages, and what concerns them.
    pub messages: bool,
    /// Joins, leaves, lists and key changes.
    pub events: bool,
    /// The acks of what is sent.
    pub acks: bool,
}

/// The options of `--exec`.
pub struct ExecOptions {
    /// The command.
    pub command: String,
    /// How long the command may take for one message.
    pub timeout: Duration,
    /// Whether the command gets the access token.
    pub pass_token: bool,
}

/// Where messages come from.
pub enum InputSource {
    /// Standard input, message by message.
    Lines(Input, Delimiter),
    /// One text, perhaps with an id that the caller gave.
    One(String, Option<MessageId>),
    /// Nowhere: the run only prints.
    Nothing,
    /// Nowhere: the run prints what the room log keeps, and ends.
    History,
}

impl RunOptions {
    /// Validates the command line and reads the files that it names.
    pub fn new(arguments: Arguments) -> Result<RunOptions, Refusal> {
        let usage = |text: String| (ExitCode::Usage, text);
        let Arguments { command, server: argument, common, .. } = &arguments;
        let server = target(argument.as_deref(), common).map_err(usage)?;
        if let Target::File(file) = &server {
            warn_if_others_can_read(file);
        }
        let (rooms, direct) = rooms(common).map_err(usage)?;
        if let Some(name) = common.user.as_deref() {
            check_name(name).map_err(usage)?;
        }
        if arguments.exec.as_deref().is_some_and(|command| command.trim().is_empty()) {
            return Err(usage("--exec: the command is empty".into()));
        }
        if command.is_some() && arguments.exec.is_some() {
            return Err(usage(
                "--exec answers messages as they come; send and history don't".into(),
            ));
        }
        let mut since = common.since.map(backfill_start);
        let mut follow = arguments.follow || arguments.exec.is_some();
        let mut printed = Printed { messages: true, events: arguments.events, acks: false };
        let mut output = Some(common.output.unwrap_or_else(default_output));
        let mut until = None;
        let source = match command {
            Some(Command::Send { id, text }) => {
                without_reading(common).map_err(usage)?;
                let acks = common.output == Some(Output::Json) && !common.quiet;
                printed = Printed { messages: false, events: false, acks };
                output = acks.then_some(Output::Json);
                follow = false;
                one_message(id.clone(), text)?
            }
            Some(Command::History { until: last }) => {
                if let (Some(since), Some(last)) = (common.since, *last) {
                    refuse_empty_range(since, last).map_err(usage)?;
                }
                until = last.map(until_of).transpose().map_err(usage)?;
                let newest = common.count.filter(|_| since.is_none() && common.cursor.is_none());
                since = Some(match (newest, until) {
                    (Some(count), Some(until)) => BackfillStart::NewestUntil(count, until),
                    (Some(count), None) => BackfillStart::Newest(count),
                    (None, _) => since.unwrap_or(BackfillStart::After(Seq(0))),
                });
                follow = false;
                InputSource::History
            }
            _ if arguments.listen => {
                follow = true;
                InputSource::Nothing
            }
            _ => {
                let delimiter = if arguments.nul { Delimiter::Nul } else { Delimiter::Newline };
                InputSource::Lines(arguments.input, delimiter)
            }
        };
        if common.quiet {
            output = None;
        }
        if let (Some(_), Target::Url(server)) = (&common.pin, &server)
            && !server.tls
        {
            let text = format!("--pin is about a certificate, and {server} has none; use wss://");
            return Err((ExitCode::Usage, text));
        }
        if common.insecure {
            print_error(
                "warning: --insecure trusts any certificate; anyone on the network path can read and change everything",
            );
        }
        let exec = arguments.exec.clone().map(|command| ExecOptions {
            command,
            timeout: arguments.exec_timeout.unwrap_or(DEFAULT_EXEC_TIMEOUT),
            pass_token: arguments.exec_pass_token,
        });
        let reads_history = matches!(source, InputSource::History);
        let end_to_end = match rooms.iter().any(|room| room.starts_with('+')) {
            true => Some(EndToEndOptions { direct, ..end_to_end_options(common, &server)? }),
            false => None,
        };
        let connect = ConnectOptions {
            username: user(common),
            access_token: access_token(argument.is_none(), common)?,
            rooms,
            echo: printed.messages && output.is_some(),
            presence: printed.events && !reads_history,
            since,
            await_replay: reads_history || (!follow && common.cursor.is_some()),
        };
        Ok(RunOptions {
            server,
            trust: TrustOptions {
                ca_file: common.ca_file.clone(),
                insecure: common.insecure,
                pin: common.pin,
            },
            connect,
            source,
            follow,
            printed,
            output,
            count: common.count,
            timeout: common.timeout.unwrap_or(DEFAULT_TIMEOUT),
            timeout_given: common.timeout.is_some(),
            cursor: common.cursor.clone(),
            until,
            exec,
            end_to_end,
        })
    }

    /// Opens the state of this device, if the run needs it.
    pub fn open_end_to_end(&self) -> Result<Option<EndToEnd>, Refusal> {
        let since = self.connect.since;
        let opened = self.end_to_end.clone().map(|options| EndToEnd::open(options, since));
        opened.transpose().map_err(|problem| (problem.exit(), problem.text))
    }
}

/// The server: as the first argument names it, else by a file, else by `--url`.
pub fn target(argument: Option<&str>, common: &Common) -> Result<Target, String> {
    match (argument, &common.url_file, common.url.as_deref()) {
        (Some(url), _, _) | (None, None, Some(url)) => ServerUrl::parse(url).map(Target::Url),
        (None, Some(file), None) => Ok(Target::File(file.clone())),
        (None, Some(_), Some(_)) => {
            Err("name the server by --url (CHAT_URL) or by --url-file (CHAT_URL_FILE), not by both"
                .into())
        }
        (None, None, None) => ServerUrl::parse(DEFAULT_SERVER).map(Target::Url),
    }
}

/// Refuses the options that are about reading, of which `send` does nothing.
fn without_reading(common: &Common) -> Result<(), String> {
    let given = [
        ("--since", common.since.is_some()),
        ("--cursor", common.cursor.is_some()),
        ("--count", common.count.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(format!("{option}: send prints no messages; use it with history")),
        None => Ok(()),
    }
}

/// The message of `chat-client send`: its arguments, else all of standard input.
fn one_message(id: Option<String>, words: &[String]) -> Result<InputSource, Refusal> {
    let invalid_id = || (ExitCode::Usage, format!("--id: {}", MessageId::RULE));
    let id = id.map(|id| MessageId::parse(&id).ok_or_else(invalid_id)).transpose()?;
    let text = match words {
        [] => input::read_whole().map_err(|error| {
            let exit = match &error {
                WholeError::Unreadable(_) => ExitCode::NoStdio,
                WholeError::Unfit(_) => ExitCode::BadInput,
            };
            (exit, error.to_string())
        })?,
        words => words.join(" "),
    };
    if text.is_empty() {
        return Err((ExitCode::BadInput, "there is nothing to send".into()));
    }
    Ok(InputSource::One(text, id))
}

/// Plain text on a terminal, else JSON.
fn default_output() -> Output {
    use std::io::IsTerminal as _;
    if std::io::stdout().is_terminal() { Output::Plain } else { Output::Json }
}

/// Refuses a name of which a server would keep nothing, so that the user would be `Anónimo`.
fn check_name(name: &str) -> Result<(), String> {
    let is_kept = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '\'');
    match name.contains(is_kept) {
        true => Ok(()),
        false if name.trim().is_empty() => Err("--user: the name is empty".into()),
        false => Err(format!("--user {name:?}: a name has letters, digits, spaces and _ - . '")),
    }
}

/// The access token: of the invitation that names the server, else from its file or from the
/// environment, never from an argument. That of an invitation is for the server that it names.
fn access_token(by_option: bool, common: &Common) -> Result<Option<String>, Refusal> {
    if let Some(invitation) = common.invitation.as_ref().filter(|_| by_option) {
        if common.access_token_file.is_some() {
            let text =
                "the invitation has an access token, so --access-token-file can't name another";
            return Err((ExitCode::Usage, text.into()));
        }
        return Ok(Some(invitation.token.to_string()));
    }
    if let Some(file) = &common.access_token_file {
        return read_access_token(file).map(Some);
    }
    match std::env::var("CHAT_ACCESS_TOKEN") {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err((ExitCode::Usage, "CHAT_ACCESS_TOKEN is not UTF-8".into()))
        }
    }
}

/// Warns of a file with an invitation that other users can read. A file that can't be read is the
/// dialer's business.
fn warn_if_others_can_read(file: &Path) {
    if let Ok(found) = std::fs::metadata(file)
        && read_url_file(file).is_ok_and(|address| address.token.is_some())
    {
        warn_if_readable(file, &found);
    }
}

fn backfill_start(since: Since) -> BackfillStart {
    match since {
        Since::All => BackfillStart::After(Seq(0)),
        Since::After(seq) => BackfillStart::After(seq),
        Since::Ago(age) => BackfillStart::NotBefore(ago(age)),
        Since::At(moment) => BackfillStart::NotBefore(moment),
    }
}

/// Refuses a `--since` that is not before `--until`: nothing can be between them.
fn refuse_empty_range(since: Since, until: Since) -> Result<(), String> {
    let is_empty = match (since, until) {
        (Since::After(since), Since::After(until)) => until <= since,
        (Since::Ago(since), Since::Ago(until)) => until > since,
        (Since::At(since), Since::At(until)) => until < since,
        (Since::Ago(since), Since::At(until)) => until < ago(since),
        (Since::At(since), Since::Ago(until)) => ago(until) < since,
        (Since::All, _) | (_, Since::All) | (Since::After(_), _) | (_, Since::After(_)) => false,
    };
    match is_empty {
        true => {
            Err("--until: it is before the first message after --since, so nothing is between them"
                .into())
        }
        false => Ok(()),
    }
}

fn until_of(last: Since) -> Result<Until, String> {
    Ok(match last {
        Since::All => return Err("--until: all is no end; leave the option out".into()),
        Since::After(seq) => Until::Seq(seq),
        Since::Ago(age) => Until::Moment(ago(age)),
        Since::At(moment) => Until::Moment(moment),
    })
}

fn ago(age: Duration) -> Timestamp {
    Timestamp::from_system(SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH))
}
