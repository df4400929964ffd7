//! What the rules for commits look at (`policy::commit_rules`), read from openmls' types.

use std::collections::BTreeMap;

use openmls::prelude::{
    CredentialType, Extension, ExtensionType, Extensions, GroupContext, LeafNode, MlsGroup,
    Proposal, ProposalOrRefType, RequiredCapabilitiesExtension, Sender, StagedCommit,
    UnknownExtension,
};
use openmls::treesync::LeafNodeSource;

use crate::crypto::device_certificate::DeviceCertificate;
use crate::policy::commit_rules::{Author, CommitFacts, Leaf, Roster};
use crate::protocol::Timestamp;
use crate::protocol::device::DeviceKey;
use crate::protocol::room_terms::{EXTENSION, RoomTerms};

/// The form of what a commit states in its authenticated data.
const FORM: u8 = 1;

/// The lifetime in every leaf: its begin and its end, in seconds since 1970.
pub const NO_END: (u64, u64) = (0, u64::MAX);

/// What a commit states: when it was made, by its author's clock.
pub fn encode_stated(at: Timestamp) -> Vec<u8> {
    [&[FORM][..], &at.micros().to_be_bytes()].concat()
}

/// The time that a commit states, if it states nothing else.
pub fn decode_stated(bytes: &[u8]) -> Option<Timestamp> {
    let (form, micros) = bytes.split_first()?;
    let micros = i64::from_be_bytes(micros.try_into().ok()?);
    (*form == FORM).then(|| Timestamp::from_micros(micros))
}

/// The certificate in a leaf, if it belongs to the leaf's key.
pub fn certificate(leaf: &LeafNode) -> Option<DeviceCertificate> {
    let credential = leaf.credential();
    if credential.credential_type() != CredentialType::Basic {
        return None;
    }
    let key = DeviceKey(leaf.signature_key().as_slice().try_into().ok()?);
    DeviceCertificate::verify(credential.serialized_content(), &key).ok()
}

/// A leaf, if its certificate is one.
pub fn leaf(node: &LeafNode) -> Option<Leaf> {
    Some(leaf_of(&certificate(node)?))
}

/// A leaf by its certificate.
pub fn leaf_of(certificate: &DeviceCertificate) -> Leaf {
    Leaf {
        user: certificate.user.clone(),
        user_key: certificate.user_key,
        device: certificate.device(),
        not_before: certificate.not_before,
        not_after: certificate.not_after,
    }
}

/// The extensions of a group with these terms. openmls lets a commit change an extension only if every member must know
/// it.
pub fn extensions(terms: &RoomTerms) -> Option<Extensions<GroupContext>> {
    let required = RequiredCapabilitiesExtension::new(
        &[ExtensionType::Unknown(EXTENSION)],
        &[],
        &[CredentialType::Basic],
    );
    Extensions::from_vec(vec![
        Extension::RequiredCapabilities(required),
        Extension::Unknown(EXTENSION, UnknownExtension(terms.encode()?)),
    ])
    .ok()
}

/// The terms of a group, if it has the extensions that belong to them and no other.
pub fn terms(found: &Extensions<GroupContext>) -> Option<RoomTerms> {
    let terms = RoomTerms::decode(&found.unknown(EXTENSION)?.0)?;
    (extensions(&terms).as_ref() == Some(found)).then_some(terms)
}

/// The group as it is. `None` if a leaf or the terms are not valid; such a group was never joined or merged.
pub fn roster(group: &MlsGroup) -> Option<Roster> {
    let leaves: Option<BTreeMap<u32, Leaf>> = group
        .treesync()
        .full_leaves()
        .map(|(place, node)| Some((place.u32(), leaf(node)?)))
        .collect();
    Some(Roster { leaves: leaves?, terms: terms(group.extensions())? })
}

/// A commit, as far as the rules are concerned.
pub fn commit(staged: &StagedCommit, sender: &Sender, stated_at: Timestamp) -> Option<CommitFacts> {
    let author = match sender {
        Sender::Member(place) => Author::Member(place.u32()),
        Sender::NewMemberCommit => Author::Newcomer,
        Sender::External(_) | Sender::NewMemberProposal => return None,
    };
    let mut facts = CommitFacts {
        author,
        stated_at,
        path: staged.update_path_leaf_node().map(leaf),
        adds: Vec::new(),
        removes: Vec::new(),
        terms: None,
        external_inits: 0,
        by_reference: 0,
        others: 0,
    };
    for queued in staged.queued_proposals() {
        if matches!(queued.proposal_or_ref_type(), ProposalOrRefType::Reference) {
            facts.by_reference += 1;
        }
        match queued.proposal() {
            Proposal::Add(add) => {
                let node = add.key_package().leaf_node();
                facts.adds.push(leaf(node));
                if !has_no_end(node) {
                    facts.others += 1;
                }
            }
            Proposal::Remove(remove) => facts.removes.push(remove.removed().u32()),
            Proposal::ExternalInit(_) => facts.external_inits += 1,
            Proposal::GroupContextExtensions(change) => {
                if facts.terms.is_some() {
                    facts.others += 1;
                }
                facts.terms = Some(terms(change.extensions()));
            }
            _ => facts.others += 1,
        }
    }
    Some(facts)
}

/// Whether a key package's leaf has the lifetime that every reader accepts at every time.
fn has_no_end(node: &LeafNode) -> bool {
    match node.leaf_node_source() {
        LeafNodeSource::KeyPackage(lifetime) => {
            (lifetime.not_before(), lifetime.not_after()) == NO_END
        }
        LeafNodeSource::Update | LeafNodeSource::Commit(_) => false,
    }
}
