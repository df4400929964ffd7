//! The command line of `chat-client`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::conversation::client::since::{Since, parse_timeout};

/// A chat that scripts and people share: the client.
#[derive(Debug, Parser)]
#[command(
    name = "chat-client",
    version,
    about,
    args_conflicts_with_subcommands = false,
    after_help = "\
On a terminal: a conversation. In a pipe: each line of standard input is a message, and what is
said comes out as JSON lines; it ends with 0 when every line is safely stored.

Exit codes: 0 all done, 2 usage, 65 a line can't be sent (the rest is), 69 can't connect,
75 gave up with messages unacked (their lines on standard error), 76 protocol error, 77 refused."
)]
pub struct Arguments {
    /// What to do; without a word: talk.
    #[command(subcommand)]
    pub verb: Option<Command>,
    /// The server: ws://…, wss://…, https://…, abcd.ngrok.app, host:port
    #[arg(value_name = "URL")]
    pub server: Option<String>,
    /// Never read standard input; print until ended
    #[arg(short, long)]
    pub listen: bool,
    /// After the end of standard input, go on printing
    #[arg(short, long)]
    pub follow: bool,
    /// Run CMD for each message of others; each line it prints is a reply
    #[arg(long, value_name = "CMD")]
    pub exec: Option<String>,
    /// What a line of standard input is
    #[arg(long, value_enum, default_value_t = Input::Text)]
    pub input: Input,
    /// NUL ends a message, not the line
    #[arg(short = '0')]
    pub nul: bool,
    /// Options of every verb
    #[command(flatten)]
    pub common: Common,
}

/// What every use has in common.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The server
    #[arg(long, env = "CHAT_URL", value_name = "URL", global = true)]
    pub url: Option<String>,
    /// Your name; default: the login name
    #[arg(short, long, env = "CHAT_USER", value_name = "NAME", global = true)]
    pub user: Option<String>,
    /// A file that holds the access token; or the token itself in $CHAT_ACCESS_TOKEN
    #[arg(long, value_name = "FILE", global = true)]
    pub access_token_file: Option<PathBuf>,
    /// A room; again for more; messages go to the first
    #[arg(
        short,
        long,
        env = "CHAT_ROOM",
        value_name = "ROOM",
        value_delimiter = ',',
        global = true
    )]
    pub room: Vec<String>,
    /// Replay first: after SEQ, from 10m ago, or all
    #[arg(long, value_name = "SEQ|TIME|all", global = true)]
    pub since: Option<Since>,
    /// Start after what FILE says was seen, and keep it up to date
    #[arg(long, value_name = "FILE", global = true)]
    pub cursor: Option<PathBuf>,
    /// End after N messages
    #[arg(short = 'n', long, value_name = "N", global = true)]
    pub count: Option<u64>,
    /// Give up after so long [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_timeout, global = true)]
    pub timeout: Option<Duration>,
    /// How messages are printed; default: JSON unless on a terminal
    #[arg(long, value_enum, global = true)]
    pub output: Option<Output>,
    /// Trust these certificates too (PEM)
    #[arg(long, value_name = "FILE", global = true)]
    pub ca_file: Option<PathBuf>,
    /// Trust the one certificate with this SHA-256 (openssl x509 -fingerprint -sha256)
    #[arg(long, env = "CHAT_PIN", value_name = "HEX", value_parser = parse_pin, global = true)]
    pub pin: Option<Pin>,
    /// Trust any certificate: whoever is in between can read and write everything
    #[arg(long, global = true)]
    pub insecure: bool,
}

/// A certificate's SHA-256.
pub type Pin = [u8; 32];

/// 64 hexadecimal digits, with or without colons.
fn parse_pin(text: &str) -> Result<Pin, String> {
    let digits: String = text.trim().chars().filter(|c| *c != ':').collect();
    let error = || "64 hexadecimal digits, as openssl x509 -fingerprint -sha256 prints".to_owned();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(error());
    }
    let mut pin = [0; 32];
    for (index, byte) in pin.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| error())?;
    }
    Ok(pin)
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send one message (or standard input, whole, as one) and end
    Send {
        /// The message's id: sending again with the same one says it once
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// What to say
        #[arg(value_name = "TEXT")]
        text: Vec<String>,
    },
    /// Print what is kept, in order, and end
    History,
    /// Print a completion script
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// What a line of standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Input {
    /// A message
    Text,
    /// {"room":…,"content":…}
    Json,
}

/// How messages are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One JSON object a line
    Json,
    /// [12:34:56] Alice: Hola
    Plain,
}
