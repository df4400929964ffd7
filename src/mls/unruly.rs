//! Only for tests: what a member makes whose program asks no rules. Honest members must refuse or ignore it.

use openmls::framing::errors::{MessageDecryptionError, SecretTreeError};
use openmls::group::{ProcessMessageError, ValidationError};
use openmls::prelude::{LeafNodeIndex, MlsGroup};
use openmls_traits::OpenMlsProvider as _;

use super::device::{Device, Newcomer, OwnKeyPackage};
use super::error::RoomError;
use super::room::Outgoing;
use super::rows::Room;
use super::state::{StateError, Step};
use super::{decode, facts, group};
use crate::protocol::device::{DeviceId, UserKey};
use crate::protocol::{MessageId, RoomName, Timestamp};

/// What an unruly commit does.
#[derive(Debug, Default)]
pub struct Misdeed {
    /// Devices to add.
    pub adds: Vec<Newcomer>,
    /// Devices to remove.
    pub removes: Vec<DeviceId>,
    /// The key that becomes the only admin's.
    pub admin: Option<UserKey>,
}

const REFUSED: StateError = StateError::Mls("even an unruly commit can't be made so");

/// A commit that is not checked by any rule. The device's own group stays as it is.
pub fn commit(
    step: &Step<'_>,
    device: &Device,
    name: &RoomName,
    id: &MessageId,
    misdeed: Misdeed,
    now: Timestamp,
) -> Result<Outgoing, RoomError> {
    let room = Room::load(step, name)?.ok_or(RoomError::NotMember)?;
    let mut group = group::load(step, &room.group)?;
    let content = made(step, device, &mut group, misdeed, now)?;
    let mut group = group::load(step, &room.group)?;
    group.clear_pending_commit(step.provider().storage()).map_err(StateError::from)?;
    Ok(Outgoing { id: id.clone(), base: room.base, content, commit: None, seq: None })
}

fn made(
    step: &Step<'_>,
    device: &Device,
    group: &mut MlsGroup,
    misdeed: Misdeed,
    now: Timestamp,
) -> Result<Vec<u8>, RoomError> {
    let before = group::roster(group)?;
    let places = before.leaves.iter().filter(|(_, leaf)| misdeed.removes.contains(&leaf.device));
    let places: Vec<_> = places.map(|(place, _)| LeafNodeIndex::new(*place)).collect();
    group.set_aad(facts::encode_stated(now));
    let provider = step.provider();
    let mut builder = group
        .commit_builder()
        .propose_adds(misdeed.adds.into_iter().map(|one| one.package))
        .propose_removals(places);
    if let Some(admin) = misdeed.admin {
        let mut terms = before.terms;
        terms.admins = [admin].into();
        let extensions = facts::extensions(&terms).ok_or(REFUSED)?;
        builder = builder.propose_group_context_extensions(extensions).map_err(|_| REFUSED)?;
    }
    let bundle = builder
        .load_psks(provider.storage())
        .map_err(|_| REFUSED)?
        .build(provider.rand(), provider.crypto(), &device.secret, |_| true)
        .map_err(|_| REFUSED)?
        .stage_commit(provider)
        .map_err(|_| REFUSED)?;
    bundle.into_commit().to_bytes().map_err(|_| REFUSED.into())
}

/// Whether a message is encrypted with a key that another one had before, among those that this device decrypted so. The
/// key is used up.
pub fn has_used_key(step: &Step<'_>, name: &RoomName, content: &[u8]) -> Result<bool, RoomError> {
    let room = Room::load(step, name)?.ok_or(RoomError::NotMember)?;
    let mut group = group::load(step, &room.group)?;
    let message = decode::content(content).ok_or(RoomError::Malformed)?;
    match group.process_message(step.provider(), message) {
        Ok(_) => Ok(false),
        Err(ProcessMessageError::ValidationError(ValidationError::UnableToDecrypt(
            MessageDecryptionError::SecretTreeError(SecretTreeError::SecretReuseError),
        ))) => Ok(true),
        Err(_) => Err(RoomError::Malformed),
    }
}

/// A key package of this device under another device's certificate.
pub fn key_package_under(
    step: &Step<'_>,
    device: &Device,
    certificate: &[u8],
    now: Timestamp,
) -> Result<OwnKeyPackage, StateError> {
    device.under(certificate).make_key_package(step, false, now)
}
