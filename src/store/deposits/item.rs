//! One deposited thing, and the form in which it is sealed.

use std::ops::RangeInclusive;

use crate::crypto::sealer::{Sealer, Tag};
use crate::protocol::decoder::Decoder;
use crate::protocol::device::DeviceId;
use crate::protocol::{RoomName, Seq, Timestamp, UserName};
use crate::store::record::push_string;

const VERSION: u8 = 1;
/// The version of an item whose text is longer than the length of a string can say: it goes to the end.
const VERSION_LONG: u8 = 2;

/// The kinds of items. The letters begin their sealed form, and the numbers are in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A device that has deposited something.
    Device,
    /// A key package of a device.
    KeyPackage,
    /// That a device has a welcome.
    Welcome,
    /// An MLS Welcome, once for all devices that it is for.
    WelcomeContent,
    /// The MLS GroupInfo of the newest commit of a room.
    Info,
    /// A ratchet tree.
    Tree,
    /// That devices of a user were seen in a room.
    Seen,
}

/// One deposited thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Device {
        user: UserName,
        device: DeviceId,
        at: Timestamp,
        cert: Box<str>,
        last_resort: Box<str>,
    },
    KeyPackage {
        user: UserName,
        device: DeviceId,
        number: u64,
        at: Timestamp,
        content: Box<str>,
    },
    Welcome {
        user: UserName,
        device: DeviceId,
        room: RoomName,
        seq: Seq,
        part: u32,
        at: Timestamp,
    },
    WelcomeContent {
        room: RoomName,
        seq: Seq,
        part: u32,
        at: Timestamp,
        tree_hash: [u8; 32],
        content: Box<str>,
    },
    Info {
        room: RoomName,
        seq: Seq,
        tree_hash: [u8; 32],
        info: Box<str>,
    },
    Tree {
        room: RoomName,
        seq: Seq,
        tree_hash: [u8; 32],
        tree: Box<[u8]>,
    },
    Seen {
        user: UserName,
        room: RoomName,
    },
}

/// Where an item is kept: the items of one kind and owner are in the order of their numbers. Two items in the same
/// place are the same, and the later replaces the earlier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub kind: Kind,
    pub owner: Vec<u8>,
    pub number: u64,
    /// Tells items of the same number apart.
    pub sub: Vec<u8>,
}

/// A place that keeps items.
pub trait Items {
    /// Why it may fail.
    type Error;

    /// Adds an item, or replaces the one in its place.
    fn put(&mut self, item: Item) -> Result<(), Self::Error>;

    /// Whether something is in a place.
    fn has(&self, place: &Place) -> Result<bool, Self::Error>;

    /// Removes what is in a place.
    fn remove(&mut self, place: &Place) -> Result<(), Self::Error>;

    /// The items of an owner with these numbers, in order, `limit` at most. One that can't be read is left out.
    fn list(
        &self,
        kind: Kind,
        owner: &[u8],
        numbers: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<Item>, Self::Error>;

    /// How many items an owner has, and the largest number of any.
    fn count(&self, kind: Kind, owner: &[u8]) -> Result<(u64, u64), Self::Error>;

    /// How many items of a kind there are.
    fn count_all(&self, kind: Kind) -> Result<u64, Self::Error>;

    /// Keeps only the newest items of an owner: those deposited last, and of those the ones with the largest
    /// numbers. The welcomes of a device are from several rooms, whose numbers can't be compared.
    fn trim(&mut self, kind: Kind, owner: &[u8], keep: u64) -> Result<(), Self::Error>;

    /// Removes up to `limit` items from before this time, and returns how many.
    fn expire(&mut self, before: Timestamp, limit: usize) -> Result<usize, Self::Error>;
}

/// The owner of the items of a user.
pub fn of_user(user: &UserName) -> Vec<u8> {
    user.as_str().into()
}

/// The owner of the items of a device. A name has no line feed.
pub fn of_device(user: &UserName, device: DeviceId) -> Vec<u8> {
    [user.as_str().as_bytes(), b"\n", &device.0].concat()
}

/// The owner of the items of a room.
pub fn of_room(room: &RoomName) -> Vec<u8> {
    room.as_str().into()
}

impl Item {
    /// Where it is kept.
    pub fn place(&self) -> Place {
        let place =
            |kind, owner, number, sub: &[u8]| Place { kind, owner, number, sub: sub.into() };
        match self {
            Item::Device { user, device, .. } => place(Kind::Device, of_user(user), 0, &device.0),
            Item::KeyPackage { user, device, number, .. } => {
                place(Kind::KeyPackage, of_device(user, *device), *number, &[])
            }
            Item::Welcome { user, device, room, seq, .. } => {
                let owner = of_device(user, *device);
                place(Kind::Welcome, owner, seq.0, room.as_str().as_bytes())
            }
            Item::WelcomeContent { room, seq, part, .. } => {
                place(Kind::WelcomeContent, of_room(room), seq.0, &part.to_be_bytes())
            }
            Item::Info { room, .. } => place(Kind::Info, of_room(room), 0, &[]),
            Item::Tree { room, seq, .. } => place(Kind::Tree, of_room(room), seq.0, &[]),
            Item::Seen { user, room } => {
                place(Kind::Seen, of_user(user), 0, room.as_str().as_bytes())
            }
        }
    }

