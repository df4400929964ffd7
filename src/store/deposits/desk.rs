//! What is done with deposits, whatever keeps them.

use super::item::{Item, Items, Kind, of_device, of_room, of_user};
use super::requests::{DeviceKeys, E2eFound, E2eQuery, E2eReply, E2eRequest, GroupInfo, Invited};
use crate::protocol::device::DeviceId;
use crate::protocol::end_to_end::CommitParts;
use crate::protocol::{RoomName, Seq, Timestamp, UserName};

/// Key packages per device; above this, the oldest go.
pub const MAX_KEY_PACKAGES: u64 = 20;
/// Devices per user that have deposits.
const MAX_DEVICES: u64 = 16;
/// Devices of all users together that have deposits.
const MAX_ALL_DEVICES: u64 = 10_000;
/// Welcomes per device, and per room; above this, the oldest go.
const MAX_WELCOMES: u64 = 64;
const MAX_WELCOME_CONTENTS: u64 = 128;
/// Rooms per user that are remembered as those in which the user's devices were seen.
const MAX_SEEN: u64 = 64;
/// Ratchet trees per room: a device that is welcomed needs the one of the commit that added it.
const MAX_TREES: u64 = 8;
/// How long key packages and welcomes are kept. Clients make key packages for as long.
pub const KEEP: std::time::Duration = std::time::Duration::from_secs(28 * 86_400);

/// Carries out a request.
pub fn answer<I: Items>(
    items: &mut I,
    request: E2eRequest,
    now: Timestamp,
) -> Result<E2eReply, I::Error> {
    match request {
        E2eRequest::PutKeys { user, device, cert, key_packages, last_resort } => {
            put_keys(items, (user, device), cert, key_packages, last_resort, now)
        }
        E2eRequest::TakeKeys { users } => take_keys(items, users),
        E2eRequest::WelcomeDone { user, device, room, seq } => {
            let at = Timestamp::from_micros(0);
            items.remove(&Item::Welcome { user, device, room, seq, part: 0, at }.place())?;
            Ok(E2eReply::Done)
        }
    }
}

fn put_keys<I: Items>(
    items: &mut I,
    (user, device): (UserName, DeviceId),
    cert: Box<str>,
    key_packages: Vec<Box<str>>,
    last_resort: Option<Box<str>>,
    at: Timestamp,
) -> Result<E2eReply, I::Error> {
    let known = find_device(items, &user, device)?;
    let is_full = || -> Result<bool, I::Error> {
        Ok(items.count(Kind::Device, &of_user(&user))?.0 >= MAX_DEVICES
            || items.count_all(Kind::Device)? >= MAX_ALL_DEVICES)
    };
    if known.is_none() && is_full()? {
        return Ok(E2eReply::Full);
    }
    let last_resort = match (last_resort, known) {
        (Some(new), _) => new,
        (None, Some(known)) => known.last_resort,
        (None, None) => "".into(),
    };
    items.put(Item::Device { user: user.clone(), device, at, cert, last_resort })?;
    let owner = of_device(&user, device);
    let (_, last) = items.count(Kind::KeyPackage, &owner)?;
    // A request whose answer was lost comes again, and no key package may be given out twice.
    let there = items.list(Kind::KeyPackage, &owner, 0..=u64::MAX >> 1, usize::MAX)?;
    let is_there = |wanted: &str| {
        there
            .iter()
            .any(|item| matches!(item, Item::KeyPackage { content, .. } if **content == *wanted))
    };
    let news = key_packages.into_iter().filter(|content| !is_there(content));
    for (number, content) in (last + 1..).zip(news) {
        items.put(Item::KeyPackage { user: user.clone(), device, number, at, content })?;
    }
    items.trim(Kind::KeyPackage, &owner, MAX_KEY_PACKAGES)?;
    Ok(E2eReply::Left(items.count(Kind::KeyPackage, &owner)?.0))
}

/// What a device has deposited besides key packages that are given out once.
struct Deposited {
    last_resort: Box<str>,
}

/// What a device has deposited, if anything.
fn find_device<I: Items>(
    items: &I,
    user: &UserName,
    wanted: DeviceId,
) -> Result<Option<Deposited>, I::Error> {
    let devices = items.list(Kind::Device, &of_user(user), 0..=0, usize::MAX)?;
    Ok(devices.into_iter().find_map(|item| match item {
        Item::Device { device, last_resort, .. } if device == wanted => {
            Some(Deposited { last_resort })
        }
        _ => None,
    }))
}

