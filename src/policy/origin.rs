//! Which browser origins may connect (RFC 6454): the server's own origin, and those in
//! `listen.origins`.

/// Whether `origin` is the server's own (the same host and port as the `Host` header) or equal to
/// one of `configured`.
pub fn is_allowed(origin: &str, host: Option<&str>, configured: &[String]) -> bool {
    if configured.iter().any(|allowed| allowed == origin) {
        return true;
    }
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let Some(host) = host else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |name: &str| name.strip_suffix(default_port).unwrap_or(name).to_ascii_lowercase();
    bare(authority) == bare(host)
}

/// Whether a `Host` header names the loopback interface: `localhost`, 127.0.0.0/8 or `[::1]`, with
/// or without a port.
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts_are_recognised() {
        for (host, expected) in [
            ("localhost:8765", true),
            ("LOCALHOST", true),
            ("127.0.0.1:1", true),
            ("[::1]:8765", true),
            ("[::1]", true),
            ("evil.example:8765", false),
            ("localhost.evil.example", false),
            ("192.0.2.1", false),
            ("", false),
        ] {
            assert_eq!(is_loopback_host(host), expected, "{host}");
        }
    }

    #[test]
    fn only_the_own_origin_and_configured_origins_are_allowed() {
        let configured = ["https://chat.example".to_owned()];
        for (origin, host, allowed) in [
            ("https://chat.example", Some("x"), true),
            ("https://chat.example.evil", Some("x"), false),
            ("https://chat.example:8443", Some("x"), false),
            ("http://localhost:8765", Some("localhost:8765"), true),
            ("https://Own.example", Some("own.example:443"), true),
            ("https://evil.example", Some("own.example"), false),
            ("null", Some("own.example"), false),
            ("file://", Some(""), false),
            ("https://own.example", None, false),
        ] {
            assert_eq!(is_allowed(origin, host, &configured), allowed, "{origin} {host:?}");
        }
    }
}
