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
pub enum Verb {
    /// Be in it, and have its key: `register` and `join`.
    Enter,
    /// Be in it no more: `leave`.
    Leave,
    /// Know who is there: `who`, and who comes and goes.
    See,
    /// Get what was said: `history` and `resume`.
    Read,
    /// Say something: `chat_message`.
    Speak,
    /// Get what is said, live.
    Hear,
}

/// Where somebody stands towards a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The access token is not for it.
    Foreign,
    /// Not in it: never was, or left.
    Outside,
    /// In it.
    Inside,
}

/// What becomes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// It is done.
    Yes,
    /// `forbidden`: the access token does not give that right.
    Forbidden,
    /// `not_in_room`: join it first.
    NotInRoom,
}

use Ruling::{Forbidden as NO, NotInRoom as OUT, Yes as OK};

/// For each verb and role: in a foreign room, outside, inside.
#[rustfmt::skip]
const TABLE: [(Verb, [[Ruling; 3]; 4]); 6] = [
    //             reader          writer          member          admin
    (Verb::Enter, [[NO, OK,  OK],  [NO, OK,  OK],  [NO, OK,  OK],  [OK,  OK,  OK]]),
    (Verb::Leave, [[NO, OUT, OK],  [NO, OUT, OK],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Verb::See,   [[NO, OUT, OK],  [NO, NO,  NO],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Verb::Read,  [[NO, OUT, OK],  [NO, NO,  NO],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Verb::Speak, [[NO, NO,  NO],  [NO, OUT, OK],  [NO, OUT, OK],  [OUT, OUT, OK]]),
    (Verb::Hear,  [[NO, OUT, OK],  [NO, NO,  NO],  [NO, OUT, OK],  [OUT, OUT, OK]]),
];

/// What the table says.
pub fn ruling(role: Role, verb: Verb, place: Place) -> Ruling {
    let row = TABLE.iter().find(|(of, _)| *of == verb);
    // A verb without a row is nobody's; the tests see that there is none.
    row.map_or(NO, |(_, roles)| roles[role as usize][place as usize])
}

impl Verb {
    /// Every verb.
    pub const ALL: [Verb; 6] =
        [Verb::Enter, Verb::Leave, Verb::See, Verb::Read, Verb::Speak, Verb::Hear];
}

impl Place {
    /// Every place.
    pub const ALL: [Place; 3] = [Place::Foreign, Place::Outside, Place::Inside];
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
        assert_eq!(TABLE.map(|(verb, _)| verb), Verb::ALL);
        for (number, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, number);
            assert_eq!(Role::parse(role.word()), Some(role));
        }
        assert_eq!(Place::ALL.map(|place| place as usize), [0, 1, 2]);
    }

    #[test]
    fn what_people_are_told_is_what_the_table_says() {
        let page = include_str!("../../docs/security.md");
        for role in Role::ALL {
            let start = format!("| {} | ", role.word());
            let line = page.lines().find(|line| line.starts_with(&start)).expect(&start);
            let told: Vec<bool> =
                line[start.len()..].split('|').map(|cell| !cell.trim().starts_with("no")).collect();
            let verbs = [Verb::Enter, Verb::Hear, Verb::Read, Verb::Speak, Verb::See];
            assert_eq!(
                told[..5],
                verbs.map(|verb| ruling(role, verb, Place::Inside) == OK),
                "{line}"
            );
        }
    }
}
