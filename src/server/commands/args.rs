//! The command line of `chat-server`. The `///` texts here are its help and its manual page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, value_parser};

use super::ban_args::{BanArgs, KickArgs, MuteArgs, UnbanArgs, UnmuteArgs, parse_room};
use super::log_args::{LogLevelArgs, TailArgs};
use super::transfer_args::{ExportArgs, ImportArgs};
use crate::config::{Sources, UnitFolders};
use crate::policy::recent_activity;
use crate::protocol::{RoomName, SeqRange, UserName};
use crate::server::admin::request::{AdminRequest, DEFAULT_ROOMS, SessionFilter};
use crate::sys::user::user_id;

/// The configuration file that is read if no file is named and this one exists.
const DEFAULT_FILE: &str = "/etc/chat-server/chat-server.toml";
/// The name of the installed unit and of its folders.
const UNIT: &str = "chat-server";
/// The longest time until an access token expires.
const MAX_EXPIRES: Duration = Duration::from_secs(36_500 * 86_400);

/// The server of Secure Chat, a chat for scripts and people
#[derive(Debug, Parser)]
#[command(
    name = "chat-server",
    version,
    after_help = "\
Configuration: built-in defaults, then the file (--config, $CHAT_SERVER_CONFIG, or
/etc/chat-server/chat-server.toml if it exists), then environment variables
(CHAT_SERVER_LISTEN__PORT=9000), then flags. Later sources override earlier ones.

Signals: TERM and INT finish what was received and exit, HUP reloads the configuration,
USR1 rotates the room keys, USR2 logs a status line.

Exit codes: 0 success, 1 the running server refused, 2 usage, 69 can't listen or no server
answers, 71 operating system error, 74 the history, its key or the access file can't be used,
or standard output can't be written, 78 wrong configuration."
)]
pub struct Arguments {
    /// The command; none is `run`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The sources of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// The options that every command takes: the sources of the configuration.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// Configuration file
    #[arg(long, env = "CHAT_SERVER_CONFIG", value_name = "FILE", global = true, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub config: Option<PathBuf>,
    /// TCP port to listen on; 0 picks any free port
    #[arg(long, value_name = "N", global = true)]
    pub port: Option<u16>,
    /// Least severe level to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
}

/// The commands of `chat-server`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server until a signal stops it (the default)
    Run,
    /// Validate the configuration and print it, without changing anything
    Check,
    /// Make, list, replace and revoke access tokens
    Token {
        #[command(subcommand)]
        #[allow(missing_docs, reason = "the help lists the subcommands")]
        command: TokenCommand,
    },
    /// Make an access token and print an invitation: one line to paste into chat-client
    Invite(InviteArgs),
    /// Control the running server through its admin socket
    Ctl {
        /// Print the answer as one JSON object
        #[arg(long, global = true)]
        json: bool,
        /// Ask all nodes of the cluster; for status, rooms and sessions
        #[arg(long, global = true)]
        all_nodes: bool,
        #[command(subcommand)]
        #[allow(missing_docs, reason = "the help lists the subcommands")]
        command: CtlCommand,
    },
    /// Copy the history and the access file into one file, also while the server runs
    Backup(BackupArgs),
    /// Put a backup in the place of the history; the server must be stopped
    Restore(RestoreArgs),
    /// Write every room of the history into one file, to move it into another store
    Export(ExportArgs),
    /// Append the rooms of an exported file to the history; repeat it if it was interrupted
    Import(ImportArgs),
    /// Encrypt the history under another at-rest key; the server must be stopped
    Rekey {
        /// File of the current key [default: the systemd credential, else the file beside the
        /// history]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// File of the new key [default: generate one and replace the current key's file]
        #[arg(long, value_name = "FILE")]
        new_key: Option<PathBuf>,
    },
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page in roff format
    Man,
}

/// The commands of `chat-server token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make an access token and print it; it can't be shown again
    Add(NewToken),
    /// List the access tokens by id, without the secrets
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Replace an access token by a new one with the same rights and print it; the old one's sessions
    /// end at once
    Rotate {
        /// The id that `token list` shows; the new access token has another one
        id: String,
    },
    /// Revoke an access token; its sessions end at once
    Revoke {
        /// The id that `token list` shows
        id: String,
    },
}

