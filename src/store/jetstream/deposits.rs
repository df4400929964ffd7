//! Deposits of devices, kept at the engine: one sealed value per user in the cluster's bucket, with everything that
//! the devices of the user have deposited. A value is changed only if it is still the one that was read, so two servers
//! never give out the same key package.
//!
//! What a commit brings along is kept with its room (`commits`). A user's value only names the rooms and the commits
//! before those that may have added a device. It is written before such a commit, and counts if the commit was made.

use std::thread;
use std::time::Instant;

use bytes::Bytes;

use super::cluster::Cluster;
use super::engine::EngineError;
use super::names::DEPOSITS_WORD;
use super::record::RecordKeys;
use crate::protocol::decoder::Decoder;
use crate::protocol::device::DeviceId;
use crate::protocol::end_to_end::CommitParts;
use crate::protocol::{RoomName, Seq, Timestamp, UserName};
use crate::store::deposits::{
    E2eFound, E2eQuery, E2eReply, E2eRequest, Invited, Item, Items as _, Kind, MemoryItems, desk,
    infallible, of_device,
};
use crate::store::entry::Draft;
use crate::store::retention::expires_before;
use crate::store::room_log::StoreError;

const ITEMS: u8 = b'u';
/// The longest value; the engine takes messages of 1 MiB unless its operator sets less.
const MAX_VALUE_BYTES: usize = 900 * 1024;
/// Users with deposits.
const MAX_USERS: u64 = 10_000;
/// Items that are removed at once because of their age; a user has fewer.
const MAX_EXPIRED: usize = 10_000;

/// Carries out a request.
pub(super) fn answer(
    cluster: &Cluster,
    request: E2eRequest,
    now: Timestamp,
) -> Result<E2eReply, StoreError> {
    match request {
        E2eRequest::PutKeys { ref user, .. } => {
            let user = user.clone();
            let (_, revision) = read(cluster, &user)?;
            if revision == 0 && count_users(cluster)? >= MAX_USERS {
                return Ok(E2eReply::Full);
            }
            let put =
                |items: &mut MemoryItems| infallible(desk::answer(items, request.clone(), now));
            Ok(change(cluster, &user, Some(now), put)?.unwrap_or(E2eReply::Full))
        }
        E2eRequest::TakeKeys { users } => take_keys(cluster, users, now),
        E2eRequest::WelcomeDone { user, device, room, seq } => {
            let done = |items: &mut MemoryItems| {
                for item in pending(items, &user, device) {
                    if matches!(&item, Item::Welcome { room: of, seq: base, .. } if *of == room && *base < seq)
                    {
                        infallible(items.remove(&item.place()));
                    }
                }
            };
            change(cluster, &user, Some(now), done)?;
            Ok(E2eReply::Done)
        }
    }
}

/// One user after the other: a key package that is taken in vain does no harm.
fn take_keys(
    cluster: &Cluster,
    users: Vec<UserName>,
    now: Timestamp,
) -> Result<E2eReply, StoreError> {
    let take = |items: &mut MemoryItems, user: &UserName| {
        let request = E2eRequest::TakeKeys { users: vec![user.clone()] };
        infallible(desk::answer(items, request, now))
    };
    for user in &users {
        let (mut items, _) = read(cluster, user)?;
        expire(&mut items, now);
        if let missing @ E2eReply::NoKeyPackage(_) = take(&mut items, user) {
            return Ok(missing);
        }
    }
    let mut all = Vec::with_capacity(users.len());
    for user in &users {
        match change(cluster, user, Some(now), |items| take(items, user))? {
            Some(E2eReply::Keys(keys)) => all.extend(keys),
            // Somebody else took the last one meanwhile.
            _ => return Ok(E2eReply::NoKeyPackage(user.clone())),
        }
    }
    Ok(E2eReply::Keys(all))
}

/// Notes for the devices that a commit will add where their welcomes will be.
pub(super) fn note_welcomes(
    cluster: &Cluster,
    commit: &Draft,
    base: Seq,
    parts: &CommitParts,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut devices: Vec<(&UserName, DeviceId)> = Vec::new();
    for welcome in &parts.welcomes {
        devices.extend(welcome.to.iter().map(|(user, device)| (user, *device)));
    }
    devices.sort();
    devices.dedup();
    for of_user in devices.chunk_by(|one, other| one.0 == other.0) {
        let user = of_user[0].0;
        let devices: Vec<DeviceId> = of_user.iter().map(|(_, device)| *device).collect();
        let note = |items: &mut MemoryItems| {
            infallible(desk::note_welcomes(items, (user, &devices), &commit.room, base, now));
        };
        change(cluster, user, Some(now), note)?;
    }
    Ok(())
}

/// Notes that a device of a user was seen in a room.
pub(super) fn note_seen(
    cluster: &Cluster,
    user: &UserName,
    room: &RoomName,
) -> Result<(), StoreError> {
    let note = |items: &mut MemoryItems| infallible(desk::note_seen(items, user, room));
    change(cluster, user, None, note).map(drop)
}

