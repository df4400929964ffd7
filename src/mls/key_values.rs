//! What the MLS library keeps of groups, as rows of the device's database.
//!
//! Every call works inside the transaction of the caller, so a step of a group and what the client notes about it are
//! stored together or not at all.

use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::error::StateError;
use crate::crypto::sealer::Sealer;

const VERSION: u16 = CURRENT_VERSION;

/// The rows, as seen by one transaction.
pub(super) struct KeyValues<'t> {
    db: &'t Connection,
    sealer: Option<&'t Sealer>,
}

/// The hash that a row is found by.
type RowKey = [u8; 32];

impl<'t> KeyValues<'t> {
    /// `db` must be in a transaction. With a sealer, values are encrypted and keys are keyed hashes.
    pub fn new(db: &'t Connection, sealer: Option<&'t Sealer>) -> Self {
        KeyValues { db, sealer }
    }

    fn row_key(&self, label: &str, key: &impl Serialize) -> Result<RowKey, StateError> {
        let key = serde_json::to_vec(key).map_err(|_| StateError::Encoding)?;
        let mut hash = Sha256::new().chain_update([label.len() as u8]).chain_update(label);
        match self.sealer {
            Some(sealer) => hash.update(sealer.tag(&[label.as_bytes(), &key])),
            None => hash.update(key),
        }
        Ok(hash.finalize().into())
    }

    fn put(
        &self,
        label: &str,
        key: &impl Serialize,
        value: &impl Serialize,
    ) -> Result<(), StateError> {
        let row = self.row_key(label, key)?;
        let value = serde_json::to_vec(value).map_err(|_| StateError::Encoding)?;
        let value = match self.sealer {
            Some(sealer) => sealer.seal_for(&row, value),
            None => value,
        };
        self.db
            .prepare_cached("INSERT OR REPLACE INTO kv (key, value) VALUES (?, ?)")?
            .execute(params![row, value])?;
        Ok(())
    }

    fn find<T: DeserializeOwned>(
        &self,
        label: &str,
        key: &impl Serialize,
    ) -> Result<Option<T>, StateError> {
        let row = self.row_key(label, key)?;
        let value: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT value FROM kv WHERE key = ?")?
            .query_row([row], |found| found.get(0))
            .optional()?;
        let Some(mut value) = value else { return Ok(None) };
        if let Some(sealer) = self.sealer {
            value = sealer.open_for(&row, &value).ok_or(StateError::Damaged)?;
        }
        serde_json::from_slice(&value).map(Some).map_err(|_| StateError::Damaged)
    }

    fn remove(&self, label: &str, key: &impl Serialize) -> Result<(), StateError> {
        let row = self.row_key(label, key)?;
        self.db.prepare_cached("DELETE FROM kv WHERE key = ?")?.execute([row])?;
        Ok(())
    }

    fn list<T: DeserializeOwned>(
        &self,
        label: &str,
        key: &impl Serialize,
    ) -> Result<Vec<T>, StateError> {
        Ok(self.find(label, key)?.unwrap_or_default())
    }
}

/// Values of a group: one method to write, one to read and one to delete each.
macro_rules! values {
    ($($label:literal: $write:ident<$($written:ident),*>, $read:ident<$($read_as:ident),*>, $delete:ident, $value:ident;)*) => {$(
        fn $write<$($written: traits::$written<VERSION>),*>(
            &self,
            group: &GroupId,
            value: &$value,
        ) -> Result<(), StateError> {
            self.put($label, group, value)
        }

        fn $read<$($read_as: traits::$read_as<VERSION>),*>(
            &self,
            group: &GroupId,
        ) -> Result<Option<$value>, StateError> {
            self.find($label, group)
        }

        fn $delete<GroupId: traits::GroupId<VERSION>>(
            &self,
            group: &GroupId,
        ) -> Result<(), StateError> {
            self.remove($label, group)
        }
    )*};
}

/// Values that do not belong to a group: the same three methods.
macro_rules! values_by_key {
    ($($label:literal: $write:ident<$key:ident>, $read:ident<$($read_as:ident),*>, $delete:ident, $value:ident;)*) => {$(
        fn $write<$key: traits::$key<VERSION>, $value: traits::$value<VERSION>>(
            &self,
            key: &$key,
            value: &$value,
        ) -> Result<(), StateError> {
            self.put($label, key, value)
        }

        fn $read<$($read_as: traits::$read_as<VERSION>),*>(
            &self,
            key: &$key,
        ) -> Result<Option<$value>, StateError> {
            self.find($label, key)
        }

        fn $delete<$key: traits::$key<VERSION>>(&self, key: &$key) -> Result<(), StateError> {
            self.remove($label, key)
        }
    )*};
}

