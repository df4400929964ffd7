//! A room's group in openmls: how it is made, changed, joined and loaded. What is stored beside it is `room`'s.

use std::collections::BTreeSet;

use openmls::prelude::{
    CredentialWithKey, Extensions, GroupContext, GroupId, LeafNodeIndex, LeafNodeParameters,
    Lifetime, MlsGroup, MlsGroupJoinConfig, MlsMessageOut, PURE_PLAINTEXT_WIRE_FORMAT_POLICY,
    SenderRatchetConfiguration, StagedWelcome,
};
use openmls::treesync::RatchetTree;
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Serialize as _;

use super::crypto::{Crypto, SUITE};
use super::decode;
use super::device::{Device, Newcomer, capabilities};
use super::error::RoomError;
use super::facts::{self, NO_END};
use super::state::{StateError, Step};
use crate::policy::commit_rules::{self, Author, CommitFacts, Roster, VoidReason};
use crate::protocol::Timestamp;
use crate::protocol::device::{DeviceId, UserKey};
use crate::protocol::random::fill_random;
use crate::protocol::room_terms::RoomTerms;

/// Devices that one commit can add: with more, it would not fit into a frame.
pub const MAX_ADDS: usize = 64;

/// Messages are padded to a multiple of this.
const PADDING_BYTES: usize = 256;
/// How far a message may be overtaken by later ones of its device: two processes of a device can.
const OUT_OF_ORDER: u32 = 256;
/// How many messages of a device may be missing before one.
const MAX_AHEAD: u32 = 20_000;

/// What a commit changes. A commit that changes nothing renews the keys of its author.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Devices to add, at most [`MAX_ADDS`].
    pub adds: Vec<Newcomer>,
    /// Devices to remove.
    pub removes: BTreeSet<DeviceId>,
    /// Users who administer the room from now on.
    pub promotes: BTreeSet<UserKey>,
    /// Users who no longer administer it.
    pub demotes: BTreeSet<UserKey>,
}

/// A commit to be sent, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeCommit {
    /// The content of the entry.
    pub content: Vec<u8>,
    /// The Welcome for the added devices.
    pub welcome: Option<Vec<u8>>,
    /// The added devices, by the names of their users.
    pub added: Vec<(String, DeviceId)>,
    /// The group info, with which another device of a member can come in by itself.
    pub info: Vec<u8>,
    /// The ratchet tree, which Welcome and group info need.
    pub tree: Vec<u8>,
}

/// A commit's place before it counts: the group that it leads to is complete, if it is an external one.
pub struct Joining {
    /// The group.
    pub group: MlsGroup,
    /// The commit.
    pub commit: MadeCommit,
    /// Who was in the group before.
    pub before: Roster,
}

fn encoded(message: &MlsMessageOut) -> Result<Vec<u8>, StateError> {
    message.to_bytes().map_err(|_| StateError::Mls("a message could not be encoded"))
}

/// Commits are signed and not encrypted, so that openmls knows its own again.
fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .padding_size(PADDING_BYTES)
        .max_past_epochs(0)
        .number_of_resumption_psks(0)
        .use_ratchet_tree_extension(false)
        .sender_ratchet_configuration(SenderRatchetConfiguration::new(OUT_OF_ORDER, MAX_AHEAD))
        .build()
}

fn extensions(terms: &RoomTerms) -> Result<Extensions<GroupContext>, RoomError> {
    facts::extensions(terms).ok_or(RoomError::Void(VoidReason::FixedTerms))
}

/// A new group with one device in it.
pub fn create(step: &Step<'_>, device: &Device, terms: &RoomTerms) -> Result<MlsGroup, RoomError> {
    let mut id = [0; 16];
    fill_random(&mut id);
    MlsGroup::builder()
        .with_group_id(GroupId::from_slice(&id))
        .with_wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .padding_size(PADDING_BYTES)
        .max_past_epochs(0)
        .number_of_resumption_psks(0)
        .use_ratchet_tree_extension(false)
        .sender_ratchet_configuration(SenderRatchetConfiguration::new(OUT_OF_ORDER, MAX_AHEAD))
        .lifetime(Lifetime::init(NO_END.0, NO_END.1))
        .ciphersuite(SUITE)
        .with_capabilities(capabilities())
        .with_group_context_extensions(extensions(terms)?)
        .build(step.provider(), &device.secret, device.credential())
        .map_err(|_| StateError::Mls("the group could not be made").into())
}

