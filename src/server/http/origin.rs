//! Which web pages may send requests. A page of another site must neither read nor send anything in its
//! visitor's name.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Response, StatusCode};

use super::answer::{Body, whole};
use crate::config::Listen;
use crate::policy::origin;
use crate::protocol::ErrorCode;
use crate::server::client_info::ClientInfo;

/// Whether the request's `Origin` is allowed. Browsers send it (RFC 6454), and a page of another site
/// must not use the chat in its visitor's name. Requests without `Origin` are allowed.
///
/// The server's own origin is the one in `Host`. An attacker can make a name of its own point to this
/// machine (DNS rebinding), and then that name is in both headers. So on a direct connection from this
/// machine, `Host` counts only if it is a loopback name.
pub fn origin_allowed(headers: &HeaderMap, client_info: ClientInfo, listen: &Listen) -> bool {
    let host = host(headers).filter(|host| {
        !is_direct_from_here(headers, client_info) || origin::is_loopback_host(host)
    });
    is_origin_allowed(headers, host, listen)
}

fn is_origin_allowed(headers: &HeaderMap, host: Option<&str>, listen: &Listen) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(first) = origins.next() else { return true };
    match (first.to_str(), origins.next()) {
        (Ok(origin), None) => origin::is_allowed(origin, host, &listen.origins),
        _ => false,
    }
}

/// Checks a request that needs no WebSocket. Browsers send some of those without `Origin`: an image or a
/// form of another site, which `Sec-Fetch-Site` tells (W3C Fetch Metadata), and every GET of a page
/// from the same name, which may be an attacker's name for this machine.
///
/// Such a page can also add `X-Forwarded-For`, as if there were a proxy. But it can't choose `Host`, which
/// has the port that the browser connected to: that of `listener`. So behind a proxy on this machine, a
/// name with that port counts only if it is in `listen.origins`.
pub fn check(
    request: &Parts,
    client_info: ClientInfo,
    listener: Listener,
    listen: &Listen,
) -> Result<(), (ErrorCode, &'static str)> {
    let headers = &request.headers;
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err((ErrorCode::WrongHost, "the header Host may be given once"));
    }
    // The host in an absolute target replaces the header (RFC 9112, section 3.2.2).
    let host = request.uri.authority().map(Authority::as_str).or_else(|| host(headers));
    let may_be_rebound = is_direct_from_here(headers, client_info)
        || listener.is_from_here && host.and_then(port) == Some(listener.port);
    let is_host_right = !may_be_rebound || host.is_some_and(|host| is_known_name(host, listen));
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let is_foreign = !matches!(site, None | Some(b"same-origin" | b"none"));
    if !is_origin_allowed(headers, host.filter(|_| is_host_right), listen)
        || is_foreign && !headers.contains_key(header::ORIGIN)
    {
        return Err((
            ErrorCode::OriginRefused,
            "a page of this origin may not use the chat; the operator can add it to listen.origins",
        ));
    }
    match is_host_right {
        true => Ok(()),
        false => Err((ErrorCode::WrongHost, WRONG_HOST)),
    }
}

/// What is wrong with a request whose name for this machine can be an attacker's.
pub const WRONG_HOST: &str = "on this machine the server is called localhost, 127.0.0.1 or [::1]; \
     the operator can add another name to listen.origins";

/// Whether the name in `Host` is one that the server has: an attacker's name for this machine is not. The
/// names of `listen.origins` are known, too, because a proxy that passes on TCP comes from this machine.
pub fn host_allowed(headers: &HeaderMap, client_info: ClientInfo, listen: &Listen) -> bool {
    !is_direct_from_here(headers, client_info)
        || host(headers).is_some_and(|host| is_known_name(host, listen))
}

fn is_known_name(host: &str, listen: &Listen) -> bool {
    origin::is_loopback_host(host) || is_listed_host(host, listen)
}

/// Where a connection was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// The port of the server.
    pub port: u16,
    /// Whether the peer, a client or a proxy, is on this machine.
    pub is_from_here: bool,
}

