//! End-to-end rooms on the terminal: their notes and lines as sentences, and commands that ask this device and not the
//! server.

use serde::Deserialize;

use super::chat::Chat;
use super::room_label::is_end_to_end;
use crate::client::blanks::fill;
use crate::client::display::one_line;
use crate::client::failure::Failure;
use crate::client::messages::Messages;
use crate::protocol::{RoomName, Seq};

/// A line about an end-to-end room, as the pipe prints it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    room: String,
    seq: u64,
    username: String,
    reason: String,
    from: String,
    device: String,
    first: u64,
    last: u64,
    by: String,
    added: Vec<String>,
    removed: Vec<String>,
    promoted: Vec<String>,
    demoted: Vec<String>,
    timestamp: String,
}

impl Line {
    /// What the line says; none if there is nothing to say, as when somebody's keys were renewed. `None`: it is another
    /// kind of line.
    fn sentences(&self, texts: &Messages) -> Option<Vec<String>> {
        let names = |users: &[String]| {
            let mut names: Vec<String> = users.iter().map(|user| one_line(user)).collect();
            names.dedup();
            names.join(", ")
        };
        let reason = || one_line(&texts.of_end_to_end(&self.reason));
        Some(match self.kind.as_str() {
            "unreadable" => {
                let (seq, user) = (format!("#{}", self.seq), one_line(&self.username));
                vec![fill(texts.entry_unreadable, &[&seq, &user, &reason()])]
            }
            "missing" => {
                let (user, device) = (one_line(&self.from), one_line(&self.device));
                let (first, last) = (self.first.to_string(), self.last.to_string());
                vec![fill(texts.entries_missing, &[&user, &first, &last, &device])]
            }
            "alarm" => vec![fill(texts.alarm, &[&reason()])],
            "gap" => vec![fill(texts.gap, &[&texts.of_gap(&self.reason)])],
            "members_changed" => {
                let by = one_line(&self.by);
                let changes = [
                    (texts.members_added, &self.added),
                    (texts.members_removed, &self.removed),
                    (texts.members_promoted, &self.promoted),
                    (texts.members_demoted, &self.demoted),
                ];
                changes
                    .into_iter()
                    .filter(|(_, users)| !users.is_empty())
                    .map(|(text, users)| fill(text, &[&by, &names(users)]))
                    .collect()
            }
            // The change of the members tells the same.
            "removed" => Vec::new(),
            _ => return None,
        })
    }
}

impl Chat {
    /// Shows what is new in end-to-end rooms.
    pub(super) fn end_to_end(&mut self) -> Result<(), Failure> {
        for note in self.driver.take_notes() {
            self.console.note(&one_line(&self.texts.of_end_to_end(&note)));
        }
        let items = self.driver.items()?;
        self.page(&items);
        Ok(())
    }

    /// Shows a line that the pipe prints as JSON.
    pub(super) fn show_line(&mut self, text: &str) {
        let line: Line = serde_json::from_str(text).unwrap_or_default();
        if line.kind == "redacted" {
            return self.show_redacted(&line.room, Seq(line.seq), &line.timestamp);
        }
        match line.sentences(self.texts) {
            Some(sentences) => {
                sentences.iter().for_each(|sentence| self.note_in(&line.room, sentence));
            }
            None => self.console.note(&one_line(text)),
        }
    }

    /// Says that a room is end-to-end encrypted.
    pub(super) fn mark_end_to_end(&mut self, room: &str) {
        if is_end_to_end(room) {
            self.console.note(&fill(self.texts.end_to_end, &[&one_line(room)]));
        }
    }

    /// The room with this name, if it can be entered; else says why not.
    pub(super) fn room_to_join(&mut self, name: &str) -> Option<RoomName> {
        let room = RoomName::parse(name);
        let is_missing_device = room.as_ref().is_some_and(RoomName::is_end_to_end)
            && self.driver.end_to_end().is_none();
        match room {
            Some(room) if is_missing_device => {
                let room = room.as_str();
                self.console.note(&fill(self.texts.not_end_to_end, &[room, room]));
                None
            }
            Some(room) => Some(room),
            None => {
                self.console.note(self.texts.room_rule);
                None
            }
        }
    }

