//! The pipe: lines in, messages out, through whatever happens to the connection, until everything
//! is known to be safe.

mod connection;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::args::Output;
use super::cursor_file::CursorFile;
use super::exec::{self, ExecTask, Reply};
use super::exit::{Exit, print_error};
use super::input::{self, InputLine};
use super::options::{RunOptions, Source};
use super::output::Printer;
use crate::conversation::client::conversation::{Conversation, Now};
use crate::conversation::client::outbox::OutgoingMessage;
use crate::conversation::client::read_positions::ReadPositions;
use crate::net::client_connection::ClientConnection;
use crate::net::dial::{DialError, Dialer};
use crate::policy::backoff::Backoff;
use crate::protocol::{MessageId, Timestamp};

/// Pauses between attempts to come back: anywhere from nothing to a ceiling that doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Largest text for a server that does not tell its limit.
const UNTOLD_BYTES: usize = 40_000;
/// Line numbers named at most when giving up.
const LINES_NAMED: usize = 20;

/// One run.
pub struct Pipe {
    dialer: Dialer,
    conversation: Conversation,
    printer: Option<Printer>,
    cursor: Option<CursorFile>,
    input: Option<mpsc::Receiver<Vec<InputLine>>>,
    unread: VecDeque<InputLine>,
    tasks: Option<mpsc::Sender<ExecTask>>,
    waiting_tasks: VecDeque<ExecTask>,
    replies: Option<mpsc::Receiver<Reply>>,
    ids: String,
    own_id: Option<MessageId>,
    replied: u64,
    message_chars: Option<u64>,
    count: Option<u64>,
    printed: u64,
    said: u64,
    own_heard: u64,
    bad_input: bool,
    /// The one thing that was asked for was refused.
    refused: bool,
    stays: bool,
    history_only: bool,
    patience: Duration,
    deadline: Option<Instant>,
    registered: bool,
    progress: Instant,
    backoff: Backoff,
}

/// How a connection ended.
enum Ended {
    Over(Exit),
    Lost,
}

/// Runs a plan to its end.
pub fn run(plan: RunOptions) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(&format!("can't start: {error}"));
            return Exit::NoServer.into();
        }
    };
    let exit = runtime.block_on(async {
        match Pipe::new(plan) {
            Ok(mut pipe) => pipe.run().await,
            Err((exit, text)) => {
                print_error(&text);
                exit
            }
        }
    });
    // A thread that still waits for standard input must not keep the process.
    runtime.shutdown_background();
    exit.into()
}

impl Pipe {
    fn new(plan: RunOptions) -> Result<Pipe, (Exit, String)> {
        let dialer = Dialer::new(plan.target, &plan.trust)
            .map_err(|error| (Exit::Usage, error.to_string()))?;
        let (cursor, places) = match &plan.cursor {
            None => (None, ReadPositions::default()),
            Some(file) => {
                let opened = CursorFile::open(file).map_err(|error| (Exit::NoFile, error))?;
                (Some(opened.0), opened.1)
            }
        };
        let (tasks, replies) = match plan.exec {
            None => (None, None),
            Some(command) => {
                let (tasks, waiting) = mpsc::channel(1);
                let (replies, said) = mpsc::channel(exec::WAITING);
                tokio::spawn(exec::run(command, waiting, replies));
                (Some(tasks), Some(said))
            }
        };
        let mut own_id = None;
        let (input, unread) = match plan.source {
            Source::Lines(input, ending) => (Some(input::read(input, ending)), VecDeque::new()),
            Source::One(text, id) => {
                own_id = id;
                (None, VecDeque::from([InputLine { line: 1, what: Ok((None, text)) }]))
            }
            Source::Nothing | Source::History => (None, VecDeque::new()),
        };
        let now = Instant::now();
        let waits_for_count = plan.count.is_some() && plan.patience_told;
        Ok(Pipe {
            dialer,
            history_only: plan.wish.since.is_some()
                && !plan.stays
                && input.is_none()
                && unread.is_empty(),
            conversation: Conversation::new(plan.wish, places),
            printer: plan.output.map(|form: Output| Printer::new(form)),
            cursor,
            input,
            unread,
            tasks,
            waiting_tasks: VecDeque::new(),
            replies,
            ids: MessageId::fresh().to_string(),
            own_id,
            replied: 0,
            message_chars: None,
            count: plan.count,
            printed: 0,
            said: 0,
            own_heard: 0,
            bad_input: false,
            refused: false,
            stays: plan.stays,
            patience: plan.patience,
            deadline: waits_for_count.then(|| now + plan.patience),
            registered: false,
            progress: now,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        })
    }

