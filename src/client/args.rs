//! The command line of `chat-client`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::end_to_end_args::{DeviceAction, RoomAction};
use super::exit_code::ExitCode;
use crate::conversation::since::{Since, parse_timeout};
use crate::policy::pins::Trust;
use crate::protocol::invitation::{Incomplete, Invitation};

fn help() -> String {
    let about = "\
On a terminal, chat-client is a conversation. In a pipe, each line of standard input is sent as one
message, messages are printed as JSON lines, and exit code 0 means that every line is stored.
A variable that is set but empty counts as not set.
";
    format!("{about}\n{}", ExitCode::help())
}

/// A chat that scripts and people share: the client.
#[derive(Debug, Parser)]
#[command(
    name = "chat-client",
    version,
    about,
    args_conflicts_with_subcommands = false,
    after_help = help()
)]
pub struct Arguments {
    /// The subcommand; without one, messages are sent and printed.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The server: ws://…, wss://…, https://…, abcd.ngrok.app, host:port
    #[arg(value_name = "URL")]
    pub server: Option<String>,
    /// Never read standard input; print messages until stopped
    #[arg(short, long)]
    pub listen: bool,
    /// Go on printing after the end of standard input
    #[arg(short, long)]
    pub follow: bool,
    /// Run CMD for each new message that this run did not send; each line that it prints is a reply
    #[arg(long, value_name = "CMD")]
    pub exec: Option<String>,
    /// End the command of --exec when it takes longer than TIME for one message [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_timeout, requires = "exec")]
    pub exec_timeout: Option<Duration>,
    /// Give the command of --exec the access token, in $CHAT_ACCESS_TOKEN
    #[arg(long, requires = "exec")]
    pub exec_pass_token: bool,
    /// Format of a line of standard input
    #[arg(long, value_enum, default_value_t = Input::Text)]
    pub input: Input,
    /// Messages end with NUL instead of a line feed
    #[arg(short = '0')]
    pub nul: bool,
    /// Also print who joins and leaves, who is there, and key changes
    #[arg(long, conflicts_with = "quiet")]
    pub events: bool,
    /// Options of every subcommand
    #[command(flatten)]
    pub common: Common,
}

/// Options of every subcommand.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The server's URL [env: CHAT_URL]
    #[arg(long, value_name = "URL", global = true)]
    pub url: Option<String>,
    /// The invitation that `url` was; it is never an argument.
    #[arg(skip)]
    pub invitation: Option<Invitation>,
    /// File with the server's URL or an invitation, which is read again before each connection
    /// [env: CHAT_URL_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub url_file: Option<PathBuf>,
    /// Your user name [env: CHAT_USER] [default: the login name]
    #[arg(short, long, value_name = "NAME", global = true)]
    pub user: Option<String>,
    /// File with the access token; or set $CHAT_ACCESS_TOKEN to the access token
    #[arg(long, value_name = "FILE", global = true)]
    pub access_token_file: Option<PathBuf>,
    /// Room to join; repeat for more; messages go to the first [env: CHAT_ROOM] [default: lobby]
    #[arg(short, long, value_name = "ROOM", value_delimiter = ',', global = true)]
    pub room: Vec<String>,
    /// Print earlier messages first: those after SEQ, of the last 10m, from a moment on
    /// (2026-11-26T15:00:00Z or @SECONDS), or all. A room with a position in --cursor continues there
    #[arg(long, value_name = "SEQ|TIME|all", global = true, allow_hyphen_values = true)]
    pub since: Option<Since>,
    /// Continue after the last line printed by the run before, which FILE names, and keep FILE up to
    /// date
    #[arg(long, value_name = "FILE", global = true)]
    pub cursor: Option<PathBuf>,
    /// End after N messages. history without --since and --cursor prints the newest N
    #[arg(short = 'n', long, value_name = "N", global = true, allow_negative_numbers = true)]
    pub count: Option<u64>,
    /// Give up after TIME without progress, or never [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_timeout, global = true,
        allow_negative_numbers = true)]
    pub timeout: Option<Duration>,
    /// Format of printed messages [default: plain on a terminal, else json]
    #[arg(long, value_enum, global = true)]
    pub output: Option<Output>,
    /// Print nothing; a cursor is kept all the same
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Trust the certificates in FILE (PEM) as well
    #[arg(long, value_name = "FILE", global = true)]
    pub ca_file: Option<PathBuf>,
    /// Trust only the certificate with this SHA-256 fingerprint (openssl x509 -fingerprint -sha256)
    /// [env: CHAT_PIN]
    #[arg(long, value_name = "HEX", value_parser = parse_pin, global = true)]
    pub pin: Option<Pin>,
    /// Trust any certificate: anyone on the network path can read and change everything
    #[arg(long, global = true)]
    pub insecure: bool,
    /// End-to-end rooms (their names begin with +): folder of this device's keys and messages
    /// [env: CHAT_E2E_HOME] [default: $XDG_STATE_HOME/secure-chat/e2e/USER@HOST]
    #[arg(long, value_name = "DIR", global = true)]
    pub e2e_home: Option<PathBuf>,
    /// End-to-end rooms: which keys of others to trust
    #[arg(long, value_enum, global = true, default_value_t = TrustLevel::First)]
    pub trust: TrustLevel,
    /// End-to-end rooms: file with lines of a user name and this user's key
    #[arg(long, value_name = "FILE", global = true)]
    pub pins: Option<PathBuf>,
}