/// Answers a question.
pub(super) fn find(cluster: &Cluster, query: E2eQuery) -> Result<E2eFound, StoreError> {
    match query {
        E2eQuery::GroupInfo(room) => Ok(E2eFound::GroupInfo(cluster.group_info(&room)?)),
        E2eQuery::Tree(room, hash) => Ok(E2eFound::Tree(cluster.tree(&room, &hash)?)),
        E2eQuery::Welcomes(user, device) => {
            let (items, _) = read(cluster, &user)?;
            Ok(E2eFound::Welcomes(invitations(cluster, &items, &user, device)?))
        }
        E2eQuery::KeyPackages(ref user, _) => {
            let (items, _) = read(cluster, user)?;
            Ok(infallible(desk::find(&items, query, |_| Ok(Seq(0)))))
        }
        E2eQuery::Rooms(ref user) => {
            let (items, _) = read(cluster, user)?;
            let found = infallible(desk::find(&items, query, |_| Ok(Seq(1))));
            let E2eFound::Rooms(seen) = found else { return Ok(found) };
            let mut rooms = Vec::with_capacity(seen.len());
            for room in seen {
                let tag = cluster.names.tag(&room);
                // A room without a commit has no group.
                if cluster.ask_newest_commit(cluster.log_of(&tag), &tag)?.commit > 0 {
                    rooms.push(room);
                }
            }
            Ok(E2eFound::Rooms(rooms))
        }
    }
}

fn invitations(
    cluster: &Cluster,
    items: &MemoryItems,
    user: &UserName,
    device: DeviceId,
) -> Result<Vec<Invited>, StoreError> {
    let mut invited: Vec<Invited> = Vec::new();
    for item in pending(items, user, device) {
        let Item::Welcome { room, seq: base, .. } = item else { continue };
        invited.extend(cluster.invitation(&room, base, (user, device))?);
    }
    Ok(invited)
}

/// The welcomes that a device may have.
fn pending(items: &MemoryItems, user: &UserName, device: DeviceId) -> Vec<Item> {
    let owner = of_device(user, device);
    infallible(items.list(Kind::Welcome, &owner, 0..=u64::MAX >> 1, usize::MAX))
}

/// Changes what a user has deposited, and removes what has expired by `now`. `change` may be called again, with newer
/// items. `None` if there is no space for the result.
fn change<T>(
    cluster: &Cluster,
    user: &UserName,
    now: Option<Timestamp>,
    change: impl Fn(&mut MemoryItems) -> T,
) -> Result<Option<T>, StoreError> {
    let key = cluster.names.deposits_key(user);
    let deadline = Instant::now() + cluster.timings.give_up;
    let mut last_error = None;
    loop {
        let changed = read(cluster, user).and_then(|(before, revision)| {
            let mut items = before.clone();
            now.into_iter().for_each(|now| expire(&mut items, now));
            let result = change(&mut items);
            if items == before {
                return Ok(Some(Some(result)));
            }
            let value = seal(&cluster.keys, &key, &items);
            if value.len() > MAX_VALUE_BYTES {
                return Ok(Some(None));
            }
            let set = cluster.engine.set_value(&key, value, revision, cluster.timings.ask);
            Ok(set.map_err(|error| failed(&error))?.map(|_| Some(result)))
        });
        match changed {
            Ok(Some(result)) => return Ok(result),
            // Another server was faster.
            Ok(None) => {}
            Err(error) => last_error = Some(error),
        }
        if Instant::now() >= deadline || !cluster.engine.is_connected() {
            let busy =
                || StoreError::Failed("other servers change these deposits all the time".into());
            return Err(last_error.unwrap_or_else(busy));
        }
        thread::sleep(cluster.timings.pause);
    }
}

/// What a user has deposited, and the revision of that value.
fn read(cluster: &Cluster, user: &UserName) -> Result<(MemoryItems, u64), StoreError> {
    cluster.check_connected()?;
    let key = cluster.names.deposits_key(user);
    let value = cluster.engine.value(&key, cluster.timings.ask).map_err(|error| failed(&error))?;
    let Some((sealed, revision)) = value else { return Ok(Default::default()) };
    // What is damaged is deposited anew by its devices.
    Ok((open(&cluster.keys, &key, &sealed).unwrap_or_default(), revision))
}

fn expire(items: &mut MemoryItems, now: Timestamp) {
    infallible(items.expire(expires_before(now, desk::KEEP), MAX_EXPIRED));
}

fn count_users(cluster: &Cluster) -> Result<u64, StoreError> {
    let count = cluster.engine.count_values(DEPOSITS_WORD, cluster.timings.ask);
    count.map_err(|error| failed(&error))
}

fn seal(keys: &RecordKeys, key: &str, items: &MemoryItems) -> Bytes {
    let mut plain = vec![ITEMS];
    for item in items.iter() {
        let item = item.encode();
        plain.extend((item.len() as u32).to_be_bytes());
        plain.extend(item);
    }
    keys.seal(key, plain).into()
}

fn open(keys: &RecordKeys, key: &str, sealed: &[u8]) -> Option<MemoryItems> {
    let plain = keys.open(key, sealed)?;
    let mut input = Decoder(plain.strip_prefix(&[ITEMS])?);
    let mut items = MemoryItems::default();
    while !input.0.is_empty() {
        let length = u32::from_be_bytes(input.array()?) as usize;
        // One of a newer program is left out.
        if let Some(item) = Item::decode(input.take(length)?) {
            infallible(items.put(item));
        }
    }
    Some(items)
}

fn failed(error: &EngineError) -> StoreError {
    StoreError::Failed(format!("the bucket of the cluster: {error}"))
}