    async fn run(&mut self) -> Exit {
        loop {
            let mut call = match self.connect().await {
                Ok(call) => call,
                Err(exit) => return exit,
            };
            let ended = self.converse(&mut call).await;
            call.close().await;
            self.conversation.lost();
            if let Some(exit) = self.after_output() {
                return exit;
            }
            match ended {
                Ended::Over(exit) => return exit,
                Ended::Lost if self.is_done_without_server() => return self.done(),
                Ended::Lost => {}
            }
            if let Err(exit) = self.pause().await {
                return exit;
            }
        }
    }

    async fn connect(&mut self) -> Result<ClientConnection, Exit> {
        let mut told = false;
        loop {
            let attempt = self.dialer.dial();
            let attempt = match self.give_up_at() {
                None => Ok(attempt.await),
                Some(at) => tokio::time::timeout_at(at.into(), attempt).await,
            };
            match attempt {
                Ok(Ok(call)) => return Ok(call),
                Ok(Err(error)) if !error.is_temporary() => {
                    print_error(&error.to_string());
                    return Err(match error {
                        DialError::Refused { .. } => Exit::Refused,
                        DialError::NotChatServer { .. } => Exit::Protocol,
                        _ => Exit::NoServer,
                    });
                }
                Ok(Err(error)) => {
                    if !told {
                        print_error(&format!("{error}; trying again"));
                        told = true;
                    }
                    self.pause().await?;
                }
                Err(_) => return Err(self.give_up()),
            }
        }
    }

    /// When waiting for the server makes no sense any more.
    fn give_up_at(&self) -> Option<Instant> {
        let owes = !self.conversation.outbox().is_empty() || !self.unread.is_empty();
        let waits = !self.registered || owes || self.history_only;
        let idle = waits.then(|| self.progress + self.patience);
        idle.into_iter().chain(self.deadline).min()
    }

    fn give_up(&mut self) -> Exit {
        let patience = humantime::format_duration(self.patience);
        if !self.registered {
            print_error(&format!(
                "no connection to {} in {patience}; is the server running?",
                self.dialer.target()
            ));
            return Exit::NoServer;
        }
        let waiting = self.unread.iter().map(|said| said.line);
        let lines: Vec<u64> = self.conversation.outbox().lines().chain(waiting).collect();
        if lines.is_empty() {
            print_error(&format!("gave up after {patience}: {} messages came", self.printed));
        } else {
            let named: Vec<String> = lines.iter().take(LINES_NAMED).map(u64::to_string).collect();
            let more = if lines.len() > LINES_NAMED { ", …" } else { "" };
            print_error(&format!(
                "gave up after {patience}; not known to be stored: line {}{more}",
                named.join(", ")
            ));
        }
        Exit::Unacked
    }

    /// Whether nothing is left that a server would be needed for.
    fn is_done_without_server(&mut self) -> bool {
        self.look_at_input();
        let waits = self.stays || self.history_only || self.count.is_some();
        self.all_safe() && !waits && self.conversation.caught_up()
    }

