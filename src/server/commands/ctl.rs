//! `chat-server ctl`: sends a request to the running server and prints its answer.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::answers;
use super::args::{ConfigArgs, CtlCommand};
use super::output::{print, print_error};
use super::{table, tail};
use crate::config::Config;
use crate::server::admin::request::{self, AdminRequest, BanRequest};
use crate::server::error::{CtlError, ServerError};

/// How long the server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// Sends the request and prints the answer. Works beside a broken configuration too, so that an
/// operator does not have to repair a file before kicking a user.
pub fn run(
    config: &ConfigArgs,
    json: bool,
    all_nodes: bool,
    command: &CtlCommand,
) -> Result<(), ServerError> {
    let (socket, config_error) = Config::admin_socket(&config.command_sources())?;
    if let CtlCommand::Tail(_) = command {
        return match (begin(socket.as_deref(), &command.request(), all_nodes), config_error) {
            (Err(CtlError::NoServer { .. }), Some(error)) => Err(error.into()),
            (begun, config_error) => {
                let (_, server) = begun?;
                if let Some(error) = config_error {
                    print_error(&format!(
                        "the configuration is broken now, so the server uses an older one: {error}"
                    ));
                }
                tail::print_lines(server, json)
            }
        };
    }
    let answered = begin(socket.as_deref(), &command.request(), all_nodes);
    let answer = match (answered.map(|(answer, _)| answer), config_error) {
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
    if all_nodes && !answers::is_of_all_nodes(&answer) {
        let error = "the running server is an older one, which does not know --all-nodes; restart it \
                     with the new version";
        return Err(CtlError::Refused(error.to_owned()).into());
    }
    match json {
        true => print(format!("{answer}\n").as_bytes())?,
        false if all_nodes => print(answers::format_all_nodes(command, &answer).as_bytes())?,
        false => print(answers::format(command, &answer).as_bytes())?,
    }
    let shut_out = match command.request() {
        AdminRequest::Kick(target) | AdminRequest::Ban(BanRequest { target, .. }) => target.user,
        _ => None,
    };
    if let Some(user) = shut_out {
        note_end_to_end_rooms(socket.as_deref(), &user);
    }
    if let Some(missing) = answers::missing_nodes(&answer) {
        return Err(missing.into());
    }
    if all_nodes {
        return Ok(());
    }
    answers::missing(command, &answer).map_or(Ok(()), |missing| Err(missing.into()))
}

/// Tells an operator who has shut a user out in which end-to-end rooms the user's devices were seen: no server can
/// remove them from the groups of those rooms. A server that does not answer is not worth an error here.
pub fn note_end_to_end_rooms(socket: Option<&Path>, user: &str) {
    let asked = AdminRequest::EndToEndRooms { user: user.to_owned() };
    let Ok(answer) = ask(socket, &asked) else { return };
    let rooms: Vec<&str> =
        answer["rooms"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(first) = rooms.first() {
        print_error(&format!(
            "devices of {user} were seen in the end-to-end rooms {}, and the server can't remove them there; if \
             nobody has done so yet, a member can: chat-client room remove {first} {user:?}",
            rooms.join(", ")
        ));
    }
}

/// Sends one request to the server behind `socket` and waits for its answer.
pub fn ask(socket: Option<&Path>, request: &AdminRequest) -> Result<Value, CtlError> {
    begin(socket, request, false).map(|(answer, _)| answer)
}

/// Sends one request, waits for the first line of the answer, and gives the rest of the answer unread.
fn begin(
    socket: Option<&Path>,
    request: &AdminRequest,
    all_nodes: bool,
) -> Result<(Value, BufReader<UnixStream>), CtlError> {
    let (answer, server) = ask_once(socket, request, all_nodes)?;
    if answer["ok"].as_bool() == Some(true) {
        return Ok((answer, server));
    }
    let error = answer["error"].as_str().unwrap_or("refused").to_owned();
    if !request::is_unknown_verb(&answer) {
        return Err(CtlError::Refused(error));
    }
    // Versions that don't name themselves in the answer tell by their status.
    let status = match answer["server"].is_string() {
        true => answer,
        false => ask_once(socket, &AdminRequest::Status, false)
            .map(|(status, _)| status)
            .unwrap_or_default(),
    };
    let server = status["server"].as_str().unwrap_or("unknown");
    let version = table::printable(server.trim_start_matches("chat-server/"));
    let is_newer = numbers(&version) > numbers(env!("CARGO_PKG_VERSION"));
    let next_step = match is_newer {
        true => "use the chat-server program of that version",
        false => "restart it with the new version",
    };
    Err(CtlError::UnknownVerb { verb: request.verb(), version, next_step })
}

/// The numbers of a version, for comparison; none if it has another form.
fn numbers(version: &str) -> Option<Vec<u64>> {
    version.split('.').map(|number| number.parse().ok()).collect()
}

/// Sends one request and reads one line of JSON, all within [`ANSWER_TIMEOUT`].
fn ask_once(
    socket: Option<&Path>,
    request: &AdminRequest,
    all_nodes: bool,
) -> Result<(Value, BufReader<UnixStream>), CtlError> {
    let path = socket.ok_or(CtlError::NoSocket)?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let name = || path.display().to_string();
    let error = |source: io::Error| match source.kind() {
        // EAGAIN is how an expired SO_RCVTIMEO or SO_SNDTIMEO is reported (socket(7)).
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            CtlError::TimedOut { path: name(), seconds: ANSWER_TIMEOUT.as_secs() }
        }
        io::ErrorKind::PermissionDenied => CtlError::NotAllowed { path: name() },
        // The server closed the connection before it read the request, or before it answered.
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            CtlError::Closed { path: name() }
        }
        _ => CtlError::NoServer { path: name(), source },
    };
    let mut stream = UnixStream::connect(path).map_err(error)?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(error)?;
    let mut line = serde_json::to_value(request).expect("a request is plain JSON");
    if all_nodes {
        line[request::ALL_NODES] = true.into();
    }
    let line = format!("{line}\n");
    stream.write_all(line.as_bytes()).map_err(error)?;
    let mut server = BufReader::new(stream);
    let (answer, is_whole) = read_line(&mut server, deadline).map_err(error)?;
    match serde_json::from_slice::<Value>(&answer) {
        Ok(answer) if answer["ok"].is_boolean() => Ok((answer, server)),
        _ if is_whole || answer.len() > MAX_ANSWER_BYTES => {
            Err(CtlError::NotAServer { path: name() })
        }
        _ => Err(CtlError::Closed { path: name() }),
    }
}

