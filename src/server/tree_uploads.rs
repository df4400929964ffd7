//! The ratchet trees that devices upload before the commits that name them. A tree does not fit in one frame.
//!
//! Memory is bounded: when there is no room, the oldest uploads go, first those of the same user. A device whose
//! tree has gone is told `no_tree` when it commits, and uploads it again.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::protocol::UserName;

/// The largest tree, in bytes.
pub const MAX_TREE_BYTES: usize = 512 * 1024;
/// The bytes of one part, at most; as base64 it fits a frame.
pub const MAX_PART_BYTES: usize = 40 * 1024;
/// The parts of one tree, at most.
pub const MAX_PARTS: u32 = 64;
/// The bytes of the uploads of one user, and of all.
const MAX_USER_BYTES: usize = 2 * MAX_TREE_BYTES;
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an upload counts besides its bytes.
const UPLOAD_BYTES: usize = 256;

/// The uploads, the oldest first.
#[derive(Default)]
pub struct TreeUploads(Mutex<VecDeque<Upload>>);

struct Upload {
    user: UserName,
    hash: [u8; 32],
    parts: u32,
    next_part: u32,
    bytes: Vec<u8>,
    /// The same bytes, once all parts have come.
    complete: Option<Arc<[u8]>>,
}

/// A part of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The SHA-256 of the whole tree.
    pub hash: [u8; 32],
    /// Its number, from 0.
    pub part: u32,
    /// How many there are.
    pub parts: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Why a part was refused; the whole upload is then forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPart {
    /// No part, or too many, or too large.
    #[error(
        "a tree has 1 to {MAX_PARTS} parts of at most {MAX_PART_BYTES} bytes, and {MAX_TREE_BYTES} in all"
    )]
    TooLarge,
    /// Not the part that follows.
    #[error("the parts of a tree must come in order, from 0")]
    OutOfOrder,
    /// All parts came, and they are not the tree.
    #[error("the parts do not have the SHA-256 that was named")]
    WrongHash,
}

impl TreeUploads {
    /// Adds a part of a user's tree. Part 0 begins anew.
    pub fn add(&self, user: &UserName, part: Part<'_>) -> Result<(), BadPart> {
        let uploads = &mut *self.0.lock();
        let index = uploads.iter().position(|known| known.user == *user && known.hash == part.hash);
        let mut upload = match (index.and_then(|index| uploads.remove(index)), part.part) {
            (Some(known), next) if known.next_part == next && known.parts == part.parts => known,
            (_, 0) => {
                let (user, Part { hash, parts, .. }) = (user.clone(), part);
                Upload { user, hash, parts, next_part: 0, bytes: Vec::new(), complete: None }
            }
            _ => return Err(BadPart::OutOfOrder),
        };
        let is_too_large = part.parts > MAX_PARTS
            || part.part >= part.parts
            || part.bytes.len() > MAX_PART_BYTES
            || upload.bytes.len() + part.bytes.len() > MAX_TREE_BYTES;
        if is_too_large {
            return Err(BadPart::TooLarge);
        }
        upload.bytes.extend(part.bytes);
        upload.next_part += 1;
        if upload.next_part == upload.parts {
            if Sha256::digest(&upload.bytes)[..] != upload.hash {
                return Err(BadPart::WrongHash);
            }
            upload.complete = Some(std::mem::take(&mut upload.bytes).into());
        }
        uploads.push_back(upload);
        while bytes(uploads.iter().filter(|known| known.user == *user)) > MAX_USER_BYTES {
            let oldest = uploads.iter().position(|known| known.user == *user);
            oldest.map(|oldest| uploads.remove(oldest));
        }
        while bytes(uploads.iter()) > MAX_BYTES {
            uploads.pop_front();
        }
        Ok(())
    }

