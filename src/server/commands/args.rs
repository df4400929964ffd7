//! The command line of `chat-server`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::token::parse_age;
use crate::config::Sources;
use crate::server::admin::socket::AdminRequest;

/// Where the configuration is looked for when nobody names one.
const USUAL_FILE: &str = "/etc/chat-server/chat-server.toml";

/// A chat that scripts and people share: the server.
#[derive(Debug, Parser)]
#[command(
    name = "chat-server",
    version,
    about,
    after_help = "\
Configuration: built-in defaults, then the file (--config, $CHAT_SERVER_CONFIG, or
/etc/chat-server/chat-server.toml where it exists), then the environment
(CHAT_SERVER_LISTEN__PORT=9000), then flags.

Signals: TERM and INT finish and end, HUP reloads, USR1 rotates the keys, USR2 logs a status line.
Exit codes: 0 done, 1 the running server said no, 2 usage, 69 can't listen, or no server answers,
71 the system refused, 74 the history or the access file does not serve, 78 configuration."
)]
pub struct Arguments {
    /// What to do; without a word: run.
    #[command(subcommand)]
    pub verb: Option<Command>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub place: ConfigArgs,
}

/// The configuration's sources on the command line.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file
    #[arg(long, env = "CHAT_SERVER_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The TCP port; 0: any free one
    #[arg(long, value_name = "N", global = true)]
    pub port: Option<u16>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
}

/// What `chat-server` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until told to stop (the default)
    Run,
    /// Read everything, print the configuration in force, and change nothing
    Check,
    /// Give, list and take back access tokens
    Token {
        /// Which
        #[command(subcommand)]
        verb: TokenCommand,
    },
    /// Ask or tell the running server, by its admin socket
    Ctl {
        /// Answer with one JSON object, for programs
        #[arg(long, global = true)]
        json: bool,
        /// What
        #[command(subcommand)]
        verb: CtlCommand,
    },
    /// Write the history anew under another at-rest key; the server must not be running
    Rekey {
        /// The present key, where it is a credential and not a file beside the history
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// The new key [default: a fresh one, in the place of the present one]
        #[arg(long, value_name = "FILE")]
        new_key: Option<PathBuf>,
    },
    /// Print a completion script
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// What can be done with access tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make one and print it, once
    Add(NewToken),
    /// List them, without the tokens themselves
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Make one void; its sessions end at once
    Revoke {
        /// As `list` names it
        id: String,
    },
}

/// What a new access token gives.
#[derive(Debug, Args)]
pub struct NewToken {
    /// Whom it proves
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// A room, or *; again for more [default: lobby]
    #[arg(long, value_name = "R")]
    pub room: Vec<String>,
    /// reader, writer, member or admin
    #[arg(long, value_name = "ROLE", default_value = "member")]
    pub role: String,
    /// When it ends, from now: 12h, 30d [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    pub expires: Option<Duration>,
    /// Keep nothing; print a table for the configuration file instead
    #[arg(long)]
    pub declare: bool,
}

/// What the running server can be asked and told.
#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    /// How things stand
    Status,
    /// Which rooms are there
    Rooms,
    /// Who is there
    Sessions,
    /// New keys for every room, now
    Rotate,
    /// Read the configuration again; says what is wrong with it
    Reload,
    /// End a user's sessions
    Kick {
        /// Whose
        user: String,
    },
    /// End a user's sessions and let the name in no more
    Ban {
        /// Whose
        user: String,
    },
    /// Let a banned name in again
    Unban {
        /// Whose
        user: String,
    },
    /// Finish what was received and end, as SIGTERM does
    Drain,
}

impl CtlCommand {
    /// As the admin socket has it.
    pub fn wish(&self) -> AdminRequest {
        match self {
            CtlCommand::Status => AdminRequest::Status,
            CtlCommand::Rooms => AdminRequest::Rooms,
            CtlCommand::Sessions => AdminRequest::Sessions,
            CtlCommand::Rotate => AdminRequest::Rotate,
            CtlCommand::Reload => AdminRequest::Reload,
            CtlCommand::Kick { user } => AdminRequest::Kick { user: user.clone() },
            CtlCommand::Ban { user } => AdminRequest::Ban { user: user.clone() },
            CtlCommand::Unban { user } => AdminRequest::Unban { user: user.clone() },
            CtlCommand::Drain => AdminRequest::Drain,
        }
    }
}

impl ConfigArgs {
    /// The sources, with the environment of this process.
    pub fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            usual: Some(USUAL_FILE.into()),
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            port: self.port,
            log_level: self.log_level.clone(),
        }
    }
}
