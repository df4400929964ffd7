//! The requests about end-to-end rooms besides messages, checked as far as the server can.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::opaque_message::{check_base64, read_device, read_sha256};
use crate::protocol::device::DeviceId;
use crate::protocol::frame::{
    Blob, BlobGet, ClientFrame, ErrorFrame, InfoGet, KeysGet, KeysPut, WelcomeDone,
};
use crate::protocol::{ErrorCode, RoomName, Seq, UserName};

/// Characters of base64 in a certificate, and in a key package.
const MAX_CERT: usize = 2 * 1024;
const MAX_KEY_PACKAGE: usize = 6 * 1024;
/// Key packages in one `e2e_keys_put`.
const MAX_PUT: usize = 10;
/// Users in one `e2e_keys_get`.
const MAX_USERS: usize = 4;

/// A request about end-to-end rooms.
#[derive(Debug, PartialEq, Eq)]
pub enum E2eFrame {
    /// Deposit key packages.
    PutKeys {
        /// The device that they are of.
        device: DeviceId,
        /// Its certificate.
        cert: Box<str>,
        /// Key packages.
        key_packages: Vec<Box<str>>,
        /// The key package of last resort.
        last_resort: Option<Box<str>>,
    },
    /// Take key packages of these users.
    TakeKeys(RoomName, Vec<UserName>),
    /// A part of a ratchet tree.
    Blob {
        /// The room.
        room: RoomName,
        /// The SHA-256 of the tree.
        hash: [u8; 32],
        /// The number of the part.
        part: u32,
        /// How many parts there are.
        parts: u32,
        /// The part.
        bytes: Vec<u8>,
    },
    /// Send a ratchet tree.
    GetBlob(RoomName, [u8; 32]),
    /// Forget a welcome.
    WelcomeDone(RoomName, Seq),
    /// Send what a device needs to come in by itself.
    GetInfo(RoomName),
}

impl E2eFrame {
    /// The room that the session must be in; `None` if it is about no room, or about one that the session may not
    /// be in.
    pub fn room(&self) -> Option<&RoomName> {
        match self {
            E2eFrame::PutKeys { .. } | E2eFrame::WelcomeDone(..) => None,
            E2eFrame::TakeKeys(room, _)
            | E2eFrame::Blob { room, .. }
            | E2eFrame::GetBlob(room, _)
            | E2eFrame::GetInfo(room) => Some(room),
        }
    }
}

/// Reads a frame. Returns `None` if it is of another kind.
pub fn read(frame: ClientFrame<'_>) -> Option<Result<E2eFrame, Box<ErrorFrame>>> {
    Some(match frame {
        ClientFrame::E2eKeysPut(put) => put_keys(&put),
        ClientFrame::E2eKeysGet(get) => take_keys(&get),
        ClientFrame::E2eBlob(blob) => self::blob(&blob),
        ClientFrame::E2eBlobGet(BlobGet { room, sha256 }) => end_to_end(&room)
            .and_then(|room| Ok(E2eFrame::GetBlob(room, read_sha256("sha256", &sha256)?))),
        ClientFrame::E2eWelcomeDone(WelcomeDone { room, seq }) => {
            end_to_end(&room).map(|room| E2eFrame::WelcomeDone(room, seq))
        }
        ClientFrame::E2eInfo(InfoGet { room }) => end_to_end(&room).map(E2eFrame::GetInfo),
        _ => return None,
    })
}

fn put_keys(put: &KeysPut<'_>) -> Result<E2eFrame, Box<ErrorFrame>> {
    if put.key_packages.len() > MAX_PUT {
        return Err(bad(format!("at most {MAX_PUT} key packages fit in one frame")));
    }
    Ok(E2eFrame::PutKeys {
        device: read_device(&put.device)?,
        cert: field("cert", &put.cert, MAX_CERT)?,
        key_packages: put
            .key_packages
            .iter()
            .map(|text| field("key_packages", text, MAX_KEY_PACKAGE))
            .collect::<Result<_, _>>()?,
        last_resort: put
            .last_resort
            .as_ref()
            .map(|text| field("last_resort", text, MAX_KEY_PACKAGE))
            .transpose()?,
    })
}

fn take_keys(get: &KeysGet) -> Result<E2eFrame, Box<ErrorFrame>> {
    let room = end_to_end(&get.room)?;
    let mut users: Vec<UserName> = get.users.iter().map(|user| UserName::clean(user)).collect();
    users.sort();
    users.dedup();
    if users.is_empty() || users.len() > MAX_USERS {
        return Err(bad(format!("\"users\" names 1 to {MAX_USERS} users")));
    }
    Ok(E2eFrame::TakeKeys(room, users))
}

fn blob(blob: &Blob<'_>) -> Result<E2eFrame, Box<ErrorFrame>> {
    let room = end_to_end(&blob.room)?;
    let hash = read_sha256("sha256", &blob.sha256)?;
    // 40 KiB as base64 are more than a message may have.
    let bytes = STANDARD.decode(&*blob.content).map_err(|_| bad("\"content\" is not base64"))?;
    Ok(E2eFrame::Blob { room, hash, part: blob.part, parts: blob.parts, bytes })
}

fn field(name: &str, text: &str, max: usize) -> Result<Box<str>, Box<ErrorFrame>> {
    if text.len() > max {
        return Err(bad(format!("{name:?} has more than {max} characters")));
    }
    check_base64(name, text)?;
    Ok(text.into())
}

fn end_to_end(room: &str) -> Result<RoomName, Box<ErrorFrame>> {
    let error = || Box::new(ErrorFrame::new(ErrorCode::BadRoom, RoomName::RULE));
    let room = RoomName::parse(room).ok_or_else(error)?;
    match room.is_end_to_end() {
        true => Ok(room),
        false => Err(Box::new(ErrorFrame {
            room: Some(room.to_string()),
            ..*bad("this is no end-to-end room: its name has no +")
        })),
    }
}

fn bad(message: impl Into<Cow<'static, str>>) -> Box<ErrorFrame> {
    Box::new(ErrorFrame::new(ErrorCode::BadFrame, message))
}
