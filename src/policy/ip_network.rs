//! Networks in CIDR notation (RFC 4632, RFC 4291 §2.3).

use std::fmt;
use std::net::IpAddr;

#[cfg(feature = "server")]
use super::client_network::ClientNetwork;

/// An address and the number of its leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpNetwork {
    address: IpAddr,
    prefix: u8,
}

impl IpNetwork {
    /// Parses `192.0.2.0/24`, `2001:db8::/32`, or one bare address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse().ok()?, Some(prefix.parse::<u8>().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let max_prefix = if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
        let prefix = prefix.unwrap_or(max_prefix);
        (prefix <= max_prefix).then_some(IpNetwork { address, prefix })
    }

    /// Whether `address` is in this network. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = |bits: u32| bits - u32::from(self.prefix);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let difference = u32::from(own) ^ u32::from(other);
                difference.checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let difference = u128::from(own) ^ u128::from(other);
                difference.checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(feature = "server")]
impl IpNetwork {
    /// The network of an address, with so many bits that count: at most 32 or 128.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let max_prefix = if address.is_ipv4() { 32 } else { 128 };
        IpNetwork { address, prefix: prefix.min(max_prefix) }
    }

    /// As people write it: the address alone if it has no other.
    pub fn short(&self) -> String {
        if self.is_one_address() { self.address.to_string() } else { self.to_string() }
    }

    /// Whether it has a single address.
    pub fn is_one_address(&self) -> bool {
        self.prefix == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// What limits count as one client: an IPv4 address, or the /64 of an IPv6 address.
    pub fn of_client(address: IpAddr) -> Self {
        match ClientNetwork::of(address) {
            ClientNetwork::V4(octets) => IpNetwork::new(octets.into(), 32),
            ClientNetwork::V6(_) => IpNetwork::new(address, 64).normalized(),
        }
    }

    /// The same network with zeros for the bits that do not count; as IPv4 if it is an IPv4 network that
    /// is mapped into IPv6.
    pub fn normalized(self) -> Self {
        let IpNetwork { address, prefix } = match (self.address.to_canonical(), self.prefix) {
            (address @ IpAddr::V4(_), prefix @ 96..) if self.address.is_ipv6() => {
                IpNetwork { address, prefix: prefix - 96 }
            }
            _ => self,
        };
        let zeros = |bits: u32| bits - u32::from(prefix);
        let address = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(zeros(32)).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(zeros(128)).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        };
        IpNetwork { address, prefix }
    }

    /// The first address, with its bits that do not count.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of bits that count.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether there is an address that is in both networks.
    pub fn overlaps(&self, other: &IpNetwork) -> bool {
        let (own, other) = (self.normalized(), other.normalized());
        own.contains(other.address) || other.contains(own.address)
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("127.0.0.1/32", "127.0.0.2", false),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1/128", "127.0.0.1", false),
        ] {
            let network = IpNetwork::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network} {address}");
        }
        for bad in ["", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/"] {
            assert!(IpNetwork::parse(bad).is_none(), "{bad}");
        }
    }
    #[cfg(feature = "server")]
    #[test]
    fn a_normalized_network_has_no_host_bits_and_networks_overlap_if_one_contains_the_other() {
        let network = |text: &str| IpNetwork::parse(text).unwrap();
        for (text, normalized) in [
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.7/0", "0.0.0.0/0"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("2001:db8::1/0", "::/0"),
            ("::ffff:203.0.113.7/120", "203.0.113.0/24"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
        ] {
            assert_eq!(network(text).normalized().to_string(), normalized, "{text}");
        }
        let client = |text: &str| IpNetwork::of_client(text.parse().unwrap()).to_string();
        assert_eq!(client("203.0.113.7"), "203.0.113.7/32");
        assert_eq!(client("::ffff:203.0.113.7"), "203.0.113.7/32");
        assert_eq!(client("2001:db8::7:1"), "2001:db8::/64");
        for (a, b, overlap) in [
            ("10.0.0.0/8", "10.1.2.3/32", true),
            ("10.1.2.0/24", "10.1.2.77/8", true),
            ("10.0.0.0/8", "11.0.0.0/8", false),
            ("0.0.0.0/0", "::/0", false),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
        ] {
            assert_eq!(network(a).overlaps(&network(b)), overlap, "{a} {b}");
            assert_eq!(network(b).overlaps(&network(a)), overlap, "{b} {a}");
        }
    }
}