/// Which keys belong to an epoch of a leaf.
#[derive(Serialize)]
struct EpochOfLeaf<'a, G, E> {
    group: &'a G,
    epoch: &'a E,
    leaf: u32,
}

/// A proposal of a group.
#[derive(Serialize)]
struct ProposalOfGroup<'a, G, P> {
    group: &'a G,
    proposal: &'a P,
}

const OWN_LEAVES: &str = "own leaves";
const PROPOSALS: &str = "proposals";
const PROPOSAL: &str = "proposal";
const EPOCH_KEYS: &str = "epoch keys";

impl StorageProvider<VERSION> for KeyValues<'_> {
    type Error = StateError;

    values! {
        "config": write_mls_join_config<GroupId, MlsGroupJoinConfig>,
            mls_group_join_config<GroupId, MlsGroupJoinConfig>, delete_group_config, MlsGroupJoinConfig;
        "tree": write_tree<GroupId, TreeSync>, tree<GroupId, TreeSync>, delete_tree, TreeSync;
        "transcript": write_interim_transcript_hash<GroupId, InterimTranscriptHash>,
            interim_transcript_hash<GroupId, InterimTranscriptHash>,
            delete_interim_transcript_hash, InterimTranscriptHash;
        "context": write_context<GroupId, GroupContext>, group_context<GroupId, GroupContext>,
            delete_context, GroupContext;
        "confirmation": write_confirmation_tag<GroupId, ConfirmationTag>,
            confirmation_tag<GroupId, ConfirmationTag>, delete_confirmation_tag, ConfirmationTag;
        "state": write_group_state<GroupState, GroupId>, group_state<GroupState, GroupId>,
            delete_group_state, GroupState;
        "messages": write_message_secrets<GroupId, MessageSecrets>,
            message_secrets<GroupId, MessageSecrets>, delete_message_secrets, MessageSecrets;
        "resumption": write_resumption_psk_store<GroupId, ResumptionPskStore>,
            resumption_psk_store<GroupId, ResumptionPskStore>,
            delete_all_resumption_psk_secrets, ResumptionPskStore;
        "leaf": write_own_leaf_index<GroupId, LeafNodeIndex>,
            own_leaf_index<GroupId, LeafNodeIndex>, delete_own_leaf_index, LeafNodeIndex;
        "epoch": write_group_epoch_secrets<GroupId, GroupEpochSecrets>,
            group_epoch_secrets<GroupId, GroupEpochSecrets>,
            delete_group_epoch_secrets, GroupEpochSecrets;
    }

    values_by_key! {
        "signature key": write_signature_key_pair<SignaturePublicKey>,
            signature_key_pair<SignaturePublicKey, SignatureKeyPair>,
            delete_signature_key_pair, SignatureKeyPair;
        "encryption key": write_encryption_key_pair<EncryptionKey>,
            encryption_key_pair<HpkeKeyPair, EncryptionKey>,
            delete_encryption_key_pair, HpkeKeyPair;
        "psk": write_psk<PskId>, psk<PskBundle, PskId>, delete_psk, PskBundle;
    }

    fn write_key_package<
        HashReference: traits::HashReference<VERSION>,
        KeyPackage: traits::KeyPackage<VERSION>,
    >(
        &self,
        reference: &HashReference,
        package: &KeyPackage,
    ) -> Result<(), StateError> {
        self.put("key package", reference, package)
    }

    fn key_package<
        HashReference: traits::HashReference<VERSION>,
        KeyPackage: traits::KeyPackage<VERSION>,
    >(
        &self,
        reference: &HashReference,
    ) -> Result<Option<KeyPackage>, StateError> {
        self.find("key package", reference)
    }

    fn delete_key_package<HashReference: traits::HashReference<VERSION>>(
        &self,
        reference: &HashReference,
    ) -> Result<(), StateError> {
        self.remove("key package", reference)
    }

    fn append_own_leaf_node<
        GroupId: traits::GroupId<VERSION>,
        LeafNode: traits::LeafNode<VERSION>,
    >(
        &self,
        group: &GroupId,
        leaf: &LeafNode,
    ) -> Result<(), StateError> {
        let mut leaves: Vec<serde_json::Value> = self.list(OWN_LEAVES, group)?;
        leaves.push(serde_json::to_value(leaf).map_err(|_| StateError::Encoding)?);
        self.put(OWN_LEAVES, group, &leaves)
    }

    fn own_leaf_nodes<GroupId: traits::GroupId<VERSION>, LeafNode: traits::LeafNode<VERSION>>(
        &self,
        group: &GroupId,
    ) -> Result<Vec<LeafNode>, StateError> {
        self.list(OWN_LEAVES, group)
    }

    fn delete_own_leaf_nodes<GroupId: traits::GroupId<VERSION>>(
        &self,
        group: &GroupId,
    ) -> Result<(), StateError> {
        self.remove(OWN_LEAVES, group)
    }

    fn queue_proposal<
        GroupId: traits::GroupId<VERSION>,
        ProposalRef: traits::ProposalRef<VERSION>,
        QueuedProposal: traits::QueuedProposal<VERSION>,
    >(
        &self,
        group: &GroupId,
        reference: &ProposalRef,
        proposal: &QueuedProposal,
    ) -> Result<(), StateError> {
        self.put(PROPOSAL, &ProposalOfGroup { group, proposal: reference }, proposal)?;
        let mut references: Vec<serde_json::Value> = self.list(PROPOSALS, group)?;
        references.push(serde_json::to_value(reference).map_err(|_| StateError::Encoding)?);
        self.put(PROPOSALS, group, &references)
    }

    fn queued_proposal_refs<
        GroupId: traits::GroupId<VERSION>,
        ProposalRef: traits::ProposalRef<VERSION>,
    >(
        &self,
        group: &GroupId,
    ) -> Result<Vec<ProposalRef>, StateError> {
        self.list(PROPOSALS, group)
    }

    fn queued_proposals<
        GroupId: traits::GroupId<VERSION>,
        ProposalRef: traits::ProposalRef<VERSION>,
        QueuedProposal: traits::QueuedProposal<VERSION>,
    >(
        &self,
        group: &GroupId,
    ) -> Result<Vec<(ProposalRef, QueuedProposal)>, StateError> {
        let references: Vec<ProposalRef> = self.list(PROPOSALS, group)?;
        let with_proposal = |reference: ProposalRef| {
            let found = self.find(PROPOSAL, &ProposalOfGroup { group, proposal: &reference })?;
            Ok((reference, found.ok_or(StateError::Damaged)?))
        };
        references.into_iter().map(with_proposal).collect()
    }

    fn remove_proposal<
        GroupId: traits::GroupId<VERSION>,
        ProposalRef: traits::ProposalRef<VERSION>,
    >(
        &self,
        group: &GroupId,
        reference: &ProposalRef,
    ) -> Result<(), StateError> {
        self.remove(PROPOSAL, &ProposalOfGroup { group, proposal: reference })?;
        let removed = serde_json::to_value(reference).map_err(|_| StateError::Encoding)?;
        let mut references: Vec<serde_json::Value> = self.list(PROPOSALS, group)?;
        references.retain(|reference| *reference != removed);
        self.put(PROPOSALS, group, &references)
    }

    fn clear_proposal_queue<
        GroupId: traits::GroupId<VERSION>,
        ProposalRef: traits::ProposalRef<VERSION>,
    >(
        &self,
        group: &GroupId,
    ) -> Result<(), StateError> {
        let references: Vec<ProposalRef> = self.list(PROPOSALS, group)?;
        for reference in &references {
            self.remove(PROPOSAL, &ProposalOfGroup { group, proposal: reference })?;
        }
        self.remove(PROPOSALS, group)
    }

    fn write_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<VERSION>,
        EpochKey: traits::EpochKey<VERSION>,
        HpkeKeyPair: traits::HpkeKeyPair<VERSION>,
    >(
        &self,
        group: &GroupId,
        epoch: &EpochKey,
        leaf: u32,
        pairs: &[HpkeKeyPair],
    ) -> Result<(), StateError> {
        self.put(EPOCH_KEYS, &EpochOfLeaf { group, epoch, leaf }, &pairs)
    }

    fn encryption_epoch_key_pairs<
        GroupId: traits::GroupId<VERSION>,
        EpochKey: traits::EpochKey<VERSION>,
        HpkeKeyPair: traits::HpkeKeyPair<VERSION>,
    >(
        &self,
        group: &GroupId,
        epoch: &EpochKey,
        leaf: u32,
    ) -> Result<Vec<HpkeKeyPair>, StateError> {
        self.list(EPOCH_KEYS, &EpochOfLeaf { group, epoch, leaf })
    }

    fn delete_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<VERSION>,
        EpochKey: traits::EpochKey<VERSION>,
    >(
        &self,
        group: &GroupId,
        epoch: &EpochKey,
        leaf: u32,
    ) -> Result<(), StateError> {
        self.remove(EPOCH_KEYS, &EpochOfLeaf { group, epoch, leaf })
    }
}
