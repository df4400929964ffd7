//! What a front end asks about a room between two updates: its newest messages once more, and who its members are.

use std::collections::BTreeSet;

use super::items::Shown;
use super::machine::EndToEnd;
use super::problem::Problem;
use super::session::Start;
use super::trust::is_vouched;
use crate::conversation::client::event::PageItem;
use crate::mls::StateError;
use crate::mls::archived::Archived;
use crate::mls::members::members;
use crate::mls::notices::{Item, items_after};
use crate::mls::rows::Status;
use crate::protocol::{RoomName, Seq};

/// Messages that are shown again at once, at most.
const MAX_AGAIN: u64 = 10_000;
/// Places of the archive that are read at once.
const PART: u32 = 512;

impl EndToEnd {
    /// The newest `count` messages that were shown of a room, and what is told among them. They come from the archive:
    /// a message of the log can be decrypted only once.
    pub fn show_newest(
        &mut self,
        name: &RoomName,
        count: u64,
    ) -> Result<Vec<PageItem<'static>>, Problem> {
        let Some(session) = self.sessions.get(name) else { return Ok(Vec::new()) };
        let (own, _) = self.own()?;
        let through = match session.start {
            Start::After(shown) => shown,
            // Nothing was shown yet, and all of it will be.
            Start::Sought(_) => Seq(0),
        };
        let replay_through = session.first_head;
        let found = self.state.step(|step| {
            let count = count.min(MAX_AGAIN);
            let mut after = Archived::newest_start(step, name, count, Some(through))?;
            let mut found = Vec::new();
            loop {
                let part = items_after(step, name, after, PART)?;
                let Some((last, _)) = part.last() else { return Ok(found) };
                after = *last;
                for (seq, item) in part.into_iter().filter(|(seq, _)| *seq <= through) {
                    let is_vouched = match &item {
                        Item::Message(archived) => is_vouched(step, &own, &archived.user)?,
                        Item::Notice(_) => false,
                    };
                    found.push((seq, item, is_vouched));
                }
                if after >= through {
                    return Ok::<_, StateError>(found);
                }
            }
        })?;
        let shown = Shown { room: name, own: &own, replay_through, requested_through: through };
        Ok(found
            .into_iter()
            .map(|(seq, item, is_vouched)| shown.item(seq, item, is_vouched))
            .collect())
    }

    /// The users who are members of a room; `None` while this device is not one.
    pub fn member_names(&mut self, name: &RoomName) -> Result<Option<Vec<String>>, Problem> {
        let status = self.sessions.get(name).and_then(|session| session.status);
        if status != Some(Status::Member) {
            return Ok(None);
        }
        let members = self.step(|step, _| Ok(members(step, name)?))?;
        let names: BTreeSet<String> = members.into_iter().map(|member| member.leaf.user).collect();
        Ok(Some(names.into_iter().collect()))
    }
}
