//! The first frame of a session.
//!
//! Before registration there is no user, no room and no key; afterwards all three exist. Because
//! registration is a type of its own, later code need not check whether a session is registered.

use std::collections::{BTreeMap, HashMap};

use crate::protocol::device::DeviceId;
use crate::protocol::frame::{ClientFrame, E2E_VERSION, PROTOCOL, Position, Register, RegisterE2e};
use crate::protocol::{CloseCode, ErrorCode, RoomName, UserName};

/// Rooms per session, at most.
pub const ROOMS_PER_SESSION: usize = 64;

/// Users that one `register` names for rooms for direct messages, at most.
const MAX_DIRECT: usize = 64;

/// The protocol of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The six basic messages and nothing else.
    Basic,
    /// The full protocol.
    Full,
    /// The answer to an HTTP request: lines of JSON.
    Lines,
    /// The answer to an HTTP request: server-sent events.
    Events,
}

impl Dialect {
    /// Whether the client speaks by WebSocket. Otherwise it only reads, and is sent nothing but messages
    /// and what stands in their place.
    pub fn is_websocket(self) -> bool {
        matches!(self, Dialect::Basic | Dialect::Full)
    }

    /// The word in the server log and for operators.
    pub fn word(self) -> &'static str {
        match self {
            Dialect::Basic => "basic",
            Dialect::Full => "full",
            Dialect::Lines => "lines",
            Dialect::Events => "events",
        }
    }
}

/// A room to join, and where to resume it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// The room.
    pub room: RoomName,
    /// The last message that the client has.
    pub resume: Option<Position>,
    /// The other user, if the client says that the room is for direct messages with this user.
    pub direct: Option<UserName>,
}

impl JoinRequest {
    /// Whether a room for direct messages is that of `user` and the one that the client names. Any other room is
    /// none of this rule's business.
    pub fn admits(&self, user: &UserName) -> bool {
        let is_of = |other: &UserName| RoomName::direct(user, other) == self.room;
        !self.room.is_direct() || self.direct.as_ref().is_some_and(is_of)
    }
}

/// A valid `register`.
pub struct Registration {
    /// The protocol of the session.
    pub dialect: Dialect,
    /// The name, cleaned.
    pub user: UserName,
    /// The access token, if the client sent one.
    pub access_token: Option<zeroize::Zeroizing<String>>,
    /// At least one room. Messages without a room go to the first.
    pub rooms: Vec<JoinRequest>,
    /// Whether the session gets its own messages back.
    pub echo: bool,
    /// Whether the session gets `user_joined`, `user_left` and `user_list`.
    pub presence: bool,
    /// The device of a client that can take part in end-to-end rooms.
    pub device: Option<DeviceId>,
    /// The other users of the rooms for direct messages.
    direct: Vec<UserName>,
    /// The positions that a client sent which leaves the choice of its room to the server.
    positions: Option<BTreeMap<String, Position>>,
}

impl Registration {
    /// Whether the client names no room, so that the server chooses one.
    pub fn names_no_room(&self) -> bool {
        self.positions.is_some()
    }

    /// Replaces the room of a client that names none. If the client has a position in it, it resumes
    /// there.
    pub fn choose_room(&mut self, room: RoomName) {
        let resume = self.positions.as_ref().and_then(|positions| positions.get(room.as_str()));
        self.rooms = vec![JoinRequest { resume: resume.cloned(), room, direct: None }];
    }

    /// Finds the other user of each room for direct messages, once the name of this user is proven.
    pub fn find_direct(&mut self) {
        let rooms = self.direct.iter().map(|other| (RoomName::direct(&self.user, other), other));
        let rooms: HashMap<RoomName, &UserName> = rooms.collect();
        for request in &mut self.rooms {
            request.direct = rooms.get(&request.room).map(|other| (*other).clone());
        }
    }
}

/// A refused registration. The server sends an `error` and closes the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The error code.
    pub code: ErrorCode,
    /// The WebSocket close code.
    pub close: CloseCode,
    /// The text for people.
    pub message: String,
}

impl Rejection {
    /// A rejection that closes with 1008.
    pub fn policy(code: ErrorCode, message: impl Into<String>) -> Self {
        Rejection { code, close: CloseCode::Policy, message: message.into() }
    }
}

/// Reads the first frame of a session.
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
    // A basic client knows no other field, so the server ignores them.
    let (rooms, positions) = match dialect {
        Dialect::Basic => (Vec::new(), BTreeMap::new()),
        _ => (join_requests(&register.rooms, &register.resume)?, register.resume),
    };
    let names_no_room = rooms.is_empty();
    let e2e = register.e2e.filter(|_| dialect == Dialect::Full).map(end_to_end).transpose()?;
    let (device, direct) = e2e.unzip();
    let mut registration = Registration {
        dialect,
        user: UserName::clean(&register.username),
        access_token: register.access_token.map(zeroize::Zeroizing::new),
        rooms,
        echo: register.echo.unwrap_or(true),
        presence: register.presence.unwrap_or(true),
        device,
        direct: direct.unwrap_or_default(),
        positions: names_no_room.then_some(positions),
    };
    if names_no_room {
        registration.choose_room(RoomName::lobby());
    }
    Ok(registration)
}

