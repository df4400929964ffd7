//! The first frame of a session, which decides everything after it.
//!
//! Before registration there is no user, no room and no key; after it all three exist. So this is
//! a type of its own, and nothing later asks whether somebody is registered.

use crate::protocol::frame::{ClientFrame, PROTOCOL, Position, Register};
use crate::protocol::{CloseCode, ErrorCode, RoomName, UserName};

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
pub struct JoinRequest {
    /// The room.
    pub room: RoomName,
    /// The last thing seen there.
    pub resume: Option<Position>,
}

/// A valid `register`.
pub struct Registration {
    /// What is spoken from now on.
    pub dialect: Dialect,
    /// The cleaned name.
    pub user: UserName,
    /// The access token, if one came.
    pub access_token: Option<zeroize::Zeroizing<String>>,
    /// At least one room; the first is where messages without a room go.
    pub rooms: Vec<JoinRequest>,
    /// Whether one's own messages come back.
    pub echo: bool,
    /// Whether joins and leaves are told.
    pub presence: bool,
}

/// The session ends before it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The word for programs.
    pub code: ErrorCode,
    /// The closing code.
    pub close: CloseCode,
    /// The text for people.
    pub message: String,
}

impl Rejection {
    /// A refusal that closes with 1008.
    pub fn policy(code: ErrorCode, message: impl Into<String>) -> Self {
        Rejection { code, close: CloseCode::Policy, message: message.into() }
    }
}

/// Reads the first frame.
pub fn read(text: &str) -> Result<Registration, Rejection> {
    match ClientFrame::parse(text) {
        Ok(ClientFrame::Register(register)) => accept(register),
        Ok(_) => Err(Rejection::policy(
            ErrorCode::NotRegistered,
            "the first frame must be {\"type\":\"register\",\"username\":\"…\"}",
        )),
        Err(error) if error.code == ErrorCode::UnknownType => Err(Rejection::policy(
            ErrorCode::NotRegistered,
            "the first frame must be {\"type\":\"register\",\"username\":\"…\"}",
        )),
        Err(error) => Err(Rejection::policy(error.code, error.detail)),
    }
}

fn accept(register: Register) -> Result<Registration, Rejection> {
    let dialect = match register.protocol {
        None => Dialect::Basic,
        Some(PROTOCOL) => Dialect::Full,
        Some(other) => {
            return Err(Rejection::policy(
                ErrorCode::BadProtocol,
                format!("this server speaks protocol {PROTOCOL}, not {other}"),
            ));
        }
    };
    let rooms = match dialect {
        // To a basic client every other field is unknown, and so ignored.
        Dialect::Basic => vec![JoinRequest { room: RoomName::lobby(), resume: None }],
        Dialect::Full => wishes(&register)?,
    };
    Ok(Registration {
        dialect,
        user: UserName::clean(&register.username),
        access_token: register.access_token.map(zeroize::Zeroizing::new),
        rooms,
        echo: register.echo.unwrap_or(true),
        presence: register.presence.unwrap_or(true),
    })
}

fn wishes(register: &Register) -> Result<Vec<JoinRequest>, Rejection> {
    let mut wishes: Vec<JoinRequest> = Vec::new();
    for name in &register.rooms {
        let room = RoomName::parse(name)
            .ok_or_else(|| Rejection::policy(ErrorCode::BadRoom, RoomName::RULE))?;
        if wishes.iter().all(|wish| wish.room != room) {
            wishes.push(JoinRequest { room, resume: register.resume.get(name).cloned() });
        }
    }
    if wishes.is_empty() {
        let resume = register.resume.get(RoomName::lobby().as_str()).cloned();
        wishes.push(JoinRequest { room: RoomName::lobby(), resume });
    }
    if wishes.len() > ROOMS_PER_SESSION {
        return Err(Rejection::policy(
            ErrorCode::TooManyRooms,
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
            ("nonsense", ErrorCode::BadJson),
            (r#"{"type":"chat_message","content":"x"}"#, ErrorCode::NotRegistered),
            (r#"{"type":"dance"}"#, ErrorCode::NotRegistered),
            (r#"{"type":"register","username":7}"#, ErrorCode::BadFrame),
            (r#"{"type":"register","protocol":2}"#, ErrorCode::BadProtocol),
            (r#"{"type":"register","protocol":1,"rooms":["Bad Room"]}"#, ErrorCode::BadRoom),
        ] {
            let refusal = read(text).err().expect(text);
            assert_eq!((refusal.code, refusal.close), (code, CloseCode::Policy), "{text}");
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
