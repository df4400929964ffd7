//! The options of `chat-server ctl tail` and `ctl log-level`. The `///` texts here are their help.

use std::time::Duration;

use clap::Args;

use super::ban_args::parse_room;
use super::events;
use crate::config::LogLevel;
use crate::protocol::{RoomName, SessionId, UserName};
use crate::server::admin::log_level;
use crate::server::admin::request::{AdminRequest, TailFilter};

/// The lines that `chat-server ctl tail` prints: those that fit each of these options.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Only lines about this user, or one whose name looks the same; repeat for more
    #[arg(long, value_name = "NAME", value_parser = UserName::parse)]
    pub user: Vec<UserName>,
    /// Only lines about this room; repeat for more
    #[arg(long, value_name = "R", value_parser = parse_room)]
    pub room: Vec<RoomName>,
    /// Only this event, such as session_closed; repeat for more
    #[arg(long, value_name = "EVENT", value_parser = parse_event)]
    pub event: Vec<String>,
    /// Only lines about this session, by its id; repeat for more
    #[arg(long, value_name = "ID", value_parser = parse_session)]
    pub session: Vec<SessionId>,
    /// Only lines of this level or a more severe one; debug and trace also show lines that the server
    /// log leaves out [default: the lines of the server log]
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    pub level: Option<LogLevel>,
}

impl TailArgs {
    /// The request for the admin socket.
    pub fn request(&self) -> AdminRequest {
        AdminRequest::Tail(TailFilter {
            level: self.level.map(|level| level.as_str().to_owned()),
            events: self.event.clone(),
            users: self.user.iter().map(UserName::to_string).collect(),
            rooms: self.room.iter().map(RoomName::to_string).collect(),
            sessions: self.session.iter().map(SessionId::to_string).collect(),
        })
    }
}

/// The options of `chat-server ctl log-level`.
#[derive(Debug, Args)]
pub struct LogLevelArgs {
    /// error, warn, info, debug or trace; reset: the level of the configuration
    #[arg(value_parser = parse_level_or_reset)]
    pub level: Option<String>,
    /// When the level of the configuration is back in force, at most 24h from now [default: 10m]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_level_time, requires = "level")]
    pub time: Option<Duration>,
}

impl LogLevelArgs {
    /// The request for the admin socket.
    pub fn request(&self) -> AdminRequest {
        AdminRequest::LogLevel {
            level: self.level.clone(),
            seconds: self.time.map(|time| time.as_secs()),
        }
    }
}

fn parse_level(text: &str) -> Result<LogLevel, &'static str> {
    LogLevel::parse(text).ok_or("must be error, warn, info, debug or trace")
}

fn parse_level_or_reset(text: &str) -> Result<String, &'static str> {
    match LogLevel::parse(text) {
        Some(level) => Ok(level.as_str().to_owned()),
        None if text == log_level::RESET => Ok(text.to_owned()),
        None => Err("must be error, warn, info, debug, trace or reset"),
    }
}

fn parse_level_time(text: &str) -> Result<Duration, &'static str> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= Duration::from_secs(1) && time <= log_level::MAX_TIME => Ok(time),
        _ => Err("must be a number with a unit between 1s and 24h, as in 10m"),
    }
}

fn parse_session(text: &str) -> Result<SessionId, &'static str> {
    SessionId::parse(text).ok_or(SessionId::RULE)
}

fn parse_event(text: &str) -> Result<String, String> {
    match events::is_known(text) {
        true => Ok(text.to_owned()),
        false => Err(match events::most_similar(text) {
            Some(event) => format!("no event has this name; a similar one is {event}"),
            None => "no event has this name; docs/logging.md lists them".into(),
        }),
    }
}