/// The port in a `Host`, or that of `http`.
fn port(host: &str) -> Option<u16> {
    let rest = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    match rest.rsplit_once(':') {
        Some((_, port)) => port.parse().ok(),
        None => Some(80),
    }
}

fn is_listed_host(host: &str, listen: &Listen) -> bool {
    ["http", "https"].iter().any(|scheme| {
        let own = format!("{scheme}://{host}");
        listen.origins.iter().any(|origin| origin.eq_ignore_ascii_case(&own))
    })
}

/// The `Origin` of a page that is not the server's own and that [`check`] admits.
pub fn other_origin(headers: &HeaderMap, listen: &Listen) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let is_listed = origin::is_allowed(origin.to_str().ok()?, None, &listen.origins);
    is_listed.then(|| origin.clone())
}

/// Lets a page of another origin read the answer (Fetch standard, CORS protocol).
pub fn allow_reading(headers: &mut HeaderMap, allowed_origin: Option<HeaderValue>) {
    headers.insert(header::VARY, HeaderValue::from_static("accept, origin"));
    if let Some(origin) = allowed_origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers
            .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("chat-epoch"));
    }
}

/// The answer to a browser that asks what a page of another origin may send.
pub fn preflight(is_room: bool) -> Response<Body> {
    let mut answer = Response::new(whole(""));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    let methods = if is_room { "GET, HEAD, POST, OPTIONS" } else { "GET, HEAD, OPTIONS" };
    let methods = HeaderValue::from_static(methods);
    headers.insert(header::ALLOW, methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, idempotency-key, last-event-id"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    answer
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST).and_then(|host| host.to_str().ok())
}

/// Whether the client is on this machine, with no proxy between.
fn is_direct_from_here(headers: &HeaderMap, client_info: ClientInfo) -> bool {
    client_info.address.is_loopback() && !headers.contains_key("x-forwarded-for")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::policy::ip_network::IpNetwork;

    #[test]
    fn a_name_with_the_own_port_counts_only_if_it_is_listed() {
        let listen = Listen {
            addresses: Vec::new(),
            allow_plaintext: false,
            origins: vec!["https://chat.example:8765".into()],
            trusted_proxies: vec![IpNetwork::parse("127.0.0.1/32").unwrap()],
            tls: None,
        };
        let here = IpAddr::from([127, 0, 0, 1]);
        let listener = Listener { port: 8765, is_from_here: true };
        let code = |target: &str, host: &str, forwarded: &str| {
            let mut request = hyper::Request::get(target).header("host", host);
            if !forwarded.is_empty() {
                request = request.header("x-forwarded-for", forwarded);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let client_info = ClientInfo::from_headers(&parts.headers, here, false, &listen);
            check(&parts, client_info, listener, &listen).map_err(|(code, _)| code)
        };
        for (target, host, forwarded, is_right) in [
            ("/rooms", "localhost:8765", "", true),
            ("/rooms", "[::1]:8765", "", true),
            ("/rooms", "evil.example:8765", "", false),
            ("/rooms", "evil.example:8765", "127.0.0.1", false),
            ("/rooms", "evil.example:8765", "203.0.113.7", false),
            ("/rooms", "EVIL.example:08765", "203.0.113.7", false),
            ("/rooms", "chat.example:8765", "203.0.113.7", true),
            ("/rooms", "localhost:8765", "203.0.113.7", true),
            ("/rooms", "other.example", "203.0.113.7", true),
            ("/rooms", "other.example:443", "203.0.113.7", true),
            ("http://evil.example/rooms", "localhost:8765", "", false),
            ("http://localhost/rooms", "evil.example", "", true),
        ] {
            let expected = if is_right { Ok(()) } else { Err(ErrorCode::WrongHost) };
            assert_eq!(code(target, host, forwarded), expected, "{target} {host} {forwarded}");
        }
        assert_eq!(
            [port("a"), port("a:1"), port("[::1]"), port("[::1]:2"), port("a:x")],
            [Some(80), Some(1), Some(80), Some(2), None]
        );
    }
}
