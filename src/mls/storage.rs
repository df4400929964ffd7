//! What openmls stores, as rows of the table `kv`, inside a transaction that the caller has begun.
//!
//! openmls writes several values in each step, and some of its functions hide an error of the storage behind
//! another one. So the storage remembers its first error, and the caller asks for it before the transaction is
//! committed ([`Storage::check`]). A step is stored as a whole, or not at all.
//!
//! Deliberately absent: what rooms don't use. Standalone proposals and pre-shared keys can't be stored, and the
//! device's signature key is not openmls' to keep.

use openmls_traits::OpenMlsProvider;
use openmls_traits::storage::{CURRENT_VERSION as VERSION, StorageProvider, traits};
use rusqlite::Transaction;

use super::crypto::Crypto;
use super::table::{Kind, Storage, StorageError};
use crate::crypto::sealer::Sealer;

/// What openmls needs: the cryptography and the table.
pub struct Provider<'t> {
    storage: Storage<'t>,
}

impl<'t> Provider<'t> {
    /// The provider of one step.
    pub fn new(transaction: &'t Transaction<'t>, sealer: Option<&'t Sealer>) -> Self {
        Provider { storage: Storage::new(transaction, sealer) }
    }
}

impl<'t> OpenMlsProvider for Provider<'t> {
    type CryptoProvider = Crypto;
    type RandProvider = Crypto;
    type StorageProvider = Storage<'t>;

    fn storage(&self) -> &Storage<'t> {
        &self.storage
    }

    fn crypto(&self) -> &Crypto {
        &Crypto
    }

    fn rand(&self) -> &Crypto {
        &Crypto
    }
}

/// A value that each group has one of: its three functions.
macro_rules! value_of_a_group {
    ($($kind:ident: $value:ident, $write:ident, $read:ident, $delete:ident;)*) => {$(
        fn $write<G: traits::GroupId<VERSION>, T: traits::$value<VERSION>>(
            &self,
            group: &G,
            value: &T,
        ) -> Result<(), StorageError> {
            self.put(Kind::$kind, group, value)
        }

        fn $read<G: traits::GroupId<VERSION>, T: traits::$value<VERSION>>(
            &self,
            group: &G,
        ) -> Result<Option<T>, StorageError> {
            self.get(Kind::$kind, group)
        }

        fn $delete<G: traits::GroupId<VERSION>>(&self, group: &G) -> Result<(), StorageError> {
            self.remove(Kind::$kind, group)
        }
    )*};
}

