//! A server, its folder, and the model of what it stores.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::backups::{Backup, copy};
use super::model::{Line, ROOMS, Record, Room};
use super::reader::Reader;
use crate::reliability::FAST;
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, eventually};

pub(super) const STORE: &str = "history.sqlite3";
pub(super) const KEEP_EVERYTHING: u64 = 1_000_000;

/// How the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    Crash,
}

/// What a start must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Complete,
    /// The server must say that messages may be missing.
    Lost,
    /// Whatever it finds, it must be consistent.
    Anything,
}

pub struct World {
    pub server: Server,
    /// Backups, moved folders, cursors.
    folder: tempfile::TempDir,
    pub(super) store: PathBuf,
    names: u32,
    /// The epoch of each start.
    epochs: Vec<String>,
    pub record: Record,
    pub(super) record_at_start: Record,
    /// Every message that was ever stored, in any branch of the history.
    ever: HashSet<(usize, u64, String)>,
    pub(super) backups: Vec<Backup>,
    texts: u32,
    pub readers: Vec<Reader>,
}

impl World {
    pub fn new(readers: usize) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store-1");
        let server = Server::with(&config(&store, KEEP_EVERYTHING)).start();
        let name = |number| Reader::new(format!("reader{number}"), folder.path());
        let readers = (1..=readers).map(name).collect();
        let mut record = Record::default();
        record.starts.insert(1);
        let epochs = vec![epoch(&server)];
        World {
            server,
            readers,
            store,
            names: 1,
            epochs,
            record_at_start: record.clone(),
            record,
            ever: HashSet::new(),
            backups: Vec::new(),
            texts: 0,
            folder,
        }
    }

    /// The number of the present start.
    pub fn start(&self) -> u32 {
        self.epochs.len() as u32
    }

    /// Waits until a reader is in step.
    pub fn settle(&mut self, reader: usize) {
        let result = self.readers[reader].settle(&self.server, &self.record, &self.epochs);
        result.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Several users send a few messages each to a room at the same time. `crash`: the server is killed
    /// meanwhile.
    pub fn say(&mut self, room: usize, users: usize, each: u32, crash: bool) {
        let before = self.record.rooms[room].last();
        let senders: Vec<_> = (0..users).map(|user| self.sender(room, user, each)).collect();
        if crash {
            eventually("a sender connects", || self.server.event_count("session_opened") > 0);
            self.end(End::Crash);
            self.begin(Expected::Complete);
        }
        self.finish_senders(room, before, senders);
    }

    pub(super) fn sender(&mut self, room: usize, user: usize, each: u32) -> (Client, Vec<String>) {
        let said: Vec<String> = (0..each)
            .map(|_| {
                self.texts += 1;
                format!("text {} of s{user}", self.texts)
            })
            .collect();
        let (url, name) = (self.server.url(), format!("s{user}"));
        let mut client = Client::start(&[&url, "-r", ROOMS[room], "-u", &name, "--timeout", "60s"]);
        client.write(&(said.join("\n") + "\n"));
        client.end_input();
        (client, said)
    }

    /// Waits for the senders, and reads in which order their messages were stored.
    pub(super) fn finish_senders(
        &mut self,
        room: usize,
        before: u64,
        senders: Vec<(Client, Vec<String>)>,
    ) {
        let mut waiting: Vec<Vec<String>> = Vec::new();
        for (client, mut said) in senders {
            let finished = client.finish(3 * TIMEOUT);
            assert_eq!(finished.code, Some(0), "a sender: {}", finished.errors);
            said.reverse();
            waiting.push(said);
        }
        let lines = self.history(room, &before.to_string());
        for (line, expected) in lines.iter().zip(before + 1..) {
            let Line::Message { seq, text, .. } = line else { panic!("instead of text: {line:?}") };
            assert_eq!(*seq, expected, "{} after {before}: {lines:?}", ROOMS[room]);
            let sender = waiting.iter_mut().find(|said| said.last() == Some(text));
            let sender = sender.unwrap_or_else(|| panic!("{text:?} is out of order: {lines:?}"));
            sender.pop();
            self.record.rooms[room].said.insert(*seq, text.clone());
            self.ever.insert((room, *seq, text.clone()));
        }
        assert!(waiting.iter().all(Vec::is_empty), "acked and not stored: {waiting:?}, {lines:?}");
    }

    /// What `chat-client history` prints.
    fn history(&self, room: usize, since: &str) -> Vec<Line> {
        let url = self.server.url();
        let arguments = ["history", "--url", &url, "-r", ROOMS[room], "--since", since];
        let finished = Client::pipe(&arguments, b"");
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.errors);
        finished.lines.iter().filter_map(|line| Line::parse(line)).collect()
    }

    /// The whole history of a room, as a room of the model.
    fn observe(&self, room: usize) -> Room {
        let mut found = Room::default();
        let mut position = 0;
        for line in self.history(room, "all") {
            match line {
                Line::Message { seq, text, .. } => {
                    assert_eq!(seq, position + 1, "{}: no hole without a gap", ROOMS[room]);
                    let known = self.ever.contains(&(room, seq, text.clone()));
                    assert!(known, "{}: {seq} is {text:?}, which was never said", ROOMS[room]);
                    found.said.insert(seq, text);
                    position = seq;
                }
                Line::Gap { after, next, reason, .. } => {
                    assert_eq!(after, position, "{}: a gap in its place", ROOMS[room]);
                    match reason.as_str() {
                        "expired" => found.pruned_to = next - 1,
                        "damaged" => found.damaged.extend(after + 1..next),
                        _ => panic!("{}: a gap with reason {reason}", ROOMS[room]),
                    }
                    position = next - 1;
                }
            }
        }
        found
    }

    pub(super) fn observe_all(&self) -> [Room; ROOMS.len()] {
        std::array::from_fn(|room| self.observe(room))
    }

    /// The history is exactly the record.
    pub fn check_history(&self) {
        for (room, found) in self.observe_all().iter().enumerate() {
            assert_eq!(*found, self.record.rooms[room], "the history of {}", ROOMS[room]);
        }
    }

    pub fn restart(&mut self, end: End) {
        self.end(end);
        self.begin(Expected::Complete);
    }

    pub(super) fn end(&mut self, end: End) {
        self.note_record();
        match end {
            End::Clean => assert!(self.server.stop().success()),
            End::Crash => self.server.kill(),
        }
    }

    pub(super) fn note_record(&mut self) {
        self.readers.iter_mut().for_each(|reader| reader.note_record(&self.record));
    }

    /// Starts the server, and compares what it finds with what it must find. Returns whether it says
    /// that messages may be missing.
    pub(super) fn begin(&mut self, expected: Expected) -> bool {
        self.configure(KEEP_EVERYTHING);
        self.server.start_again();
        self.epochs.push(epoch(&self.server));
        let start = self.start();
        let lost = self.says("recovered into a new file") || self.says("may be missing");
        match expected {
            Expected::Complete => assert!(!lost, "the server says that messages are missing"),
            Expected::Lost => assert!(lost, "the server does not say that messages are missing"),
            Expected::Anything => {}
        }
        if lost {
            self.record.starts.clear();
            self.record.doubtful.clear();
        }
        self.record.starts.insert(start);
        self.readers.iter_mut().for_each(|reader| reader.note_start(start));
        self.record_at_start = self.record.clone();
        lost
    }

    fn says(&self, words: &str) -> bool {
        let is_it = |text: &str| text.contains(words);
        let log = self.server.log();
        let mut found = log.iter().filter(|line| line["event"] == "history_found");
        found.any(|line| line["message"].as_str().is_some_and(is_it))
    }

    pub(super) fn configure(&self, keep_messages: u64) {
        fs::write(self.server.config_file(), config(&self.store, keep_messages)).unwrap();
    }

    pub(super) fn new_folder(&mut self, kind: &str) -> PathBuf {
        self.names += 1;
        self.folder.path().join(format!("{kind}-{}", self.names))
    }

    /// Copies the folder elsewhere and starts there. `only_needed`: only the main file and the key.
    pub fn move_folder(&mut self, end: End, only_needed: bool) {
        self.end(end);
        let to = self.new_folder("store");
        copy(&self.store, &to);
        if only_needed && end == End::Clean {
            for file in fs::read_dir(&to).unwrap().map(|file| file.unwrap()) {
                if ![STORE, "history.key"].contains(&file.file_name().to_str().unwrap()) {
                    fs::remove_file(file.path()).unwrap();
                }
            }
        }
        self.store = to;
        self.begin(Expected::Complete);
    }

    /// Nothing of this earlier record is missing.
    pub(super) fn assert_holds(&self, floor: &Record) {
        for (room, name) in ROOMS.iter().enumerate() {
            let found = &self.record.rooms[room];
            for (seq, text) in &floor.rooms[room].said {
                let is_there = found.said.get(seq) == Some(text) || *seq <= found.pruned_to;
                assert!(is_there, "{name}: {seq} was {text:?}, and is missing: {found:?}");
            }
        }
    }

    pub fn rotate(&self) {
        self.server.run_ok(&["ctl", "rotate"]);
    }

    pub(super) fn reload(&self, keep: u64) {
        self.configure(keep);
        let before = self.server.event_count("reloaded");
        self.server.signal("HUP");
        eventually("a reload", || self.server.event_count("reloaded") > before);
    }
}

fn config(store: &Path, keep_messages: u64) -> String {
    let path = store.display();
    format!("{FAST}[history]\npath = \"{path}\"\nkeep_messages = {keep_messages}\n")
}

/// The epoch of the running start.
fn epoch(server: &Server) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_, welcome) = runtime.block_on(Wire::full(server.address(), "epoch", ROOMS[0]));
    welcome["rooms"][ROOMS[0]]["epoch"].as_str().unwrap().to_owned()
}
