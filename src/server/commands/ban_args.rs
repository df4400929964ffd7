//! The options of `chat-server ctl kick`, `ban`, `unban`, `mute` and `unmute`.
//!
//! A word alone is a user. `10.0.0.1` can be the name of a user, so what looks like an address needs
//! an option that says what it is.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use crate::credentials::ban_record::check_why;
use crate::policy::ip_network::IpNetwork;
use crate::protocol::{RoomName, SessionId, UserName};
use crate::server::admin::request::{AdminRequest, BanRequest, MuteRequest, Target};

/// The longest time.
const MAX_TIME: Duration = Duration::from_secs(36_500 * 86_400);

/// A user.
#[derive(Debug, Args)]
#[group(id = "who", required = true, multiple = false)]
pub struct UserArgs {
    /// The user's name, or one that looks the same
    #[arg(value_name = "USER", value_parser = parse_word)]
    word: Option<UserName>,
    /// The same; also takes a name that looks like an address
    #[arg(long, value_name = "NAME", value_parser = UserName::parse)]
    user: Option<UserName>,
}

/// A user, an address or a network.
#[derive(Debug, Args)]
#[group(id = "whom", required = true, multiple = false)]
pub struct TargetArgs {
    /// The user's name, or one that looks the same
    #[arg(value_name = "USER", value_parser = parse_word)]
    word: Option<UserName>,
    /// The same; also takes a name that looks like an address
    #[arg(long, value_name = "NAME", value_parser = UserName::parse)]
    user: Option<UserName>,
    /// An IP address, as `ctl sessions` shows it; of an IPv6 address, its /64
    #[arg(long, value_name = "IP", value_parser = parse_address)]
    address: Option<IpAddr>,
    /// A network, as in 203.0.113.0/24
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    network: Option<IpNetwork>,
}

/// `ctl kick`
#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false)]
pub struct KickArgs {
    /// The user's name, or one that looks the same
    #[arg(value_name = "USER", value_parser = parse_word)]
    word: Option<UserName>,
    /// The same; also takes a name that looks like an address
    #[arg(long, value_name = "NAME", value_parser = UserName::parse)]
    user: Option<UserName>,
    /// The id of a session, as `ctl sessions` shows it
    #[arg(long, value_name = "ID", value_parser = parse_session)]
    session: Option<SessionId>,
    /// An IP address; of an IPv6 address, its /64
    #[arg(long, value_name = "IP", value_parser = parse_address)]
    address: Option<IpAddr>,
    /// A network, as in 203.0.113.0/24
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    network: Option<IpNetwork>,
}

/// How long a ban or a mute lasts, and why it was made.
#[derive(Debug, Args)]
pub struct TermArgs {
    /// How long it lasts: 10m, 1h, 7d [default: until it is lifted]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    time: Option<Duration>,
    /// The reason, for operators: `ctl bans` and the server log show it
    #[arg(long, value_name = "TEXT", value_parser = parse_why)]
    why: Option<String>,
}

/// `ctl ban`
#[derive(Debug, Args)]
pub struct BanArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    term: TermArgs,
}

/// `ctl unban`
#[derive(Debug, Args)]
pub struct UnbanArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// `ctl mute`
#[derive(Debug, Args)]
pub struct MuteArgs {
    #[command(flatten)]
    user: UserArgs,
    /// Only in this room [default: in every room]
    #[arg(long, value_name = "R", value_parser = parse_room)]
    room: Option<RoomName>,
    #[command(flatten)]
    term: TermArgs,
}

/// `ctl unmute`
#[derive(Debug, Args)]
pub struct UnmuteArgs {
    #[command(flatten)]
    user: UserArgs,
    /// Only the mute in this room [default: every mute of the user]
    #[arg(long, value_name = "R", value_parser = parse_room)]
    room: Option<RoomName>,
}

impl UserArgs {
    fn name(&self) -> String {
        self.word.as_ref().or(self.user.as_ref()).map(UserName::to_string).unwrap_or_default()
    }
}

