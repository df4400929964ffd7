//! `chat-server ctl`: sends a request to the running server and prints its answer.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::args::{ConfigArgs, CtlCommand};
use super::ban_output::{format_act, format_bans, format_sessions};
use super::output::{format_answer, format_reload, print, print_error};
use crate::config::Config;
use crate::server::admin::request::AdminRequest;
use crate::server::error::{CtlError, ServerError};

/// How long the server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer.
const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;

/// Sends the request and prints the answer. Works beside a broken configuration too, so that an
/// operator does not have to repair a file before kicking a user.
pub fn run(config: &ConfigArgs, json: bool, command: &CtlCommand) -> Result<(), ServerError> {
    let (socket, config_error) = Config::admin_socket(&config.command_sources())?;
    let answer = match (ask(socket.as_deref(), &command.request()), config_error) {
        // The path of the socket may be wrong because the configuration is.
        (Err(CtlError::NoServer { .. }), Some(error)) => return Err(error.into()),
        (answer, config_error) => {
            let answer = answer?;
            if let Some(error) = config_error {
                print_error(&format!(
                    "done; but the configuration is broken now, so the server uses an older one: \
                     {error}"
                ));
            }
            answer
        }
    };
    match (json, command) {
        (true, _) => print(format!("{answer}\n").as_bytes()),
        (false, CtlCommand::Bans) => print(format_bans(&answer).as_bytes()),
        (false, CtlCommand::Sessions { .. }) => print(format_sessions(&answer).as_bytes()),
        (
            false,
            CtlCommand::Ban(_) | CtlCommand::Unban(_) | CtlCommand::Mute(_) | CtlCommand::Unmute(_),
        ) => print(format_act(command, &answer).as_bytes()),
        (false, CtlCommand::Reload) => print(format_reload(&answer).as_bytes()),
        (false, _) => print(format_answer(&answer).as_bytes()),
    }
}

/// Sends one request to the server behind `socket` and waits for its answer.
pub fn ask(socket: Option<&Path>, request: &AdminRequest) -> Result<Value, CtlError> {
    let path = socket.ok_or(CtlError::NoSocket)?;
    let error = |source: io::Error| {
        let path = path.display().to_string();
        match source.kind() {
            // EAGAIN is how an expired SO_RCVTIMEO or SO_SNDTIMEO is reported (socket(7)).
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                CtlError::TimedOut { path, seconds: ANSWER_TIMEOUT.as_secs() }
            }
            io::ErrorKind::PermissionDenied => CtlError::NotAllowed { path },
            _ => CtlError::NoServer { path, source },
        }
    };
    let mut stream = UnixStream::connect(path).map_err(error)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(error)?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(error)?;
    let mut line = serde_json::to_string(request).expect("a request is plain JSON");
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(error)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_line(&mut answer).map_err(error)?;
    let answer: Value = serde_json::from_str(&answer).map_err(|_| {
        CtlError::Refused("the server closed the connection without an answer; see its log".into())
    })?;
    match answer["ok"].as_bool() {
        Some(true) => Ok(answer),
        _ => Err(CtlError::Refused(answer["error"].as_str().unwrap_or("refused").to_owned())),
    }
}