/// One key package of each device of the users, or nothing if one of them has none.
fn take_keys<I: Items>(items: &mut I, users: Vec<UserName>) -> Result<E2eReply, I::Error> {
    let (mut keys, mut taken) = (Vec::new(), Vec::new());
    for user in users {
        let mut of_user_keys = Vec::new();
        for item in items.list(Kind::Device, &of_user(&user), 0..=0, usize::MAX)? {
            let Item::Device { device, cert, last_resort, .. } = item else { continue };
            let owner = of_device(&user, device);
            let first = items.list(Kind::KeyPackage, &owner, 0..=u64::MAX >> 1, 1)?.pop();
            let place = first.as_ref().map(Item::place);
            let (key_package, last_resort) = match first {
                Some(Item::KeyPackage { content, .. }) => (content, false),
                _ if last_resort.is_empty() => continue,
                _ => (last_resort, true),
            };
            taken.extend(place);
            of_user_keys.push(DeviceKeys { device, cert, key_package, last_resort });
        }
        if of_user_keys.is_empty() {
            return Ok(E2eReply::NoKeyPackage(user));
        }
        // On disk they come in the order of keyed hashes.
        of_user_keys.sort_by_key(|keys| keys.device);
        keys.push((user, of_user_keys));
    }
    for place in taken {
        items.remove(&place)?;
    }
    Ok(E2eReply::Keys(keys))
}

/// Answers a question; `newest_commit` gives the newest commit of a room.
pub fn find<I: Items>(
    items: &I,
    query: E2eQuery,
    newest_commit: impl Fn(&RoomName) -> Result<Seq, I::Error>,
) -> Result<E2eFound, I::Error> {
    Ok(match query {
        E2eQuery::KeyPackages(user, device) => {
            let owner = of_device(&user, device);
            E2eFound::KeyPackages(items.count(Kind::KeyPackage, &owner)?.0)
        }
        E2eQuery::Welcomes(user, device) => E2eFound::Welcomes(welcomes(items, &user, device)?),
        E2eQuery::GroupInfo(room) => {
            let newest = newest_commit(&room)?;
            E2eFound::GroupInfo(group_info(items, &room, newest)?)
        }
        E2eQuery::Rooms(user) => {
            let mut rooms = Vec::new();
            for item in items.list(Kind::Seen, &of_user(&user), 0..=0, MAX_SEEN as usize)? {
                // A room without a commit has no group.
                if let Item::Seen { room, .. } = item
                    && newest_commit(&room)? > Seq(0)
                {
                    rooms.push(room);
                }
            }
            rooms.sort();
            E2eFound::Rooms(rooms)
        }
        E2eQuery::Tree(room, hash) => E2eFound::Tree(tree(items, &room, &hash)?),
    })
}

/// Whether the server has what a commit names: its tree was uploaded, or the room has it; and nothing else is lacking.
pub fn has_uploads<I: Items>(
    items: &I,
    room: &RoomName,
    parts: &CommitParts,
) -> Result<bool, I::Error> {
    Ok(!parts.lacks_upload
        && (parts.tree.is_some() || tree(items, room, &parts.tree_hash)?.is_some()))
}

/// Remembers that a device of a user is, or was, in the group of a room: it sent something, or was welcomed.
pub fn note_seen<I: Items>(
    items: &mut I,
    user: &UserName,
    room: &RoomName,
) -> Result<(), I::Error> {
    let seen = Item::Seen { user: user.clone(), room: room.clone() };
    if items.has(&seen.place())? {
        return Ok(());
    }
    items.put(seen)?;
    items.trim(Kind::Seen, &of_user(user), MAX_SEEN)
}

