//! The address of a server, in the forms in which people write it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::protocol::mask;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Whether to use TLS.
    pub tls: bool,
    /// A host name in ASCII (an international one in its `xn--` form) or an IP address, IPv6 without
    /// brackets, perhaps with a zone.
    pub host: String,
    /// The host name in Unicode, if it is an international one.
    pub unicode_host: Option<String>,
    /// The TCP port.
    pub port: u16,
    /// The path and query, in ASCII; it starts with a slash.
    pub path: String,
}

/// The port of an address on loopback that has neither a scheme nor a port.
const DEFAULT_PORT: u16 = 8765;

impl ServerUrl {
    /// Parses `ws://…`, `wss://…`, `http(s)://…`, `abcd.ngrok.app`, `host:port`. Without
    /// a scheme it is `ws://` on loopback and `wss://` elsewhere. A fragment is left out.
    pub fn parse(text: &str) -> Result<Self, String> {
        let error = |reason: &str| {
            let shown = mask::secrets(text);
            format!(
                "{shown:?} is not the address of a server: {reason}; write wss://chat.example or host:port"
            )
        };
        let trimmed = text.trim().split('#').next().unwrap_or_default();
        let (scheme, rest) = match trimmed.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, trimmed),
        };
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err(error(
                "it must not contain a user name or password; use --user and --access-token-file",
            ));
        }
        let (host, port) = split_port(authority).map_err(error)?;
        let is_scheme = matches!(host.as_str(), "ws" | "wss" | "http" | "https");
        if is_scheme && scheme.is_none() && port.is_none() && path.len() > 1 {
            return Err(error("two slashes follow the scheme, wss://"));
        }
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(error("it has no host"));
        }
        // Only IPv6 addresses contain colons; they may have a zone (RFC 6874).
        if host.contains(['[', ']'])
            || host.contains(':') && without_zone(&host).parse::<Ipv6Addr>().is_err()
        {
            return Err(error("the host is neither a name nor an IP address"));
        }
        if !host.contains(':') && !has_name_form(&host) {
            return Err(error(
                "a host name has parts of 1 to 63 characters between dots, and 253 characters at most",
            ));
        }
        if is_old_ipv4(&host) {
            return Err(error("an IPv4 address has four numbers, such as 127.0.0.1"));
        }
        let (host, unicode_host) = in_ascii(host)
            .ok_or_else(|| error("the host is no valid international name (IDNA, UTS 46)"))?;
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
        let port = port.unwrap_or(default_port);
        Ok(ServerUrl { tls, host, unicode_host, port, path: encoded_path(path) })
    }

    /// The host as in a URL or a `Host` header: an IPv6 address in brackets and without its zone, which
    /// has a meaning on this machine only.
    pub fn url_host(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]", without_zone(&self.host)),
            false => self.host.clone(),
        }
    }

    /// The URL with its host in ASCII only, to be typed or copied.
    pub fn in_ascii(&self) -> String {
        self.show(&self.host)
    }

    /// Whether the host is this machine, by its name or address.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    fn show(&self, host: &str) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = match (self.tls, self.port) {
            (true, 443) | (false, 80) => String::new(),
            (_, port) => format!(":{port}"),
        };
        let path = if self.path == "/" { "" } else { &self.path };
        format!("{scheme}://{host}{port}{path}")
    }
}

impl ServerUrl {
    /// The host, and the port if it is not the usual one of its scheme.
    pub fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

impl fmt::Display for ServerUrl {
    /// An international name is shown in both forms, because other letters can look the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unicode_host {
            None => f.write_str(&self.show(&self.host)),
            Some(unicode) => write!(f, "{} ({})", self.show(unicode), self.host),
        }
    }
}

/// An IP address without its zone, `fe80::1` of `fe80::1%eth0`.
pub fn without_zone(host: &str) -> &str {
    host.split('%').next().unwrap_or_default()
}

/// The host in ASCII, and in Unicode if that is another text. `None` if it is no valid name.
fn in_ascii(host: String) -> Option<(String, Option<String>)> {
    let is_international =
        |label: &str| label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"));
    if host.is_ascii() && !host.split('.').any(is_international) {
        return Some((host, None));
    }
    let ascii = idna::domain_to_ascii_cow(host.as_bytes(), idna::AsciiDenyList::URL).ok()?;
    let (unicode, valid) = idna::domain_to_unicode(&ascii);
    valid.ok()?;
    // Letters of full width, for example, are another spelling of an ASCII name.
    let unicode = (unicode != *ascii).then_some(unicode);
    Some((ascii.into_owned(), unicode)).filter(|(ascii, _)| !ascii.is_empty())
}

