//! The frames of the wire, one model for both sides.
//!
//! A frame is one JSON object in one WebSocket text frame (RFC 6455). Every frame has a `type`, and
//! both sides ignore unknown fields. A client sends a [`ClientFrame`] and a server sends a
//! [`ServerFrame`]; `docs/protocol.md` describes each type.
//!
//! Both enums are written by `to_json` and read by `parse`. `parse` looks at `type` first and then
//! reads only the fields of that type, so a field that belongs to another type may hold anything.
//! The frames hold plain values: rights, limits and order are checked elsewhere.

mod chat_message;
mod client;
mod e2e;
mod parse;
mod server;
mod server_parts;

pub use chat_message::{ChatMessage, History, HistoryEntry};
pub use client::{
    BasicNewMessage, ClientFrame, HistoryRequest, Join, NewMessage, PROTOCOL, Register, RoomRequest,
};
pub use e2e::{
    Blob, BlobGet, DeviceKeys, E2E_VERSION, Info, InfoGet, Invitation, KIND_COMMIT, KIND_MESSAGE,
    Keys, KeysGet, KeysPut, RegisterE2e, WelcomeDone, WelcomeE2e, WelcomeToRoom,
};
pub use parse::{FrameError, frame_type};
pub use server::{ReceivedFrame, ServerFrame};
pub use server_parts::{
    Ack, EncryptionKey, ErrorFrame, Gap, Joined, Left, Limits, Position, Presence, Redacted,
    UserList, Welcome,
};