/// Reads up to the first line break, the end, or [`MAX_ANSWER_BYTES`]; returns whether the line is whole.
/// A server that sends a little from time to time is not waited for beyond `deadline`.
fn read_line(server: &mut BufReader<UnixStream>, deadline: Instant) -> io::Result<(Vec<u8>, bool)> {
    let mut line = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        server.get_ref().set_read_timeout(Some(left))?;
        let read = match server.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let end = read.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(read.len(), |end| end + 1);
        line.extend_from_slice(&read[..taken]);
        server.consume(taken);
        if end.is_some() || taken == 0 || line.len() > MAX_ANSWER_BYTES {
            return Ok((line, end.is_some()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_drips_is_not_waited_for_without_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let dripping = std::thread::spawn(move || {
            while theirs.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let deadline = Instant::now() + Duration::from_millis(300);
        let read = read_line(&mut BufReader::new(ours), deadline).map_err(|error| error.kind());
        let is_timeout =
            |kind| [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock].contains(&kind);
        assert!(read.clone().is_err_and(is_timeout), "{read:?}");
        dripping.join().unwrap();
    }

    #[test]
    fn the_first_line_is_read_and_a_missing_end_is_told() {
        for (text, line, is_whole) in [("a\nb\n", "a\n", true), ("a", "a", false), ("", "", false)]
        {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(text.as_bytes()).unwrap();
            drop(theirs);
            let deadline = Instant::now() + Duration::from_secs(20);
            assert_eq!(
                read_line(&mut BufReader::new(ours), deadline).unwrap(),
                (line.as_bytes().to_vec(), is_whole)
            );
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(numbers("0.10.0") > numbers("0.9.9"));
        assert!(numbers("unknown") < numbers("0.0.1"));
    }
}