/// A path and query as they go into a request: other characters than visible ASCII are
/// percent-encoded (RFC 3986 §2.1).
fn encoded_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        out.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn split_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let wrong_port = "the port is a number from 1 to 65535";
    let parse = |port: &str| parse_port(port).map(Some).ok_or(wrong_port);
    if let Some(rest) =
        ["ws:", "wss:", "http:", "https:"].iter().find_map(|it| authority.strip_prefix(it))
        && parse_port(rest).is_none()
    {
        return Err("two slashes follow the scheme, wss://");
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) =
            rest.split_once(']').ok_or("the bracket ] after the address is missing")?;
        return match port.strip_prefix(':') {
            None if port.is_empty() => Ok((host.to_owned(), None)),
            None => Err("only a port, such as :8765, can follow the bracket ]"),
            Some(port) => Ok((host.to_owned(), parse(port)?)),
        };
    }
    if authority.parse::<IpAddr>().is_ok() {
        return Ok((authority.to_owned(), None));
    }
    match authority.rsplit_once(':') {
        // More than one colon is an IPv6 address that lacks its brackets.
        Some((host, port)) if host.contains(':') && parse_port(port).is_some() => {
            match host.parse::<Ipv6Addr>() {
                Ok(_) => Err("an IPv6 address with a port is written in brackets, [::1]:8765"),
                Err(_) => Ok((host.to_owned(), parse(port)?)),
            }
        }
        Some((host, port)) => Ok((host.to_owned(), parse(port)?)),
        None => Ok((authority.to_owned(), None)),
    }
}

/// Whether the parts of a host name have lengths that names in the DNS can have (RFC 1035, section 2.3.4).
fn has_name_form(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 254 && name.split('.').all(|part| (1..=63).contains(&part.chars().count()))
}

/// Whether the host ends with a number and is no address of four numbers. Resolvers take such an old form of
/// an IPv4 address (`127.1`, `0x7f000001`) for an address; a name can't end so (RFC 1123, section 2.1).
fn is_old_ipv4(host: &str) -> bool {
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    };
    is_number && !host.contains(':') && host.parse::<IpAddr>().is_err()
}

fn parse_port(port: &str) -> Option<u16> {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|port| is_number && *port > 0)
}

fn is_loopback(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    name.eq_ignore_ascii_case("localhost")
        || without_zone(host)
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
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
            ("wss://h/ñ?a b#c", "wss://h/%C3%B1?a%20b", 443),
            ("wss://h#c", "wss://h", 443),
            ("https://h/#sct_12345678", "wss://h", 443),
            ("localhost.:9000", "ws://localhost.:9000", 9000),
            ("[::ffff:127.0.0.1]:9000", "ws://[::ffff:127.0.0.1]:9000", 9000),
            ("[fe80::1%eth0]:9000", "wss://[fe80::1%eth0]:9000", 9000),
            ("my_host:9000", "wss://my_host:9000", 9000),
        ] {
            let url = ServerUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.port), (shown, port), "{text}");
        }
    }

    #[test]
    fn international_names_are_converted_and_shown_in_both_forms() {
        for (text, host, shown) in [
            (
                "bücher.example",
                "xn--bcher-kva.example",
                "wss://bücher.example (xn--bcher-kva.example)",
            ),
            (
                "BÜCHER.Example",
                "xn--bcher-kva.example",
                "wss://bücher.example (xn--bcher-kva.example)",
            ),
            (
                "xn--bcher-kva.example",
                "xn--bcher-kva.example",
                "wss://bücher.example (xn--bcher-kva.example)",
            ),
            (
                "ws://例え。テスト:81/x",
                "xn--r8jz45g.xn--zckzah",
                "ws://例え.テスト:81/x (xn--r8jz45g.xn--zckzah)",
            ),
            ("faß.de", "xn--fa-hia.de", "wss://faß.de (xn--fa-hia.de)"),
            ("ｃｈａｔ.example", "chat.example", "wss://chat.example"),
            ("localhost", "localhost", "ws://localhost:8765"),
        ] {
            let url = ServerUrl::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.to_string().as_str()), (host, shown), "{text}");
        }
        for text in ["xn--a.example", "a\u{202e}b.example", "\u{ad}", "ü%.example", "ü@b.example"]
        {
            assert!(ServerUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_zone_stays_on_this_machine() {
        let url = ServerUrl::parse("ws://[fe80::1%eth0]:9000").unwrap();
        assert_eq!((url.host.as_str(), url.url_host().as_str()), ("fe80::1%eth0", "[fe80::1]"));
    }

    #[test]
    fn an_error_shows_no_credentials() {
        for text in [
            "ws://bob:s3cr3t@host",
            "bob:s3cr3t@host:1",
            "ws://bob:s3/cr3t@host",
            "wss://s3cr3t@host/p",
            "ftp://bob:s3cr3t@host?x@y",
        ] {
            let error = ServerUrl::parse(text).expect_err(text);
            assert!(!error.contains("cr3t") && error.contains("***@"), "{error}");
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
        for (text, reason) in [
            ("[::1", "the bracket ]"),
            ("[::1]8765", "can follow the bracket"),
            ("host:70000", "from 1 to 65535"),
            ("127.1:8765", "four numbers"),
            ("ws://2130706433", "four numbers"),
            ("0x7f.1", "four numbers"),
            ("1.2.3.4.5", "four numbers"),
            ("256.0.0.1:80", "four numbers"),
            ("ws:127.0.0.1:8765", "two slashes"),
            ("wss:chat.example", "two slashes"),
            ("ws//127.0.0.1", "two slashes"),
            ("https/chat.example", "two slashes"),
            ("a..b:1", "between dots"),
            (".example", "between dots"),
            ("host:+80", "from 1 to 65535"),
        ] {
            let error = ServerUrl::parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        for right in [
            "2cool.example:1",
            "a.b2",
            "1.2.3.4:5",
            "[::ffff:1.2.3.4]",
            "0xcafe.example",
            "ws:80",
            "http:8080/x",
            "ws",
            "h#f",
            "a.b.",
        ] {
            ServerUrl::parse(right).expect(right);
        }
    }
}
