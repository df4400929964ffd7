//! The decoders of what a server hands over: each reads bytes of a stranger, and refuses what is too long before it
//! reads it.

use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::{
    KeyPackageIn, MlsMessageBodyIn, MlsMessageIn, ProtocolMessage, RatchetTreeIn, Welcome,
};
use tls_codec::Deserialize as _;

/// The content of an entry, at most: a frame has 64 KiB.
pub const MAX_CONTENT_BYTES: usize = 48 * 1024;
/// A key package, at most.
pub const MAX_KEY_PACKAGE_BYTES: usize = 4 * 1024;
/// A Welcome, at most.
pub const MAX_WELCOME_BYTES: usize = 48 * 1024;
/// A group info, at most: the terms name up to 2,048 removed devices and 256 admins.
pub const MAX_INFO_BYTES: usize = 40 * 1024;
/// A ratchet tree, at most: 400 devices have about 170 KB.
pub const MAX_TREE_BYTES: usize = 512 * 1024;

fn bounded(bytes: &[u8], max: usize) -> Option<&[u8]> {
    (bytes.len() <= max).then_some(bytes)
}

fn message(bytes: &[u8], max: usize) -> Option<MlsMessageBodyIn> {
    let message = MlsMessageIn::tls_deserialize_exact(bounded(bytes, max)?).ok()?;
    Some(message.extract())
}

/// The content of an entry.
pub fn content(bytes: &[u8]) -> Option<ProtocolMessage> {
    match message(bytes, MAX_CONTENT_BYTES)? {
        MlsMessageBodyIn::PublicMessage(message) => Some(message.into()),
        MlsMessageBodyIn::PrivateMessage(message) => Some(message.into()),
        _ => None,
    }
}

/// A key package.
pub fn key_package(bytes: &[u8]) -> Option<KeyPackageIn> {
    KeyPackageIn::tls_deserialize_exact(bounded(bytes, MAX_KEY_PACKAGE_BYTES)?).ok()
}

/// A Welcome.
pub fn welcome(bytes: &[u8]) -> Option<Welcome> {
    match message(bytes, MAX_WELCOME_BYTES)? {
        MlsMessageBodyIn::Welcome(welcome) => Some(welcome),
        _ => None,
    }
}

/// A group info.
pub fn group_info(bytes: &[u8]) -> Option<VerifiableGroupInfo> {
    match message(bytes, MAX_INFO_BYTES)? {
        MlsMessageBodyIn::GroupInfo(info) => Some(info),
        _ => None,
    }
}

/// A ratchet tree.
pub fn tree(bytes: &[u8]) -> Option<RatchetTreeIn> {
    RatchetTreeIn::tls_deserialize_exact(bounded(bytes, MAX_TREE_BYTES)?).ok()
}
