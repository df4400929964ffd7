//! Who is in a room, and whether all members were shown the same.

use serde_json::json;

use super::machine::EndToEnd;
use super::problem::{Kind, Problem};
use super::trust::StepError;
use crate::crypto::fingerprint;
use crate::mls::device::pin;
use crate::mls::members::{forget, is_only_admin, members};
use crate::mls::room;
use crate::mls::rows::Status;
use crate::policy::pins::PinOrigin;
use crate::protocol::RoomName;

impl EndToEnd {
    /// Whether the device is a member, and has read the log to its end. An error if it is not in the room.
    pub fn is_member(&self, room: &RoomName) -> Result<bool, Problem> {
        let Some(session) = self.sessions.get(room) else { return Ok(false) };
        match session.status {
            Some(Status::Member) => Ok(session.is_at_end() && session.is_settled),
            Some(Status::Creating | Status::Joining) => Ok(false),
            // A Welcome may be on its way.
            None | Some(Status::Removed)
                if !session.is_answered || self.invitations.contains_key(room) =>
            {
                Ok(false)
            }
            None | Some(Status::Removed | Status::Outdated) => {
                let text = format!("this device is not in {room}; an admin of the room can add it");
                Err(Problem::new(Kind::NotAllowed, text))
            }
        }
    }

    /// The digits that are the same for all members who were shown the same room.
    pub fn check_digits(&mut self, name: &RoomName) -> Result<String, Problem> {
        let authenticator = self.step(|step, _| Ok(room::epoch_authenticator(step, name)?))?;
        Ok(fingerprint::of_room(&authenticator))
    }

    /// Who is in the room: one JSON object per device.
    pub fn members(&mut self, name: &RoomName) -> Result<String, Problem> {
        let members = self.step(|step, device| {
            let mut found = Vec::new();
            for member in members(step, name)? {
                let vouched = match member.leaf.user == device.certificate.user {
                    true => Some("self"),
                    false => pin(step, &member.leaf.user)?.map(|pin| match pin.origin {
                        PinOrigin::First => "first",
                        PinOrigin::File => "pinned",
                        PinOrigin::Verified => "verified",
                    }),
                };
                found.push((member, vouched));
            }
            Ok::<_, StepError>(found)
        })?;
        let mut lines = String::new();
        for (member, vouched) in members {
            let time = |at: Option<crate::protocol::Timestamp>| at.map(|at| at.to_string());
            let line = json!({
                "room": name.as_str(),
                "username": member.leaf.user,
                "device": member.leaf.device.to_string(),
                "key": member.leaf.user_key.to_string(),
                "trust": vouched,
                "admin": member.is_admin,
                "since": time(member.times.since),
                "last_seen": time(member.times.seen.map(|(_, at)| at)),
                "keys_renewed": time(member.times.renewed),
            });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        Ok(lines)
    }

    /// Forgets a room's keys. An error if nobody could change the room then.
    pub fn leave(&mut self, name: &RoomName) -> Result<(), Problem> {
        self.step(|step, device| {
            if is_only_admin(step, &device.id(), name)? {
                let text = format!(
                    "nobody else is an admin of {name}; make another member one first: chat-client room promote \
                     {name} NAME"
                );
                return Err(Problem::new(Kind::NotAllowed, text).into());
            }
            Ok(forget(step, name)?)
        })
    }
}
