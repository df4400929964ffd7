//! The address of a server, in the forms in which people write it.

use std::fmt;
use std::net::IpAddr;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Whether to use TLS.
    pub tls: bool,
    /// A host name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The path, which starts with a slash.
    pub path: String,
}

/// The port of an address on loopback that has neither a scheme nor a port.
const DEFAULT_PORT: u16 = 8765;

impl ServerUrl {
    /// Parses `ws://…`, `wss://…`, `http(s)://…`, `abcd.ngrok.app`, `host:port`. Without
    /// a scheme it is `ws://` on loopback and `wss://` elsewhere.
    pub fn parse(text: &str) -> Result<Self, String> {
        let error = |reason: &str| {
            format!(
                "{text:?} is not the address of a server: {reason}; write wss://chat.example or host:port"
            )
        };
        let trimmed = text.trim();
        let (scheme, rest) = match trimmed.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, trimmed),
        };
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err(error("it must not contain a user name or password"));
        }
        let (host, port) =
            split_port(authority).ok_or_else(|| error("the port is a number from 1 to 65535"))?;
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(error("it has no host"));
        }
        // Only IPv6 addresses contain colons; they may have a zone (RFC 6874).
        let address = host.split('%').next().unwrap_or_default();
        if host.contains(['[', ']'])
            || host.contains(':') && address.parse::<std::net::Ipv6Addr>().is_err()
        {
            return Err(error("the host is neither a name nor an IP address"));
        }
        let tls = match scheme.as_deref() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            None => !is_loopback(&host),
            Some(_) => return Err(error("the scheme must be ws or wss")),
        };
        let default_port = match (tls, scheme.as_deref()) {
            (true, _) => 443,
            (false, Some("http" | "ws")) => 80,
            (false, _) => DEFAULT_PORT,
        };
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        Ok(ServerUrl { tls, host, port: port.unwrap_or(default_port), path })
    }

    /// Host and port, as in a URL.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        let default_port = if self.tls { 443 } else { 80 };
        let authority = self.authority();
        let shown = authority.strip_suffix(&format!(":{default_port}")).unwrap_or(&authority);
        let path = if self.path == "/" { "" } else { &self.path };
        write!(f, "{scheme}://{shown}{path}")
    }
}

fn split_port(authority: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            None if port.is_empty() => Some((host.to_owned(), None)),
            None => None,
            Some(port) => Some((host.to_owned(), Some(parse_port(port)?))),
        };
    }
    if authority.parse::<IpAddr>().is_ok() {
        return Some((authority.to_owned(), None));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => Some((host.to_owned(), Some(parse_port(port)?))),
        None => Some((authority.to_owned(), None)),
    }
}

fn parse_port(port: &str) -> Option<u16> {
    port.parse().ok().filter(|port| *port > 0)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_parsed() {
        for (text, shown, port) in [
            ("ws://127.0.0.1:8765", "ws://127.0.0.1:8765", 8765),
            ("wss://chat.example", "wss://chat.example", 443),
            ("https://abcd.ngrok.app/", "wss://abcd.ngrok.app", 443),
            ("abcd.ngrok.app", "wss://abcd.ngrok.app", 443),
            ("chat.example:9000", "wss://chat.example:9000", 9000),
            ("localhost:9000", "ws://localhost:9000", 9000),
            ("127.0.0.1", "ws://127.0.0.1:8765", 8765),
            ("[::1]:9000", "ws://[::1]:9000", 9000),
            ("::1", "ws://[::1]:8765", 8765),
            ("192.0.2.7:8765", "wss://192.0.2.7:8765", 8765),
            ("http://localhost", "ws://localhost", 80),
            ("wss://h/p?q", "wss://h/p?q", 443),
        ] {
            let url = ServerUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.port), (shown, port), "{text}");
        }
    }

    #[test]
    fn an_invalid_address_is_refused_with_an_example() {
        for text in [
            "",
            "ws://",
            "ftp://x",
            "host:99999",
            "host:x",
            "host:0",
            "a b",
            "u:p@host",
            "[::1",
            "]::1",
            "a:b:1",
        ] {
            let error = ServerUrl::parse(text).expect_err(text);
            assert!(error.contains("wss://"), "{error}");
        }
    }
}
