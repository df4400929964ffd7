//! What users, rooms and client networks did in the last minutes, in bounded memory.
//!
//! Each minute has heavy hitters of its own, so old activity is forgotten a minute at a time. Times are
//! durations since any fixed start of a monotonic clock.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use super::client_network::ClientNetwork;
use super::heavy_hitters::{Counts, HeavyHitters};
use crate::protocol::{RoomName, UserName};

/// How long activity is remembered, at least.
pub const MAX_SPAN: Duration = Duration::from_secs(15 * 60);
/// The steps in which it is forgotten.
const STEP: Duration = Duration::from_secs(60);

/// The activity of the last minutes.
#[derive(Debug, Default)]
pub struct RecentActivity {
    /// The newest last; not every minute had activity.
    minutes: VecDeque<Minute>,
}

#[derive(Debug)]
struct Minute {
    began: Duration,
    users: HeavyHitters<UserName>,
    rooms: HeavyHitters<RoomName>,
    networks: HeavyHitters<ClientNetwork>,
}

/// The busiest of a time span, each list with the busiest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Busiest {
    /// How long the span is.
    pub span: Duration,
    /// Whether there were more users, rooms or networks than are tracked, so that counts may be too
    /// low.
    pub is_lossy: bool,
    /// The users.
    pub users: Vec<(UserName, Counts)>,
    /// The rooms.
    pub rooms: Vec<(RoomName, Counts)>,
    /// The client networks.
    pub networks: Vec<(ClientNetwork, Counts)>,
}

impl RecentActivity {
    /// Records what a session of this user and network did.
    pub fn record_session(
        &mut self,
        user: &UserName,
        network: ClientNetwork,
        counts: &Counts,
        now: Duration,
    ) {
        let minute = self.minute(now);
        minute.users.record(user, counts);
        minute.networks.record(&network, counts);
    }

    /// Records what happened in a room.
    pub fn record_room(&mut self, room: &RoomName, counts: &Counts, now: Duration) {
        self.minute(now).rooms.record(room, counts);
    }

    /// Records what a client network did without a session.
    pub fn record_network(&mut self, network: ClientNetwork, counts: &Counts, now: Duration) {
        self.minute(now).networks.record(&network, counts);
    }

    fn minute(&mut self, now: Duration) -> &mut Minute {
        let begins = self.minutes.back().is_none_or(|newest| now >= newest.began + STEP);
        if begins {
            while self.minutes.front().is_some_and(|oldest| oldest.began + STEP + MAX_SPAN <= now) {
                self.minutes.pop_front();
            }
            let began = Duration::from_secs(now.as_secs() / STEP.as_secs() * STEP.as_secs());
            self.minutes.push_back(Minute {
                began,
                users: HeavyHitters::default(),
                rooms: HeavyHitters::default(),
                networks: HeavyHitters::default(),
            });
        }
        self.minutes.back_mut().expect("there is one now")
    }

    /// The busiest of at least the last `span`, as far as it is remembered: whole minutes and the
    /// current one.
    pub fn busiest(&self, span: Duration, now: Duration) -> Busiest {
        let span = span.min(MAX_SPAN);
        let since = now.saturating_sub(span);
        let since = Duration::from_secs(since.as_secs() / STEP.as_secs() * STEP.as_secs());
        let (mut users, mut rooms, mut networks) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut is_lossy = false;
        for minute in self.minutes.iter().filter(|minute| minute.began >= since) {
            is_lossy |= add(&mut users, &minute.users);
            is_lossy |= add(&mut rooms, &minute.rooms);
            is_lossy |= add(&mut networks, &minute.networks);
        }
        Busiest {
            span: now - since,
            is_lossy,
            users: sorted(users),
            rooms: sorted(rooms),
            networks: sorted(networks),
        }
    }
}

/// Adds the counts of a minute; returns whether they may be too low.
fn add<K: Clone + Eq + Hash>(sums: &mut HashMap<K, Counts>, minute: &HeavyHitters<K>) -> bool {
    for (key, counts) in minute.iter() {
        sums.entry(key.clone()).or_default().add(counts);
    }
    minute.is_lossy()
}

/// The heaviest first; equal ones by name, so that the order is stable.
fn sorted<K: ToString>(sums: HashMap<K, Counts>) -> Vec<(K, Counts)> {
    let mut sorted: Vec<(K, Counts)> = sums.into_iter().collect();
    sorted
        .sort_by_cached_key(|(key, counts)| (std::cmp::Reverse(counts.weight()), key.to_string()));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn user(number: usize) -> UserName {
        UserName::clean(&format!("u{number}"))
    }

    fn frames(frames: u64) -> Counts {
        Counts { frames, ..Counts::default() }
    }

    const NETWORK: ClientNetwork = ClientNetwork::V4([192, 0, 2, 1]);

    #[test]
    fn a_span_has_whole_minutes_and_says_how_long_it_is() {
        let mut recent = RecentActivity::default();
        assert_eq!(recent.busiest(at(300), at(7)).span, at(7), "right after the start");
        for minute in 0..10 {
            recent.record_session(&user(minute), NETWORK, &frames(1), at(60 * minute as u64 + 5));
        }
        let busiest = recent.busiest(at(120), at(9 * 60 + 30));
        assert_eq!(busiest.span, at(150));
        let users: Vec<String> =
            busiest.users.iter().map(|(user, _)| user.as_str().to_owned()).collect();
        assert_eq!(users, ["u7", "u8", "u9"]);
        assert_eq!(busiest.networks, [(NETWORK, frames(3))]);
        assert!(!busiest.is_lossy);
        assert_eq!(recent.busiest(at(100_000), at(9 * 60 + 30)).users.len(), 10);
    }

    #[test]
    fn what_is_old_is_forgotten_also_after_a_pause() {
        let mut recent = RecentActivity::default();
        recent.record_session(&user(1), NETWORK, &frames(1), at(0));
        assert_eq!(recent.busiest(MAX_SPAN, at(15 * 60 + 59)).users.len(), 1);
        assert_eq!(recent.busiest(MAX_SPAN, at(16 * 60)).users, []);
        for minute in 0..1_000 {
            recent.record_session(&user(minute), NETWORK, &frames(1), at(60 * minute as u64));
            assert!(recent.minutes.len() <= 17);
        }
    }

    #[test]
    fn the_busiest_come_first() {
        let mut recent = RecentActivity::default();
        for (number, count) in [(1, 5), (2, 50), (3, 5)] {
            recent.record_session(&user(number), NETWORK, &frames(count), at(1));
        }
        let room = RoomName::parse("ops").unwrap();
        recent.record_room(&room, &frames(2), at(1));
        recent.record_network(ClientNetwork::V4([192, 0, 2, 2]), &frames(61), at(2));
        let busiest = recent.busiest(at(60), at(3));
        let users: Vec<&str> = busiest.users.iter().map(|(user, _)| user.as_str()).collect();
        assert_eq!(users, ["u2", "u1", "u3"]);
        assert_eq!(busiest.rooms, [(room, frames(2))]);
        assert_eq!(busiest.networks[0].1, frames(61));
        assert_eq!(busiest.networks[1].1, frames(60));
    }
}