impl StorageProvider<VERSION> for Storage<'_> {
    type Error = StorageError;

    value_of_a_group! {
        Config: MlsGroupJoinConfig, write_mls_join_config, mls_group_join_config, delete_group_config;
        Tree: TreeSync, write_tree, tree, delete_tree;
        Context: GroupContext, write_context, group_context, delete_context;
        Interim: InterimTranscriptHash, write_interim_transcript_hash, interim_transcript_hash, delete_interim_transcript_hash;
        ConfirmationTag: ConfirmationTag, write_confirmation_tag, confirmation_tag, delete_confirmation_tag;
        MessageSecrets: MessageSecrets, write_message_secrets, message_secrets, delete_message_secrets;
        ResumptionSecrets: ResumptionPskStore, write_resumption_psk_store, resumption_psk_store, delete_all_resumption_psk_secrets;
        OwnLeaf: LeafNodeIndex, write_own_leaf_index, own_leaf_index, delete_own_leaf_index;
        EpochSecrets: GroupEpochSecrets, write_group_epoch_secrets, group_epoch_secrets, delete_group_epoch_secrets;
    }

    fn write_group_state<T: traits::GroupState<VERSION>, G: traits::GroupId<VERSION>>(
        &self,
        group: &G,
        state: &T,
    ) -> Result<(), StorageError> {
        self.put(Kind::GroupState, group, state)
    }

    fn group_state<T: traits::GroupState<VERSION>, G: traits::GroupId<VERSION>>(
        &self,
        group: &G,
    ) -> Result<Option<T>, StorageError> {
        self.get(Kind::GroupState, group)
    }

    fn delete_group_state<G: traits::GroupId<VERSION>>(
        &self,
        group: &G,
    ) -> Result<(), StorageError> {
        self.remove(Kind::GroupState, group)
    }

    fn write_encryption_key_pair<
        K: traits::EncryptionKey<VERSION>,
        P: traits::HpkeKeyPair<VERSION>,
    >(
        &self,
        key: &K,
        pair: &P,
    ) -> Result<(), StorageError> {
        self.put(Kind::EncryptionKey, key, pair)
    }

    fn encryption_key_pair<P: traits::HpkeKeyPair<VERSION>, K: traits::EncryptionKey<VERSION>>(
        &self,
        key: &K,
    ) -> Result<Option<P>, StorageError> {
        self.get(Kind::EncryptionKey, key)
    }

    fn delete_encryption_key_pair<K: traits::EncryptionKey<VERSION>>(
        &self,
        key: &K,
    ) -> Result<(), StorageError> {
        self.remove(Kind::EncryptionKey, key)
    }

    fn write_encryption_epoch_key_pairs<
        G: traits::GroupId<VERSION>,
        E: traits::EpochKey<VERSION>,
        P: traits::HpkeKeyPair<VERSION>,
    >(
        &self,
        group: &G,
        epoch: &E,
        leaf: u32,
        pairs: &[P],
    ) -> Result<(), StorageError> {
        self.put(Kind::EpochKeys, &(group, epoch, leaf), pairs)
    }

    fn encryption_epoch_key_pairs<
        G: traits::GroupId<VERSION>,
        E: traits::EpochKey<VERSION>,
        P: traits::HpkeKeyPair<VERSION>,
    >(
        &self,
        group: &G,
        epoch: &E,
        leaf: u32,
    ) -> Result<Vec<P>, StorageError> {
        Ok(self.get(Kind::EpochKeys, &(group, epoch, leaf))?.unwrap_or_default())
    }

    fn delete_encryption_epoch_key_pairs<
        G: traits::GroupId<VERSION>,
        E: traits::EpochKey<VERSION>,
    >(
        &self,
        group: &G,
        epoch: &E,
        leaf: u32,
    ) -> Result<(), StorageError> {
        self.remove(Kind::EpochKeys, &(group, epoch, leaf))
    }

    fn write_key_package<R: traits::HashReference<VERSION>, T: traits::KeyPackage<VERSION>>(
        &self,
        reference: &R,
        package: &T,
    ) -> Result<(), StorageError> {
        self.put(Kind::KeyPackage, reference, package)
    }

    fn key_package<R: traits::HashReference<VERSION>, T: traits::KeyPackage<VERSION>>(
        &self,
        reference: &R,
    ) -> Result<Option<T>, StorageError> {
        self.get(Kind::KeyPackage, reference)
    }

    fn delete_key_package<R: traits::HashReference<VERSION>>(
        &self,
        reference: &R,
    ) -> Result<(), StorageError> {
        self.remove(Kind::KeyPackage, reference)
    }

    // What follows is not used. Reading finds nothing, and deleting deletes nothing.

    fn append_own_leaf_node<G: traits::GroupId<VERSION>, T: traits::LeafNode<VERSION>>(
        &self,
        _: &G,
        _: &T,
    ) -> Result<(), StorageError> {
        self.unsupported()
    }

    fn own_leaf_nodes<G: traits::GroupId<VERSION>, T: traits::LeafNode<VERSION>>(
        &self,
        _: &G,
    ) -> Result<Vec<T>, StorageError> {
        Ok(Vec::new())
    }

    fn delete_own_leaf_nodes<G: traits::GroupId<VERSION>>(
        &self,
        _: &G,
    ) -> Result<(), StorageError> {
        Ok(())
    }

    fn queue_proposal<
        G: traits::GroupId<VERSION>,
        R: traits::ProposalRef<VERSION>,
        T: traits::QueuedProposal<VERSION>,
    >(
        &self,
        _: &G,
        _: &R,
        _: &T,
    ) -> Result<(), StorageError> {
        self.unsupported()
    }

    fn queued_proposal_refs<G: traits::GroupId<VERSION>, R: traits::ProposalRef<VERSION>>(
        &self,
        _: &G,
    ) -> Result<Vec<R>, StorageError> {
        Ok(Vec::new())
    }

    fn queued_proposals<
        G: traits::GroupId<VERSION>,
        R: traits::ProposalRef<VERSION>,
        T: traits::QueuedProposal<VERSION>,
    >(
        &self,
        _: &G,
    ) -> Result<Vec<(R, T)>, StorageError> {
        Ok(Vec::new())
    }

    fn remove_proposal<G: traits::GroupId<VERSION>, R: traits::ProposalRef<VERSION>>(
        &self,
        _: &G,
        _: &R,
    ) -> Result<(), StorageError> {
        Ok(())
    }

    fn clear_proposal_queue<G: traits::GroupId<VERSION>, R: traits::ProposalRef<VERSION>>(
        &self,
        _: &G,
    ) -> Result<(), StorageError> {
        Ok(())
    }

    fn write_signature_key_pair<
        K: traits::SignaturePublicKey<VERSION>,
        P: traits::SignatureKeyPair<VERSION>,
    >(
        &self,
        _: &K,
        _: &P,
    ) -> Result<(), StorageError> {
        self.unsupported()
    }

    fn signature_key_pair<
        K: traits::SignaturePublicKey<VERSION>,
        P: traits::SignatureKeyPair<VERSION>,
    >(
        &self,
        _: &K,
    ) -> Result<Option<P>, StorageError> {
        Ok(None)
    }

    fn delete_signature_key_pair<K: traits::SignaturePublicKey<VERSION>>(
        &self,
        _: &K,
    ) -> Result<(), StorageError> {
        Ok(())
    }

    fn write_psk<I: traits::PskId<VERSION>, P: traits::PskBundle<VERSION>>(
        &self,
        _: &I,
        _: &P,
    ) -> Result<(), StorageError> {
        self.unsupported()
    }

    fn psk<P: traits::PskBundle<VERSION>, I: traits::PskId<VERSION>>(
        &self,
        _: &I,
    ) -> Result<Option<P>, StorageError> {
        Ok(None)
    }

    fn delete_psk<I: traits::PskId<VERSION>>(&self, _: &I) -> Result<(), StorageError> {
        Ok(())
    }
}