/// The options of `chat-server token add`.
#[derive(Debug, Args)]
pub struct NewToken {
    /// The rights of the access token.
    #[command(flatten)]
    pub rights: TokenRights,
    /// Store nothing; print a table for the configuration file instead
    #[arg(long)]
    pub declare: bool,
}

/// The options of `chat-server invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// The rights of the access token.
    #[command(flatten)]
    pub rights: TokenRights,
    /// The address at which others reach the server, as in wss://chat.example [default: the address of
    /// the ngrok tunnel, else a name in the certificate of listen.tls]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The rights of a new access token.
#[derive(Debug, Args)]
pub struct TokenRights {
    /// The user that the access token proves
    #[arg(long, value_name = "NAME", value_parser = UserName::parse)]
    pub user: UserName,
    /// A room it allows, or * for every room; repeat for more [default: lobby]
    #[arg(long, value_name = "R")]
    pub room: Vec<String>,
    /// What the user may do in these rooms: reader, writer, member or admin
    #[arg(long, value_name = "ROLE", default_value = "member")]
    pub role: String,
    /// When it expires, from now: 12h, 30d [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_expires)]
    pub expires: Option<Duration>,
}

/// The options of `chat-server backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Put the at-rest key into the backup too, encrypted with a passphrase or to a public key
    #[arg(long, requires = "sealing")]
    pub with_key: bool,
    /// File that contains the passphrase for the key, in one line
    #[arg(long, value_name = "FILE", group = "sealing", requires = "with_key")]
    pub passphrase_file: Option<PathBuf>,
    /// Public key in the age format (age1...) that the key is encrypted to
    #[arg(long, value_name = "KEY", group = "sealing", requires = "with_key")]
    pub recipient: Option<String>,
    /// File of the at-rest key [default: the systemd credential, else the file beside the history]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The options of `chat-server restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// File of the at-rest key that opens the backup [default: the systemd credential, else the file
    /// beside the history]
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub key_file: Option<PathBuf>,
    /// File that contains the passphrase for the key in the backup, in one line
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Also replace a history that holds messages which the backup lacks; it is moved aside
    #[arg(long)]
    pub replace: bool,
    /// Also replace the access file, if there is one; it is moved aside
    #[arg(long)]
    pub replace_access: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The commands of `chat-server ctl`.
#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    /// Show the state of the server
    Status,
    /// Name the busiest users, rooms and client addresses of the last minutes
    Top {
        /// How far back: at most 15m, in whole minutes
        #[arg(long = "for", value_name = "TIME", default_value = "5m", value_parser = parse_top_span)]
        span: Duration,
        /// How many of each
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u64).range(1..=100))]
        count: u64,
    },
    /// List the rooms that have members, the most active first
    Rooms {
        /// List the rooms without members too
        #[arg(long)]
        all: bool,
        /// How many at most
        #[arg(short = 'n', long, value_name = "N", default_value_t = DEFAULT_ROOMS as u64, value_parser = value_parser!(u64).range(1..=100_000))]
        count: u64,
    },
    /// List the sessions
    Sessions {
        /// Only those of this user
        #[arg(long, value_name = "NAME", value_parser = UserName::parse)]
        user: Option<UserName>,
        /// Only those in this room
        #[arg(long, value_name = "R", value_parser = parse_room)]
        room: Option<RoomName>,
    },
    /// Replace the key of every room now
    Rotate,
    /// Reload the configuration; reports what is wrong with it
    Reload,
    /// End the sessions of a user or of an address, or one session; they can come back
    Kick(KickArgs),
    /// Keep a user, an address or a network out, and end its sessions
    Ban(BanArgs),
    /// Let it in again
    Unban(UnbanArgs),
    /// Refuse a user's messages; it can go on reading
    Mute(MuteArgs),
    /// Accept a user's messages again
    Unmute(UnmuteArgs),
    /// List the bans and mutes
    Bans,
    /// Print the events of the server log as they come, until Ctrl-C
    Tail(TailArgs),
    /// Show the level of the server log, or change it for a time
    LogLevel(LogLevelArgs),
    /// Delete the texts of messages, for example of a pasted secret
    Delete {
        /// The room
        #[arg(value_parser = parse_room)]
        room: RoomName,
        /// The seq of a message, or several: 58-60
        #[arg(value_name = "SEQ", required = true)]
        seqs: Vec<SeqRange>,
    },
    /// Change a room
    Room {
        #[command(subcommand)]
        #[allow(missing_docs, reason = "the help lists the subcommands")]
        command: RoomCommand,
    },
    /// Finish what was received and exit, as SIGTERM does
    Drain,
}

