//! Rights: which role may do what in which room, in one table. The server makes no other decision
//! about rights.
//!
//! Two states are not in the table, because they are handled earlier: before `register`, every
//! request is refused as `not_registered`; after a kick, a ban, a revocation or an expiry the
//! session has ended.

use crate::protocol::RoomName;

/// The role of a user in the rooms that the access token covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads, but can't send.
    Reader,
    /// Sends, but can't read: for an alert or a cron job.
    Writer,
    /// Reads and sends.
    Member,
    /// Reads and sends in every room.
    Admin,
}

/// An action of a session in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Enter the room and get its key: `register` and `join`.
    Join,
    /// Leave the room: `leave`.
    Leave,
    /// See the members: `who`, and announcements of joins and leaves.
    ListMembers,
    /// Read earlier messages: `history` and `resume`.
    ReadHistory,
    /// Send a message: `chat_message`.
    Send,
    /// Receive messages live.
    Receive,
    /// In an end-to-end room: get the commits and one's own messages, and what a device needs to come in.
    Follow,
    /// In an end-to-end room: send a commit.
    Commit,
}

/// The relation of a session to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomRelation {
    /// The access token does not cover the room.
    NotGranted,
    /// The session is not in the room.
    NotJoined,
    /// The session is in the room.
    Joined,
}

/// The decision about an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The action is allowed.
    Allowed,
    /// Refused as `forbidden`: the access token does not give this right.
    Forbidden,
    /// Refused as `not_in_room`: the session must join the room first.
    NotInRoom,
}

use Decision::{Allowed as OK, Forbidden as NO, NotInRoom as OUT};

/// Per action and role: the decision for a room not granted, not joined, joined.
#[rustfmt::skip]
const TABLE: [(Action, [[Decision; 3]; 4]); 8] = [
    //                      reader          writer          member          admin
    (Action::Join,        [[NO, OK,  OK],  [NO, OK,  OK],  [NO, OK,  OK],  [OK,  OK,  OK]]),
    (Action::Leave,       [[NO, OUT, OK],  [NO, OUT, OK],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Action::ListMembers, [[NO, OUT, OK],  [NO, NO,  NO],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Action::ReadHistory, [[NO, OUT, OK],  [NO, NO,  NO],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Action::Send,        [[NO, NO,  NO],  [NO, OUT, OK],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Action::Receive,     [[NO, OUT, OK],  [NO, NO,  NO],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Action::Follow,      [[NO, OUT, OK],  [NO, OUT, OK],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Action::Commit,      [[NO, OUT, OK],  [NO, OUT, OK],  [NO, OUT, OK],  [OUT, OUT, OK]]),
];

/// Looks the decision up in the table.
pub fn decide(role: Role, action: Action, relation: RoomRelation) -> Decision {
    let row = TABLE.iter().find(|(listed, _)| *listed == action);
    // An action without a row would be forbidden; a test checks that every action has a row.
    row.map_or(NO, |(_, roles)| roles[role as usize][relation as usize])
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 8] = [
        Action::Join,
        Action::Leave,
        Action::ListMembers,
        Action::ReadHistory,
        Action::Send,
        Action::Receive,
        Action::Follow,
        Action::Commit,
    ];
}

/// The right that a reader of the record of a room needs. Without [`Action::Receive`], the reader of an
/// end-to-end room gets only a part of it.
pub fn reading(room: &RoomName) -> Action {
    if room.is_end_to_end() { Action::Follow } else { Action::ReadHistory }
}

impl RoomRelation {
    /// Every relation.
    pub const ALL: [RoomRelation; 3] =
        [RoomRelation::NotGranted, RoomRelation::NotJoined, RoomRelation::Joined];
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Reader, Role::Writer, Role::Member, Role::Admin];

    /// The name of the role in access files and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Writer => "writer",
            Role::Member => "member",
            Role::Admin => "admin",
        }
    }

    /// Parses the name of a role.
    pub fn parse(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_action_and_role() {
        assert_eq!(TABLE.map(|(action, _)| action), Action::ALL);
        for (number, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, number);
            assert_eq!(Role::parse(role.word()), Some(role));
        }
        assert_eq!(RoomRelation::ALL.map(|relation| relation as usize), [0, 1, 2]);
    }

    #[test]
    fn the_security_page_matches_the_table() {
        let page = include_str!("../../docs/security.md");
        for role in Role::ALL {
            let start = format!("| {} | ", role.word());
            let line = page.lines().find(|line| line.starts_with(&start)).expect(&start);
            let documented: Vec<bool> =
                line[start.len()..].split('|').map(|cell| !cell.trim().starts_with("no")).collect();
            let actions = [
                Action::Join,
                Action::Receive,
                Action::ReadHistory,
                Action::Send,
                Action::ListMembers,
                Action::Follow,
                Action::Commit,
            ];
            assert_eq!(
                documented[..7],
                actions.map(|action| decide(role, action, RoomRelation::Joined) == OK),
                "{line}"
            );
        }
    }
}
