//! Who is in a room, and leaving one.

use super::error::RoomError;
use super::group;
use super::room::roster;
use super::rows::{OutboxRow, Room, Status};
use super::senders::{MemberTimes, member_times};
use super::state::Step;
use crate::policy::commit_rules::Leaf;
use crate::protocol::RoomName;
use crate::protocol::device::DeviceId;

/// A device in a room.
#[derive(Clone, Debug)]
pub struct Member {
    /// The device and its user.
    pub leaf: Leaf,
    /// Whether the user may add and remove others.
    pub is_admin: bool,
    /// Since when it is there, and when it was last heard, as far as this device knows.
    pub times: MemberTimes,
}

/// The devices in a room.
pub fn members(step: &Step<'_>, name: &RoomName) -> Result<Vec<Member>, RoomError> {
    let roster = roster(step, name)?;
    let mut members = Vec::new();
    for leaf in roster.leaves.values() {
        members.push(Member {
            leaf: leaf.clone(),
            is_admin: roster.is_admin(leaf),
            times: member_times(step, name, &leaf.device)?,
        });
    }
    Ok(members)
}

/// Whether the room would have no admin without this device, and somebody else would still be in it.
pub fn is_only_admin(
    step: &Step<'_>,
    device: &DeviceId,
    name: &RoomName,
) -> Result<bool, RoomError> {
    let room = Room::load(step, name)?.ok_or(RoomError::NotMember)?;
    if room.status != Status::Member || name.is_direct() {
        return Ok(false);
    }
    let roster = roster(step, name)?;
    let (own, others): (Vec<_>, Vec<_>) =
        roster.leaves.values().partition(|leaf| leaf.device == *device);
    let is_admin = |leaves: &[&Leaf]| leaves.iter().any(|leaf| roster.is_admin(leaf));
    Ok(is_admin(&own) && !is_admin(&others) && !others.is_empty())
}

/// Forgets a room's group and everything that was not sent; the archive stays. MLS lets nobody remove itself, so the
/// others go on counting this device until one of them removes it.
pub fn forget(step: &Step<'_>, name: &RoomName) -> Result<(), RoomError> {
    let mut room = Room::load(step, name)?.ok_or(RoomError::NotMember)?;
    for row in OutboxRow::owed(step, name)? {
        row.delete(step, name)?;
    }
    group::delete(step, &room.group)?;
    room.status = Status::Removed;
    Ok(room.store(step)?)
}
