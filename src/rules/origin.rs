//! Which browser origins are let in (RFC 6454): the server's own, and those that are named.

/// Whether `origin` is the server's own (its host and port are those of the `Host` header) or
/// one of `named`, compared whole.
pub fn is_allowed(origin: &str, host: Option<&str>, named: &[String]) -> bool {
    if named.iter().any(|one| one == origin) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_origins_match() {
        let named = ["https://chat.example".to_owned()];
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
            assert_eq!(is_allowed(origin, host, &named), allowed, "{origin} {host:?}");
        }
    }
}