    /// When it was deposited; `None` for what does not expire.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Item::Device { at, .. }
            | Item::KeyPackage { at, .. }
            | Item::Welcome { at, .. }
            | Item::WelcomeContent { at, .. } => Some(*at),
            Item::Info { .. } | Item::Tree { .. } | Item::Seen { .. } => None,
        }
    }

    /// The commit that it belongs to, if it belongs to one.
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Item::Device { .. } | Item::KeyPackage { .. } | Item::Seen { .. } => None,
            Item::Welcome { seq, .. }
            | Item::WelcomeContent { seq, .. }
            | Item::Info { seq, .. }
            | Item::Tree { seq, .. } => Some(*seq),
        }
    }

    /// The text at the end of its sealed form that may be a long one.
    fn last_text(&self) -> Option<&str> {
        match self {
            Item::WelcomeContent { content, .. } => Some(content),
            Item::Info { info, .. } => Some(info),
            _ => None,
        }
    }

    /// Encodes and seals it.
    pub fn seal(&self, sealer: &Sealer) -> Vec<u8> {
        sealer.seal(self.encode())
    }

    /// Decodes a sealed value. Returns `None` if it is not an item sealed under this key.
    pub fn open(sealer: &Sealer, sealed: &[u8]) -> Option<Self> {
        Self::decode(&sealer.open(sealed)?)
    }

    /// Its form before it is sealed.
    pub fn encode(&self) -> Vec<u8> {
        let is_long = self.last_text().is_some_and(|text| text.len() > usize::from(u16::MAX));
        let version = if is_long { VERSION_LONG } else { VERSION };
        let mut plain = vec![version, self.place().kind.letter()];
        match self {
            Item::Device { user, device, at, cert, last_resort } => {
                put_device(&mut plain, user, *device, *at);
                push_string(&mut plain, cert);
                push_string(&mut plain, last_resort);
            }
            Item::KeyPackage { user, device, number, at, content } => {
                put_device(&mut plain, user, *device, *at);
                plain.extend(number.to_be_bytes());
                push_string(&mut plain, content);
            }
            Item::Welcome { user, device, room, seq, part, at } => {
                put_device(&mut plain, user, *device, *at);
                put_commit(&mut plain, room, *seq);
                plain.extend(part.to_be_bytes());
            }
            Item::WelcomeContent { room, seq, part, at, tree_hash, content } => {
                put_commit(&mut plain, room, *seq);
                plain.extend(part.to_be_bytes());
                plain.extend(at.micros().to_be_bytes());
                plain.extend(tree_hash);
                push_last(&mut plain, content);
            }
            Item::Info { room, seq, tree_hash, info } => {
                put_commit(&mut plain, room, *seq);
                plain.extend(tree_hash);
                push_last(&mut plain, info);
            }
            Item::Tree { room, seq, tree_hash, tree } => {
                put_commit(&mut plain, room, *seq);
                plain.extend(tree_hash);
                plain.extend(tree);
            }
            Item::Seen { user, room } => {
                push_string(&mut plain, user.as_str());
                push_string(&mut plain, room.as_str());
            }
        }
        plain
    }

    /// Decodes what [`Self::encode`] made.
    pub fn decode(plain: &[u8]) -> Option<Self> {
        let [version @ (VERSION | VERSION_LONG), letter] = *plain.first_chunk()? else {
            return None;
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == letter)?;
        let input = &mut Decoder(&plain[2..]);
        Some(match kind {
            Kind::Device => {
                let (user, device, at) = take_device(input)?;
                let (cert, last_resort) = (input.string()?.into(), input.string()?.into());
                Item::Device { user, device, at, cert, last_resort }
            }
            Kind::KeyPackage => {
                let (user, device, at) = take_device(input)?;
                let number = u64::from_be_bytes(input.array()?);
                Item::KeyPackage { user, device, number, at, content: input.string()?.into() }
            }
            Kind::Welcome => {
                let (user, device, at) = take_device(input)?;
                let (room, seq) = take_commit(input)?;
                let part = u32::from_be_bytes(input.array()?);
                Item::Welcome { user, device, room, seq, part, at }
            }
            Kind::WelcomeContent => {
                let (room, seq) = take_commit(input)?;
                let part = u32::from_be_bytes(input.array()?);
                let at = Timestamp::from_micros(i64::from_be_bytes(input.array()?));
                let tree_hash = input.array()?;
                let content = take_last(input, version)?.into();
                Item::WelcomeContent { room, seq, part, at, tree_hash, content }
            }
            Kind::Info => {
                let (room, seq) = take_commit(input)?;
                let tree_hash = input.array()?;
                Item::Info { room, seq, tree_hash, info: take_last(input, version)?.into() }
            }
            Kind::Tree => {
                let (room, seq) = take_commit(input)?;
                Item::Tree { room, seq, tree_hash: input.array()?, tree: input.0.into() }
            }
            Kind::Seen => {
                let user = UserName::clean(input.string()?);
                Item::Seen { user, room: RoomName::parse(input.string()?)? }
            }
        })
    }
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Device,
        Kind::KeyPackage,
        Kind::Welcome,
        Kind::WelcomeContent,
        Kind::Info,
        Kind::Tree,
        Kind::Seen,
    ];

    fn letter(self) -> u8 {
        match self {
            Kind::Device => b'D',
            Kind::KeyPackage => b'K',
            Kind::Welcome => b'W',
            Kind::WelcomeContent => b'C',
            Kind::Info => b'I',
            Kind::Tree => b'T',
            Kind::Seen => b'S',
        }
    }
}

