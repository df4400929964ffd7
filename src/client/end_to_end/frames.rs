//! The frames that a client sends for end-to-end rooms.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::mls::device::OwnKeyPackage;
use crate::mls::room::Outgoing;
use crate::protocol::frame::{
    Blob, BlobGet, ClientFrame, HistoryRequest, InfoGet, Invitation, KIND_COMMIT, KeysGet, KeysPut,
    NewMessage, WelcomeDone,
};
use crate::protocol::hex::hex;
use crate::protocol::{RoomName, Seq};

/// Bytes of a ratchet tree in one frame.
const TREE_PART_BYTES: usize = 40 * 1024;

/// Bytes in base64 (RFC 4648, section 4).
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes; none if it is not base64, which nothing else can be made of either.
pub fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_default()
}

/// The SHA-256, as frames name it.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The bytes of a commit, its description and its Welcome that one frame holds, before base64. What is larger is sent
/// before it, as a tree is.
const ONE_FRAME_BYTES: usize = 36 * 1024;

/// The frames of something that this device made: the parts of the tree and the commit, or the message.
pub fn of_outgoing(room: &RoomName, outgoing: &Outgoing) -> Vec<String> {
    let mut message = NewMessage::plain(
        Some(room.as_str().into()),
        Some(outgoing.id.as_str().into()),
        encode(&outgoing.content).into(),
    );
    message.base = Some(outgoing.base);
    let mut frames = Vec::new();
    if let Some(commit) = &outgoing.commit {
        frames.extend(parts(room, &commit.tree));
        message.kind = Some(KIND_COMMIT.into());
        message.tree = Some(hash(&commit.tree).into());
        let welcome = commit.welcome.as_deref().unwrap_or_default();
        let is_large = outgoing.content.len() + commit.info.len() + welcome.len() > ONE_FRAME_BYTES;
        if is_large {
            frames.extend(parts(room, &commit.info));
            message.info_sha256 = Some(hash(&commit.info).into());
        } else {
            message.info = Some(encode(&commit.info).into());
        }
        if !welcome.is_empty() {
            let to = commit.added.iter();
            let to =
                to.map(|(user, device)| (user.clone().into(), device.to_string().into())).collect();
            let (content, sha256) = match is_large {
                true => (None, Some(hash(welcome).into())),
                false => (Some(encode(welcome).into()), None),
            };
            if is_large {
                frames.extend(parts(room, welcome));
            }
            message.welcomes = vec![Invitation { to, content, sha256 }];
        }
    }
    frames.push(ClientFrame::ChatMessage(message).to_json());
    frames
}

/// Bytes that are sent before the commit that names them.
fn parts(room: &RoomName, bytes: &[u8]) -> Vec<String> {
    let sha256 = hash(bytes);
    let parts = bytes.chunks(TREE_PART_BYTES);
    let count = parts.len() as u32;
    parts
        .enumerate()
        .map(|(part, bytes)| {
            ClientFrame::E2eBlob(Blob {
                room: room.as_str().into(),
                sha256: sha256.as_str().into(),
                part: part as u32,
                parts: count,
                content: encode(bytes).into(),
            })
            .to_json()
        })
        .collect()
}

/// Deposits key packages.
pub fn put_keys(device: &str, certificate: &[u8], packages: &[OwnKeyPackage]) -> String {
    let (last, others): (Vec<_>, Vec<_>) =
        packages.iter().partition(|package| package.is_last_resort);
    ClientFrame::E2eKeysPut(KeysPut {
        device: device.into(),
        cert: encode(certificate).into(),
        key_packages: others.iter().map(|package| encode(&package.content).into()).collect(),
        last_resort: last.first().map(|package| encode(&package.content).into()),
    })
    .to_json()
}

/// Asks for key packages.
pub fn get_keys(room: &RoomName, users: Vec<String>) -> String {
    ClientFrame::E2eKeysGet(KeysGet { room: room.to_string(), users }).to_json()
}

/// Asks for a ratchet tree.
pub fn get_tree(room: &RoomName, sha256: &str) -> String {
    ClientFrame::E2eBlobGet(BlobGet { room: room.to_string(), sha256: sha256.to_owned() }).to_json()
}

/// Asks for what a device needs to come in by itself.
pub fn get_info(room: &RoomName) -> String {
    ClientFrame::E2eInfo(InfoGet { room: room.to_string() }).to_json()
}

/// Says that a welcome was handled.
pub fn welcome_done(room: &RoomName, seq: Seq) -> String {
    ClientFrame::E2eWelcomeDone(WelcomeDone { room: room.to_string(), seq }).to_json()
}

/// Asks for the entries after a place.
pub fn get_entries(room: &RoomName, after: Seq, limit: u64) -> String {
    let request = HistoryRequest {
        room: room.to_string(),
        after: Some(after),
        before: None,
        limit: Some(limit),
    };
    ClientFrame::History(request).to_json()
}
