//! One reader: a `chat-client --listen` with a cursor file, that comes and goes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::model::{Line, ROOMS, Reading, Record, Since};
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::{POLL_INTERVAL, TIMEOUT};

pub struct Reader {
    name: String,
    cursor: PathBuf,
    client: Option<Client>,
    visits: u32,
    /// Lines of the present client that were taken.
    taken: usize,
    rooms: [Reading; ROOMS.len()],
    /// The records and starts since the reader was last in step.
    records: Vec<Record>,
    starts: BTreeSet<u32>,
    /// Everything that the reader printed, and when it came and left.
    pub story: Vec<String>,
}

impl Reader {
    pub fn new(name: String, folder: &Path) -> Reader {
        let cursor = folder.join(format!("{name}.cursor"));
        Reader {
            name,
            cursor,
            client: None,
            visits: 0,
            taken: 0,
            rooms: Default::default(),
            records: Vec::new(),
            starts: BTreeSet::new(),
            story: Vec::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_there(&self) -> bool {
        self.client.is_some()
    }

    fn user(&self) -> String {
        format!("{}v{}", self.name, self.visits)
    }

    /// Starts a client that continues at the cursor.
    pub fn come(&mut self, server: &Server, start: u32) {
        self.visits += 1;
        self.story.push(format!("-- comes, under start {start}"));
        let (url, user) = (server.url(), self.user());
        let cursor = self.cursor.display().to_string();
        let mut arguments = vec![url.as_str(), "--listen", "--since", "all", "--cursor", &cursor];
        arguments.extend(["--timeout", "60s", "-u", &user]);
        for room in ROOMS {
            arguments.extend(["-r", room]);
        }
        self.client = Some(Client::start(&arguments));
        (self.taken, self.starts) = (0, BTreeSet::from([start]));
        self.records.clear();
    }

    /// The client ends. It must be in step.
    pub fn leave(&mut self) {
        self.story.push("-- leaves".into());
        self.client = None;
    }

    /// The record is about to change other than by new messages.
    pub fn note_record(&mut self, record: &Record) {
        if self.is_there() {
            self.records.push(record.clone());
        }
    }

    /// The server started again.
    pub fn note_start(&mut self, start: u32) {
        self.starts.insert(start);
    }

    /// Waits until the reader is connected and owed nothing, and its cursor says so. `epochs` are those
    /// of all starts.
    pub fn settle(
        &mut self,
        server: &Server,
        record: &Record,
        epochs: &[String],
    ) -> Result<(), String> {
        let deadline = Instant::now() + TIMEOUT;
        let user = self.user();
        loop {
            let is_connected = server
                .log()
                .iter()
                .any(|line| line["event"] == "session_opened" && line["user"] == user);
            self.take_lines(record)?;
            let owed = self.owed(record, epochs, is_connected);
            if owed.is_empty() {
                self.records.clear();
                self.starts = BTreeSet::from([epochs.len() as u32]);
                return Ok(());
            }
            if Instant::now() > deadline {
                let errors = self.client.as_ref().map_or(String::new(), Client::errors);
                let name = &self.name;
                return Err(format!("{name} waits for: {}\nits errors: {errors}", owed.join("; ")));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn owed(&self, record: &Record, epochs: &[String], is_connected: bool) -> Vec<String> {
        let mut owed = Vec::new();
        if !is_connected {
            owed.push("a connection".to_owned());
        }
        let cursor = std::fs::read(&self.cursor).unwrap_or_default();
        let cursor: Value = serde_json::from_slice(&cursor).unwrap_or_default();
        for (room, reading) in self.rooms.iter().enumerate() {
            let name = ROOMS[room];
            owed.extend(reading.is_owed(record, room).map(|owed| format!("{name}: {owed}")));
            let saved = &cursor["rooms"][name];
            let is_epoch = |start: &u32| saved["epoch"] == epochs[*start as usize - 1];
            let is_position = saved["seq"] == reading.position
                && (reading.position == 0 || reading.starts.iter().any(is_epoch));
            if !is_position {
                let (position, starts) = (reading.position, &reading.starts);
                owed.push(format!("{name}: a cursor at {position} of {starts:?} (it is {saved})"));
            }
        }
        owed
    }

    fn take_lines(&mut self, record: &Record) -> Result<(), String> {
        let Some(client) = &self.client else { return Ok(()) };
        let lines = client.lines();
        let new = &lines[self.taken..];
        self.taken = lines.len();
        self.records.push(record.clone());
        for text in new {
            let Some(line) = Line::parse(text) else { continue };
            self.story.push(text.clone());
            let room = match &line {
                Line::Message { room, .. } | Line::Gap { room, .. } => *room,
            };
            let since = Since { records: &self.records, starts: &self.starts };
            self.rooms[room]
                .take(&line, &since)
                .map_err(|error| format!("{}, {}: {error}", self.name, ROOMS[room]))?;
        }
        self.records.pop();
        Ok(())
    }
}
