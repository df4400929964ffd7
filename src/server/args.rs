//! The command line of `chat-server`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::doors::config::Sources;

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
Exit codes: 0 done, 2 usage, 69 can't listen, 74 the history can't be opened, 78 configuration."
)]
pub struct Arguments {
    /// What to do; without a word: run.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub place: Place,
}

/// The configuration's sources on the command line.
#[derive(Clone, Debug, Args)]
pub struct Place {
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
pub enum Verb {
    /// Serve until told to stop (the default)
    Run,
    /// Read everything, print the configuration in force, and change nothing
    Check,
    /// Print a completion script
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

impl Place {
    /// The sources, with the environment of this process.
    pub fn sources(&self) -> Sources {
        let usual = PathBuf::from(USUAL_FILE);
        Sources {
            file: self.config.clone().or_else(|| usual.exists().then_some(usual)),
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
