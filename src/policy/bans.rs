//! Bans and mutes: the users and networks that are kept out, and the users that may only read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::confusable_names::{is_confusable, name_skeletons};
use super::ip_network::IpNetwork;
use crate::protocol::{RoomName, UserName};

/// A ban or a mute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// The user can't register.
    BanUser(UserName),
    /// Clients in this network can't connect. It is normalized.
    BanNetwork(IpNetwork),
    /// The user's messages are refused in this room; without one, in every room.
    Mute(UserName, Option<RoomName>),
}

impl Restriction {
    /// Whether it is about the same user or network as `other`, and the same room. Names that people
    /// can't tell apart are the same.
    pub fn is_about_same(&self, other: &Restriction) -> bool {
        match (self, other) {
            (Restriction::BanUser(a), Restriction::BanUser(b)) => is_confusable(a, b),
            (Restriction::BanNetwork(a), Restriction::BanNetwork(b)) => a == b,
            (Restriction::Mute(a, room), Restriction::Mute(b, other)) => {
                room == other && is_confusable(a, b)
            }
            _ => false,
        }
    }

    /// Its kind in lists and in the server log.
    pub fn kind(&self) -> &'static str {
        match self {
            Restriction::BanUser(_) => "user",
            Restriction::BanNetwork(network) if network.is_one_address() => "address",
            Restriction::BanNetwork(_) => "network",
            Restriction::Mute(..) => "mute",
        }
    }

    /// The user.
    pub fn user(&self) -> Option<&UserName> {
        match self {
            Restriction::BanUser(user) | Restriction::Mute(user, _) => Some(user),
            Restriction::BanNetwork(_) => None,
        }
    }

    /// The address or network.
    pub fn network(&self) -> Option<&IpNetwork> {
        match self {
            Restriction::BanNetwork(network) => Some(network),
            Restriction::BanUser(_) | Restriction::Mute(..) => None,
        }
    }

    /// The room of a mute.
    pub fn room(&self) -> Option<&RoomName> {
        match self {
            Restriction::Mute(_, room) => room.as_ref(),
            Restriction::BanUser(_) | Restriction::BanNetwork(_) => None,
        }
    }

    /// The user, address or network as text.
    pub fn target(&self) -> String {
        match self {
            Restriction::BanNetwork(network) => network.short(),
            Restriction::BanUser(user) | Restriction::Mute(user, _) => user.to_string(),
        }
    }
}

/// The bans and mutes in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bans {
    /// Skeletons of the banned names.
    users: BTreeSet<String>,
    networks: NetworkSet,
    /// By the skeletons of the names.
    muted: HashMap<String, MutedRooms>,
}

/// The rooms in which a user is muted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MutedRooms {
    /// Every room.
    All,
    /// These rooms.
    Named(BTreeSet<RoomName>),
}

impl Bans {
    /// The bans and mutes in force.
    pub fn new<'a>(restrictions: impl Iterator<Item = &'a Restriction>) -> Self {
        let mut bans = Bans::default();
        for restriction in restrictions {
            match restriction {
                Restriction::BanUser(user) => bans.users.extend(name_skeletons(user)),
                Restriction::BanNetwork(network) => bans.networks.insert(network),
                Restriction::Mute(user, room) => {
                    for skeleton in name_skeletons(user) {
                        let named = MutedRooms::Named(BTreeSet::new());
                        let rooms = bans.muted.entry(skeleton).or_insert(named);
                        rooms.insert(room.as_ref());
                    }
                }
            }
        }
        bans
    }

    /// Whether the name, or one that people can't tell apart from it, is banned.
    pub fn bans_user(&self, user: &UserName) -> bool {
        !self.users.is_empty()
            && name_skeletons(user).iter().any(|skeleton| self.users.contains(skeleton))
    }

    /// The smallest banned network with this address.
    pub fn banned_network(&self, address: IpAddr) -> Option<IpNetwork> {
        self.networks.find(address)
    }

    /// The rooms in which the name, or one that people can't tell apart from it, is muted; `None` if it
    /// is not.
    pub fn muted_rooms(&self, user: &UserName) -> Option<MutedRooms> {
        if self.muted.is_empty() {
            return None;
        }
        let found: Vec<&MutedRooms> =
            name_skeletons(user).iter().filter_map(|skeleton| self.muted.get(skeleton)).collect();
        let named = found.iter().map(|rooms| match rooms {
            MutedRooms::All => None,
            MutedRooms::Named(rooms) => Some(rooms),
        });
        match named.collect::<Option<Vec<_>>>() {
            None => Some(MutedRooms::All),
            Some(named) if named.is_empty() => None,
            Some(named) => Some(MutedRooms::Named(named.into_iter().flatten().cloned().collect())),
        }
    }
}

impl MutedRooms {
    /// Whether this room is one of them.
    pub fn contains(&self, room: &RoomName) -> bool {
        match self {
            MutedRooms::All => true,
            MutedRooms::Named(rooms) => rooms.contains(room),
        }
    }

    fn insert(&mut self, room: Option<&RoomName>) {
        match (&mut *self, room) {
            (MutedRooms::All, _) => {}
            (MutedRooms::Named(_), None) => *self = MutedRooms::All,
            (MutedRooms::Named(rooms), Some(room)) => drop(rooms.insert(room.clone())),
        }
    }
}

