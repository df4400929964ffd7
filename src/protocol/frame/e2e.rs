//! The frames and parts of frames of end-to-end rooms.
//!
//! The server reads none of the cryptography: `content`, `cert`, `key_package`, `info` and `tree` are base64 of
//! bytes that only clients understand.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::{RoomName, Seq};

/// The version of the end-to-end frames.
pub const E2E_VERSION: u32 = 1;

/// `e2e` in `register`: the client can take part in end-to-end rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterE2e {
    /// [`E2E_VERSION`].
    pub v: u32,
    /// The id of the device; see [`crate::protocol::device::DeviceId`].
    pub device: String,
    /// The other users of the rooms for direct messages among `rooms`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub direct: Vec<String>,
}

/// `e2e` in `welcome`: the server knows end-to-end rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeE2e {
    /// [`E2E_VERSION`].
    pub v: u32,
    /// How many key packages of the device the server has, without the one of last resort.
    #[serde(default)]
    pub key_packages: u64,
    /// Whether numbers of entries may be left out without a reason, in every room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    /// The rooms of which the session is sent the commits and its user's own messages alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write_only: Vec<RoomName>,
}

/// `kind` of a message.
pub const KIND_MESSAGE: &str = "message";
/// `kind` of a commit, which changes the group of a room.
pub const KIND_COMMIT: &str = "commit";

/// An element of `welcomes` in a commit: one MLS Welcome and the devices that it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation<'a> {
    /// Pairs of a user's name and the id of a device.
    #[serde(borrow)]
    pub to: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The MLS Welcome.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Cow<'a, str>>,
    /// Instead of `content`: the SHA-256 of its bytes, which were uploaded like a tree.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Cow<'a, str>>,
}

/// `e2e_keys_put`: what others need to add this device to a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysPut<'a> {
    /// The id of the device, the one in `register`.
    #[serde(borrow)]
    pub device: Cow<'a, str>,
    /// The device's certificate.
    #[serde(borrow)]
    pub cert: Cow<'a, str>,
    /// Key packages; each is given to one adder.
    #[serde(borrow, default)]
    pub key_packages: Vec<Cow<'a, str>>,
    /// A key package for when there is no other; it replaces the one before.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub last_resort: Option<Cow<'a, str>>,
}

/// `e2e_keys_get`: asks for one key package of each device of some users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysGet {
    /// The room that they are to be added to.
    pub room: String,
    /// The users' names.
    pub users: Vec<String>,
}

/// `e2e_keys`: the answer to `e2e_keys_put` (`left`) and to `e2e_keys_get` (`room`, `users`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys<'a> {
    /// How many key packages of the device the server has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// The room of the request.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub room: Cow<'a, str>,
    /// By user, the devices.
    #[serde(borrow, default, skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<Cow<'a, str>, Vec<DeviceKeys<'a>>>,
}

/// A device in `e2e_keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceKeys<'a> {
    /// Its id.
    #[serde(borrow)]
    pub device: Cow<'a, str>,
    /// Its certificate.
    #[serde(borrow)]
    pub cert: Cow<'a, str>,
    /// A key package.
    #[serde(borrow)]
    pub key_package: Cow<'a, str>,
    /// Whether it is the one of last resort, which may be given to others too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last_resort: bool,
}

/// `e2e_blob`: a part of a ratchet tree. A client sends the parts in order before the commit that names the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The SHA-256 of the whole tree: 64 lower-case hexadecimal digits.
    #[serde(borrow)]
    pub sha256: Cow<'a, str>,
    /// The number of this part, from 0.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
    /// The part.
    #[serde(borrow)]
    pub content: Cow<'a, str>,
}

/// `e2e_blob_get`: asks for a ratchet tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobGet {
    /// The room.
    pub room: String,
    /// Its SHA-256, as in `e2e_welcome` and `e2e_info`.
    pub sha256: String,
}

/// `e2e_welcome`: the device was added to a room. It is sent again at each `register` until the client sends
/// `e2e_welcome_done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeToRoom<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The number of the commit that added the device.
    pub seq: Seq,
    /// The MLS Welcome.
    #[serde(borrow)]
    pub content: Cow<'a, str>,
    /// The SHA-256 of the ratchet tree that belongs to it.
    #[serde(borrow, default)]
    pub tree: Cow<'a, str>,
}

/// `e2e_welcome_done`: the server may forget a welcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeDone {
    /// The room.
    pub room: String,
    /// The number of the commit.
    pub seq: Seq,
}

/// `e2e_info` from a client: asks for what a device needs to come into a room by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoGet {
    /// The room.
    pub room: String,
}

/// `e2e_info` from a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The number of the newest commit.
    pub seq: Seq,
    /// The MLS GroupInfo that came with it.
    #[serde(borrow)]
    pub info: Cow<'a, str>,
    /// The SHA-256 of the ratchet tree that belongs to it.
    #[serde(borrow)]
    pub tree: Cow<'a, str>,
}
