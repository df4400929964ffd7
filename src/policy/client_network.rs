//! Addresses as limits see them.

use std::net::{IpAddr, SocketAddr};

/// Whom a limit by address is about: one IPv4 address, or an IPv6 /64, because that is what one
/// household or machine is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientNetwork {
    /// One IPv4 address (also where it came mapped into IPv6).
    V4([u8; 4]),
    /// The upper half of an IPv6 address.
    V6([u8; 8]),
}

impl ClientNetwork {
    /// Where an address belongs.
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

/// What `X-Forwarded-For` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFor {
    /// It is not there.
    Absent,
    /// This is the client: the right-most address that is no trusted proxy's; where all are, the
    /// left-most.
    Client(IpAddr),
    /// What stands where the client should is no address. Whatever is left of it came from outside.
    Unreadable,
}

/// Reads the words of `X-Forwarded-For`, in their order. Each proxy appends whom it heard.
pub fn forwarded_client<'a>(
    words: impl Iterator<Item = &'a [u8]>,
    trusted: impl Fn(IpAddr) -> bool,
) -> ForwardedFor {
    let mut told = ForwardedFor::Absent;
    for word in words.collect::<Vec<_>>().into_iter().rev() {
        match read(word) {
            None => return ForwardedFor::Unreadable,
            Some(address) => told = ForwardedFor::Client(address),
        }
        if let ForwardedFor::Client(address) = told
            && !trusted(address)
        {
            break;
        }
    }
    told
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn read(word: &[u8]) -> Option<IpAddr> {
    let word = std::str::from_utf8(word).ok()?;
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
    let with_port = || word.parse::<SocketAddr>().map(|address| address.ip());
    bare.parse().or_else(|_| with_port()).ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let trusted = |address: IpAddr| address.is_loopback();
        let client = |text: &str| ForwardedFor::Client(text.parse().unwrap());
        for (header, told) in [
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
            let words = header.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            let words = words.filter(|word| !word.is_empty());
            assert_eq!(forwarded_client(words, trusted), told, "{}", header.escape_ascii());
        }
    }

    #[test]
    fn ipv6_counts_by_its_upper_half() {
        let of = |text: &str| ClientNetwork::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
