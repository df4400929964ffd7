//! The start of each connection: the `register` frame, and what the server's answer makes of the
//! conversation.

use std::collections::BTreeSet;

use super::conversation::{Conversation, Now, Phase};
use super::outbox::Confirmation;
use super::sealed_frame::is_end_to_end;
use crate::protocol::RoomName;
use crate::protocol::frame::{ClientFrame, E2E_VERSION, PROTOCOL, Register, RegisterE2e, Welcome};

/// The largest number of unacked messages, whatever the server allows.
const MAX_UNACKED: usize = 4096;
/// Positions in a `register`, at most; a session can be in as many rooms.
const MAX_RESUMED_ROOMS: usize = 64;

impl Conversation {
    /// Sets the access token of the invitation that names the server of the next connection. It counts
    /// before the one in the options.
    pub fn set_invitation_token(&mut self, token: Option<String>) {
        self.invitation_token = token;
    }

    /// Starts a connection. Returns the first frame to send.
    pub fn register(&mut self) -> String {
        self.phase = Phase::Registering;
        let rooms = self.options.rooms.clone();
        // A cursor file may hold positions of rooms that this run does not join. Where the server chooses
        // the room, it may be any of them; those that are likely come first.
        let lobby = RoomName::lobby();
        let is_likely = |room: &str| self.joined.contains(room) || room == lobby.as_str();
        let plain = self.read_positions.all().iter().filter(|(room, _)| !is_end_to_end(room));
        let positions = plain.chain(&self.log_positions);
        let (mut resume, others): (Vec<_>, Vec<_>) = match rooms.is_empty() {
            true => positions.partition(|(room, _)| is_likely(room)),
            false => (positions.filter(|(room, _)| rooms.contains(*room)).collect(), Vec::new()),
        };
        resume.extend(others);
        resume.truncate(MAX_RESUMED_ROOMS);
        let register = Register {
            protocol: Some(PROTOCOL),
            username: self.options.username.clone(),
            access_token: self.invitation_token.clone().or(self.options.access_token.clone()),
            resume: resume
                .into_iter()
                .map(|(room, position)| (room.clone(), position.clone()))
                .collect(),
            rooms,
            echo: (!self.options.echo).then_some(false),
            presence: (!self.options.presence).then_some(false),
            e2e: self.device.map(|device| RegisterE2e {
                v: E2E_VERSION,
                device: device.to_string(),
                direct: self.direct.clone(),
            }),
        };
        self.joined.clear();
        ClientFrame::Register(register).to_json()
    }

    /// The server speaks the full protocol.
    pub(super) fn begin_full(&mut self, welcome: &Welcome, now: Now) {
        self.phase = Phase::Full;
        self.name.clone_from(&welcome.username);
        let unacked = usize::try_from(welcome.limits.unacked).unwrap_or(usize::MAX);
        self.outbox.reconnected(Confirmation::Ack { window: unacked.clamp(1, MAX_UNACKED) });
        // A client that names no room talks in the one that the server chose.
        let names_none = self.options.rooms.is_empty();
        let lobby = RoomName::lobby();
        let chosen = welcome.rooms.get_key_value(&lobby).or(welcome.rooms.first_key_value());
        let chosen = chosen.map(|(room, _)| room.as_str()).filter(|_| names_none);
        for (room, head) in &welcome.rooms {
            let room = room.as_str();
            if chosen == Some(room) || self.options.rooms.iter().any(|asked| asked == room) {
                self.joined.insert(room.to_owned());
                if !is_end_to_end(room) {
                    self.observe_head(room, head, now);
                }
            }
        }
        if let (Some(chosen), None) = (chosen, &self.current_room)
            && chosen != self.room()
        {
            self.current_room = Some(chosen.to_owned());
        }
    }

    /// The server speaks only the basic protocol.
    pub(super) fn begin_basic(&mut self) {
        self.phase = Phase::Basic;
        self.outbox.reconnected(Confirmation::Echo);
        self.reject_other_rooms();
    }

    /// A basic server has one room. A message for another room must not be sent there.
    pub(super) fn reject_other_rooms(&mut self) {
        let lobby = RoomName::lobby();
        let others: BTreeSet<String> =
            self.outbox.rooms().filter(|room| *room != lobby.as_str()).map(str::to_owned).collect();
        for room in others {
            self.rejected.extend(self.outbox.reject_room(
                &room,
                "not_in_room",
                "this server speaks only the basic protocol and has one room",
            ));
        }
    }
}