impl TargetArgs {
    fn target(&self) -> Target {
        Target {
            user: self.word.as_ref().or(self.user.as_ref()).map(UserName::to_string),
            address: self.address.map(|address| address.to_string()),
            network: self.network.map(|network| network.to_string()),
            session: None,
        }
    }
}

impl TermArgs {
    fn millis(&self) -> Option<u64> {
        self.time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
}

impl KickArgs {
    /// The request for the admin socket.
    pub fn request(&self) -> AdminRequest {
        AdminRequest::Kick(Target {
            user: self.word.as_ref().or(self.user.as_ref()).map(UserName::to_string),
            address: self.address.map(|address| address.to_string()),
            network: self.network.map(|network| network.to_string()),
            session: self.session.as_ref().map(|session| session.as_str().to_owned()),
        })
    }
}

impl BanArgs {
    /// The request for the admin socket.
    pub fn request(&self) -> AdminRequest {
        AdminRequest::Ban(BanRequest {
            target: self.target.target(),
            for_ms: self.term.millis(),
            why: self.term.why.clone(),
        })
    }
}

impl UnbanArgs {
    /// The request for the admin socket.
    pub fn request(&self) -> AdminRequest {
        AdminRequest::Unban(self.target.target())
    }
}

impl MuteArgs {
    /// The request for the admin socket.
    pub fn request(&self) -> AdminRequest {
        AdminRequest::Mute(MuteRequest {
            user: self.user.name(),
            room: self.room.as_ref().map(RoomName::to_string),
            for_ms: self.term.millis(),
            why: self.term.why.clone(),
        })
    }
}

impl UnmuteArgs {
    /// The request for the admin socket.
    pub fn request(&self) -> AdminRequest {
        let room = self.room.as_ref().map(RoomName::to_string);
        AdminRequest::Unmute { user: self.user.name(), room }
    }
}

/// A user's name that can't be taken for an address.
fn parse_word(text: &str) -> Result<UserName, String> {
    let option = match (text.parse::<IpAddr>(), IpNetwork::parse(text)) {
        (Ok(_), _) => "--address",
        (Err(_), Some(_)) => "--network",
        (Err(_), None) => return UserName::parse(text).map_err(|error| error.to_string()),
    };
    let what = option.trim_start_matches('-');
    let user = match UserName::parse(text) {
        Ok(_) => format!("; for a user of that name, write --user {text}"),
        Err(_) => String::new(),
    };
    Err(format!("this looks like an IP {what}; for the {what}, write {option} {text}{user}"))
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    match (text.parse::<IpAddr>(), IpNetwork::parse(text)) {
        (Ok(address), _) => Ok(address.to_canonical()),
        (Err(_), Some(_)) => Err(format!("this is a network; write --network {text}")),
        (Err(_), None) => Err("this is not an IP address, as in 203.0.113.7 or 2001:db8::7".into()),
    }
}

/// A network. One with bits that do not count is refused, because it may be another one than was meant.
fn parse_network(text: &str) -> Result<IpNetwork, String> {
    let network = IpNetwork::parse(text)
        .ok_or("this is not a network, as in 203.0.113.0/24 or 2001:db8::/48")?;
    let normalized = network.normalized();
    match network.address().to_canonical() == normalized.address() {
        true => Ok(normalized),
        false => {
            Err(format!("this address has bits beyond the prefix; did you mean {normalized}?"))
        }
    }
}

/// A room's name.
pub fn parse_room(text: &str) -> Result<RoomName, String> {
    RoomName::parse(text).ok_or_else(|| RoomName::RULE.into())
}

fn parse_session(text: &str) -> Result<SessionId, String> {
    SessionId::parse(text).ok_or_else(|| SessionId::RULE.into())
}

fn parse_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time.as_millis() > 0 && time <= MAX_TIME => Ok(time),
        _ => Err("must be a number with a unit, as in 10m, 1h or 7d, and at most 100 years".into()),
    }
}

fn parse_why(text: &str) -> Result<String, String> {
    check_why(text).map(|()| text.trim().to_owned())
}
