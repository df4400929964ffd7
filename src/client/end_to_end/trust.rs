//! Whether this client trusts the keys of the others in a room. It never decides whether a commit counts.

use std::collections::BTreeSet;

use super::home::EndToEndOptions;
use super::problem::Problem;
use crate::crypto::device_certificate::DeviceCertificate;
use crate::mls::device::{pin, put_pin};
use crate::mls::{StateError, Step};
use crate::policy::commit_rules::Leaf;
use crate::policy::pins::{Decision, Pin, PinOrigin, Refusal, decide};
use crate::protocol::Timestamp;
use crate::protocol::device::{DeviceId, UserKey};

/// A step that failed, or that was given up.
#[derive(Debug)]
pub enum StepError {
    /// The client goes no further.
    Problem(Problem),
    /// The step failed.
    Room(crate::mls::RoomError),
}

impl From<StateError> for StepError {
    fn from(error: StateError) -> Self {
        StepError::Room(error.into())
    }
}

impl From<crate::mls::RoomError> for StepError {
    fn from(error: crate::mls::RoomError) -> Self {
        StepError::Room(error)
    }
}

impl From<Problem> for StepError {
    fn from(problem: Problem) -> Self {
        StepError::Problem(problem)
    }
}

impl From<StepError> for Problem {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Problem(problem) => problem,
            StepError::Room(error) => error.into(),
        }
    }
}

/// Compares the keys of these devices' users with the pins, and pins those that are new. Returns what is to be said
/// about new ones.
pub fn check<'a>(
    step: &Step<'_>,
    options: &EndToEndOptions,
    own: &DeviceCertificate,
    leaves: impl Iterator<Item = &'a Leaf>,
    now: Timestamp,
) -> Result<Vec<String>, StepError> {
    let users: BTreeSet<(&str, UserKey)> =
        leaves.map(|leaf| (leaf.user.as_str(), leaf.user_key)).collect();
    let mut notes = Vec::new();
    for (user, key) in users {
        if user == own.user {
            if key != own.user_key {
                return Err(Problem::identity(format!(
                    "a device that calls itself {user} has another key ({}) than this one ({})",
                    key.short(),
                    own.user_key.short()
                ))
                .into());
            }
            continue;
        }
        let (known, named) = (pin(step, user)?, options.pins.key_of(user));
        match decide(options.trust, known.as_ref(), named, &key) {
            Decision::Known => {}
            Decision::Pin(origin) => {
                put_pin(step, user, &Pin { key, since: now, origin })?;
                if origin == PinOrigin::First {
                    notes.push(format!(
                        "{user}'s key is {}, seen for the first time; to compare it with {user}: \
                         chat-client verify {}",
                        key.short(),
                        shell_word(user)
                    ));
                }
            }
            Decision::Refuse(refusal) => return Err(refused(user, &key, &refusal).into()),
        }
    }
    Ok(notes)
}

/// Whether somebody vouches for the author of a message: it is the user `own`, or a person or a file vouches for its key.
pub fn is_vouched(step: &Step<'_>, own: &str, author: &str) -> Result<bool, StateError> {
    let known = || Ok(pin(step, author)?.is_some_and(|pin| pin.origin != PinOrigin::First));
    if author == own { Ok(true) } else { known() }
}

/// Devices whose user's key is not the known one, where another device of the user has that.
pub fn with_other_keys(
    step: &Step<'_>,
    options: &EndToEndOptions,
    leaves: &[Leaf],
) -> Result<BTreeSet<DeviceId>, StepError> {
    let mut others = BTreeSet::new();
    for leaf in leaves {
        let named = options.pins.key_of(&leaf.user).copied();
        let known = named.or(pin(step, &leaf.user)?.map(|pin| pin.key));
        let is_another = known.is_some_and(|known| known != leaf.user_key);
        let has_known = |other: &Leaf| other.user == leaf.user && Some(other.user_key) == known;
        if is_another && leaves.iter().any(has_known) {
            others.insert(leaf.device);
        }
    }
    Ok(others)
}

fn refused(user: &str, key: &UserKey, refusal: &Refusal) -> Problem {
    let verify = format!("chat-client verify {}", shell_word(user));
    let text = match refusal {
        Refusal::Changed(pin) => format!(
            "{user}'s key is not the one pinned on {} ({} then, {} now): somebody may be in between, or \
             {user} started anew; ask {user} in another way, then: {verify}",
            day(pin.since),
            pin.key.short(),
            key.short()
        ),
        Refusal::NotAsInFile(named) => format!(
            "{user}'s key is {}, and the file of --pins names {}",
            key.short(),
            named.short()
        ),
        Refusal::NotInFile => {
            format!("the file of --pins does not name {user}, whose key is {key}")
        }
        Refusal::NotVerified => {
            format!("nobody compared {user}'s key ({}) yet: {verify}", key.short())
        }
    };
    Problem { seen: Some((user.to_owned(), *key)), ..Problem::identity(text) }
}

/// The day of a time, as RFC 3339 writes it.
pub fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// A name as one word of a command line.
pub fn shell_word(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    match name.chars().all(is_plain) && !name.starts_with('-') {
        true => name.to_owned(),
        false => format!("'{}'", name.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_of_a_command() {
        assert_eq!(shell_word("José-2"), "José-2");
        assert_eq!(shell_word("Ana B."), "'Ana B.'");
        assert_eq!(shell_word("O'Hara"), "'O'\\''Hara'");
        assert_eq!(shell_word("-x"), "'-x'");
    }

    #[test]
    fn a_changed_key_names_both_keys_the_day_and_the_next_step() {
        let (old, new) = (UserKey([0x4f; 32]), UserKey([0x9a; 32]));
        let since = Timestamp::from_micros(1_790_000_000_000_000);
        let pin = Pin { key: old, since, origin: PinOrigin::First };
        let text = refused("bob", &new, &Refusal::Changed(pin)).text;
        for part in ["4f4f4f", "9a9a9a", "2026-09-21", "chat-client verify bob"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