/// Which keys of others are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TrustLevel {
    /// The first key that is seen of a user, from then on
    First,
    /// Those that the file of --pins names, or that were compared
    Pinned,
    /// Those that were compared by chat-client verify
    Verified,
}

impl From<TrustLevel> for Trust {
    fn from(level: TrustLevel) -> Self {
        match level {
            TrustLevel::First => Trust::First,
            TrustLevel::Pinned => Trust::Pinned,
            TrustLevel::Verified => Trust::Verified,
        }
    }
}

impl Common {
    /// Names the server by its URL or by an invitation.
    pub fn set_url(&mut self, text: String) -> Result<(), Incomplete> {
        self.invitation = Invitation::find(&text).transpose()?;
        self.url = Some(self.invitation.as_ref().map_or(text, |found| found.address.clone()));
        Ok(())
    }

    /// Takes from the environment what the command line leaves out. An empty variable is not set.
    pub fn fill_in(
        &mut self,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(), String> {
        let variable = |name: &str| match environment(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => {
                value.into_string().map(Some).map_err(|_| format!("{name} is not UTF-8"))
            }
        };
        if self.url.is_none() && self.url_file.is_none() {
            if let Some(url) = variable("CHAT_URL")? {
                self.set_url(url).map_err(|Incomplete| incomplete("CHAT_URL"))?;
            }
            self.url_file = variable("CHAT_URL_FILE")?.map(PathBuf::from);
        }
        if self.user.is_none() {
            self.user = variable("CHAT_USER")?;
        }
        if self.room.is_empty() {
            let rooms = variable("CHAT_ROOM")?.unwrap_or_default();
            let rooms = rooms.split(',').filter(|room| !room.is_empty());
            self.room = rooms.map(str::to_owned).collect();
        }
        if self.pin.is_none()
            && let Some(pin) = variable("CHAT_PIN")?
        {
            self.pin = Some(parse_pin(&pin).map_err(|expected| format!("CHAT_PIN: {expected}"))?);
        }
        Ok(())
    }
}

/// The error about an invitation that is cut.
pub fn incomplete(place: &str) -> String {
    format!(
        "{place}: the access token at the end of the invitation is not whole; copy the whole line"
    )
}

/// A certificate's SHA-256.
pub type Pin = [u8; 32];

/// Parses a fingerprint as openssl prints it: 64 hexadecimal digits in any case, with or without colons
/// and `sha256 Fingerprint=` before them.
fn parse_pin(text: &str) -> Result<Pin, String> {
    let expected = || {
        "expected the SHA-256 fingerprint, 64 hexadecimal digits, as openssl x509 -noout -fingerprint \
         -sha256 prints it"
            .to_owned()
    };
    let digits = match text.rsplit_once('=') {
        None => text,
        Some((label, digits)) if label.trim().eq_ignore_ascii_case("sha256 fingerprint") => digits,
        Some(_) => return Err(expected()),
    };
    let digits: String = digits.trim().chars().filter(|c| *c != ':').collect();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(expected());
    }
    let mut pin = [0; 32];
    for (index, byte) in pin.iter_mut().enumerate() {
        *byte =
            u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| expected())?;
    }
    Ok(pin)
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send one message (its arguments, or all of standard input) and exit
    Send {
        /// Id of the message: the same id sent again is stored once
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// The message; several arguments are joined by spaces
        #[arg(value_name = "TEXT")]
        text: Vec<String>,
    },
    /// Print the stored messages in order and exit
    History {
        /// Print no message after this one: a SEQ, or a time as for --since
        #[arg(long, value_name = "SEQ|TIME", allow_hyphen_values = true)]
        until: Option<Since>,
    },
    /// Create and change end-to-end rooms, whose names begin with +
    Room {
        /// What to do
        #[command(subcommand)]
        action: RoomAction,
    },
    /// Compare the keys of an end-to-end conversation with another user, over the telephone or in person
    Verify {
        /// The other user
        #[arg(value_name = "NAME")]
        name: String,
        /// The 60 digits that the other user sees: with the same ones here, the key counts as compared
        #[arg(long, value_name = "DIGITS")]
        code: Option<String>,
    },
    /// The device of end-to-end rooms that this client is
    Device {
        /// What to do
        #[command(subcommand)]
        action: DeviceAction,
    },
    /// Print a completion script
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Format of a line of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Input {
    /// The line is the message
    Text,
    /// {"room":…,"content":…,"id":…}; other fields are refused
    Json,
}

/// Format of printed messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One JSON object per line
    Json,
    /// [12:34:56] Alice: Hola
    Plain,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_taken_as_openssl_prints_it() {
        let pin: Pin = std::array::from_fn(|index| 0xa0 + index as u8);
        let digits: Vec<String> = pin.iter().map(|byte| format!("{byte:02X}")).collect();
        let (colons, plain) = (digits.join(":"), digits.concat());
        for text in [
            colons.clone(),
            colons.to_lowercase(),
            plain.clone(),
            format!("sha256 Fingerprint={colons}"),
            format!("SHA256 Fingerprint={colons}\n"),
            format!(" sha256 fingerprint = {}", plain.to_lowercase()),
        ] {
            assert_eq!(parse_pin(&text), Ok(pin), "{text}");
        }
        let sha1 = format!("SHA1 Fingerprint={}", digits[..20].join(":"));
        for text in ["", "sha256 Fingerprint=", &colons[1..], &sha1, "é".repeat(32).as_str()] {
            assert!(parse_pin(text).unwrap_err().contains("SHA-256"), "{text}");
        }
    }
}
