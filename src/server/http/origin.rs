//! Which web pages may send requests. A page of another site must neither read nor send anything in its
//! visitor's name.

use hyper::header::{self, HeaderMap, HeaderValue};
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
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(first) = origins.next() else { return true };
    let host = host(headers).filter(|host| {
        !is_direct_from_here(headers, client_info) || origin::is_loopback_host(host)
    });
    match (first.to_str(), origins.next()) {
        (Ok(origin), None) => origin::is_allowed(origin, host, &listen.origins),
        _ => false,
    }
}

/// Checks a request that needs no WebSocket. Browsers send some of those without `Origin`: an image or a
/// form of another site, which `Sec-Fetch-Site` tells (W3C Fetch Metadata), and every GET of a page
/// from the same name, which may be an attacker's name for this machine.
pub fn check(
    headers: &HeaderMap,
    client_info: ClientInfo,
    listen: &Listen,
) -> Result<(), (ErrorCode, &'static str)> {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let is_foreign = !matches!(site, None | Some(b"same-origin" | b"none"));
    if !origin_allowed(headers, client_info, listen)
        || is_foreign && !headers.contains_key(header::ORIGIN)
    {
        return Err((
            ErrorCode::OriginRefused,
            "a page of this origin may not use the chat; the operator can add it to listen.origins",
        ));
    }
    if is_direct_from_here(headers, client_info)
        && !host(headers).is_some_and(origin::is_loopback_host)
    {
        return Err((
            ErrorCode::WrongHost,
            "on this machine the server is called localhost, 127.0.0.1 or [::1]",
        ));
    }
    Ok(())
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
