//! An invitation: the address of a server and an access token in one line,
//! `https://chat.example/#sct_…`.
//!
//! The access token is the fragment of a URL, which no browser sends to a server (RFC 3986 §3.5), so it
//! is in no log of a server or proxy.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use zeroize::Zeroizing;

use super::mask::ACCESS_TOKEN_PREFIX;

/// The characters of an access token after its prefix: 32 bytes in base64.
const TOKEN_CHARS: usize = 43;
/// Characters that people and programs put around a line that they pass on.
const AROUND: [char; 10] = ['<', '>', '"', '\'', '`', '(', ')', '.', ',', ';'];

/// An invitation as a client reads it.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The address of the server, without the access token.
    pub address: String,
    /// The access token.
    pub token: Zeroizing<String>,
}

/// The access token of an invitation is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomplete;

impl Invitation {
    /// Finds the invitation in a text; `None` if there is none. Quotes, brackets and words around it are
    /// left out.
    pub fn find(text: &str) -> Option<Result<Self, Incomplete>> {
        let word = text.split_whitespace().find(|word| fragment(word).is_some())?;
        let (address, token) = fragment(word)?;
        let address = address.trim_start_matches(AROUND);
        let token = token.trim_end_matches(AROUND);
        let rest = token.strip_prefix(ACCESS_TOKEN_PREFIX).unwrap_or_default();
        let is_whole = rest.len() == TOKEN_CHARS
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        Some(match is_whole && !address.is_empty() {
            true => Ok(Invitation { address: address.into(), token: Zeroizing::new(token.into()) }),
            false => Err(Incomplete),
        })
    }
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({})", self.address)
    }
}

/// Whether an invitation, perhaps an incomplete one, is in the text.
pub fn is_in(text: &str) -> bool {
    text.split_whitespace().any(|word| fragment(word).is_some())
}

/// The bytes of `text` that belong to the access token of an invitation, to be hidden while it is typed.
pub fn secret_part(text: &str) -> Option<std::ops::Range<usize>> {
    let start = text.find(&format!("#{ACCESS_TOKEN_PREFIX}"))? + 1 + ACCESS_TOKEN_PREFIX.len();
    let end = text[start..].find(char::is_whitespace).map_or(text.len(), |length| start + length);
    Some(start..end)
}

/// The address and the access token of a word that has both.
fn fragment(word: &str) -> Option<(&str, &str)> {
    word.split_once('#').filter(|(_, fragment)| fragment.starts_with(ACCESS_TOKEN_PREFIX))
}

/// The address of a server as an invitation has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicAddress {
    /// Whether connections to it are encrypted.
    pub tls: bool,
    /// The host and perhaps the port, as in a URL.
    authority: String,
    /// The path and query; it starts with a slash.
    path: String,
}

impl PublicAddress {
    /// Parses `wss://…`, `https://…`, `ws://…`, `http://…` or a name with or without a port, which is
    /// `https://` except on loopback. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.contains('#') {
            return Err("it must not contain #; the access token is added to it");
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err("it must not contain a user name or password");
        }
        let is_shown = |c: char| !c.is_whitespace() && !c.is_control() && !"\"'<>`".contains(c);
        if !rest.chars().all(is_shown) {
            return Err("it contains a space, a quote or a control character");
        }
        let host = host_of(authority)?;
        let tls = match scheme.as_deref() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            None => !is_loopback(host),
            Some(_) => return Err("the scheme must be wss or https, or on loopback ws or http"),
        };
        // Without a scheme, the client's port on loopback is its default, but that of a URL is 80.
        if scheme.is_none() && !tls && host.len() == authority.trim_matches(['[', ']']).len() {
            return Err("the port is missing");
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(PublicAddress { tls, authority: authority.to_owned(), path })
    }

    /// The address of `host`, a name or an IP address, with TLS.
    pub fn with_tls(host: &str, port: u16) -> Self {
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => host.to_owned(),
        };
        let authority = if port == 443 { host } else { format!("{host}:{port}") };
        PublicAddress { tls: true, authority, path: "/".into() }
    }

    /// Whether only this computer can connect to it.
    pub fn is_loopback(&self) -> bool {
        host_of(&self.authority).is_ok_and(is_loopback)
    }

    /// The line of an invitation with this access token.
    pub fn invitation(&self, token: &str) -> Zeroizing<String> {
        Zeroizing::new(format!("{}#{token}", self.page()))
    }

    /// The URL in a browser.
    fn page(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path)
    }
}

