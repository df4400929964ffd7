//! The bans and mutes of the access file, and which of them are in force.

use std::time::Duration;

use crate::credentials::access_file::AccessFile;
use crate::credentials::ban_record::BanEntry;
use crate::policy::ban_term::{Now, Term, TermClock};
use crate::policy::bans::{Bans, Restriction};
use crate::sys::clock::{boot_clock, wall_clock};

/// The bans and mutes that were read last, those that are over included.
#[derive(Default)]
pub struct BanSchedule {
    entries: Vec<Scheduled>,
    clock: TermClock,
}

struct Scheduled {
    restriction: Restriction,
    term: Term,
    is_over: bool,
}

/// The present moment on both clocks.
pub fn now() -> Now {
    Now { wall: wall_clock(), steady: boot_clock() }
}

impl BanSchedule {
    /// Takes the bans and mutes of a file that was read. An entry that names no user bans nobody.
    pub fn replace(&mut self, file: &AccessFile, now: Now) {
        let banned = file.banned.iter().map(|entry| (entry, entry.ban()));
        let muted = file.muted.iter().map(|entry| (entry, entry.mute()));
        let entries: Vec<&BanEntry> = file.banned.iter().chain(&file.muted).collect();
        self.clock.keep_only(entries.iter().map(|entry| entry.term()));
        self.entries.clear();
        for (entry, restriction) in banned.chain(muted) {
            match (entry, restriction) {
                (_, Ok(Some(restriction))) => {
                    let term = entry.term();
                    let is_over = self.clock.is_over(term, now);
                    self.entries.push(Scheduled { restriction, term, is_over });
                }
                (BanEntry::Name(entry), _) => {
                    tracing::warn!(
                        event = "ban_ignored",
                        entry,
                        "an entry of banned or muted in the access file names no user; remove it"
                    );
                }
                // The records were validated when the file was read.
                (BanEntry::Record(_), _) => {}
            }
        }
    }

    /// Looks at the clocks. `None` if the same bans and mutes are in force as before; otherwise those that
    /// have ended.
    pub fn update(&mut self, now: Now) -> Option<Vec<Restriction>> {
        let (mut ended, mut is_changed) = (Vec::new(), false);
        for entry in &mut self.entries {
            let is_over = self.clock.is_over(entry.term, now);
            is_changed |= is_over != entry.is_over;
            if is_over && !entry.is_over {
                ended.push(entry.restriction.clone());
            }
            entry.is_over = is_over;
        }
        is_changed.then_some(ended)
    }

    /// The bans and mutes that were in force at the last look.
    pub fn in_force(&self) -> Bans {
        let in_force = self.entries.iter().filter(|entry| !entry.is_over);
        Bans::new(in_force.map(|entry| &entry.restriction))
    }

    /// The rest of a term; zero if it is over, `None` if it never ends.
    pub fn time_left(&mut self, term: Term) -> Option<Duration> {
        self.clock.time_left(term, now())
    }

    /// Whether this server has seen a term in force and at its end, so that its entry can be removed from
    /// the file.
    pub fn has_seen_end(&mut self, term: Term) -> bool {
        self.clock.has_seen_end(term, now())
    }
}