    /// Names the members of the current room, if it is end-to-end encrypted: this device knows them, and the server
    /// says only who is connected.
    pub(super) fn show_members(&mut self) {
        let room = self.driver.conversation().room().to_owned();
        let Some(name) = RoomName::parse(&room).filter(RoomName::is_end_to_end) else { return };
        let Some(end_to_end) = self.driver.end_to_end_mut() else { return };
        match end_to_end.member_names(&name) {
            Ok(None) => {}
            Ok(Some(names)) => {
                let names: Vec<String> = names.iter().map(|name| one_line(name)).collect();
                self.note_in(&room, &fill(self.texts.members, &[&names.join(", ")]));
            }
            Err(problem) => self.console.note(&one_line(&self.texts.of_end_to_end(&problem.text))),
        }
    }

    /// Shows the newest messages of the current room again, if it is end-to-end encrypted. Returns whether it is.
    pub(super) fn show_archive(&mut self, count: u64) -> bool {
        let room = RoomName::parse(self.driver.conversation().room());
        let Some(room) = room.filter(RoomName::is_end_to_end) else { return false };
        let Some(end_to_end) = self.driver.end_to_end_mut() else { return false };
        match end_to_end.show_newest(&room, count) {
            Ok(items) => self.page(&items),
            Err(problem) => self.console.note(&one_line(&self.texts.of_end_to_end(&problem.text))),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::messages::{ENGLISH, SPANISH};

    fn said(texts: &Messages, line: &str) -> Option<Vec<String>> {
        serde_json::from_str::<Line>(line).unwrap().sentences(texts)
    }

    #[test]
    fn lines_are_sentences_in_both_languages() {
        let unreadable = r#"{"type":"unreadable","room":"+ops","seq":7,"username":"eve","reason":"it was not encrypted for this device"}"#;
        let missing = r#"{"type":"missing","room":"+ops","seq":7,"from":"eve","device":"k7","first":2,"last":4}"#;
        let alarm = r#"{"type":"alarm","room":"+ops","seq":7,"reason":"the server left out #2 to #3 of +ops, and names no reason"}"#;
        let gap = r#"{"type":"gap","room":"+ops","after":3,"next":9,"reason":"expired"}"#;
        let withheld = r#"{"type":"gap","room":"+ops","after":3,"next":9,"reason":"write_only"}"#;
        let changed = r#"{"type":"members_changed","room":"+ops","seq":7,"by":"ana","added":["bob","bob","eve"],"removed":["carl"],"promoted":["bob"],"demoted":["dora"]}"#;
        for (line, english, spanish) in [
            (
                unreadable,
                "message #7 of eve can't be read: it was not encrypted for this device",
                "el mensaje #7 de eve no se puede leer: no se cifró para este dispositivo",
            ),
            (
                missing,
                "messages of eve are missing: number 2 to 4 of the device k7",
                "faltan mensajes de eve: los números 2 a 4 del dispositivo k7",
            ),
            (
                alarm,
                "WARNING, somebody is not honest: the server left out #2 to #3 of +ops, and names no reason",
                "AVISO, alguien no es honrado: el servidor omitió de #2 a #3 de +ops, y no dice por qué",
            ),
            (
                gap,
                "messages are missing here: they are no longer kept",
                "aquí faltan mensajes: ya no se guardan",
            ),
            (
                withheld,
                "messages are missing here: the server says that you may only write here, and did not send them",
                "aquí faltan mensajes: el servidor dice que aquí solo puedes escribir, y no los envió",
            ),
        ] {
            assert_eq!(said(&ENGLISH, line), Some(vec![english.to_owned()]));
            assert_eq!(said(&SPANISH, line), Some(vec![spanish.to_owned()]));
        }
        let all = [
            "ana added bob, eve",
            "ana removed carl",
            "ana made admins of: bob",
            "ana made ordinary members of: dora",
        ];
        assert_eq!(said(&ENGLISH, changed), Some(all.map(str::to_owned).to_vec()));
        let removed = r#"{"type":"removed","room":"+ops","seq":7,"by":"ana"}"#;
        assert_eq!(said(&ENGLISH, removed), Some(Vec::new()));
        let renewed = r#"{"type":"members_changed","by":"ana","added":[],"removed":[]}"#;
        assert_eq!(said(&ENGLISH, renewed), Some(Vec::new()));
        assert_eq!(said(&ENGLISH, r#"{"type":"other"}"#), None);
    }

    #[test]
    fn a_name_in_a_line_does_not_act_on_the_terminal() {
        let line = r#"{"type":"members_changed","by":"a\u001b[2Jb","added":["c\nd"],"removed":[]}"#;
        assert_eq!(said(&ENGLISH, line).unwrap(), ["a\\u{1b}[2Jb added c\\u{a}d"]);
    }
}
