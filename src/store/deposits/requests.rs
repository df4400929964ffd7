//! The requests about deposits, and their answers.

use crate::protocol::device::DeviceId;
use crate::protocol::{RoomName, Seq, UserName};

/// A change of the deposits. It is durable before it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum E2eRequest {
    /// A device deposits key packages.
    PutKeys {
        /// Its user.
        user: UserName,
        /// The device.
        device: DeviceId,
        /// Its certificate.
        cert: Box<str>,
        /// Key packages; each is given out once.
        key_packages: Vec<Box<str>>,
        /// A key package that may be given out again and again.
        last_resort: Option<Box<str>>,
    },
    /// Somebody is about to add these users to a room.
    TakeKeys {
        /// The users.
        users: Vec<UserName>,
    },
    /// A device has handled a welcome.
    WelcomeDone {
        /// Its user.
        user: UserName,
        /// The device.
        device: DeviceId,
        /// The room.
        room: RoomName,
        /// The commit that added the device.
        seq: Seq,
    },
}

/// The answer to an [`E2eRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum E2eReply {
    /// The server has so many key packages of the device now.
    Left(u64),
    /// The server keeps no deposits of further devices: of this user, or of all users together.
    Full,
    /// By user, one key package of each device.
    Keys(Vec<(UserName, Vec<DeviceKeys>)>),
    /// There is none of any device of this user. Nothing was taken.
    NoKeyPackage(UserName),
    /// It is done.
    Done,
}

/// What somebody needs to add a device to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKeys {
    /// The device.
    pub device: DeviceId,
    /// Its certificate.
    pub cert: Box<str>,
    /// A key package.
    pub key_package: Box<str>,
    /// Whether it is the one of last resort.
    pub last_resort: bool,
}

/// A welcome that a device has not handled yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// The room.
    pub room: RoomName,
    /// The commit that added the device.
    pub seq: Seq,
    /// The MLS Welcome.
    pub content: Box<str>,
    /// The SHA-256 of the ratchet tree.
    pub tree_hash: [u8; 32],
}

/// What a device needs to come into a room by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The newest commit.
    pub seq: Seq,
    /// The MLS GroupInfo.
    pub info: Box<str>,
    /// The SHA-256 of the ratchet tree.
    pub tree_hash: [u8; 32],
}

/// A question about deposits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum E2eQuery {
    /// How many key packages of a device there are.
    KeyPackages(UserName, DeviceId),
    /// The welcomes that a device has not handled.
    Welcomes(UserName, DeviceId),
    /// What a device needs to come into a room by itself.
    GroupInfo(RoomName),
    /// The rooms in which devices of a user were seen.
    Rooms(UserName),
    /// The ratchet tree with this SHA-256.
    Tree(RoomName, [u8; 32]),
}

/// The answer to an [`E2eQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum E2eFound {
    /// How many there are.
    KeyPackages(u64),
    /// The welcomes, oldest first within a room.
    Welcomes(Vec<Invited>),
    /// `None` if the room has no commit, or if that is lost.
    GroupInfo(Option<GroupInfo>),
    /// Those rooms, sorted. The server can't tell whether a device was removed since.
    Rooms(Vec<RoomName>),
    /// `None` if the room does not have it any more.
    Tree(Option<Box<[u8]>>),
}
