//! Which proxy leads to a server: `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, read by the rules of curl.
//!
//! The lower-case name of a variable comes before the upper-case one, and an empty value is none.
//! `https_proxy` is for `wss://` and `all_proxy` for both schemes. This machine is never reached through
//! a proxy.

use std::fmt;
use std::net::IpAddr;

use super::server_url::{ServerUrl, without_zone};
use crate::policy::ip_network::IpNetwork;

/// The port of a proxy whose address names none, as in curl.
const DEFAULT_PROXY_PORT: u16 = 1080;

/// A proxy, and the variable that named it.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// How the client speaks to it.
    pub kind: ProxyKind,
    /// Its host name or IP address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// The user name and password for it.
    pub credentials: Option<(String, String)>,
    /// The variable that named it.
    pub variable: &'static str,
}

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// `http://`: the method CONNECT (RFC 9110 §9.3.6).
    Http,
    /// `socks5://`: SOCKS 5 (RFC 1928); the client resolves the server's name.
    Socks5,
    /// `socks5h://`: SOCKS 5; the proxy resolves the server's name.
    Socks5Hostname,
}

/// Masks the credentials, which are secret.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// The proxy's address without the credentials, and the variable: `http://proxy:3128 (HTTPS_PROXY)`.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Socks5Hostname => "socks5h",
        };
        let Proxy { host, port, variable, .. } = self;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port} ({variable})"),
            false => write!(f, "{scheme}://{host}:{port} ({variable})"),
        }
    }
}

/// The proxy for `server`, by the environment variables that `variable` reads; `None` for a direct
/// connection.
pub fn proxy_for(
    server: &ServerUrl,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, String> {
    let set = |name: &'static str| {
        let value = variable(name)?.trim().to_owned();
        (!value.is_empty()).then_some((name, value))
    };
    let of_wss = server.tls.then(|| set("https_proxy").or_else(|| set("HTTPS_PROXY"))).flatten();
    let named = of_wss.or_else(|| set("all_proxy")).or_else(|| set("ALL_PROXY"));
    let Some((name, value)) = named.filter(|_| !server.is_loopback()) else { return Ok(None) };
    let exceptions = set("no_proxy").or_else(|| set("NO_PROXY"));
    if exceptions.is_some_and(|(_, exceptions)| is_exception(&server.host, &exceptions)) {
        return Ok(None);
    }
    parse(name, &value).map(Some)
}

/// Whether a list like that of `NO_PROXY` contains the host: `*`, a domain with all names below it,
/// an IP address, or a network in CIDR notation.
fn is_exception(host: &str, list: &str) -> bool {
    let host = without_zone(host);
    let address: Option<IpAddr> = host.parse().ok();
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some(address) = address {
            let entry = entry.strip_prefix('[').and_then(|e| e.strip_suffix(']')).unwrap_or(entry);
            return IpNetwork::parse(entry).is_some_and(|network| network.contains(address));
        }
        let domain = entry.strip_prefix('*').unwrap_or(entry);
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        let domain = domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase();
        let below = || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'));
        !domain.is_empty() && (host == domain || below())
    })
}

/// Reads `[http|socks5|socks5h://][user:password@]host[:port]`. An error names the variable and shows
/// nothing of its value, which may contain a password.
fn parse(variable: &'static str, value: &str) -> Result<Proxy, String> {
    let error = |reason: &str| {
        format!("{variable}: {reason}; write http://HOST:PORT or socks5h://HOST:PORT")
    };
    let (kind, rest) = match value.split_once("://") {
        None => (ProxyKind::Http, value),
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "http" => (ProxyKind::Http, rest),
            "socks5" => (ProxyKind::Socks5, rest),
            "socks5h" => (ProxyKind::Socks5Hostname, rest),
            _ => return Err(error("chat-client does not support this kind of proxy")),
        },
    };
    // A password may contain a slash that is not encoded, so the host begins after the last `@`.
    let (credentials, address) = match rest.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, rest),
    };
    let address = address.split(['/', '?', '#']).next().unwrap_or_default();
    let with_scheme = format!("ws://{address}");
    let url = ServerUrl::parse(&with_scheme).map_err(|_| error("the address is not valid"))?;
    let names_port = address.rsplit_once(']').map_or(address, |(_, port)| port).contains(':');
    let credentials = credentials
        .map(|credentials| {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            Some((percent_decoded(user)?, percent_decoded(password)?))
        })
        .map(|decoded| decoded.ok_or_else(|| error("the user name or password is not valid")))
        .transpose()?;
    let port = if names_port { url.port } else { DEFAULT_PROXY_PORT };
    Ok(Proxy { kind, host: url.host, port, credentials, variable })
}