/// The commands of `chat-server ctl room`.
#[derive(Debug, Subcommand)]
pub enum RoomCommand {
    /// Delete every message of a room; its members have to reconnect
    Delete {
        /// The room
        #[arg(value_parser = parse_room)]
        room: RoomName,
    },
}

impl CtlCommand {
    /// The request for the admin socket.
    pub fn request(&self) -> AdminRequest {
        match self {
            CtlCommand::Status => AdminRequest::Status,
            CtlCommand::Top { span, count } => {
                AdminRequest::Top { seconds: span.as_secs(), count: *count as usize }
            }
            CtlCommand::Rooms { all, count } => {
                AdminRequest::Rooms { all: *all, count: *count as usize }
            }
            CtlCommand::Sessions { user, room } => AdminRequest::Sessions(SessionFilter {
                user: user.as_ref().map(UserName::to_string),
                room: room.as_ref().map(RoomName::to_string),
            }),
            CtlCommand::Rotate => AdminRequest::Rotate,
            CtlCommand::Reload => AdminRequest::Reload,
            CtlCommand::Kick(arguments) => arguments.request(),
            CtlCommand::Ban(arguments) => arguments.request(),
            CtlCommand::Unban(arguments) => arguments.request(),
            CtlCommand::Mute(arguments) => arguments.request(),
            CtlCommand::Unmute(arguments) => arguments.request(),
            CtlCommand::Bans => AdminRequest::Bans,
            CtlCommand::Tail(arguments) => arguments.request(),
            CtlCommand::LogLevel(arguments) => arguments.request(),
            CtlCommand::Delete { room, seqs } => AdminRequest::Delete {
                room: room.to_string(),
                seqs: seqs.iter().map(SeqRange::to_string).collect(),
            },
            CtlCommand::Room { command: RoomCommand::Delete { room } } => {
                AdminRequest::RoomDelete { room: room.to_string() }
            }
            CtlCommand::Drain => AdminRequest::Drain,
        }
    }
}

impl ConfigArgs {
    /// The sources of the configuration: these options, and the environment of this process.
    pub fn sources(&self) -> Sources {
        let mut environment = BTreeMap::new();
        let mut not_utf8 = BTreeSet::new();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(environment.insert(name, value)),
                Err(_) => drop(not_utf8.insert(name)),
            }
        }
        Sources {
            unit_folders: UnitFolders::default(),
            file: self.config.clone().filter(|file| !file.as_os_str().is_empty()),
            default_file: Some(DEFAULT_FILE.into()),
            environment,
            not_utf8,
            port: self.port,
            log_level: self.log_level.clone(),
        }
    }

    /// The sources for every command but `run`: root beside the installed unit uses the unit's
    /// folders.
    pub fn command_sources(&self) -> Sources {
        let is_root = user_id() == Some(0);
        let unit_folders = if is_root { UnitFolders::find(UNIT) } else { UnitFolders::default() };
        Sources { unit_folders, ..self.sources() }
    }
}

fn parse_expires(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(expires) if !expires.is_zero() && expires <= MAX_EXPIRES => Ok(expires),
        _ => Err("must be a number with a unit, as in 12h or 30d".into()),
    }
}

fn parse_top_span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if !span.is_zero() && span <= recent_activity::MAX_SPAN => Ok(span),
        _ => Err("must be a number with a unit, at most 15m, as in 5m".into()),
    }
}
