//! The model: what the record of the running server holds, and what one reader knows of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The rooms of every schedule.
pub const ROOMS: [&str; 2] = ["lobby", "ops"];

/// What is stored: a branch of the history. A restored backup begins another branch.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub rooms: [Room; ROOMS.len()],
    /// The starts whose epochs the store knows.
    pub starts: BTreeSet<u32>,
    /// Starts of which that is uncertain, because bytes of the store were changed.
    pub doubtful: BTreeSet<u32>,
}

/// The log of one room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The messages that are there, by seq.
    pub said: BTreeMap<u64, String>,
    /// Every message up to this one was pruned.
    pub pruned_to: u64,
    /// Messages that are missing although they were not pruned.
    pub damaged: BTreeSet<u64>,
}

impl Room {
    /// The highest seq that was given out, as far as the store knows.
    pub fn last(&self) -> u64 {
        let said = self.said.keys().next_back().copied().unwrap_or(0);
        let damaged = self.damaged.last().copied().unwrap_or(0);
        said.max(damaged).max(self.pruned_to)
    }

    /// The room when every message up to a seq is pruned.
    pub fn pruned(&self, pruned_to: u64) -> Room {
        let said = self.said.range(pruned_to + 1..).map(|(seq, text)| (*seq, text.clone()));
        let damaged = self.damaged.range(pruned_to + 1..).copied();
        Room { said: said.collect(), pruned_to, damaged: damaged.collect() }
    }

    fn is_missing(&self, seq: u64) -> bool {
        seq <= self.pruned_to || self.damaged.contains(&seq)
    }
}

/// A line that a client printed.
#[derive(Clone, Debug)]
pub enum Line {
    Message { room: usize, seq: u64, text: String },
    Gap { room: usize, after: u64, next: u64, reason: String },
}

impl Line {
    /// Reads a printed line; `None` for lines that are about neither messages nor gaps.
    pub fn parse(line: &str) -> Option<Line> {
        let object: Value = serde_json::from_str(line).expect(line);
        let room = || ROOMS.iter().position(|room| *room == object["room"]).expect(line);
        let number = |field: &str| object[field].as_u64().expect(line);
        let text = |field: &str| object[field].as_str().expect(line).to_owned();
        match object["type"].as_str()? {
            "chat_message" => {
                Some(Line::Message { room: room(), seq: number("seq"), text: text("content") })
            }
            "gap" => Some(Line::Gap {
                room: room(),
                after: number("after"),
                next: number("next"),
                reason: text("reason"),
            }),
            _ => None,
        }
    }
}

/// What a reader knows of one room.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Everything up to this seq was printed or told to be missing.
    pub position: u64,
    /// The start under which the last line came; several if the server was restarted meanwhile.
    pub starts: BTreeSet<u32>,
    /// What was printed since the last gap with reason `epoch`.
    printed: BTreeMap<u64, String>,
    /// What was told to be missing.
    told: BTreeSet<u64>,
}

/// What may have been the state of the server when a line came.
pub struct Since<'a> {
    /// The records since the reader was last in step, the present one last.
    pub records: &'a [Record],
    /// The starts since then.
    pub starts: &'a BTreeSet<u32>,
}

impl Reading {
    /// Takes a line of this room. An error says which rule it breaks.
    pub fn take(&mut self, line: &Line, since: &Since<'_>) -> Result<(), String> {
        let position = self.position;
        match line {
            Line::Message { room, seq, text } => {
                if *seq <= position {
                    return Err(format!("{seq} comes again, or too late, after {position}"));
                }
                if *seq > position + 1 {
                    return Err(format!("{seq} follows {position} without a gap"));
                }
                let is_right =
                    |record: &Record| record.rooms[*room].said.get(seq).is_some_and(|s| s == text);
                if !since.records.iter().any(is_right) {
                    return Err(format!("{seq} is {text:?}, which was never said there"));
                }
                self.printed.insert(*seq, text.clone());
                self.position = *seq;
            }
            Line::Gap { room, after, next, reason } => {
                if *after != position {
                    return Err(format!("a gap after {after}, but the position is {position}"));
                }
                if reason == "epoch" {
                    self.take_epoch(*room, *next, since)?;
                } else {
                    self.take_hole(*room, *next, reason, since)?;
                }
                self.position = next - 1;
            }
        }
        self.starts.clone_from(since.starts);
        Ok(())
    }

    fn take_epoch(&mut self, room: usize, next: u64, since: &Since<'_>) -> Result<(), String> {
        // Before its first message, a position is the same in every record.
        let is_due = |record: &Record| {
            let known = record.starts.difference(&record.doubtful).copied().collect();
            self.position > 0
                && (!self.starts.is_subset(&known)
                    || self.contradiction(&record.rooms[room]).is_some())
        };
        if !since.records.iter().any(is_due) {
            return Err(format!(
                "a gap with reason epoch without a cause: it read under one of the starts {:?}, and \
                 nothing is lost",
                self.starts
            ));
        }
        if !since.records.iter().any(|record| record.rooms[room].pruned_to + 1 == next) {
            return Err(format!("a gap with reason epoch up to {next}: not all before was pruned"));
        }
        self.printed.clear();
        self.told = (1..next).collect();
        Ok(())
    }

    fn take_hole(
        &mut self,
        room: usize,
        next: u64,
        reason: &str,
        since: &Since<'_>,
    ) -> Result<(), String> {
        if next <= self.position + 1 {
            return Err(format!("an empty gap with reason {reason} up to {next}"));
        }
        for seq in self.position + 1..next {
            let is_missing = |record: &Record| match reason {
                "expired" => seq <= record.rooms[room].pruned_to,
                "damaged" => record.rooms[room].damaged.contains(&seq),
                _ => false,
            };
            if !since.records.iter().any(is_missing) {
                return Err(format!("{seq} is said to be {reason}, and is not"));
            }
            self.told.insert(seq);
        }
        Ok(())
    }

    /// How what was printed differs from what is stored; the server must have noticed it.
    fn contradiction(&self, room: &Room) -> Option<String> {
        if self.position > room.last() {
            return Some(format!("its position {} is beyond {}", self.position, room.last()));
        }
        let differs = |(seq, text): &(&u64, &String)| {
            room.said.get(seq) != Some(text) && !room.is_missing(**seq)
        };
        let (seq, text) = self.printed.iter().find(differs)?;
        Some(format!("it printed {text:?} as {seq}, which is {:?} now", room.said.get(seq)))
    }

    /// What the reader still has to be told before it knows everything about the room; `None` if
    /// nothing.
    pub fn is_owed(&self, record: &Record, room: usize) -> Option<String> {
        if self.position > 0 && self.starts.is_disjoint(&record.starts) {
            return Some(format!("it read under a lost start, {:?}", self.starts));
        }
        let room = &record.rooms[room];
        if let Some(contradiction) = self.contradiction(room) {
            return Some(contradiction);
        }
        if self.position < room.last() {
            return Some(format!("it is at {} of {}", self.position, room.last()));
        }
        let is_unknown = |seq: &&u64| !self.printed.contains_key(seq) && !self.told.contains(seq);
        let missing = room.said.keys().find(is_unknown)?;
        Some(format!("{missing} was neither printed nor told to be missing"))
    }
}