/// The stored group.
pub fn load(step: &Step<'_>, id: &[u8]) -> Result<MlsGroup, StateError> {
    MlsGroup::load(step.provider().storage(), &GroupId::from_slice(id))?
        .ok_or(StateError::Damaged("the group of a room is missing"))
}

/// Deletes a stored group and its secrets.
pub fn delete(step: &Step<'_>, id: &[u8]) -> Result<(), StateError> {
    let storage = step.provider().storage();
    if let Some(mut group) = MlsGroup::load(storage, &GroupId::from_slice(id))? {
        group.delete(storage)?;
    }
    Ok(())
}

/// Makes a commit, which the group keeps as its pending one. It is checked by the same rules as a received one.
pub fn commit(
    step: &Step<'_>,
    device: &Device,
    group: &mut MlsGroup,
    change: Change,
    now: Timestamp,
) -> Result<MadeCommit, RoomError> {
    if change.adds.len() > MAX_ADDS {
        return Err(RoomError::TooManyAdds);
    }
    let before = roster(group)?;
    let provider = step.provider();
    group.clear_pending_commit(provider.storage()).map_err(StateError::from)?;
    let terms = new_terms(&before, &change);
    let places = places(&before, &change.removes)?;
    let added: Vec<_> = change
        .adds
        .iter()
        .map(|one| (one.certificate.user.clone(), one.certificate.device()))
        .collect();
    let own_place = group.own_leaf_index();
    group.set_aad(facts::encode_stated(now));
    let failed = |_| StateError::Mls("the commit could not be made");
    let mut builder = group
        .commit_builder()
        .consume_proposal_store(false)
        .force_self_update(true)
        .leaf_node_parameters(own_leaf(device))
        .propose_adds(change.adds.into_iter().map(|one| one.package))
        .propose_removals(places);
    if terms != before.terms {
        builder = builder.propose_group_context_extensions(extensions(&terms)?).map_err(failed)?;
    }
    let bundle = builder
        .load_psks(provider.storage())
        .map_err(failed)?
        .create_group_info(true)
        .build(provider.rand(), provider.crypto(), &device.secret, |_| true)
        .map_err(failed)?
        .stage_commit(provider)
        .map_err(|_| StateError::Mls("the commit could not be stored"))?;
    step.check()?;
    let staged = group.pending_commit().ok_or(StateError::Mls("the commit is missing"))?;
    let sender = openmls::prelude::Sender::Member(own_place);
    let made = facts::commit(staged, &sender, now).ok_or(StateError::Mls("no facts"))?;
    commit_rules::check(&before, &made)?;
    let tree = staged
        .export_ratchet_tree(&Crypto, group.export_ratchet_tree())
        .ok()
        .flatten()
        .ok_or(StateError::Mls("the tree could not be made"))?;
    let (commit, welcome, info) = bundle.into_messages();
    let info = info.ok_or(StateError::Mls("the group info is missing"))?;
    Ok(MadeCommit {
        content: encoded(&commit)?,
        welcome: welcome.as_ref().map(encoded).transpose()?,
        added,
        info: encoded(&info)?,
        tree: encoded_tree(&tree)?,
    })
}

/// openmls says of an error of the storage only that it refuses what was sent.
fn because_of_storage(step: &Step<'_>) -> Option<RoomError> {
    step.check().err().map(RoomError::from)
}

fn encoded_tree(tree: &RatchetTree) -> Result<Vec<u8>, StateError> {
    tree.tls_serialize_detached().map_err(|_| StateError::Mls("the tree could not be encoded"))
}

/// A device's certificate may have been renewed, so each of its commits shows the one it has.
fn own_leaf(device: &Device) -> LeafNodeParameters {
    let CredentialWithKey { credential, signature_key } = device.credential();
    LeafNodeParameters::builder()
        .with_credential_with_key(CredentialWithKey { credential, signature_key })
        .with_capabilities(capabilities())
        .build()
}

fn new_terms(before: &Roster, change: &Change) -> RoomTerms {
    let mut terms = before.terms.clone();
    terms.admins.extend(&change.promotes);
    terms.removed.extend(&change.removes);
    // An admin lets a removed device in again.
    for newcomer in &change.adds {
        terms.removed.remove(&newcomer.certificate.device());
    }
    // Who is removed with all devices is no admin any more.
    let stays = before.leaves.values().filter(|leaf| !change.removes.contains(&leaf.device));
    let users: BTreeSet<UserKey> = stays.map(|leaf| leaf.user_key).collect();
    terms.admins.retain(|key| users.contains(key) && !change.demotes.contains(key));
    terms
}