/// The text behind percent-encoding (RFC 3986 §2.1); `None` if it is malformed, not UTF-8, or has
/// control characters.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()?);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy for a server, as text; empty for none.
    fn chosen(server: &str, variables: &[(&str, &str)]) -> String {
        let server = ServerUrl::parse(server).unwrap();
        let read = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        match proxy_for(&server, read) {
            Ok(proxy) => proxy.map_or(String::new(), |proxy| proxy.to_string()),
            Err(error) => error,
        }
    }

    #[test]
    fn the_variables_are_read_as_curl_reads_them() {
        let upper = ("HTTPS_PROXY", "http://upper:1");
        let lower = ("https_proxy", "lower:2");
        let all = ("ALL_PROXY", "socks5h://all:3");
        for (server, variables, proxy) in [
            ("wss://chat.example", &[][..], ""),
            ("wss://chat.example", &[upper], "http://upper:1 (HTTPS_PROXY)"),
            ("wss://chat.example", &[upper, lower, all], "http://lower:2 (https_proxy)"),
            ("wss://chat.example", &[upper, ("https_proxy", " ")], "http://upper:1 (HTTPS_PROXY)"),
            ("wss://chat.example", &[("HTTPS_PROXY", ""), all], "socks5h://all:3 (ALL_PROXY)"),
            ("ws://chat.example", &[upper, ("http_proxy", "x:1")], ""),
            ("ws://chat.example", &[upper, all], "socks5h://all:3 (ALL_PROXY)"),
            (
                "ws://chat.example",
                &[all, ("all_proxy", "socks5://[::2]")],
                "socks5://[::2]:1080 (all_proxy)",
            ),
            ("wss://localhost", &[upper, all], ""),
            ("wss://127.9.9.9", &[upper, all], ""),
            ("wss://[::1]", &[upper, all], ""),
            ("wss://chat.example", &[upper, ("NO_PROXY", "")], "http://upper:1 (HTTPS_PROXY)"),
            ("wss://chat.example", &[upper, ("NO_PROXY", "*")], ""),
            ("wss://chat.example", &[upper, ("NO_PROXY", "x"), ("no_proxy", "example")], ""),
        ] {
            assert_eq!(chosen(server, variables), proxy, "{server} {variables:?}");
        }
    }

    #[test]
    fn exceptions_are_domains_addresses_and_networks() {
        for (host, list, is_in) in [
            ("chat.example", "other.example, chat.example", true),
            ("a.chat.example", "chat.example", true),
            ("a.chat.example", ".chat.example.", true),
            ("a.chat.example", "*.chat.example", true),
            ("CHAT.example.", "chat.EXAMPLE", true),
            ("xchat.example", "chat.example", false),
            ("chat.example", "a.chat.example", false),
            ("chat.example", ".", false),
            ("chat.example", " , ,", false),
            ("chat.example", "one two\tchat.example", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.0/24", true),
            ("192.0.3.7", "192.0.2.0/24", false),
            ("192.0.2.7", "2.7", false),
            ("2001:db8::7", "2001:db8::/32", true),
            ("2001:db8::7", "[2001:db8::7]", true),
            ("fe80::1%eth0", "fe80::/10", true),
        ] {
            assert_eq!(is_exception(host, list), is_in, "{host} in {list:?}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let proxy = parse("ALL_PROXY", "http://bob:s3%2Fcr3t%40@proxy:3128/").unwrap();
        assert_eq!(proxy.credentials, Some(("bob".into(), "s3/cr3t@".into())));
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy", 3128));
        for shown in [proxy.to_string(), format!("{proxy:?}")] {
            assert!(shown.contains("proxy:3128") && !shown.contains("cr3t"), "{shown}");
        }
        for wrong in [
            "https://bob:s3cr3t@proxy:1",
            "socks4://bob:s3cr3t@proxy:1",
            "http://bob:s3cr3t%@proxy",
            "http://bob:s3cr3t%0d%0a@proxy",
            "http://bob:s3cr3t@",
            "http://bob:s3cr3t@proxy:x",
            "http://",
        ] {
            let error = parse("ALL_PROXY", wrong).expect_err(wrong);
            assert!(error.contains("ALL_PROXY") && !error.contains("cr3t"), "{error}");
        }
    }
}
