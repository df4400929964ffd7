//! The client behind a connection: the network that limits count it under, and the address that
//! proxies report for it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The unit of limits per address: an IPv4 address, or an IPv6 /64, because providers assign a /64
/// to one household or machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientNetwork {
    /// An IPv4 address, also if it is mapped into IPv6.
    V4([u8; 4]),
    /// The upper 64 bits of an IPv6 address.
    V6([u8; 8]),
}

impl ClientNetwork {
    /// The network of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => ClientNetwork::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                ClientNetwork::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ClientNetwork::V4(octets) => Ipv4Addr::from(octets).fmt(f),
            ClientNetwork::V6(prefix) => {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(&prefix);
                write!(f, "{}/64", Ipv6Addr::from(octets))
            }
        }
    }
}

/// The client that `X-Forwarded-For` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFor {
    /// The header is missing or empty.
    Absent,
    /// The right-most address that is not a trusted proxy; if all are trusted proxies, the
    /// left-most address.
    Client(IpAddr),
    /// The value at the place of the client is not an address. Values to its left come from the
    /// client and are not trusted.
    Unreadable,
}

/// Reads the values of `X-Forwarded-For`, in their order. Each proxy appends the address of its
/// client.
pub fn forwarded_client<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    trusted: impl Fn(IpAddr) -> bool,
) -> ForwardedFor {
    let mut forwarded_for = ForwardedFor::Absent;
    for value in values.collect::<Vec<_>>().into_iter().rev() {
        match parse(value) {
            None => return ForwardedFor::Unreadable,
            Some(address) => forwarded_for = ForwardedFor::Client(address),
        }
        if let ForwardedFor::Client(address) = forwarded_for
            && !trusted(address)
        {
            break;
        }
    }
    forwarded_for
}

/// Parses an address as proxies write it: plain, in brackets, or with a port.
fn parse(value: &[u8]) -> Option<IpAddr> {
    let value = std::str::from_utf8(value).ok()?;
    let bare = value.strip_prefix('[').and_then(|value| value.strip_suffix(']')).unwrap_or(value);
    let with_port = || value.parse::<SocketAddr>().map(|address| address.ip());
    bare.parse().or_else(|_| with_port()).ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_the_client_wrote_are_not_trusted() {
        let trusted = |address: IpAddr| address.is_loopback();
        let client = |text: &str| ForwardedFor::Client(text.parse().unwrap());
        for (header, expected) in [
            (&b""[..], ForwardedFor::Absent),
            (b"192.0.2.1", client("192.0.2.1")),
            (b"198.51.100.1, 192.0.2.1", client("192.0.2.1")),
            (b"198.51.100.1, 192.0.2.1, 127.0.0.1", client("192.0.2.1")),
            (b"127.0.0.1, 127.0.0.2", client("127.0.0.1")),
            (b"198.51.100.1, 192.0.2.1:4711", client("192.0.2.1")),
            (b"198.51.100.1, [2001:db8::1]:4711", client("2001:db8::1")),
            (b"[2001:db8::1]", client("2001:db8::1")),
            (b"::ffff:192.0.2.1", client("192.0.2.1")),
            (b"198.51.100.1, unknown", ForwardedFor::Unreadable),
            (b"\xff, 192.0.2.1", client("192.0.2.1")),
            (b"192.0.2.1, \xff", ForwardedFor::Unreadable),
            (b"\xff, 127.0.0.1", ForwardedFor::Unreadable),
        ] {
            let values = header.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            let values = values.filter(|value| !value.is_empty());
            assert_eq!(forwarded_client(values, trusted), expected, "{}", header.escape_ascii());
        }
    }

    #[test]
    fn ipv6_addresses_count_per_64_bit_prefix() {
        let of = |text: &str| ClientNetwork::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!(of("192.0.2.1").to_string(), "192.0.2.1");
    }
}
