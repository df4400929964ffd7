//! Reading the next entries of a room's log, as one step: the group, the position, the chain, the outbox, the archive and
//! what is known of each device change together. What comes out are facts, for the caller to show and to count.

use super::device::Device;
use super::entry::{Applied, Body, LogEntry};
use super::error::RoomError;
use super::reader::Reader;
use super::rows::Status;
use super::state::Step;
use super::tags::trim_tags;
use super::told;
use crate::protocol::RoomName;

/// Reads entries in their order. Stops after one that can't be passed: a gap, or the end of this device's membership.
pub fn apply_all(
    step: &Step<'_>,
    device: &Device,
    name: &RoomName,
    entries: &[LogEntry<'_>],
) -> Result<Vec<Applied>, RoomError> {
    let mut reader = Reader::open(step, device, name)?;
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        let expected = reader.room.applied.next();
        if entry.last() < expected {
            all.push(Applied::Known);
            continue;
        }
        // Another process of this device may have read on while some were withheld.
        let entry = LogEntry { seq: entry.seq.max(expected.min(entry.last())), ..*entry };
        if entry.seq > expected {
            all.push(Applied::Gap { expected });
            break;
        }
        let applied = match reader.room.status {
            Status::Removed if all.is_empty() => return Err(RoomError::NotMember),
            Status::Removed => break,
            _ if matches!(entry.body, Body::Withheld(_)) => {
                reader.withheld(entry)?;
                Applied::Withheld
            }
            _ if matches!(entry.body, Body::LeftOut(_)) => {
                reader.left_out(entry.last())?;
                Applied::LeftOut
            }
            Status::Creating | Status::Joining => {
                let (applied, goes_on) = reader.outside(entry)?;
                if !goes_on {
                    all.push(applied);
                    return Ok(all);
                }
                applied
            }
            Status::Member | Status::Outdated => match entry.body {
                Body::Commit(_) => reader.commit(entry)?,
                Body::Message(_) => {
                    let applied = reader.message(entry)?;
                    reader.pass(entry)?;
                    applied
                }
                Body::Deleted | Body::Withheld(_) | Body::LeftOut(_) => {
                    reader.room.deleted += 1;
                    reader.pass(entry)?;
                    Applied::Deleted
                }
            },
        };
        told::note(step, name, &entry)?;
        all.push(applied);
    }
    told::trim(step, name, reader.room.applied)?;
    trim_tags(step, name, reader.room.applied, reader.room.epoch_start)?;
    reader.close()?;
    Ok(all)
}

/// Reads one entry.
pub fn apply(
    step: &Step<'_>,
    device: &Device,
    name: &RoomName,
    entry: LogEntry<'_>,
) -> Result<Applied, RoomError> {
    let applied = apply_all(step, device, name, &[entry])?.pop();
    applied.ok_or(RoomError::NotMember)
}
