//! `chat-client room`: changes end-to-end rooms, and prints who is in them.

use std::time::{Duration, Instant};

use crate::client::args::{Arguments, Command};
use crate::client::driver::{Driver, Update, sleep_until};
use crate::client::end_to_end::{Action, Kind, Problem};
use crate::client::end_to_end_args::RoomAction;
use crate::client::exit_code::{ExitCode, Refusal, print_error};
use crate::client::failure::Failure;
use crate::client::options::RunOptions;
use crate::client::retry_report::RetryReport;
use crate::conversation::client::conversation::{ConnectOptions, Conversation};
use crate::conversation::client::event::Event;
use crate::conversation::client::read_positions::ReadPositions;
use crate::net::dial::Dialer;
use crate::protocol::RoomName;
use crate::protocol::device::DeviceId;
use crate::sys::stdio;
use crate::sys::termination_signal::TerminationSignal;

/// What the subcommand does.
enum Task {
    Change(Action),
    Members,
    Check,
    Leave,
}

/// Runs the subcommand.
pub async fn run(mut arguments: Arguments) -> Result<ExitCode, Refusal> {
    let Some(Command::Room { action }) = arguments.command.take() else {
        return Ok(ExitCode::Usage);
    };
    let (name, task) = parse(action)?;
    arguments.common.room = vec![name];
    arguments.listen = true;
    let options = RunOptions::new(arguments)?;
    let room = options.connect.rooms.first().and_then(|room| RoomName::parse(room));
    let (Some(room), Some(mut end_to_end)) = (room, options.open_end_to_end()?) else {
        return Ok(ExitCode::Usage);
    };
    let refused = |problem: Problem| (problem.exit(), problem.text);
    if matches!(task, Task::Leave) {
        end_to_end.leave(&room).map_err(refused)?;
        print_error(&format!(
            "this device has forgotten the keys of {room}; an admin of the room should remove it: chat-client \
             room remove {room} --device {}",
            end_to_end.device_id()
        ));
        return Ok(ExitCode::Done);
    }
    if let Task::Change(action) = &task {
        end_to_end.wish(room.clone(), action.clone());
    }
    let dialer = Dialer::new(options.server, &options.trust)
        .map_err(|error| (ExitCode::Usage, error.to_string()))?;
    let connect = ConnectOptions { echo: false, presence: false, since: None, ..options.connect };
    let conversation = Conversation::new(connect, ReadPositions::default());
    let mut driver = Driver::new(dialer, conversation, Some(end_to_end));
    let ended = converse(&mut driver, &room, &task, options.timeout).await;
    driver.close().await;
    let lines = ended.map_err(|failure| (failure.exit(), failure.to_string()))?;
    match stdio::write_stdout(lines.as_bytes()) {
        Ok(()) => Ok(ExitCode::Done),
        Err(_) => Ok(ExitCode::NoStdio),
    }
}

fn parse(action: RoomAction) -> Result<(String, Task), Refusal> {
    let usage = |text: String| (ExitCode::Usage, text);
    let (name, task) = match action {
        RoomAction::Create { name, add } => (name, Task::Change(Action::Create(add))),
        RoomAction::Add { name, users } => (name, Task::Change(Action::Add(users))),
        RoomAction::Remove { name, users, device } => {
            let parse = |text: &String| {
                DeviceId::parse(text).ok_or_else(|| {
                    usage(format!("--device {text:?}: a device has 16 characters of a-z 2-7"))
                })
            };
            let devices = device.iter().map(parse).collect::<Result<_, _>>()?;
            (name, Task::Change(Action::Remove(users, devices)))
        }
        RoomAction::Promote { name, users } => (name, Task::Change(Action::Promote(users))),
        RoomAction::Demote { name, users } => (name, Task::Change(Action::Demote(users))),
        RoomAction::Members { name } => (name, Task::Members),
        RoomAction::Check { name } => (name, Task::Check),
        RoomAction::Leave { name } => (name, Task::Leave),
    };
    match RoomName::parse(&name) {
        _ if name.starts_with('@') => Ok((name, task)),
        Some(room) if room.is_end_to_end() => Ok((name, task)),
        Some(room) => Err(usage(format!(
            "{room} is no end-to-end room; the name of one begins with +, such as +{room}"
        ))),
        None => Err(usage(format!("{name:?}: {}", RoomName::RULE))),
    }
}

/// Connects, and returns the lines to print when the task is done.
async fn converse(
    driver: &mut Driver,
    room: &RoomName,
    task: &Task,
    timeout: Duration,
) -> Result<String, Failure> {
    let mut signals = TerminationSignal::new().map_err(|error| {
        Failure::EndToEnd(Problem::new(Kind::Pending, format!("can't start: {error}")))
    })?;
    let mut report = RetryReport::default();
    let deadline = Instant::now().checked_add(timeout);
    loop {
        if let Some(lines) = finished(driver, room, task)? {
            return Ok(lines);
        }
        tokio::select! {
            update = driver.next() => {
                if matches!(update, Update::EndToEnd) {
                    driver.take_notes().iter().for_each(|note| print_error(note));
                    driver.items()?;
                }
                if let Some(text) = report.frame_of(update, || "the server".to_owned())?
                    && let Event::Registered(None) = driver.receive(&text)?
                {
                    driver.items()?;
                }
            }
            signal = signals.next_signal() => return Err(Failure::Signal(signal)),
            () = sleep_until(deadline) => return Err(give_up(driver, room, timeout)),
        }
    }
}

fn give_up(driver: &Driver, room: &RoomName, timeout: Duration) -> Failure {
    if !driver.has_session() {
        return driver.no_session_within(timeout);
    }
    let text =
        format!("{room}: not done within {}; try again", humantime::format_duration(timeout));
    Problem::new(Kind::Pending, text).into()
}

/// What is to be printed, if the task is done.
fn finished(driver: &mut Driver, room: &RoomName, task: &Task) -> Result<Option<String>, Failure> {
    let Some(end_to_end) = driver.end_to_end_mut() else { return Ok(None) };
    Ok(match task {
        Task::Change(_) => match end_to_end.outcome() {
            Some(text) => {
                print_error(text);
                Some(format!("{}\n", end_to_end.check_digits(room)?))
            }
            None => None,
        },
        Task::Members if end_to_end.is_member(room)? => Some(end_to_end.members(room)?),
        Task::Check if end_to_end.is_member(room)? => {
            Some(format!("{}\n", end_to_end.check_digits(room)?))
        }
        Task::Members | Task::Check | Task::Leave => None,
    })
}