impl Place {
    /// The keyed hashes of its owner and of [`Self::sub`], which stand for them in the table.
    pub fn tags(&self, sealer: &Sealer) -> (Tag, Tag) {
        (owner_tag(sealer, &self.owner), sealer.tag(&[b"e2e sub", &self.owner, &self.sub]))
    }
}

/// Stands for an owner.
pub fn owner_tag(sealer: &Sealer, owner: &[u8]) -> Tag {
    sealer.tag(&[b"e2e owner", owner])
}

fn put_device(plain: &mut Vec<u8>, user: &UserName, device: DeviceId, at: Timestamp) {
    push_string(plain, user.as_str());
    plain.extend(device.0);
    plain.extend(at.micros().to_be_bytes());
}

fn take_device(input: &mut Decoder<'_>) -> Option<(UserName, DeviceId, Timestamp)> {
    let user = UserName::clean(input.string()?);
    let device = DeviceId(input.array()?);
    Some((user, device, Timestamp::from_micros(i64::from_be_bytes(input.array()?))))
}

/// Encodes the text at the end of an item.
fn push_last(plain: &mut Vec<u8>, text: &str) {
    match text.len() > usize::from(u16::MAX) {
        true => plain.extend(text.as_bytes()),
        false => push_string(plain, text),
    }
}

fn take_last<'a>(input: &mut Decoder<'a>, version: u8) -> Option<&'a str> {
    if version == VERSION { input.string() } else { std::str::from_utf8(input.0).ok() }
}

fn put_commit(plain: &mut Vec<u8>, room: &RoomName, seq: Seq) {
    push_string(plain, room.as_str());
    plain.extend(seq.0.to_be_bytes());
}

fn take_commit(input: &mut Decoder<'_>) -> Option<(RoomName, Seq)> {
    let room = RoomName::parse(input.string()?)?;
    Some((room, Seq(u64::from_be_bytes(input.array()?))))
}