fn places(before: &Roster, removes: &BTreeSet<DeviceId>) -> Result<Vec<LeafNodeIndex>, RoomError> {
    let place_of = |device: &DeviceId| {
        let found = before.leaves.iter().find(|(_, leaf)| leaf.device == *device);
        found.map(|(place, _)| LeafNodeIndex::new(*place))
    };
    let places: Option<_> = removes.iter().map(place_of).collect();
    places.ok_or(RoomError::Void(VoidReason::ImpossibleRemoval))
}

/// The members and the terms of a group that this device is in.
pub fn roster(group: &MlsGroup) -> Result<Roster, StateError> {
    facts::roster(group).ok_or(StateError::Damaged("the group of a room"))
}

/// Opens a Welcome with the ratchet tree that belongs to it, and stores the group. Everything in it is checked: the tree
/// by its signed hash, each leaf by its certificate, and the terms by the room that was asked for.
pub fn join(step: &Step<'_>, welcome: &[u8], tree: &[u8]) -> Result<(MlsGroup, Roster), RoomError> {
    let welcome = decode::welcome(welcome).ok_or(RoomError::Malformed)?;
    let tree = decode::tree(tree).ok_or(RoomError::Malformed)?;
    let refused = |_| because_of_storage(step).unwrap_or(RoomError::WelcomeRefused);
    let staged = StagedWelcome::build_from_welcome(step.provider(), &join_config(), welcome)
        .map_err(refused)?
        .with_ratchet_tree(tree)
        // By their own clocks, members would decide differently.
        .skip_lifetime_validation()
        .replace_old_group()
        .build()
        .map_err(refused)?;
    let group = staged.into_group(step.provider()).map_err(refused)?;
    step.check()?;
    let roster = facts::roster(&group).ok_or(RoomError::WelcomeRefused)?;
    Ok((group, roster))
}

/// Makes a commit by which this device comes in by itself, and stores the group that it leads to. The group counts when
/// the commit is read in the log.
pub fn come_in(
    step: &Step<'_>,
    device: &Device,
    info: &[u8],
    tree: &[u8],
    now: Timestamp,
) -> Result<Joining, RoomError> {
    let info = decode::group_info(info).ok_or(RoomError::Malformed)?;
    let tree = decode::tree(tree).ok_or(RoomError::Malformed)?;
    let provider = step.provider();
    delete(step, info.group_id().as_slice())?;
    let own_key = device.secret.public().0;
    let was_in = tree.leaves().any(|leaf| leaf.signature_key().as_slice() == own_key);
    let refused = || because_of_storage(step).unwrap_or(RoomError::InfoRefused);
    let builder = MlsGroup::external_commit_builder()
        .with_ratchet_tree(tree)
        .with_config(join_config())
        .with_aad(facts::encode_stated(now))
        .skip_lifetime_validation()
        .build_group(provider, info, device.credential())
        .map_err(|_| refused())?
        .leaf_node_parameters(
            LeafNodeParameters::builder().with_capabilities(capabilities()).build(),
        )
        .load_psks(provider.storage())
        .map_err(|_| refused())?
        .create_group_info(true)
        .build(provider.rand(), provider.crypto(), &device.secret, |_| true)
        .map_err(|_| refused())?;
    let (group, bundle) = builder.finalize(provider).map_err(|_| refused())?;
    step.check()?;
    let (commit, _, info) = bundle.into_messages();
    let info = info.ok_or(StateError::Mls("the group info is missing"))?;
    let tree = encoded_tree(&group.export_ratchet_tree())?;
    let commit = MadeCommit {
        content: encoded(&commit)?,
        welcome: None,
        added: Vec::new(),
        info: encoded(&info)?,
        tree,
    };
    let before = check_entrance(&group, was_in, now)?;
    Ok(Joining { group, commit, before })
}

/// Asks the rules about a device's own entrance. The group after it is known; the one before has the device's old leaf,
/// which the commit removes, or none.
fn check_entrance(group: &MlsGroup, was_in: bool, now: Timestamp) -> Result<Roster, RoomError> {
    let mut before = facts::roster(group).ok_or(RoomError::InfoRefused)?;
    let place = group.own_leaf_index().u32();
    let own = before.leaves.get(&place).cloned();
    if !was_in {
        before.leaves.remove(&place);
    }
    let facts = CommitFacts {
        author: Author::Newcomer,
        stated_at: now,
        path: Some(own),
        adds: Vec::new(),
        removes: was_in.then_some(place).into_iter().collect(),
        terms: None,
        external_inits: 1,
        by_reference: 0,
        others: 0,
    };
    commit_rules::check(&before, &facts)?;
    Ok(before)
}
