//! The answer to an HTTP request for the page or one of its files. A pure function: the caller has checked the
//! address, the method and whether the request opens a WebSocket.

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::assets::{self, Asset, PAGE};
use super::preference::{takes_gzip, wants_html};

/// What the page may do. Nothing comes from another origin, no text becomes code, and no other page can frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
     trusted-types page";

/// Headers of every file.
const HEADERS: [(HeaderName, &str); 9] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    // A browser keeps the file and asks each time whether it changed.
    (header::CACHE_CONTROL, "no-cache"),
    (header::VARY, "accept, accept-encoding"),
];

/// Answers a GET or HEAD request for `path`; `None` if the page has nothing there, or if the client does not ask
/// for HTML at `/`.
pub fn answer(path: &str, request: &HeaderMap) -> Option<Response<Bytes>> {
    let asset = assets::at(path)?;
    if path == PAGE && !wants_html(request) {
        return None;
    }
    Some(file(asset, request))
}

fn file(asset: &Asset, request: &HeaderMap) -> Response<Bytes> {
    let gzip = asset.gzip.as_ref().filter(|_| takes_gzip(request));
    let (content, tag) = match gzip {
        Some(gzip) => (gzip, &asset.gzip_tag),
        None => (&asset.content, &asset.tag),
    };
    let is_known = is_known(tag, request);
    let mut answer = match is_known {
        true => Response::new(Bytes::new()),
        false => Response::new(content.clone()),
    };
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::ETAG, tag.clone());
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return answer;
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    if gzip.is_some() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

/// Whether the client has this content already (RFC 9110, section 13.1.2).
fn is_known(tag: &HeaderValue, request: &HeaderMap) -> bool {
    let values = request.get_all(header::IF_NONE_MATCH).iter();
    let mut tags =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tags.any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str, headers: &[(&'static str, &str)]) -> Option<Response<Bytes>> {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        answer(path, &headers)
    }

    #[test]
    fn only_browsers_get_the_page() {
        assert!(ask("/", &[("accept", "*/*")]).is_none());
        assert!(ask("/", &[]).is_none());
        let page = ask("/", &[("accept", "text/html,*/*;q=0.8")]).unwrap();
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        assert!(page.body().starts_with(b"<!doctype html>"));
    }

    #[test]
    fn the_files_need_no_accept_header_and_other_paths_are_not_answered() {
        assert!(ask("/page/page.css", &[]).is_some());
        for path in [
            "",
            "/page",
            "/page/",
            "/page/x.js",
            "/page/../page.css",
            "/index.html",
            "/PAGE/page.css",
        ] {
            assert!(ask(path, &[("accept", "text/html")]).is_none(), "{path}");
        }
    }

    #[test]
    fn every_file_has_the_security_headers() {
        for asset in assets::all() {
            let answer = ask(asset.path, &[("accept", "text/html")]).unwrap();
            let policy = answer.headers()["content-security-policy"].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
            assert_eq!(answer.headers()["cache-control"], "no-cache");
        }
    }

    #[test]
    fn a_client_that_has_the_file_gets_304() {
        for encoding in ["gzip", "identity"] {
            let first = ask("/page/page.css", &[("accept-encoding", encoding)]).unwrap();
            let is_packed = first.headers().get("content-encoding").is_some_and(|it| it == "gzip");
            assert_eq!(is_packed, encoding == "gzip");
            let tag = first.headers()["etag"].to_str().unwrap().to_owned();
            assert!(tag.starts_with('"'), "it is a strong tag");
            for known in [tag.clone(), format!("\"x\", {tag}"), format!("W/{tag}"), "*".into()] {
                let headers = [("accept-encoding", encoding), ("if-none-match", known.as_str())];
                let again = ask("/page/page.css", &headers).unwrap();
                assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
                assert_eq!(again.headers()["etag"], tag.as_str());
                assert!(again.body().is_empty());
            }
            let other = [("accept-encoding", encoding), ("if-none-match", "\"other\"")];
            assert_eq!(ask("/page/page.css", &other).unwrap().status(), StatusCode::OK);
        }
    }
}