    /// Takes what came on standard input while there is no connection: from then on something is
    /// owed, and the time to give up runs.
    fn look_at_input(&mut self) {
        let Some(input) = &mut self.input else { return };
        if !self.unread.is_empty() {
            return;
        }
        match input.try_recv() {
            Ok(said) => {
                if self.conversation.outbox().is_empty() {
                    self.progress = Instant::now();
                }
                self.unread.extend(said);
            }
            Err(mpsc::error::TryRecvError::Disconnected) => self.input = None,
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
    }

    async fn pause(&mut self) -> Result<(), Exit> {
        if self.registered {
            self.look_at_input();
        }
        let pause = self.backoff.pause(random());
        let until = Instant::now() + pause;
        match self.give_up_at() {
            Some(at) if at <= until => {
                tokio::time::sleep_until(at.into()).await;
                Err(self.give_up())
            }
            _ => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
        }
    }

    /// Moves what was read into the outbox, as far as there is room.
    fn say_what_was_read(&mut self) {
        while self.registered && self.conversation.outbox().has_room() {
            let Some(InputLine { line, what }) = self.unread.pop_front() else { return };
            match what.and_then(|(room, text)| self.within_limits(text).map(|text| (room, text))) {
                Err(why) => self.cannot_send(line, &why),
                Ok((room, text)) => {
                    let id = match &self.own_id {
                        Some(id) => id.to_string(),
                        None => format!("{}-{line}", self.ids),
                    };
                    self.said += 1;
                    self.progress = Instant::now();
                    self.conversation.say(OutgoingMessage { line, room, id, text });
                }
            }
        }
    }

    fn within_limits(&self, text: String) -> Result<String, String> {
        match self.message_chars {
            _ if text.is_empty() => Err("it is empty".into()),
            Some(most) if text.chars().count() as u64 > most => {
                Err(format!("it has more than the {most} characters this server takes"))
            }
            None if text.len() > UNTOLD_BYTES => {
                Err(format!("it has more than {UNTOLD_BYTES} bytes"))
            }
            _ => Ok(text),
        }
    }

    fn cannot_send(&mut self, line: u64, why: &str) {
        self.bad_input = true;
        print_error(&format!("line {line} can't be sent: {why}"));
    }

    fn reply(&mut self, reply: Reply) {
        self.replied += 1;
        let room = Some(reply.room).filter(|room| !room.is_empty());
        let id = format!("{}-r{}", self.ids, self.replied);
        match self.within_limits(reply.text) {
            Ok(text) => {
                self.conversation.say(OutgoingMessage { line: self.replied, room, id, text })
            }
            Err(why) => print_error(&format!("--exec: a reply can't be sent: {why}")),
        }
    }

    fn input_ended(&self) -> bool {
        self.input.is_none() && self.unread.is_empty()
    }

    /// Whether everything that was to be said is known to be safe.
    fn all_safe(&self) -> bool {
        self.registered && self.input_ended() && self.conversation.outbox().is_empty()
    }

    /// Lines out, then the cursor that says so. Gives the end, where nobody reads any more and
    /// nothing is left to be sent.
    fn after_output(&mut self) -> Option<Exit> {
        let printer = self.printer.as_mut()?;
        printer.flush();
        if printer.is_closed() {
            self.stays = false;
            if self.input_ended() && self.conversation.outbox().is_empty() {
                return Some(self.done());
            }
            return None;
        }
        if let Some(cursor) = &mut self.cursor
            && let Err(error) = cursor.save(self.conversation.places())
        {
            print_error(&error);
            self.cursor = None;
            return Some(Exit::NoFile);
        }
        None
    }

    fn done(&self) -> Exit {
        match (self.bad_input, self.refused) {
            (true, _) => Exit::BadInput,
            (_, true) => Exit::Refused,
            _ => Exit::Done,
        }
    }
}

fn now() -> Now {
    Now { tick: Instant::now(), wall: Timestamp::from_system(SystemTime::now()) }
}

/// Anywhere from 0 to 1.
pub fn random() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}