    /// A tree that the user has uploaded.
    pub fn find(&self, user: &UserName, hash: &[u8; 32]) -> Option<Arc<[u8]>> {
        let uploads = self.0.lock();
        let found = uploads.iter().find(|known| known.user == *user && known.hash == *hash);
        found.and_then(|upload| upload.complete.clone())
    }
}

fn bytes<'a>(uploads: impl Iterator<Item = &'a Upload>) -> usize {
    let size = |upload: &Upload| {
        UPLOAD_BYTES + upload.bytes.len() + upload.complete.as_ref().map_or(0, |tree| tree.len())
    };
    uploads.map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        UserName::clean(name)
    }

    fn hash(tree: &[u8]) -> [u8; 32] {
        Sha256::digest(tree).into()
    }

    /// Uploads a tree in parts of the largest size.
    fn upload(uploads: &TreeUploads, name: &str, tree: &[u8]) -> Result<(), BadPart> {
        let parts = tree.chunks(MAX_PART_BYTES);
        let count = parts.len() as u32;
        (0..).zip(parts).try_for_each(|(part, bytes)| {
            uploads.add(&user(name), Part { hash: hash(tree), part, parts: count, bytes })
        })
    }

    #[test]
    fn a_tree_is_whole_once_its_parts_came_in_order_and_have_its_hash() {
        let uploads = TreeUploads::default();
        let tree = vec![7; MAX_PART_BYTES + 1];
        let hash = hash(&tree);
        let part =
            |part, parts, bytes| uploads.add(&user("ana"), Part { hash, part, parts, bytes });
        assert_eq!(part(1, 2, &tree[MAX_PART_BYTES..]), Err(BadPart::OutOfOrder));
        assert_eq!(part(0, 2, &tree[..MAX_PART_BYTES]), Ok(()));
        assert_eq!(uploads.find(&user("ana"), &hash), None);
        assert_eq!(part(1, 3, &tree[MAX_PART_BYTES..]), Err(BadPart::OutOfOrder));
        assert_eq!(part(0, 2, &tree[..MAX_PART_BYTES]), Ok(()));
        assert_eq!(part(1, 2, &tree[..1]), Ok(()));
        assert_eq!(uploads.find(&user("ana"), &hash).as_deref(), Some(&tree[..]));
        assert_eq!(uploads.find(&user("bob"), &hash), None, "it is another user's");
        assert_eq!(part(0, 1, &tree[..1]), Err(BadPart::WrongHash));
        assert_eq!(part(0, 0, &[]), Err(BadPart::TooLarge));
        assert_eq!(part(0, MAX_PARTS + 1, &[1]), Err(BadPart::TooLarge));
        assert_eq!(part(0, 1, &tree), Err(BadPart::TooLarge));
        assert!(upload(&uploads, "ana", &vec![1; MAX_TREE_BYTES]).is_ok());
        assert_eq!(upload(&uploads, "ana", &vec![1; MAX_TREE_BYTES + 1]), Err(BadPart::TooLarge));
    }

    #[test]
    fn the_memory_is_bounded_for_each_user_and_for_all() {
        let uploads = TreeUploads::default();
        let trees: Vec<Vec<u8>> = (0..5).map(|number| vec![number; MAX_TREE_BYTES / 2]).collect();
        for tree in &trees {
            upload(&uploads, "ana", tree).unwrap();
        }
        let kept = |name, tree: &Vec<u8>| uploads.find(&user(name), &hash(tree)).is_some();
        let kept: Vec<bool> = trees.iter().map(|tree| kept("ana", tree)).collect();
        assert_eq!(kept, [false, false, true, true, true]);
        for number in 0..200 {
            upload(&uploads, &format!("user{number}"), &vec![9; MAX_TREE_BYTES]).unwrap();
            assert!(bytes(uploads.0.lock().iter()) <= MAX_BYTES);
        }
        assert_eq!(uploads.find(&user("ana"), &hash(&trees[4])), None, "the oldest went first");
    }
}
