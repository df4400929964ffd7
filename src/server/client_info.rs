//! The client behind a connection: its address, whether the connection is confidential, and whether
//! the address is only that of a proxy.
//!
//! `X-Forwarded-For` and `X-Forwarded-Proto` count only when the peer is in
//! `listen.trusted_proxies`.

use std::net::IpAddr;

use hyper::header::HeaderMap;

use crate::config::Listen;
use crate::policy::bans::Bans;
use crate::policy::client_network::{self, ForwardedFor};
use crate::policy::ip_network::IpNetwork;

/// Where a client connects from, and over what.
#[derive(Clone, Copy, Debug)]
pub struct ClientInfo {
    /// The address that limits and the server log use.
    pub address: IpAddr,
    /// Whether the server may send keys over this connection.
    pub confidential: bool,
    /// Whether `address` is that of a trusted proxy, because the proxy did not name its client.
    pub is_proxy: bool,
}

impl ClientInfo {
    /// The banned network that it connects from. The address of a proxy is never banned, because it stands
    /// for many clients.
    pub fn banned_network(&self, bans: &Bans) -> Option<IpNetwork> {
        if self.is_proxy { None } else { bans.banned_network(self.address) }
    }

    /// Reads it from the request's headers and the connection: `peer` is the other end of the TCP
    /// connection; `encrypted`: whether this server terminated TLS on it.
    pub fn from_headers(
        headers: &HeaderMap,
        peer: IpAddr,
        encrypted: bool,
        listen: &Listen,
    ) -> Self {
        let trusted =
            |address: IpAddr| listen.trusted_proxies.iter().any(|net| net.contains(address));
        let peer = peer.to_canonical();
        let (mut address, mut confidential) = (peer, encrypted || peer.is_loopback());
        if trusted(peer) {
            let forwarded_for =
                client_network::forwarded_client(values(headers, "x-forwarded-for"), trusted);
            // Proxies append, so only the last value was written by the trusted proxy.
            let scheme = values(headers, "x-forwarded-proto").last();
            // The client is on this machine if the proxy reports so, or if there is no proxy.
            let local = match forwarded_for {
                ForwardedFor::Client(client) => client.is_loopback(),
                ForwardedFor::Absent => peer.is_loopback() && scheme.is_none(),
                ForwardedFor::Unreadable => false,
            };
            if let ForwardedFor::Client(client) = forwarded_for {
                address = client;
            }
            confidential = local
                || match scheme {
                    // The scheme has no case (RFC 3986, section 3.1).
                    Some(scheme) => {
                        scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"wss")
                    }
                    // A proxy that names its client but not the scheme may have received plaintext.
                    None => encrypted && forwarded_for == ForwardedFor::Absent,
                };
        }
        ClientInfo {
            address,
            confidential: confidential || listen.allow_plaintext,
            is_proxy: trusted(address),
        }
    }
}

/// The comma-separated values of a header that may be repeated, in order. Values need not be UTF-8.
fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    #[test]
    fn the_forwarded_scheme_has_no_case() {
        let environment = [("HOME".to_owned(), "/home/test".to_owned())].into();
        let listen = Config::load(&Sources { environment, ..Sources::default() }).unwrap().listen;
        let confidential = |scheme: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
            headers.insert("x-forwarded-proto", scheme.parse().unwrap());
            let proxy = "127.0.0.1".parse().unwrap();
            ClientInfo::from_headers(&headers, proxy, false, &listen).confidential
        };
        for (scheme, expected) in
            [("https", true), ("HTTPS", true), ("Wss", true), ("http", false), ("httpss", false)]
        {
            assert_eq!(confidential(scheme), expected, "{scheme}");
        }
    }
}
