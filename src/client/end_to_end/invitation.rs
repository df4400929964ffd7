//! What a device collects before it comes into a room: with a Welcome the ratchet tree and the commit that it belongs to,
//! and to come in by itself the description of the room and its tree.

use super::frames;
use super::problem::Problem;
use crate::conversation::client::sealed_frame::Entry;
use crate::mls::decode::MAX_TREE_BYTES;
use crate::protocol::frame::{Blob, Info, WelcomeToRoom};
use crate::protocol::{RoomName, Seq};

/// How a device comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A member added it: the content is a Welcome.
    Welcome,
    /// It comes in by itself, as another device of a member: the content is a group info.
    Itself,
}

/// An entrance into a room, whose parts are being collected.
pub struct Invitation {
    /// How.
    pub way: Way,
    /// The commit that it begins after.
    pub seq: Seq,
    /// The Welcome, or the group info.
    pub content: Vec<u8>,
    tree_hash: String,
    tree: Vec<u8>,
    parts: u32,
    is_tree_whole: bool,
    entry: Option<Vec<u8>>,
    is_entry_asked: bool,
}

/// What an invitation still needs, or that it is whole.
pub enum Collected<'a> {
    /// The tree, and with a Welcome its commit.
    Whole(&'a [u8], &'a [u8]),
    /// Parts of the tree.
    NeedsTree,
    /// The commit.
    NeedsEntry,
}

impl Invitation {
    /// A Welcome that came, and the request for its tree.
    pub fn welcome(room: &RoomName, welcome: &WelcomeToRoom<'_>) -> (Self, String) {
        Self::new(room, Way::Welcome, welcome.seq, &welcome.content, &welcome.tree)
    }

    /// A description of the room that came, and the request for its tree.
    pub fn info(room: &RoomName, info: &Info<'_>) -> (Self, String) {
        Self::new(room, Way::Itself, info.seq, &info.info, &info.tree)
    }

    fn new(room: &RoomName, way: Way, seq: Seq, content: &str, tree: &str) -> (Self, String) {
        let invitation = Invitation {
            way,
            seq,
            content: frames::decode(content),
            tree_hash: tree.to_owned(),
            tree: Vec::new(),
            parts: 0,
            is_tree_whole: false,
            entry: None,
            is_entry_asked: false,
        };
        (invitation, frames::get_tree(room, tree))
    }

    /// A part of a tree.
    pub fn blob(&mut self, room: &RoomName, blob: &Blob<'_>) -> Result<(), Problem> {
        if self.is_tree_whole || blob.sha256 != self.tree_hash || blob.part != self.parts {
            return Ok(());
        }
        self.tree.extend(frames::decode(&blob.content));
        self.parts += 1;
        if self.tree.len() > MAX_TREE_BYTES {
            return Err(Problem::evidence(format!(
                "the tree of {room} that the server sent is larger than any can be"
            )));
        }
        if self.parts < blob.parts {
            return Ok(());
        }
        if frames::hash(&self.tree) != self.tree_hash {
            return Err(Problem::evidence(format!(
                "the tree of {room} that the server sent at #{} is not the one it named",
                self.seq
            )));
        }
        self.is_tree_whole = true;
        Ok(())
    }

    /// The commit, if this page has it.
    pub fn page(&mut self, entries: &[Entry<'_>]) {
        let found = entries.iter().find(|entry| entry.seq == self.seq);
        if let Some(entry) = found {
            self.entry = Some(frames::decode(&entry.content));
        }
    }

    /// The request for the commit, once, when nothing else is missing.
    pub fn request(&mut self, room: &RoomName) -> Option<String> {
        let is_needed = matches!(self.collected(), Collected::NeedsEntry) && !self.is_entry_asked;
        self.is_entry_asked |= is_needed;
        is_needed.then(|| frames::get_entries(room, Seq(self.seq.0.saturating_sub(1)), 1))
    }

    /// What is still needed.
    pub fn collected(&self) -> Collected<'_> {
        match (self.is_tree_whole, &self.entry, self.way) {
            (false, ..) => Collected::NeedsTree,
            (true, _, Way::Itself) => Collected::Whole(&self.tree, &[]),
            (true, Some(entry), Way::Welcome) => Collected::Whole(&self.tree, entry),
            (true, None, Way::Welcome) => Collected::NeedsEntry,
        }
    }
}
