//! Who may do what where: one table of every verb, role and state. The server asks nothing else.
//!
//! Two states are not in it, because nobody in them gets as far: before `register` every verb is
//! `not_registered`, and after a kick, a ban, a revocation or an end nothing is heard any more.

/// What a role is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads and never speaks.
    Reader,
    /// Speaks and never reads: an alert, a cron job.
    Writer,
    /// Both.
    Member,
    /// Both, in every room. In open mode everybody is one.
    Admin,
}

/// What somebody may want in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Be in it, and have its key: `register` and `join`.
    Join,
    /// Be in it no more: `leave`.
    Leave,
    /// Know who is there: `who`, and who comes and goes.
    ListMembers,
    /// Get what was said: `history` and `resume`.
    ReadHistory,
    /// Say something: `chat_message`.
    Send,
    /// Get what is said, live.
    Receive,
}

/// Where somebody stands towards a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomRelation {
    /// The access token is not for it.
    NotGranted,
    /// Not in it: never was, or left.
    NotJoined,
    /// In it.
    Joined,
}

/// What becomes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It is done.
    Allowed,
    /// `forbidden`: the access token does not give that right.
    Forbidden,
    /// `not_in_room`: join it first.
    NotInRoom,
}

use Decision::{Allowed as OK, Forbidden as NO, NotInRoom as OUT};

/// For each verb and role: in a foreign room, outside, inside.
#[rustfmt::skip]
const TABLE: [(Action, [[Decision; 3]; 4]); 6] = [
    //             reader          writer          member          admin
    (Action::Join, [[NO, OK,  OK],  [NO, OK,  OK],  [NO, OK,  OK],  [OK,  OK,  OK]]),
    (Action::Leave, [[NO, OUT, OK],  [NO, OUT, OK],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Action::ListMembers,   [[NO, OUT, OK],  [NO, NO,  NO],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Action::ReadHistory,  [[NO, OUT, OK],  [NO, NO,  NO],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Action::Send, [[NO, NO,  NO],  [NO, OUT, OK],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Action::Receive,  [[NO, OUT, OK],  [NO, NO,  NO],  [NO, OUT, OK],  [OUT, OUT, OK]]),
];

/// What the table says.
pub fn decide(role: Role, verb: Action, place: RoomRelation) -> Decision {
    let row = TABLE.iter().find(|(of, _)| *of == verb);
    // A verb without a row is nobody's; the tests see that there is none.
    row.map_or(NO, |(_, roles)| roles[role as usize][place as usize])
}

impl Action {
    /// Every verb.
    pub const ALL: [Action; 6] = [
        Action::Join,
        Action::Leave,
        Action::ListMembers,
        Action::ReadHistory,
        Action::Send,
        Action::Receive,
    ];
}

impl RoomRelation {
    /// Every place.
    pub const ALL: [RoomRelation; 3] =
        [RoomRelation::NotGranted, RoomRelation::NotJoined, RoomRelation::Joined];
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Reader, Role::Writer, Role::Member, Role::Admin];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Writer => "writer",
            Role::Member => "member",
            Role::Admin => "admin",
        }
    }

    /// The role of that word.
    pub fn parse(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(TABLE.map(|(verb, _)| verb), Action::ALL);
        for (number, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, number);
            assert_eq!(Role::parse(role.word()), Some(role));
        }
        assert_eq!(RoomRelation::ALL.map(|place| place as usize), [0, 1, 2]);
    }

    #[test]
    fn what_people_are_told_is_what_the_table_says() {
        let page = include_str!("../../docs/security.md");
        for role in Role::ALL {
            let start = format!("| {} | ", role.word());
            let line = page.lines().find(|line| line.starts_with(&start)).expect(&start);
            let told: Vec<bool> =
                line[start.len()..].split('|').map(|cell| !cell.trim().starts_with("no")).collect();
            let verbs = [
                Action::Join,
                Action::Receive,
                Action::ReadHistory,
                Action::Send,
                Action::ListMembers,
            ];
            assert_eq!(
                told[..5],
                verbs.map(|verb| decide(role, verb, RoomRelation::Joined) == OK),
                "{line}"
            );
        }
    }
}