impl fmt::Display for PublicAddress {
    /// The URL of the WebSocket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        let path = if self.path == "/" { "" } else { &self.path };
        write!(f, "{scheme}://{}{path}", self.authority)
    }
}

/// The host of an authority, IPv6 without brackets; the port is checked.
fn host_of(authority: &str) -> Result<&str, &'static str> {
    let no_name = "the host is neither a name nor an IP address; IPv6 is written in brackets";
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(no_name)?;
            host.parse::<Ipv6Addr>().map_err(|_| no_name)?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("1")).ok_or(no_name)?)
        }
        None => authority.rsplit_once(':').unwrap_or((authority, "1")),
    };
    match port.parse::<u16>() {
        Ok(1..) if host.is_empty() => Err("it has no host"),
        Ok(1..) if host.contains(['[', ']']) => Err(no_name),
        Ok(1..) if host.contains(':') && !authority.starts_with('[') => Err(no_name),
        Ok(1..) => Ok(host),
        _ => Err("the port is a number from 1 to 65535"),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "sct_w7_0x8-9RtI4jtRR7o8Th8_eQsKImvJapLeSbXpwF4A";

    #[test]
    fn an_invitation_is_found_in_what_people_paste() {
        for (before, after) in [
            ("", ""),
            (" ", "\r\n"),
            ("<", ">"),
            ("\"", "\","),
            ("hola, usa ", " para entrar"),
            ("(", ")."),
        ] {
            let text = format!("{before}https://chat.example/#{TOKEN}{after}");
            let found = Invitation::find(&text).unwrap().unwrap();
            assert_eq!(
                (found.address.as_str(), found.token.as_str()),
                ("https://chat.example/", TOKEN),
                "{text}"
            );
            assert!(is_in(&text) && !format!("{found:?}").contains("sct_"));
            assert!(text[secret_part(&text).unwrap()].starts_with(&TOKEN[4..]), "{text}");
        }
        for text in
            ["", "https://h/", "https://h/#part", "https://h/#", TOKEN, "# sct_", "a#b #sct"]
        {
            assert_eq!(Invitation::find(text), None, "{text}");
            assert!(!is_in(text), "{text}");
        }
        for rest in ["#sct_", "#sct_short", &format!("#{TOKEN}x"), &format!("#{}é", &TOKEN[..45])]
        {
            let text = format!("https://h/{rest}");
            assert_eq!(Invitation::find(&text), Some(Err(Incomplete)), "{text}");
        }
        assert_eq!(Invitation::find(&format!("#{TOKEN}")), Some(Err(Incomplete)));
    }

    #[test]
    fn an_address_is_written_for_browsers_and_for_clients() {
        for (text, page, shown) in [
            ("wss://chat.example", "https://chat.example/", "wss://chat.example"),
            ("https://abcd.ngrok.app/", "https://abcd.ngrok.app/", "wss://abcd.ngrok.app"),
            ("chat.example:9000", "https://chat.example:9000/", "wss://chat.example:9000"),
            ("wss://h/chat?x=1", "https://h/chat?x=1", "wss://h/chat?x=1"),
            ("WSS://h?x", "https://h/?x", "wss://h/?x"),
            ("localhost:8765", "http://localhost:8765/", "ws://localhost:8765"),
            ("ws://[::1]:8765", "http://[::1]:8765/", "ws://[::1]:8765"),
            ("bücher.example", "https://bücher.example/", "wss://bücher.example"),
        ] {
            let address = PublicAddress::parse(text).unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(*address.invitation(TOKEN), format!("{page}#{TOKEN}"), "{text}");
        }
        for (host, port, page) in [
            ("chat.example", 443, "https://chat.example/"),
            ("chat.example", 8765, "https://chat.example:8765/"),
            ("2001:db8::1", 8765, "https://[2001:db8::1]:8765/"),
        ] {
            assert_eq!(PublicAddress::with_tls(host, port).page(), page);
        }
        for (text, loopback) in
            [("ws://127.0.0.1:1", true), ("ws://[::1]:1", true), ("wss://10.0.0.1", false)]
        {
            assert_eq!(PublicAddress::parse(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused() {
        for text in [
            "",
            "wss://",
            "ftp://h",
            "h:0",
            "h:x",
            "h:99999",
            "wss://u:p@h",
            "a b",
            "h\u{1b}",
            "::1",
            "[::1",
            "[x]:1",
            "wss://h/#x",
            "localhost",
            "127.0.0.1",
            "wss://h\"",
            "[::1]x",
            ":1",
        ] {
            assert!(PublicAddress::parse(text).is_err(), "{text}");
        }
    }
}