/// Stores what a commit brings along.
pub fn store_commit<I: Items>(
    items: &mut I,
    room: &RoomName,
    seq: Seq,
    at: Timestamp,
    parts: &CommitParts,
) -> Result<(), I::Error> {
    let (owner, tree_hash) = (of_room(room), parts.tree_hash);
    let known = match &parts.tree {
        Some(tree) => Some(tree[..].into()),
        None => tree(items, room, &tree_hash)?,
    };
    if let Some(tree) = known {
        items.put(Item::Tree { room: room.clone(), seq, tree_hash, tree })?;
        items.trim(Kind::Tree, &owner, MAX_TREES)?;
    }
    items.put(Item::Info { room: room.clone(), seq, tree_hash, info: parts.info.clone() })?;
    for (part, welcome) in (0..).zip(&parts.welcomes) {
        let mut is_for_someone = false;
        for (user, device) in &welcome.to {
            // A device without deposits has given nobody a key package.
            if find_device(items, user, *device)?.is_none() {
                continue;
            }
            is_for_someone = true;
            note_seen(items, user, room)?;
            let (user, device, room) = (user.clone(), *device, room.clone());
            let owner = of_device(&user, device);
            items.put(Item::Welcome { user, device, room, seq, part, at })?;
            items.trim(Kind::Welcome, &owner, MAX_WELCOMES)?;
        }
        if is_for_someone {
            let (room, content) = (room.clone(), welcome.content.clone());
            items.put(Item::WelcomeContent { room, seq, part, at, tree_hash, content })?;
        }
    }
    items.trim(Kind::WelcomeContent, &owner, MAX_WELCOME_CONTENTS)
}

/// Notes for devices of a user that the next commit after `base` may add them: where their welcomes are looked for if
/// the commit is made.
pub fn note_welcomes<I: Items>(
    items: &mut I,
    (user, devices): (&UserName, &[DeviceId]),
    room: &RoomName,
    base: Seq,
    at: Timestamp,
) -> Result<(), I::Error> {
    for device in devices {
        // A device without deposits has given nobody a key package.
        if find_device(items, user, *device)?.is_none() {
            continue;
        }
        note_seen(items, user, room)?;
        let (user, device, room) = (user.clone(), *device, room.clone());
        let owner = of_device(&user, device);
        items.put(Item::Welcome { user, device, room, seq: base, part: 0, at })?;
        items.trim(Kind::Welcome, &owner, MAX_WELCOMES)?;
    }
    Ok(())
}

/// The welcomes that a device has not handled yet, oldest first within a room.
fn welcomes<I: Items>(
    items: &I,
    user: &UserName,
    device: DeviceId,
) -> Result<Vec<Invited>, I::Error> {
    let owner = of_device(user, device);
    let mut invited = Vec::new();
    for item in items.list(Kind::Welcome, &owner, 0..=u64::MAX >> 1, MAX_WELCOMES as usize)? {
        let Item::Welcome { room, seq, part: wanted, .. } = item else { continue };
        let contents =
            items.list(Kind::WelcomeContent, &of_room(&room), seq.0..=seq.0, usize::MAX)?;
        invited.extend(contents.into_iter().find_map(|item| match item {
            Item::WelcomeContent { part, tree_hash, content, .. } if part == wanted => {
                Some(Invited { room: room.clone(), seq, content, tree_hash })
            }
            _ => None,
        }));
    }
    Ok(invited)
}

/// What a device needs to come into a room by itself; `newest` is the newest commit of the room.
fn group_info<I: Items>(
    items: &I,
    room: &RoomName,
    newest: Seq,
) -> Result<Option<GroupInfo>, I::Error> {
    Ok(match items.list(Kind::Info, &of_room(room), 0..=0, 1)?.pop() {
        Some(Item::Info { seq, tree_hash, info, .. }) if seq == newest => {
            Some(GroupInfo { seq, info, tree_hash })
        }
        _ => None,
    })
}

/// A ratchet tree of a room.
fn tree<I: Items>(
    items: &I,
    room: &RoomName,
    wanted: &[u8; 32],
) -> Result<Option<Box<[u8]>>, I::Error> {
    let trees = items.list(Kind::Tree, &of_room(room), 0..=u64::MAX >> 1, MAX_TREES as usize)?;
    Ok(trees.into_iter().find_map(|item| match item {
        Item::Tree { tree_hash, tree, .. } if tree_hash == *wanted => Some(tree),
        _ => None,
    }))
}

/// Forgets everything of a room.
pub fn forget_room<I: Items>(items: &mut I, room: &RoomName) -> Result<(), I::Error> {
    for kind in [Kind::WelcomeContent, Kind::Info, Kind::Tree] {
        items.trim(kind, &of_room(room), 0)?;
    }
    Ok(())
}