/// The device, and the other users of the rooms for direct messages.
fn end_to_end(e2e: RegisterE2e) -> Result<(DeviceId, Vec<UserName>), Rejection> {
    if e2e.v != E2E_VERSION {
        let text = format!(
            "this server speaks version {E2E_VERSION} of the end-to-end frames, not {}",
            e2e.v
        );
        return Err(Rejection::policy(ErrorCode::BadProtocol, text));
    }
    if e2e.direct.len() > MAX_DIRECT {
        let text = format!("\"direct\" names {MAX_DIRECT} users at most");
        return Err(Rejection::policy(ErrorCode::BadFrame, text));
    }
    let device = DeviceId::parse(&e2e.device)
        .ok_or_else(|| Rejection::policy(ErrorCode::BadFrame, DeviceId::RULE))?;
    Ok((device, e2e.direct.iter().map(|user| UserName::clean(user)).collect()))
}

fn join_requests(
    rooms: &[String],
    positions: &BTreeMap<String, Position>,
) -> Result<Vec<JoinRequest>, Rejection> {
    let mut requests: Vec<JoinRequest> = Vec::new();
    for name in rooms {
        let room = RoomName::parse(name)
            .ok_or_else(|| Rejection::policy(ErrorCode::BadRoom, RoomName::RULE))?;
        if requests.iter().all(|request| request.room != room) {
            let resume = positions.get(name).cloned();
            requests.push(JoinRequest { room, resume, direct: None });
        }
    }
    if requests.len() > ROOMS_PER_SESSION {
        return Err(Rejection::policy(
            ErrorCode::TooManyRooms,
            format!("a session may be in {ROOMS_PER_SESSION} rooms at most"),
        ));
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_frame_other_than_a_valid_register_is_rejected() {
        for (text, code) in [
            ("nonsense", ErrorCode::BadJson),
            (r#"{"type":"chat_message","content":"x"}"#, ErrorCode::NotRegistered),
            (r#"{"type":"dance"}"#, ErrorCode::NotRegistered),
            (r#"{"type":"register","username":7}"#, ErrorCode::BadFrame),
            (r#"{"type":"register","protocol":2}"#, ErrorCode::BadProtocol),
            (r#"{"type":"register","protocol":1,"rooms":["Bad Room"]}"#, ErrorCode::BadRoom),
        ] {
            let rejection = read(text).err().expect(text);
            assert_eq!((rejection.code, rejection.close), (code, CloseCode::Policy), "{text}");
        }
    }

    #[test]
    fn a_basic_client_gets_the_lobby_whatever_rooms_it_names() {
        let registration =
            read(r#"{"type":"register","username":" Ana ","rooms":["ops"]}"#).ok().unwrap();
        assert_eq!(registration.dialect, Dialect::Basic);
        assert_eq!(registration.user.as_str(), "Ana");
        assert_eq!(registration.rooms[0].room, RoomName::lobby());
    }

    #[test]
    fn a_client_that_names_no_room_resumes_the_one_that_the_server_chooses() {
        let text = r#"{"type":"register","protocol":1,"resume":{"lobby":{"epoch":"e","seq":4},
            "ops":{"epoch":"e","seq":7}}}"#;
        let mut registration = read(text).ok().unwrap();
        assert!(registration.names_no_room());
        let position = |registration: &Registration| {
            let [request] = &registration.rooms[..] else { panic!("one room") };
            (request.room.to_string(), request.resume.as_ref().map(|position| position.seq.0))
        };
        assert_eq!(position(&registration), ("lobby".into(), Some(4)));
        registration.choose_room(RoomName::parse("ops").unwrap());
        assert_eq!(position(&registration), ("ops".into(), Some(7)));
        registration.choose_room(RoomName::parse("dev").unwrap());
        assert_eq!(position(&registration), ("dev".into(), None));
        let named = r#"{"type":"register","protocol":1,"rooms":["lobby"]}"#;
        assert!(!read(named).ok().unwrap().names_no_room());
    }

    #[test]
    fn a_repeated_room_is_joined_once() {
        let text = r#"{"type":"register","protocol":1,"username":"ci","rooms":["ops","ops","dev"],
            "resume":{"dev":{"epoch":"e","seq":4}},"echo":false}"#;
        let registration = read(text).ok().unwrap();
        assert_eq!(registration.rooms.len(), 2);
        assert_eq!(registration.rooms[1].resume.as_ref().unwrap().seq.0, 4);
        assert!(!registration.echo && registration.presence);
    }
}
