//! The first frame of a session, which decides everything after it.
//!
//! Before registration there is no user, no room and no key; after it all three exist. So this is
//! a type of its own, and nothing later asks whether somebody is registered.

use crate::protocol::frame::{ClientFrame, PROTOCOL, Position, Register};
use crate::protocol::{Close, Code, RoomName, UserName};

/// Rooms one session may be in.
pub const ROOMS_PER_SESSION: usize = 64;

/// Which protocol a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Six messages and nothing else, for ever.
    Basic,
    /// Everything.
    Full,
}

/// A room somebody wants to be in, and where they left off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The room.
    pub room: RoomName,
    /// The last thing seen there.
    pub resume: Option<Position>,
}

/// A valid `register`.
pub struct Opening {
    /// What is spoken from now on.
    pub dialect: Dialect,
    /// The cleaned name.
    pub user: UserName,
    /// The access token, if one came.
    pub access_token: Option<zeroize::Zeroizing<String>>,
    /// At least one room; the first is where messages without a room go.
    pub rooms: Vec<Wish>,
    /// Whether one's own messages come back.
    pub echo: bool,
    /// Whether joins and leaves are told.
    pub presence: bool,
}

/// The session ends before it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The word for programs.
    pub code: Code,
    /// The closing code.
    pub close: Close,
    /// The text for people.
    pub message: String,
}

impl Refusal {
    /// A refusal that closes with 1008.
    pub fn policy(code: Code, message: impl Into<String>) -> Self {
        Refusal { code, close: Close::Policy, message: message.into() }
    }
}

/// Reads the first frame.
pub fn read(text: &str) -> Result<Opening, Refusal> {
    match ClientFrame::parse(text) {
        Ok(ClientFrame::Register(register)) => accept(register),
        Ok(_) => Err(Refusal::policy(
            Code::NotRegistered,
            "the first frame must be {\"type\":\"register\",\"username\":\"…\"}",
        )),
        Err(fault) if fault.code == Code::UnknownType => Err(Refusal::policy(
            Code::NotRegistered,
            "the first frame must be {\"type\":\"register\",\"username\":\"…\"}",
        )),
        Err(fault) => Err(Refusal::policy(fault.code, fault.detail)),
    }
}

fn accept(register: Register) -> Result<Opening, Refusal> {
    let dialect = match register.protocol {
        None => Dialect::Basic,
        Some(PROTOCOL) => Dialect::Full,
        Some(other) => {
            return Err(Refusal::policy(
                Code::BadProtocol,
                format!("this server speaks protocol {PROTOCOL}, not {other}"),
            ));
        }
    };
    let rooms = match dialect {
        // To a basic client every other field is unknown, and so ignored.
        Dialect::Basic => vec![Wish { room: RoomName::lobby(), resume: None }],
        Dialect::Full => wishes(&register)?,
    };
    Ok(Opening {
        dialect,
        user: UserName::clean(&register.username),
        access_token: register.access_token.map(zeroize::Zeroizing::new),
        rooms,
        echo: register.echo.unwrap_or(true),
        presence: register.presence.unwrap_or(true),
    })
}

fn wishes(register: &Register) -> Result<Vec<Wish>, Refusal> {
    let mut wishes: Vec<Wish> = Vec::new();
    for name in &register.rooms {
        let room =
            RoomName::parse(name).ok_or_else(|| Refusal::policy(Code::BadRoom, RoomName::RULE))?;
        if wishes.iter().all(|wish| wish.room != room) {
            wishes.push(Wish { room, resume: register.resume.get(name).cloned() });
        }
    }
    if wishes.is_empty() {
        let resume = register.resume.get(RoomName::lobby().as_str()).cloned();
        wishes.push(Wish { room: RoomName::lobby(), resume });
    }
    if wishes.len() > ROOMS_PER_SESSION {
        return Err(Refusal::policy(
            Code::TooManyRooms,
            format!("a session may be in {ROOMS_PER_SESSION} rooms at most"),
        ));
    }
    Ok(wishes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_register_opens() {
        for (text, code) in [
            ("nonsense", Code::BadJson),
            (r#"{"type":"chat_message","content":"x"}"#, Code::NotRegistered),
            (r#"{"type":"dance"}"#, Code::NotRegistered),
            (r#"{"type":"register","username":7}"#, Code::BadFrame),
            (r#"{"type":"register","protocol":2}"#, Code::BadProtocol),
            (r#"{"type":"register","protocol":1,"rooms":["Bad Room"]}"#, Code::BadRoom),
        ] {
            let refusal = read(text).err().expect(text);
            assert_eq!((refusal.code, refusal.close), (code, Close::Policy), "{text}");
        }
    }

    #[test]
    fn a_basic_client_gets_the_lobby_whatever_else_it_says() {
        let opening =
            read(r#"{"type":"register","username":" Ana ","rooms":["ops"]}"#).ok().unwrap();
        assert_eq!(opening.dialect, Dialect::Basic);
        assert_eq!(opening.user.as_str(), "Ana");
        assert_eq!(opening.rooms[0].room, RoomName::lobby());
    }

    #[test]
    fn a_full_client_names_its_rooms_once() {
        let text = r#"{"type":"register","protocol":1,"username":"ci","rooms":["ops","ops","dev"],
            "resume":{"dev":{"epoch":"e","seq":4}},"echo":false}"#;
        let opening = read(text).ok().unwrap();
        assert_eq!(opening.rooms.len(), 2);
        assert_eq!(opening.rooms[1].resume.as_ref().unwrap().seq.0, 4);
        assert!(!opening.echo && opening.presence);
    }
}
