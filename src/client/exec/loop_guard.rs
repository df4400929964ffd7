//! Ends conversations of programs that answer each other.
//!
//! Two rules, both per message:
//!
//! - A message that [`MAX_DEPTH`] replies of commands in a row led to is not answered. The id of a reply
//!   says how many there were, so this finds a loop of any number of `--exec` bots.
//! - A user who has answered [`MAX_ROUNDS`] replies in a row, each within [`ROUND`], is not answered
//!   for [`PAUSE`]. This finds a loop with a program that is no `--exec` bot.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Replies of commands in a row, at most.
pub const MAX_DEPTH: u32 = 10;
/// Rounds in a row with one user in one room, at most.
pub const MAX_ROUNDS: u32 = 1000;
/// A message within this time after a reply to the same user is a round.
pub const ROUND: Duration = Duration::from_secs(2);
/// How long a user is not answered after too many rounds.
pub const PAUSE: Duration = Duration::from_secs(60);
/// Users whose rounds are counted, at most.
const MAX_USERS: usize = 1024;

/// Whether a message is given to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is.
    Run,
    /// It is not: too many replies in a row led to it.
    TooDeep,
    /// It is not: the user begins to be ignored with this message.
    TooManyRounds,
    /// It is not: the user is ignored for a while.
    Ignored,
}

/// The rounds with each user in each room.
#[derive(Default)]
pub struct LoopGuard {
    users: BTreeMap<(String, String), Rounds>,
}

struct Rounds {
    count: u32,
    /// When the last reply to the user was sent, if the user has said nothing since.
    replied: Option<Instant>,
    touched: Instant,
    ignored_until: Option<Instant>,
}

impl LoopGuard {
    /// A message of `user` came, which `depth` replies in a row led to.
    pub fn admit(&mut self, room: &str, user: &str, depth: u32, now: Instant) -> Admission {
        if depth >= MAX_DEPTH {
            return Admission::TooDeep;
        }
        let key = (room.to_owned(), user.to_owned());
        let Some(rounds) = self.users.get_mut(&key) else { return Admission::Run };
        rounds.touched = now;
        match rounds.ignored_until {
            Some(until) if now < until => return Admission::Ignored,
            Some(_) => rounds.ignored_until = None,
            None => {}
        }
        let in_time = rounds.replied.take().is_some_and(|replied| now < replied + ROUND);
        rounds.count = if in_time { rounds.count + 1 } else { 0 };
        if rounds.count < MAX_ROUNDS {
            return Admission::Run;
        }
        rounds.count = 0;
        rounds.ignored_until = Some(now + PAUSE);
        Admission::TooManyRounds
    }

    /// A reply to a message of `user` was sent.
    pub fn replied(&mut self, room: &str, user: &str, now: Instant) {
        let key = (room.to_owned(), user.to_owned());
        if self.users.len() >= MAX_USERS && !self.users.contains_key(&key) {
            self.forget_oldest();
        }
        let new = Rounds { count: 0, replied: None, touched: now, ignored_until: None };
        let rounds = self.users.entry(key).or_insert(new);
        rounds.replied = Some(now);
        rounds.touched = now;
    }

    fn forget_oldest(&mut self) {
        let oldest = self.users.iter().min_by_key(|(_, rounds)| rounds.touched);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.users.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    /// A user who answers each reply after `pause`; the number of messages that were admitted.
    fn converse(guard: &mut LoopGuard, start: Instant, pause: Duration, messages: u32) -> u32 {
        let mut now = start;
        let mut admitted = 0;
        for _ in 0..messages {
            if guard.admit("ops", "bob", 0, now) == Admission::Run {
                admitted += 1;
                guard.replied("ops", "bob", now);
            }
            now += pause;
        }
        admitted
    }

    #[test]
    fn replies_in_a_row_are_bounded() {
        let (mut guard, now) = (LoopGuard::default(), Instant::now());
        assert_eq!(guard.admit("ops", "bob", MAX_DEPTH - 1, now), Admission::Run);
        assert_eq!(guard.admit("ops", "bob", MAX_DEPTH, now), Admission::TooDeep);
    }

    #[test]
    fn a_user_who_answers_every_reply_at_once_is_ignored_for_a_while() {
        let (mut guard, start) = (LoopGuard::default(), Instant::now());
        assert_eq!(converse(&mut guard, start, STEP, MAX_ROUNDS), MAX_ROUNDS);
        let now = start + STEP * MAX_ROUNDS;
        assert_eq!(guard.admit("ops", "bob", 0, now), Admission::TooManyRounds);
        assert_eq!(guard.admit("ops", "bob", 0, now + STEP), Admission::Ignored);
        assert_eq!(guard.admit("dev", "bob", 0, now + STEP), Admission::Run);
        assert_eq!(guard.admit("ops", "ana", 0, now + STEP), Admission::Run);
        assert_eq!(guard.admit("ops", "bob", 0, now + PAUSE), Admission::Run);
    }

    #[test]
    fn a_pause_or_a_second_message_before_the_reply_begins_anew() {
        let (mut guard, start) = (LoopGuard::default(), Instant::now());
        assert_eq!(converse(&mut guard, start, ROUND, 3 * MAX_ROUNDS), 3 * MAX_ROUNDS);
        let mut now = start + 4 * ROUND * MAX_ROUNDS;
        for _ in 0..2 * MAX_ROUNDS {
            now += STEP;
            assert_eq!(guard.admit("ops", "bob", 0, now), Admission::Run);
            assert_eq!(guard.admit("ops", "bob", 0, now), Admission::Run);
            guard.replied("ops", "bob", now);
        }
    }

    #[test]
    fn the_number_of_users_is_bounded() {
        let (mut guard, start) = (LoopGuard::default(), Instant::now());
        for number in 0..2 * MAX_USERS {
            let now = start + STEP * u32::try_from(number).unwrap();
            guard.replied("ops", &number.to_string(), now);
        }
        assert_eq!(guard.users.len(), MAX_USERS);
        assert!(guard.users.contains_key(&("ops".into(), (2 * MAX_USERS - 1).to_string())));
    }
}