/// A set of networks. A look-up takes one step per length of a prefix in it, however many networks there
/// are, because every new connection is looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct NetworkSet {
    /// The first addresses of the networks, per length of their prefix.
    v4: BTreeMap<u8, HashSet<u32>>,
    v6: BTreeMap<u8, HashSet<u128>>,
}

impl NetworkSet {
    fn insert(&mut self, network: &IpNetwork) {
        match network.address() {
            IpAddr::V4(address) => {
                self.v4.entry(network.prefix()).or_default().insert(address.into());
            }
            IpAddr::V6(address) => {
                self.v6.entry(network.prefix()).or_default().insert(address.into());
            }
        }
    }

    fn find(&self, address: IpAddr) -> Option<IpNetwork> {
        let address = address.to_canonical();
        let network = |prefix: &u8| IpNetwork::new(address, *prefix).normalized();
        match address {
            IpAddr::V4(address) => self.v4.iter().rev().find_map(|(prefix, networks)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
                networks.contains(&(u32::from(address) & mask)).then(|| network(prefix))
            }),
            IpAddr::V6(address) => self.v6.iter().rev().find_map(|(prefix, networks)| {
                let mask = u128::MAX.checked_shl(128 - u32::from(*prefix)).unwrap_or(0);
                networks.contains(&(u128::from(address) & mask)).then(|| network(prefix))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(name: &str) -> UserName {
        UserName::clean(name)
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    fn bans(restrictions: &[Restriction]) -> Bans {
        Bans::new(restrictions.iter())
    }

    fn network(text: &str) -> Restriction {
        Restriction::BanNetwork(IpNetwork::parse(text).unwrap().normalized())
    }

    #[test]
    fn a_banned_network_covers_its_addresses_in_both_notations() {
        let bans = bans(&[
            network("203.0.113.0/24"),
            network("198.51.100.7"),
            network("2001:db8:1::/48"),
            network("::ffff:192.0.2.0/120"),
        ]);
        for (address, banned) in [
            ("203.0.113.255", true),
            ("::ffff:203.0.113.1", true),
            ("203.0.114.0", false),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
            ("2001:db8:1:ffff::1", true),
            ("2001:db8:2::1", false),
            ("192.0.2.200", true),
        ] {
            let found = bans.banned_network(address.parse().unwrap());
            assert_eq!(found.is_some(), banned, "{address}");
        }
        let none = Bans::default().banned_network("203.0.113.1".parse().unwrap());
        assert_eq!(none, None);
    }

    proptest! {
        #[test]
        fn a_set_of_networks_contains_what_one_of_them_contains(
            networks in prop::collection::vec((any::<u32>(), 0u8..=32), 0..8),
            address in any::<u32>(),
            v6 in any::<bool>(),
        ) {
            let wide = |bits: u32| IpAddr::V6((u128::from(bits) << 96).into());
            let narrow = |bits: u32| IpAddr::V4(bits.into());
            let to_address = |bits: u32| if v6 { wide(bits) } else { narrow(bits) };
            let parsed: Vec<IpNetwork> = networks
                .iter()
                .map(|(bits, prefix)| IpNetwork::parse(&format!("{}/{prefix}", to_address(*bits))).unwrap())
                .collect();
            let all: Vec<Restriction> =
                parsed.iter().map(|network| Restriction::BanNetwork(network.normalized())).collect();
            let address = to_address(address);
            let containing = parsed.iter().filter(|network| network.contains(address));
            let smallest = containing.max_by_key(|network| network.prefix());
            let found = Bans::new(all.iter()).banned_network(address);
            prop_assert_eq!(found, smallest.map(|network| network.normalized()));
        }
    }

    #[test]
    fn names_that_look_the_same_are_banned_and_muted_together() {
        let bans = bans(&[
            Restriction::BanUser(user("eve")),
            Restriction::Mute(user("bob"), Some(room("ops"))),
            Restriction::Mute(user("BOB"), Some(room("dev"))),
            Restriction::Mute(user("mal"), Some(room("ops"))),
            Restriction::Mute(user("mal"), None),
        ]);
        assert!(bans.bans_user(&user("EVE")) && !bans.bans_user(&user("bob")));
        let muted = bans.muted_rooms(&user("Bob")).unwrap();
        assert!(muted.contains(&room("ops")) && muted.contains(&room("dev")));
        assert!(!muted.contains(&room("lobby")));
        assert_eq!(bans.muted_rooms(&user("mal")), Some(MutedRooms::All));
        assert_eq!(bans.muted_rooms(&user("eve")), None);
    }

    #[test]
    fn a_mute_in_one_room_is_another_than_in_every_room() {
        let (all, ops) = (
            Restriction::Mute(user("bob"), None),
            Restriction::Mute(user("bob"), Some(room("ops"))),
        );
        assert!(!all.is_about_same(&ops) && ops.is_about_same(&ops));
        assert!(all.is_about_same(&Restriction::Mute(user("BOB"), None)));
        assert!(!all.is_about_same(&Restriction::BanUser(user("bob"))));
        assert!(network("203.0.113.7").is_about_same(&network("203.0.113.7/32")));
        assert!(!network("203.0.113.7").is_about_same(&network("203.0.113.0/24")));
    }
}
